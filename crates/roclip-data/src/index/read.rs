//! Samples of an index, by their number or by that of a caption, through a small cache of unpacked blocks.

use crate::error::{Error, IoContext, Result};
use crate::guard::contained;
use crate::index::blocks::Block;
use crate::index::file::{BLOCK_SAMPLES, Entry, HASHES_AT_ONCE, remedy};
use crate::index::pack::id_hash;
use crate::index::record;
use crate::index::stored::Index;
use crate::picture::ImageLimits;
use crate::probe::Prober;
use crate::progress::Task;
use crate::sample::Sample;
use crate::threads::of_parts;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A caption of a sample.
pub struct CaptionPlace {
    /// The sample's number.
    pub sample: usize,
    /// Of its captions, from 0.
    pub caption: usize,
}

impl Index {
    /// The sample of this number. None behind the last, and of a block that cannot be read, which [`Index::intact`] then says.
    pub fn sample(&self, number: usize) -> Option<Sample> {
        let at = self.block_of(|entry| entry.samples as usize <= number)?;
        let (entry, block) = (self.blocks.get(at)?, self.block(at)?);
        let (from, _) = block.records.get(number.checked_sub(entry.samples as usize)?)?;
        let sample = record::read(block.bytes.get(*from..)?, &self.tables);
        sample.map_err(|_| self.fail("is damaged: a record of it makes no sense".into())).ok()
    }

    /// Where the caption of this number is, over all samples.
    pub fn caption_place(&self, number: usize) -> Option<CaptionPlace> {
        if number >= self.captions() {
            return None;
        }
        let at = self.block_of(|entry| entry.captions as usize <= number)?;
        let (entry, block) = (self.blocks.get(at)?, self.block(at)?);
        let within = number.checked_sub(entry.captions as usize)?;
        let record = block.records.partition_point(|(_, before)| *before as usize <= within).checked_sub(1)?;
        let (_, before) = block.records.get(record)?;
        Some(CaptionPlace { sample: entry.samples as usize + record, caption: within - *before as usize })
    }

    /// Captions of the samples before this one.
    pub fn captions_before(&self, sample: usize) -> Option<usize> {
        let at = self.block_of(|entry| entry.samples as usize <= sample)?;
        let (entry, block) = (self.blocks.get(at)?, self.block(at)?);
        let (_, before) = block.records.get(sample.checked_sub(entry.samples as usize)?)?;
        Some(entry.captions as usize + *before as usize)
    }

