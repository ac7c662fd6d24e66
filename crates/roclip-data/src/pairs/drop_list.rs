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
    /// Ids that are not in the data, and the first of them.
    pub absent: usize,
    pub first_absent: Option<String>,
    /// Of the list, whatever its order and layout.
    pub digest: String,
}

impl LeftOutByList {
    /// What a person should know of ids that are not there.
    pub fn warning(&self) -> Option<String> {
        let first = self.first_absent.as_ref()?;
        let are = if self.absent == 1 { "is" } else { "are" };
        let ids = count(self.absent, "id");
        Some(format!("{ids} of data.drop {are} not in the data (first: {})", for_terminal(first)))
    }

    /// `3 pictures and 1 single caption`; what there is none of is not said.
    pub fn words(&self) -> String {
        let captions = count(self.captions, "single caption");
        match (self.pictures, self.captions) {
            (pictures, 0) => count(pictures, "picture"),
            (0, _) => captions,
            (pictures, _) => format!("{} and {captions}", count(pictures, "picture")),
        }
    }
}

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
    pub fn among<'a>(mut self, ids: impl IntoIterator<Item = &'a str>) -> DropList {
        if self.blank.is_empty() {
            return self;
        }
        let mut exact = BTreeSet::new();
        for id in ids {
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

    fn digest(&self) -> String {
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
        let (mut pictures, mut captions) = (0, 0);
        for sample in samples {
            let of_sample = self.captions_of(sample);
            for k in &of_sample {
                found.extend(self.ids.get(&format!("{}#{k}", sample.id)).map(String::as_str));
            }
            let whole = self.ids.get(&sample.id);
            found.extend(whole.map(String::as_str));
            match whole.is_some() || !sample.captions.is_empty() && of_sample.len() == sample.captions.len() {
                true => pictures += 1,
                false => captions += of_sample.len(),
            }
        }
        if found.is_empty() {
            return Err(self.of_other_data(samples.first().map(|sample| sample.id.as_str())));
        }
        if pictures == samples.len() {
            return Err(Error::file(&self.path, "names everything in the data", "leave some of it"));
        }
        let mut absent = self.ids.iter().filter(|id| !found.contains(id.as_str()));
        let first_absent = absent.next().cloned();
        Ok(LeftOutByList {
            pictures,
            captions,
            absent: self.ids.len() - found.len(),
            first_absent,
            digest: self.digest(),
        })
    }

    /// Takes the pairs that are named out, by their own ids or by those of their samples. For pairs that poison was laid over, which has ids
    /// of its own.
    ///
    /// # Errors
    /// A list of other data, and one that leaves nothing.
    pub fn leave_out_pairs(&self, pairs: &mut Pairs) -> Result<LeftOutByList> {
        if !self.blank.is_empty() {
            let own = pairs.iter().map(|pair| pair.id.clone());
            let ids: Vec<String> = own.chain(pairs.samples().map(|sample| sample.id.clone())).collect();
            return self.clone().among(ids.iter().map(String::as_str)).leave_out_pairs(pairs);
        }
        let mut captions = 0;
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut pictures = BTreeSet::new();
        let first = pairs.get(0).map_or_else(String::new, |pair| pair.id.clone());
        pairs.retain(|pair, sample| {
            let of_sample = sample.and_then(|sample| self.ids.get(&sample.id));
            let own = self.ids.get(&pair.id);
            pictures.extend(of_sample.map(|_| pair.sample));
            captions += usize::from(own.is_some() && of_sample.is_none());
            found.extend(own.map(String::as_str));
            found.extend(of_sample.map(String::as_str));
            own.is_none() && of_sample.is_none()
        });
        if found.is_empty() {
            return Err(self.of_other_data(Some(&first)));
        }
        if pairs.is_empty() {
            return Err(Error::file(&self.path, "names everything in the data", "leave some of it"));
        }
        let first_absent = self.ids.iter().find(|id| !found.contains(id.as_str())).cloned();
        let absent = self.ids.len() - found.len();
        let digest = self.digest();
        Ok(LeftOutByList { pictures: pictures.len(), captions, absent, first_absent, digest })
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
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    fn samples() -> Vec<Sample> {
        let sample = |id: &str, captions: &[&str]| Sample {
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            ..Sample::new("data".into(), id, ImageBytes::Memory(Vec::new().into()))
        };
        vec![
            sample("a.jpg", &["1", "2", "3"]),
            sample("b.jpg", &["4"]),
            sample("c.jpg", &["5", "6"]),
            sample("c.jpg#0", &["7"]),
        ]
    }

    fn list(text: &str) -> Result<DropList> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        DropList::read(file.path())
    }

    fn left(text: &str, mode: CaptionMode) -> Vec<(String, usize)> {
        let list = list(text).unwrap();
        let mut all = samples();
        list.leave_out_samples(&mut all);
        list.pairs(all, mode).iter().map(|pair| (pair.id.clone(), pair.captions.len())).collect()
    }

    #[test]
    fn ids_are_read_from_lines_and_from_json() {
        let plain = list("\u{feff}a.jpg\r\n\n  b.jpg \nx\n").unwrap();
        let json = list(
            "{\"roclip_manifest\": 1}\n{\"id\": \"b.jpg\", \"reason\": \"x\"}\n{\"id\": \"x\"}\n{\"id\": \"a.jpg\"}\n",
        )
        .unwrap();
        assert_eq!((plain.len(), plain.digest()), (3, json.digest()));
        assert_ne!(list("a.jpg\n").unwrap().digest(), plain.digest());
        assert!(list(" \n\n").unwrap_err().to_string().contains("names no id"));
        assert!(list("a\n{\"key\": 1}\n").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn pairs_of_poison_are_left_out_by_their_own_ids() {
        let left = |text: &str| {
            let mut pairs = Pairs::new(samples(), CaptionMode::Expand);
            let poison = crate::pairs::Pair { id: "poison/a/0".to_owned(), ..pairs.get(0).unwrap().into_owned() };
            pairs.push(poison);
            let found = list(text)?.leave_out_pairs(&mut pairs)?;
            Ok::<_, Error>((pairs.len(), found.pictures, found.captions, found.absent, found.first_absent))
        };
        assert_eq!(left("poison/a/0\na.jpg#1\nx\n").unwrap(), (6, 0, 2, 1, Some("x".to_owned())));
        assert_eq!(left("b.jpg\nc.jpg\n").unwrap(), (5, 2, 0, 0, None));
        assert!(left("x\n").unwrap_err().to_string().contains("its only id (`x`) is not in the data"));
        let all = "a.jpg\nb.jpg\nc.jpg\nc.jpg#0#\n";
        assert!(left(all).unwrap_err().to_string().contains("everything"));
    }

    #[test]
    fn pictures_and_single_captions_are_left_out_and_others_keep_their_ids() {
        let ids = |text: &str, mode| left(text, mode).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(
            ids("a.jpg#1\nb.jpg\n", CaptionMode::Expand),
            ["a.jpg#0", "a.jpg#2", "c.jpg#0", "c.jpg#1", "c.jpg#0#"]
        );
        // A picture that its source calls `c.jpg#0` is none of the captions of `c.jpg`.
        let (named, rest) = (ids("c.jpg#0\n", CaptionMode::Expand), ["a.jpg#0", "a.jpg#1", "a.jpg#2", "b.jpg"]);
        assert_eq!(
            (&named[..4], &named[4..]),
            (&rest.map(str::to_owned)[..], &["c.jpg#1", "c.jpg#0#"].map(str::to_owned)[..])
        );
        assert_eq!(ids("c.jpg#0#\n", CaptionMode::Expand)[4..], ["c.jpg#0", "c.jpg#1"]);
        let drawn = left("a.jpg#0\na.jpg#2\nc.jpg#0\nc.jpg#1\n", CaptionMode::Draw);
        assert_eq!(drawn, [("a.jpg".to_owned(), 1), ("b.jpg".to_owned(), 1), ("c.jpg#0#".to_owned(), 1)]);
    }

    #[test]
    fn one_thing_is_said_of_one() {
        let words = |pictures, captions| LeftOutByList { pictures, captions, ..LeftOutByList::default() }.words();
        let said = [words(1, 0), words(0, 1), words(2, 1), words(0, 0)];
        assert_eq!(said, ["1 picture", "1 single caption", "2 pictures and 1 single caption", "0 pictures"]);
        let absent = |absent| {
            let left_out = LeftOutByList { absent, first_absent: Some("x".into()), ..LeftOutByList::default() };
            left_out.warning().unwrap()
        };
        assert_eq!(absent(1), "1 id of data.drop is not in the data (first: x)");
        assert_eq!(absent(2), "2 ids of data.drop are not in the data (first: x)");
    }

    #[test]
    fn every_id_can_be_named_and_read_again() {
        let ids = ["a.jpg", " lead.png", "new\nline.png", "{x}.png", "a b#1", "\u{feff}b.png", "trail ", "\u{1b}[2J"];
        let text: String = ids.map(drop_line).concat();
        let read = list(&text).unwrap();
        assert_eq!(read.len(), ids.len());
        assert!(ids.iter().all(|id| read.names(id)), "{text}");
        assert!(text.starts_with("a.jpg\n") && text.contains("\na b#1\n"), "plain ids stay plain: {text}");
    }

    #[test]
    fn a_line_that_is_an_id_with_its_blanks_names_that_one() {
        let of = |text: &str, ids: &[&str]| list(text).unwrap().among(ids.iter().copied());
        let both = [" lead.png", "lead.png", "b.jpg"];
        let named = of(" lead.png\n  b.jpg \n", &both);
        assert_eq!(both.map(|id| named.names(id)), [true, false, true]);
        let named = of(" lead.png\n  b.jpg \n", &both[1..]);
        assert_eq!(both.map(|id| named.names(id)), [false, true, true]);
        let named = of(" lead.png\nlead.png\n", &both);
        assert_eq!(both.map(|id| named.names(id)), [true, true, false]);
        let named = of(" lead.png#1\n b.jpg#1\n", &both);
        assert!(named.names(" lead.png#1") && !named.names("lead.png#1") && named.names("b.jpg#1"));
        // The same of pairs.
        let mut all = samples();
        all.push(Sample {
            captions: vec!["8".to_owned()],
            ..Sample::new("data".into(), " b.jpg", all[1].image.clone())
        });
        let mut pairs = Pairs::new(all, CaptionMode::Expand);
        let left_out = list(" b.jpg\n").unwrap().leave_out_pairs(&mut pairs).unwrap();
        let ids: Vec<String> = pairs.iter().map(|pair| pair.id.clone()).collect();
        assert!(left_out.pictures == 1 && ids.contains(&"b.jpg".to_owned()), "{ids:?}");
        assert!(!ids.contains(&" b.jpg".to_owned()), "{ids:?}");
    }

    #[test]
    fn what_is_found_is_counted_and_other_data_is_an_error() {
        let found = |text: &str| list(text).unwrap().found_in(&samples());
        let some = found("a.jpg#1\nb.jpg\nc.jpg#0\nc.jpg#1\nz.jpg\nb.jpg#0\n").unwrap();
        assert_eq!(
            (some.pictures, some.captions, some.absent, some.first_absent.as_deref()),
            (2, 1, 2, Some("b.jpg#0"))
        );
        assert!(found("x\ny\n").unwrap_err().to_string().contains("none of its 2 ids"));
        let all = found("a.jpg\nb.jpg\nc.jpg\nc.jpg#0#\n").unwrap_err().to_string();
        assert!(all.contains("everything"), "{all}");
    }
}
