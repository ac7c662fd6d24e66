//! The list that pairs were looked at without. A run leaves out what one list names: that of the new look names the earlier one's pairs, too,
//! or they would come back.

use crate::error::Result;
use roclip_data::artifact;
use roclip_data::pairs::DropList;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Pairs that were left out before a look.
#[derive(Debug, Clone, Serialize)]
pub struct EarlierList {
    pub list: PathBuf,
    /// How many it names.
    pub ids: usize,
    /// [`DropList::digest`].
    pub digest: String,
    /// Whether poison that was known is among them.
    pub names_poison: bool,
    #[serde(skip)]
    lines: String,
}

impl EarlierList {
    /// # Errors
    /// What is no list of ids.
    pub fn read(list: &Path) -> Result<EarlierList> {
        let ids = DropList::read(list)?;
        let mut lines = artifact::read_text(list)?;
        if !lines.ends_with('\n') {
            lines.push('\n');
        }
        let (digest, ids) = (ids.digest(), ids.len());
        Ok(EarlierList { list: list.to_owned(), ids, digest, names_poison: false, lines })
    }

    /// Its lines as they stand, with all that they say beside the ids.
    pub(super) fn lines(&self) -> &str {
        &self.lines
    }
}
