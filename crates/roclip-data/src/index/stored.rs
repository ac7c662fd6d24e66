//! An index that is open, and what it says of itself.

use crate::error::{Error, IoContext, Result};
use crate::index::blocks::Cache;
use crate::index::file::{self, Entry, Facts};
use crate::index::record::{Stamp, Tables};
use crate::skip::SkipReport;
use crate::source::{Described, Listing};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An index that is open. Threads may share it.
pub struct Index {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) facts: Facts,
    pub(super) blocks: Vec<Entry>,
    pub(super) tables: Tables,
    pub(super) cache: Cache,
    /// Why a block could not be read.
    pub(super) failure: OnceLock<String>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("path", &self.path).field("samples", &self.samples()).finish_non_exhaustive()
    }
}

impl Index {
    /// # Errors
    /// No index of this program's format, and one that is cut off or damaged where it describes itself. Blocks are checked as they are read.
    pub fn open(path: &Path) -> Result<Index> {
        let (file, mut facts, blocks) = file::open(path)?;
        let tables = Tables::new(std::mem::take(&mut facts.shared));
        let (cache, failure) = (Cache::default(), OnceLock::new());
        Ok(Index { path: path.to_owned(), file, facts, blocks, tables, cache, failure })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn samples(&self) -> usize {
        self.facts.samples as usize
    }

    /// Captions of all samples, each of which has one at least.
    pub fn captions(&self) -> usize {
        self.facts.captions as usize
    }

    /// Whether no sample has several captions.
    pub fn one_caption(&self) -> bool {
        self.facts.one_caption
    }

    /// Samples whose class is known.
    pub fn labelled(&self) -> usize {
        self.facts.labelled as usize
    }

    /// Samples that say themselves that they are poison.
    pub fn poisoned(&self) -> usize {
        self.facts.poisoned as usize
    }

    /// The splits that samples are in, and how many are in each.
    pub fn splits(&self) -> &BTreeMap<String, usize> {
        &self.facts.splits
    }

    /// [`Pairs::fingerprint`](crate::pairs::Pairs::fingerprint) where every caption is a pair.
    pub fn fingerprint(&self) -> &str {
        &self.facts.fingerprint
    }

    /// Whether it is of the data that `described` names, of all of its files.
    pub(super) fn is_of(&self, described: &Described) -> bool {
        let files = self.facts.files.iter().map(|file| &file.path);
        self.facts.identity == described.identity && files.eq(&described.files)
    }

    /// The first listed file that is no longer what it was, and in what, in words; none where all are.
    pub fn stale(&self) -> Option<String> {
        self.facts.files.iter().find_map(|then| {
            let said = |what: String| Some(format!("`{}` {what}", then.path.display()));
            match Stamp::of_file(&then.path) {
                Err(_) => said("is not there any more".into()),
                Ok(now) if now.length != then.length => {
                    said(format!("had {} bytes, and has {}", then.length, now.length))
                }
                Ok(now) if now.modified != then.modified => said("was written to since".into()),
                Ok(_) => None,
            }
        })
    }

    /// What was left out when the data was listed.
    ///
    /// # Errors
    /// A damaged index.
    pub fn skips(&self) -> Result<SkipReport> {
        let end = self.file.metadata().io("read", &self.path)?.len();
        let bytes = file::read_piece(&self.file, &self.path, self.facts.skips, end, "what it left out")?;
        SkipReport::from_jsonl(&String::from_utf8_lossy(&bytes))
    }

    /// A listing without samples, for [`Listing::check_shares`](crate::source::Listing::check_shares).
    ///
    /// # Errors
    /// A damaged index.
    pub fn listing(&self) -> Result<Listing> {
        let Facts { listed, probed, unusable, shards, lost_samples, .. } = self.facts;
        Ok(Listing::of_counts(self.skips()?, listed, (probed, unusable), (shards, lost_samples)))
    }

    /// # Errors
    /// A block that could not be read since the index was opened: what was read behind it is not to be trusted.
    pub fn intact(&self) -> Result<()> {
        match self.failure.get() {
            None => Ok(()),
            Some(what) => Err(Error::file(&self.path, what.clone(), file::remedy(&self.path))),
        }
    }
}
