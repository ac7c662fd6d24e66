//! Unpacked blocks, and the few of them that are kept.

use std::sync::{Arc, Mutex, PoisonError};

/// Blocks that are kept, of some ten kilobytes each.
const KEPT_BLOCKS: usize = 64;
/// Bytes of all of them, where captions are absurdly long.
const KEPT_BYTES: usize = 64 << 20;

pub(super) struct Block {
    pub bytes: Vec<u8>,
    /// Where each record begins, and the captions of the block before it.
    pub records: Vec<(usize, u32)>,
}

/// The blocks that were read last, the latest behind.
#[derive(Default)]
pub(super) struct Cache(Mutex<Vec<(usize, Arc<Block>)>>);

impl Cache {
    pub(super) fn get(&self, number: usize) -> Option<Arc<Block>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was read last is asked for again as a rule.
        let place = kept.iter().rposition(|(of, _)| *of == number)?;
        if place + 1 < kept.len() {
            let used = kept.remove(place);
            kept.push(used);
        }
        kept.last().map(|(_, block)| Arc::clone(block))
    }

    pub(super) fn put(&self, number: usize, block: &Arc<Block>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |kept: &Vec<(usize, Arc<Block>)>| kept.iter().map(|(_, block)| block.bytes.len()).sum::<usize>();
        while kept.len() >= KEPT_BLOCKS || (!kept.is_empty() && held(&kept) + block.bytes.len() > KEPT_BYTES) {
            kept.remove(0);
        }
        kept.push((number, Arc::clone(block)));
    }
}
