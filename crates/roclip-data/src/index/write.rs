//! Making an index: one thread reads the source, the others look at pictures and pack blocks, and one writes them in the order of the source.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::escape::for_terminal;
use crate::index::file::{BLOCK_SAMPLES, Entry, FORMAT, Facts, HASHES_AT_ONCE, HEAD_BYTES, MAGIC, Piece, tail};
use crate::index::pack::{Packed, pack_all};
use crate::index::record::{self, Places, Shared, Stamp};
use crate::picture::ImageLimits;
use crate::sample::{ImageBytes, Sample};
use crate::skip::SkipReport;
use crate::source::{Described, Listing, SourceConfig, Streamed, list_samples, stream_samples};
use crate::threads::refused;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Samples that a thread packs at once.
const CHUNK_SAMPLES: usize = 32 * BLOCK_SAMPLES;
/// Chunks that wait before and behind each thread.
const AHEAD: usize = 2;

/// Lists what `config` names, looks at every picture, and writes the index of it to `path`, with `workers` threads. Whole or not at all.
///
/// # Errors
/// Those of the list and of the file; no sample that can be used.
pub(super) fn write(
    path: &Path,
    config: &SourceConfig,
    limits: ImageLimits,
    described: &Described,
    workers: usize,
) -> Result<()> {
    // Before the list: what changes while it is read is another file than was listed.
    let files = described.files.iter().map(|file| Stamp::of_file(file)).collect::<Result<Vec<_>>>()?;
    let streamed = attempt(path, described, &files, limits, workers, &mut |take| stream_samples(config, limits, take))?;
    if streamed {
        return Ok(());
    }
    let mut listed = list_samples(config, limits)?;
    let samples = std::mem::take(&mut listed.samples);
    let mut once = Some((samples, listed));
    let whole = &mut |take: &mut dyn FnMut(Sample) -> Result<()>| {
        let (samples, listed) = once.take().ok_or_else(|| Error::internal("an index is written twice"))?;
        samples.into_iter().try_for_each(take)?;
        Ok(Streamed::Whole(listed))
    };
    attempt(path, described, &files, limits, workers, whole)?;
    Ok(())
}

/// What hands samples on.
type Read<'a> = &'a mut dyn FnMut(&mut dyn FnMut(Sample) -> Result<()>) -> Result<Streamed>;

/// Why a file was not finished.
enum Unfinished {
    Apart,
    Error(Error),
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Unfinished::Error(error)
    }
}

/// Whether the samples could be handed on.
fn attempt(
    path: &Path,
    described: &Described,
    files: &[Stamp],
    limits: ImageLimits,
    workers: usize,
    read: Read,
) -> Result<bool> {
    let written = artifact::write_with(path, |file| {
        let workers = workers.max(1);
        let mut packing = Vec::new();
        let mut packed = Vec::new();
        let (listed, written) = std::thread::scope(|scope| {
            for _ in 0..workers {
                let (to_pack, chunks) = sync_channel(AHEAD);
                let (sender, blocks) = sync_channel(AHEAD);
                packing.push(to_pack);
                packed.push(blocks);
                let started = std::thread::Builder::new().spawn_scoped(scope, move || pack_all(chunks, sender, limits));
                if let Err(cause) = started {
                    // Those that have started end where nobody hands them anything.
                    packing.clear();
                    return Err(refused("checks pictures for an index", &cause));
                }
            }
            let packed = std::mem::take(&mut packed);
            let writing = std::thread::Builder::new()
                .spawn_scoped(scope, move || write_blocks(path, file, &packed))
                .map_err(|cause| {
                    packing.clear();
                    refused("writes an index", &cause)
                })?;
            let mut hand =
                Hand { packing: std::mem::take(&mut packing), next: 0, chunk: Vec::new(), shared: Named::default() };
            let mut take = |sample: Sample| hand.on(sample);
            let listed = read(&mut take).and_then(|streamed| hand.send().map(|()| streamed));
            let shared = std::mem::take(&mut hand.shared.shared);
            drop(hand);
            let written =
                writing.join().unwrap_or_else(|_| Err(Error::internal("the thread that wrote an index died")));
            Ok((listed.map(|streamed| (streamed, shared)), written))
        })?;
        // A writer that failed is why there was nobody to hand samples to.
        let written = written?;
        match listed? {
            (Streamed::Apart, _) => Err(Unfinished::Apart),
            (Streamed::Whole(listing), shared) => {
                if written.samples() == 0 {
                    let mut listing = listing;
                    listing.skips.merge(written.skips);
                    return Err(nothing(&listing).into());
                }
                Ok(finish(path, written, listing, described, files, shared)?)
            }
        }
    });
    match written {
        Ok(()) => Ok(true),
        Err(Unfinished::Apart) => Ok(false),
        Err(Unfinished::Error(error)) => Err(error),
    }
}