    /// The numbers of the samples with these ids, of those that are there.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn find<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<HashMap<String, usize>> {
        let wanted: HashSet<&str> = ids.into_iter().collect();
        let hashes: HashSet<u64> = wanted.iter().map(|id| id_hash(id)).collect();
        let mut found = HashMap::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let mut offset = self.facts.hashes;
        for first in (0..self.samples()).step_by(HASHES_AT_ONCE) {
            let count = HASHES_AT_ONCE.min(self.samples() - first);
            for (number, hash) in (first..).zip(self.hashes(offset, count)?) {
                if hashes.contains(&hash)
                    && let Some(sample) = self.sample(number)
                    && wanted.contains(sample.id.as_str())
                {
                    found.insert(sample.id, number);
                }
            }
            offset += count as u64 * 8 + 4;
        }
        self.intact()?;
        Ok(found)
    }

    /// A piece of the column of hashes.
    fn hashes(&self, offset: u64, count: usize) -> Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8 + 4];
        self.file.read_exact_at(&mut bytes, offset).io("read", &self.path)?;
        let (hashes, crc) = bytes.split_at(count * 8);
        if crc != crc32c::crc32c(hashes).to_le_bytes() {
            let what = "is damaged: the hashes of its ids have another checksum";
            return Err(Error::file(&self.path, what, remedy(&self.path)));
        }
        Ok(hashes.chunks_exact(8).map(|hash| hash.try_into().map(u64::from_le_bytes).unwrap_or_default()).collect())
    }

    /// Reads the whole index, and every picture that it names, with `workers` threads: their number, and what is no longer so, by the sample's
    /// id.
    ///
    /// # Errors
    /// A damaged index.
    pub fn check(&self, limits: ImageLimits, workers: usize) -> Result<Vec<(String, String)>> {
        let task = Task::begin("checking the index", self.samples(), "pictures");
        let share = self.blocks.len().div_ceil(workers.max(1)).max(1) * BLOCK_SAMPLES;
        let part = |from: usize| {
            let (mut other, mut prober) = (Vec::new(), Prober::default());
            for sample in (from..self.samples().min(from + share)).map_while(|number| self.sample(number)) {
                task.advance(1);
                match contained(|| prober.probe(&sample.image, limits)) {
                    Err(skip) => other.push((sample.id, format!("{} ({})", skip.reason, skip.detail))),
                    Ok(probe) if Some(probe.digest) != sample.digest => {
                        other.push((sample.id, "is another picture than was listed".to_owned()));
                    }
                    Ok(_) => {}
                }
            }
            other
        };
        let parts = of_parts((0..self.samples()).step_by(share), part).into_iter();
        let found = parts.map(|(_, part)| part.map_err(|_| Error::internal("a thread that checked an index died")));
        let found = found.collect::<Result<Vec<_>>>()?;
        self.find([""])?; // Reads all hashes.
        self.intact()?;
        Ok(found.concat())
    }

    /// The last block that begins no later than what is looked for.
    fn block_of(&self, begins: impl Fn(&Entry) -> bool) -> Option<usize> {
        self.blocks.partition_point(begins).checked_sub(1)
    }

    fn block(&self, at: usize) -> Option<Arc<Block>> {
        if let Some(kept) = self.cache.get(at) {
            return Some(kept);
        }
        let next = self.blocks.get(at + 1).map(|next| (next.samples, next.captions));
        match self.unpack(*self.blocks.get(at)?, next.unwrap_or((self.facts.samples, self.facts.captions))) {
            Ok(block) => {
                let block = Arc::new(block);
                self.cache.put(at, &block);
                Some(block)
            }
            Err(what) => {
                self.fail(what);
                None
            }
        }
    }

    /// A block, which ends before these numbers of samples and captions.
    fn unpack(&self, entry: Entry, end: (u32, u32)) -> std::result::Result<Block, String> {
        let mut packed = vec![0; entry.length as usize];
        self.file.read_exact_at(&mut packed, entry.offset).map_err(|cause| format!("cannot be read: {cause}"))?;
        if crc32c::crc32c(&packed) != entry.crc {
            return Err(format!("is damaged: the block at byte {} has another checksum", entry.offset));
        }
        let bytes = zstd::bulk::decompress(&packed, entry.unpacked as usize)
            .map_err(|cause| format!("is damaged: the block at byte {} cannot be unpacked: {cause}", entry.offset))?;
        let other =
            || format!("is damaged: the block at byte {} has other records than the directory says", entry.offset);
        let mut records = Vec::with_capacity(BLOCK_SAMPLES);
        let (mut from, mut captions) = (0, 0u32);
        while let Some(left) = bytes.get(from..).filter(|left| !left.is_empty()) {
            let senseless = |_| format!("is damaged: the block at byte {} makes no sense", entry.offset);
            let (length, of_record) = record::head(left).map_err(senseless)?;
            if records.len() >= BLOCK_SAMPLES {
                return Err(other());
            }
            records.push((from, captions));
            from += length;
            captions = captions.checked_add(of_record).ok_or(record::Unreadable).map_err(senseless)?;
        }
        match (records.len(), captions) == ((end.0 - entry.samples) as usize, end.1 - entry.captions) {
            true => Ok(Block { bytes, records }),
            false => Err(other()),
        }
    }

    fn fail(&self, what: String) {
        // The first failure is said.
        let _ = self.failure.set(what);
    }
}
