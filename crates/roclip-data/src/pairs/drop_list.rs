//! Pictures and captions that somebody decided against, by their ids, one a line: as a person writes them, or JSON lines with an `id`
//! (`skips.jsonl`, manifests, splits).

use crate::artifact;
use crate::error::{Error, Result};
use crate::escape::for_terminal;
use crate::pairs::{CaptionMode, Pairs};
use crate::plural::count;
use crate::sample::Sample;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Ids of samples, and of single captions (`a.jpg#2` is the third caption of `a.jpg`; no sample has such an id).
#[derive(Debug, Clone)]
pub struct DropList {
    path: PathBuf,
    ids: BTreeSet<String>,
    /// Plain lines with blanks around them, which stand among `ids` without these.
    blank: BTreeSet<String>,
    /// What other lines name, where there are such lines.
    certain: BTreeSet<String>,
}

/// What of a list was in the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutByList {
    /// With all their captions.
    pub pictures: usize,
    /// Single ones of pictures that stay.
    pub captions: usize,
    /// Single poisoned pairs: those that poison adds to the data, and captions that it replaced.
    pub added: usize,
    /// Everything that is known to be poison, pictures and captions of it among them.
    pub poisoned: usize,
    /// Ids that the list has.
    pub named: usize,
    /// Ids that are not in the data, and the first of them.
    pub absent: usize,
    pub first_absent: Option<String>,
    /// Of the list, whatever its order and layout.
    pub digest: String,
    /// Whether the pairs were only some of the data that the list may be of, so that what is absent says nothing of it.
    pub of_part: bool,
}

impl LeftOutByList {
    /// What a person should know of ids that are not there.
    pub fn warning(&self) -> Option<String> {
        let first = self.first_absent.as_ref()?;
        let are = if self.absent == 1 { "is" } else { "are" };
        let ids = count(self.absent, "id");
        if self.of_part {
            let first = for_terminal(first);
            return Some(format!("{ids} of data.drop {are} not among the pairs that are trained on (first: {first})"));
        }
        let doubt = match self.fits_badly() {
            true => format!(", of {} that it has; {LIKE_OTHER_DATA}", self.named),
            false => String::new(),
        };
        Some(format!("{ids} of data.drop {are} not in the data (first: {}){doubt}", for_terminal(first)))
    }

    /// Whether so much of the list is not in the data that it may be of other data.
    pub fn fits_badly(&self) -> bool {
        !self.of_part && self.named > 1 && self.absent * 4 >= self.named
    }

    /// `3 pictures, 2 poisoned pairs and 1 single caption`; what there is none of is not said.
    pub fn words(&self) -> String {
        let poisoned = count(self.added, "poisoned pair");
        let captions = count(self.captions, "single caption");
        let all = [(self.pictures, count(self.pictures, "picture")), (self.added, poisoned), (self.captions, captions)];
        let mut parts: Vec<String> = all.into_iter().filter(|(number, _)| *number > 0).map(|(_, part)| part).collect();
        match parts.pop() {
            None => count(0, "picture"),
            Some(last) if parts.is_empty() => last,
            Some(last) => format!("{} and {last}", parts.join(", ")),
        }
    }
}

/// What a list may be of which many ids are not in the data.
pub const LIKE_OTHER_DATA: &str = "it looks like a list of other data, whose ids may be those of other pictures here: look at \
    the first ones before you believe what is left out";

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
}

/// The line of a list that names `id`, whatever characters it has.
pub fn drop_line(id: &str) -> String {
    let plain = id.trim() == id && !id.starts_with(['{', '\u{feff}']) && !id.contains(char::is_control);
    match plain && !id.is_empty() {
        true => format!("{id}\n"),
        false => format!("{}\n", serde_json::json!({ "id": id })),
    }
}