fn nothing(listing: &Listing) -> Error {
    Error::setting(
        format!("no sample of the data could be used: {}", listing.skips.summary()),
        "repair the data, or name other data",
    )
}

/// What samples share, and the numbers of it.
#[derive(Default)]
struct Named {
    shared: Shared,
    sources: FxHashMap<String, usize>,
    pictures: FxHashMap<(bool, String), usize>,
    /// The last sample's, which are the next one's as a rule.
    last: Option<(Arc<str>, bool, String, Places)>,
}

impl Named {
    fn places(&mut self, sample: &Sample) -> Result<Places> {
        let is_shard = matches!(sample.image, ImageBytes::Span { .. } | ImageBytes::Cell { .. });
        let Some(place) = record::picture_place(&sample.image, &sample.key) else {
            return Err(Error::setting(
                format!("the picture of `{}` lies in no file whose name is text", for_terminal(&sample.id)),
                "no index can name it; a run with --index never (data.index) holds the list in memory",
            ));
        };
        if let Some((source, of_shard, last, places)) = &self.last
            && *source == sample.source
            && (*of_shard, last.as_str()) == (is_shard, place)
        {
            return Ok(*places);
        }
        let places = self.new_places(sample, is_shard, place)?;
        self.last = Some((Arc::clone(&sample.source), is_shard, place.to_owned(), places));
        Ok(places)
    }

    fn new_places(&mut self, sample: &Sample, is_shard: bool, place: &str) -> Result<Places> {
        let source = match self.sources.get(&*sample.source) {
            Some(number) => *number,
            None => {
                let number = self.shared.sources.len();
                self.shared.sources.push(sample.source.to_string());
                self.sources.insert(sample.source.to_string(), number);
                number
            }
        };
        let absolute = match is_shard || place.starts_with('/') {
            true => place.to_owned(),
            // The index is read from other folders, too.
            false => std::env::current_dir().io("find", Path::new("."))?.join(place).to_string_lossy().into_owned(),
        };
        let named = (is_shard, absolute);
        let picture = match self.pictures.get(&named) {
            Some(number) => *number,
            None => {
                let number = match &sample.image {
                    ImageBytes::Cell { table, .. } => {
                        self.shared.shards.push(Stamp::of_shard(table.shard())?);
                        self.shared.shards.len() - 1
                    }
                    ImageBytes::Span { shard, .. } => {
                        self.shared.shards.push(Stamp::of_shard(shard)?);
                        self.shared.shards.len() - 1
                    }
                    _ => {
                        self.shared.folders.push(named.1.clone());
                        self.shared.folders.len() - 1
                    }
                };
                self.pictures.insert(named, number);
                number
            }
        };
        Ok(Places { source, picture })
    }
}

/// Hands samples to the threads that pack them, in turn.
struct Hand {
    packing: Vec<SyncSender<Vec<(Sample, Places)>>>,
    next: usize,
    chunk: Vec<(Sample, Places)>,
    shared: Named,
}

impl Hand {
    fn on(&mut self, sample: Sample) -> Result<()> {
        let places = self.shared.places(&sample)?;
        self.chunk.push((sample, places));
        if self.chunk.len() == CHUNK_SAMPLES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_SAMPLES));
        let at = self.next % self.packing.len().max(1);
        self.next += 1;
        let sent = self.packing.get(at).map(|to| to.send(chunk).is_ok());
        match sent {
            Some(true) => Ok(()),
            _ => Err(Error::internal("a thread that packed an index died")),
        }
    }
}

