//! Samples become blocks of an index: pictures are looked at, and what is known of the samples is compressed and counted.

use crate::error::Error;
use crate::guard::contained;
use crate::index::file::{BLOCK_SAMPLES, Entry};
use crate::index::record::{self, Places};
use crate::picture::ImageLimits;
use crate::probe::Prober;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason, SkipReport};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};

/// Blocks are small and read often: more than this gains little and costs much.
const LEVEL: i32 = 1;

/// A chunk as it is written.
#[derive(Default)]
pub(super) struct Packed {
    pub blocks: Vec<(Vec<u8>, Entry)>,
    pub hashes: Vec<u64>,
    /// What the fingerprint is made of.
    pub fingerprint: Vec<u8>,
    pub one_caption: bool,
    pub labelled: u32,
    pub poisoned: u32,
    pub splits: BTreeMap<String, usize>,
    pub probed: usize,
    pub unusable: usize,
    pub skips: SkipReport,
    pub failure: Option<Error>,
}

/// Packs `chunks` until there are no more, or nobody takes what is packed.
pub(super) fn pack_all(chunks: Receiver<Vec<(Sample, Places)>>, to: SyncSender<Packed>, limits: ImageLimits) {
    let mut prober = Prober::default();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL);
    for chunk in chunks {
        let packed = match &mut compressor {
            Ok(compressor) => pack(chunk, limits, &mut prober, compressor),
            Err(cause) => Packed { failure: Some(uncompressed(cause)), ..Packed::default() },
        };
        if to.send(packed).is_err() {
            return; // The writer has failed, and says why.
        }
    }
}

fn uncompressed(cause: &std::io::Error) -> Error {
    Error::internal(format!("a block of an index: {cause}"))
}

fn pack(
    mut chunk: Vec<(Sample, Places)>,
    limits: ImageLimits,
    prober: &mut Prober,
    compressor: &mut zstd::bulk::Compressor,
) -> Packed {
    let mut packed = Packed { one_caption: true, ..Packed::default() };
    chunk.retain_mut(|(sample, _)| {
        if sample.captions.is_empty() {
            packed.skips.add(&sample.id, Skip::new(SkipReason::NoCaption, "the source gives it none"));
            return false;
        }
        packed.probed += 1;
        let probed = contained(|| prober.probe(&sample.image, limits));
        sample.digest = probed.as_ref().ok().map(|probe| probe.digest);
        if let Err(skip) = probed {
            packed.unusable += 1;
            packed.skips.add(&sample.id, skip);
        }
        sample.digest.is_some()
    });
    let mut bytes = Vec::with_capacity(BLOCK_SAMPLES * 160);
    for samples in chunk.chunks(BLOCK_SAMPLES) {
        bytes.clear();
        let mut captions = 0;
        for (sample, places) in samples {
            // Places were found of it, so its picture lies in a file.
            let _written: std::result::Result<(), record::Unreadable> = record::write(sample, *places, &mut bytes);
            captions += sample.captions.len() as u32;
            packed.hashes.push(id_hash(&sample.id));
            packed.one_caption &= sample.captions.len() == 1;
            packed.labelled += u32::from(sample.class.is_some());
            packed.poisoned += u32::from(sample.poison.is_some());
            if let Some(split) = &sample.split {
                *packed.splits.entry(split.clone()).or_default() += 1;
            }
            fingerprint(sample, &mut packed.fingerprint);
        }
        let unpacked = bytes.len() as u32;
        match compressor.compress(&bytes) {
            Err(cause) => packed.failure = Some(uncompressed(&cause)),
            Ok(block) => {
                let (length, crc) = (block.len() as u32, crc32c::crc32c(&block));
                let samples = samples.len() as u32;
                packed.blocks.push((block, Entry { offset: 0, length, unpacked, crc, samples, captions }));
            }
        }
    }
    packed
}

/// The hash by which a sample is looked for (FNV-1a): two that share one are told apart by their ids.
pub(super) fn id_hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What [`Pairs::fingerprint`](crate::pairs::Pairs::fingerprint) hashes of a sample whose every caption is a pair.
fn fingerprint(sample: &Sample, to: &mut Vec<u8>) {
    for (number, caption) in sample.captions.iter().enumerate() {
        let id = match sample.captions.len() {
            1 => Cow::Borrowed(sample.id.as_str()),
            _ => Cow::Owned(format!("{}#{number}", sample.id)),
        };
        to.push(u8::from(sample.digest.is_some()));
        to.extend(sample.digest.unwrap_or_default());
        to.extend(1u64.to_le_bytes());
        for part in [&*id, caption] {
            to.extend((part.len() as u64).to_le_bytes());
            to.extend(part.as_bytes());
        }
    }
}