/// Whether this stands behind the id of a sample in the id of one of its captions.
fn is_caption(rest: &str) -> bool {
    let number = rest.strip_prefix('#');
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl DropList {
    /// # Errors
    /// A file that is no text or names nothing, and a JSON line without an id.
    pub fn read(path: &Path) -> Result<DropList> {
        let text = artifact::read_text(path)?;
        let (mut ids, mut blank) = (BTreeSet::new(), BTreeSet::new());
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim_end_matches('\r');
            let id = match line.trim_start().chars().next() {
                None => continue,
                Some('{') => match serde_json::from_str(line) {
                    Ok(Line { id: Some(id) }) => id,
                    // A manifest begins with a header.
                    Ok(Line { id: None }) if number == 1 => continue,
                    _ => {
                        let what = format!("line {number} is JSON without an id");
                        return Err(Error::file(path, what, "write one id a line, or {\"id\": ...}"));
                    }
                },
                Some(_) if line.trim() != line => {
                    blank.insert(line.to_owned());
                    continue;
                }
                Some(_) => line.to_owned(),
            };
            ids.insert(id);
        }
        let certain = if blank.is_empty() { BTreeSet::new() } else { ids.clone() };
        ids.extend(blank.iter().map(|line| line.trim().to_owned()));
        match ids.is_empty() {
            true => Err(Error::file(
                path,
                "names no id",
                "write one id a line, as skips.jsonl and `roclip data stats` print them",
            )),
            false => Ok(DropList { path: path.to_owned(), ids, blank, certain }),
        }
    }

    /// The list for data whose samples have these `ids`: a line that is one of them as it stands, with the blanks around it, names that one,
    /// or its captions, and no other. Blanks around other lines say nothing.
    #[must_use]
    pub fn among<I: AsRef<str>>(mut self, ids: impl IntoIterator<Item = I>) -> DropList {
        if self.blank.is_empty() {
            return self;
        }
        let mut exact = BTreeSet::new();
        for id in ids {
            let id = id.as_ref();
            let from = self.blank.range::<str, _>((Bound::Included(id), Bound::Unbounded));
            let own = from.map_while(|line| Some((line, line.strip_prefix(id)?)));
            exact.extend(own.filter(|(_, rest)| rest.is_empty() || is_caption(rest)).map(|(line, _)| line.clone()));
        }
        let meant = |line: &String| if exact.contains(line) { line.clone() } else { line.trim().to_owned() };
        self.ids = std::mem::take(&mut self.certain);
        self.ids.extend(std::mem::take(&mut self.blank).iter().map(meant));
        self
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn names(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Whether the list names a picture that is not in the data any more: itself, or by all its captions. How many it had nobody knows: the
    /// list names two or more, each from the first on.
    pub fn names_absent(&self, id: &str) -> bool {
        if self.names(id) {
            return true;
        }
        let begins = format!("{id}#");
        let of_picture = self.ids.range(begins.clone()..).map_while(|named| named.strip_prefix(&begins));
        let mut numbers: Vec<u64> = of_picture.filter_map(|number| number.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.len() > 1 && (0..).zip(&numbers).all(|(place, number)| place == *number)
    }

    /// Which captions of a sample the list names, from 0; none of a sample with one caption, which is named itself.
    pub fn captions_of(&self, sample: &Sample) -> Vec<usize> {
        let begins = format!("{}#", sample.id);
        if sample.captions.len() < 2
            || !self.ids.range(begins.clone()..).next().is_some_and(|id| id.starts_with(&begins))
        {
            return Vec::new();
        }
        (0..sample.captions.len()).filter(|k| self.names(&format!("{begins}{k}"))).collect()
    }

    /// Of the ids, whatever their order and layout.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for id in &self.ids {
            hash.update((id.len() as u64).to_le_bytes());
            hash.update(id.as_bytes());
        }
        artifact::hex(&hash.finalize())
    }

    /// What the list has in common with `samples`.
    ///
    /// # Errors
    /// A list of other data: none of its ids is there. One that leaves nothing.
    pub fn found_in(&self, samples: &[Sample]) -> Result<LeftOutByList> {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let (mut pictures, mut captions, mut poisoned) = (0, 0, 0);
        for sample in samples {
            let of_sample = self.captions_of(sample);
            for k in &of_sample {
                found.extend(self.ids.get(&format!("{}#{k}", sample.id)).map(String::as_str));
            }
            let whole = self.ids.get(&sample.id);
            found.extend(whole.map(String::as_str));
            let is_poison = usize::from(sample.poison.is_some());
            match whole.is_some() || !sample.captions.is_empty() && of_sample.len() == sample.captions.len() {
                true => (pictures, poisoned) = (pictures + 1, poisoned + is_poison),
                false => (captions, poisoned) = (captions + of_sample.len(), poisoned + is_poison * of_sample.len()),
            }
        }
        if found.is_empty() {
            return Err(self.of_other_data(samples.first().map(|sample| sample.id.as_str())));
        }
        if pictures == samples.len() {
            return Err(self.of_everything());
        }
        Ok(LeftOutByList { pictures, captions, poisoned, ..self.beside(&found) })
    }

    /// How much there is of the list beside what was `found` of it.
    fn beside(&self, found: &BTreeSet<&str>) -> LeftOutByList {
        LeftOutByList {
            pictures: 0,
            captions: 0,
            added: 0,
            poisoned: 0,
            named: self.ids.len(),
            absent: self.ids.len() - found.len(),
            first_absent: self.ids.iter().find(|id| !found.contains(id.as_str())).cloned(),
            digest: self.digest(),
            of_part: false,
        }
    }

    /// Takes the pairs that are named out, by their own ids or by those of their samples. For pairs that poison was laid over, which has ids
    /// of its own.
    ///
    /// # Errors
    /// A list of other data, and one that leaves nothing.
    pub fn leave_out_pairs(&self, pairs: &mut Pairs) -> Result<LeftOutByList> {
        let first = pairs.get(0).map_or_else(String::new, |pair| pair.id.clone());
        let left_out = self.leave_out_of_part(pairs)?;
        match left_out.absent == left_out.named {
            true => Err(self.of_other_data(Some(&first))),
            false => Ok(LeftOutByList { of_part: false, ..left_out }),
        }
    }

    /// [`DropList::leave_out_pairs`] of pairs that are only some of the data that the list may be of: it need not name any of them.
    ///
    /// # Errors
    /// A list that leaves nothing.
    pub fn leave_out_of_part(&self, pairs: &mut Pairs) -> Result<LeftOutByList> {
        if !self.blank.is_empty() {
            // One id at a time: those of a large index together are what it keeps out of memory.
            let own = pairs.iter().map(|pair| pair.id.clone());
            let list = self.clone().among(own.chain(pairs.samples().map(|sample| sample.id.clone())));
            return list.leave_out_of_part(pairs);
        }
        let (mut captions, mut added, mut poisoned) = (0, 0, 0);
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut pictures = BTreeSet::new();
        pairs.retain(|pair, sample| {
            let of_sample = sample.and_then(|sample| self.ids.get(&sample.id));
            let own = self.ids.get(&pair.id);
            pictures.extend(of_sample.map(|_| pair.sample));
            let is_poison = pair.poison.is_some() || sample.is_some_and(|sample| sample.poison.is_some());
            poisoned += usize::from(is_poison && (own.is_some() || of_sample.is_some()));
            if own.is_some() && of_sample.is_none() {
                let rest = sample.and_then(|sample| pair.id.strip_prefix(&sample.id));
                // A caption that poison replaced has the id of the one that stood there.
                match rest.is_some_and(is_caption) && pair.poison.is_none() {
                    true => captions += 1,
                    false => added += 1,
                }
            }
            found.extend(own.map(String::as_str));
            found.extend(of_sample.map(String::as_str));
            own.is_none() && of_sample.is_none()
        });
        if pairs.is_empty() && !found.is_empty() {
            return Err(self.of_everything());
        }
        Ok(LeftOutByList { pictures: pictures.len(), captions, added, poisoned, of_part: true, ..self.beside(&found) })
    }

    /// Of a list that leaves nothing.
    pub fn of_everything(&self) -> Error {
        Error::file(&self.path, "names everything in the data", "leave some of it")
    }

    fn of_other_data(&self, own: Option<&str>) -> Error {
        let like = own.map(|id| format!("; its ids are like `{id}`")).unwrap_or_default();
        let first = self.ids.first().map_or("", String::as_str);
        let what = match self.ids.len() {
            1 => format!("its only id (`{first}`) is not in the data{like}"),
            several => format!("none of its {several} ids (`{first}`, ...) is in the data{like}"),
        };
        Error::file(&self.path, what, "name a list that was made of this data")
    }

    /// Takes the samples that are named out, whole or by all their captions.
    pub fn leave_out_samples(&self, samples: &mut Vec<Sample>) {
        samples.retain(|sample| {
            let all = sample.captions.len();
            !self.names(&sample.id) && (all == 0 || self.captions_of(sample).len() < all)
        });
    }

    /// The pairs of `samples` without those that single captions of the list would be. Others keep their ids.
    pub fn pairs(&self, mut samples: Vec<Sample>, mode: CaptionMode) -> Pairs {
        if mode == CaptionMode::Expand {
            let mut pairs = Pairs::new(samples, mode);
            self.leave_out_expanded(&mut pairs);
            return pairs;
        }
        self.leave_out_captions(&mut samples);
        Pairs::new(samples, mode)
    }

    /// Takes out the pairs of the captions that are named.
    fn leave_out_expanded(&self, pairs: &mut Pairs) {
        pairs.retain(|pair, sample| sample.is_none_or(|sample| sample.id == pair.id || !self.names(&pair.id)));
    }

    /// Takes single captions out of samples. Those behind them have other numbers then.
    pub fn leave_out_captions(&self, samples: &mut [Sample]) {
        for sample in samples {
            let named = self.captions_of(sample);
            let mut number = 0;
            sample.captions.retain(|_| {
                number += 1;
                !named.contains(&(number - 1))
            });
        }
    }
}

#[cfg(test)]
mod tests;