/// What the writer has written, and where it stands.
struct Written<'a> {
    file: &'a mut (dyn Write + Send),
    offset: u64,
    directory: Vec<Entry>,
    hashes: Vec<u64>,
    fingerprint: Sha256,
    captions: u32,
    one_caption: bool,
    labelled: u32,
    poisoned: u32,
    splits: BTreeMap<String, usize>,
    probed: usize,
    unusable: usize,
    skips: SkipReport,
}

impl Written<'_> {
    fn samples(&self) -> usize {
        self.hashes.len()
    }

    fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<Piece> {
        self.file.write_all(bytes).io("write", path)?;
        let piece = Piece { offset: self.offset, length: bytes.len() as u64, crc: crc32c::crc32c(bytes) };
        self.offset += piece.length;
        Ok(piece)
    }
}

fn write_blocks<'a>(path: &Path, file: &'a mut (dyn Write + Send), packed: &[Receiver<Packed>]) -> Result<Written<'a>> {
    let mut written = Written {
        file,
        offset: 0,
        directory: Vec::new(),
        hashes: Vec::new(),
        fingerprint: Sha256::new(),
        captions: 0,
        one_caption: true,
        labelled: 0,
        poisoned: 0,
        splits: BTreeMap::new(),
        probed: 0,
        unusable: 0,
        skips: SkipReport::default(),
    };
    let head: Vec<u8> = MAGIC.into_iter().chain(FORMAT.to_le_bytes()).collect();
    written.put(path, &head)?;
    debug_assert_eq!(written.offset, HEAD_BYTES);
    let too_many = || Error::file(path, "would have more than 4 billion captions", "index parts of the data");
    for from in packed.iter().cycle() {
        // The first thread that has nothing more is behind the last chunk.
        let Ok(chunk) = from.recv() else { break };
        if let Some(failure) = chunk.failure {
            return Err(failure);
        }
        let mut samples = u32::try_from(written.samples()).map_err(|_| too_many())?;
        for (bytes, entry) in chunk.blocks {
            let of_block = Entry { offset: written.offset, samples, captions: written.captions, ..entry };
            samples = samples.checked_add(entry.samples).ok_or_else(too_many)?;
            written.captions = written.captions.checked_add(entry.captions).ok_or_else(too_many)?;
            written.put(path, &bytes)?;
            written.directory.push(of_block);
        }
        written.hashes.extend(chunk.hashes);
        written.fingerprint.update(&chunk.fingerprint);
        written.one_caption &= chunk.one_caption;
        written.labelled += chunk.labelled;
        written.poisoned += chunk.poisoned;
        chunk.splits.into_iter().for_each(|(split, count)| *written.splits.entry(split).or_default() += count);
        written.probed += chunk.probed;
        written.unusable += chunk.unusable;
        written.skips.merge(chunk.skips);
    }
    Ok(written)
}

fn finish(
    path: &Path,
    mut written: Written,
    listing: Listing,
    described: &Described,
    files: &[Stamp],
    shared: Shared,
) -> Result<()> {
    let samples = u32::try_from(written.samples()).map_err(|_| Error::internal("more samples than were counted"))?;
    let hashes = written.offset;
    for piece in std::mem::take(&mut written.hashes).chunks(HASHES_AT_ONCE) {
        let bytes: Vec<u8> = piece.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        written.put(path, &bytes)?;
        written.put(path, &crc32c::crc32c(&bytes).to_le_bytes())?;
    }
    let directory: Vec<u8> = written.directory.iter().flat_map(|entry| entry.to_bytes()).collect();
    let directory = written.put(path, &directory)?;
    let mut all = listing.skips;
    all.merge(std::mem::take(&mut written.skips));
    let skips = written.put(path, all.to_jsonl().as_bytes())?;
    let facts = Facts {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: described.identity.clone(),
        files: files.to_vec(),
        shared,
        samples,
        captions: written.captions,
        one_caption: written.one_caption,
        labelled: written.labelled,
        poisoned: written.poisoned,
        splits: std::mem::take(&mut written.splits),
        listed: listing.listed,
        probed: written.probed,
        unusable: written.unusable,
        shards: listing.shards,
        lost_samples: listing.lost_samples,
        fingerprint: artifact::hex(&std::mem::take(&mut written.fingerprint).finalize()),
        hashes,
        directory,
        skips,
    };
    let facts = serde_json::to_vec(&facts).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    let end = tail(&facts);
    written.put(path, &facts)?;
    written.put(path, &end)?;
    Ok(())
}
