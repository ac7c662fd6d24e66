//! LLaVA's conversation layout: records with `image` and `conversations`, as JSON lines, as one JSON list, or as the JSON members of
//! WebDataset shards beside the pictures.

use crate::caption_metrics::words;
use crate::error::{Error, Result};
use crate::instruction::{Instruction, Instructions, Listed, without_slot};
use crate::picture::ImageLimits;
use crate::sample::{ImageBytes, Sample};
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::{Listing, shard_stem};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Record {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    image: Option<String>,
    pub conversations: Vec<Turn>,
}

#[derive(Deserialize)]
pub(super) struct Turn {
    from: String,
    value: String,
}

#[derive(Default)]
pub(super) struct Found {
    samples: Vec<Sample>,
    /// Of the samples.
    ids: HashSet<String>,
    /// Of the records.
    record_ids: HashSet<String>,
    /// Samples of lists, by where their pictures lie.
    by_path: HashMap<PathBuf, usize>,
    items: Vec<Instruction>,
    pub skips: SkipReport,
    unusable: usize,
}

impl Found {
    /// Records of the list at `path`, which is called `name` among all lists.
    pub(super) fn read_text(&mut self, text: &str, root: &Path, path: &Path, name: &str) -> Result<()> {
        let source: Arc<str> = root.to_string_lossy().into();
        let records: Vec<(String, std::result::Result<Record, String>)> = match text.trim_start().starts_with('[') {
            true => {
                let list: Vec<Value> = serde_json::from_str(text)
                    .map_err(|e| Error::file(path, format!("is no JSON list: {e}"), "repair it"))?;
                let record = |(number, value)| {
                    (format!("record {number}"), serde_json::from_value(value).map_err(|e| e.to_string()))
                };
                (1..).zip(list).map(record).collect()
            }
            false => {
                let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
                let record = |(number, line): (i32, &str)| {
                    (format!("line {number}"), serde_json::from_str(line).map_err(|e| e.to_string()))
                };
                lines.map(record).collect()
            }
        };
        for (place, record) in records {
            let record = match record {
                Ok(record) => record,
                Err(why) => {
                    self.skip(&place, Skip::new(SkipReason::RowUnreadable, why));
                    continue;
                }
            };
            let id = record.id.as_ref().map_or(place.clone(), |id| id.as_str().map_or(id.to_string(), str::to_owned));
            let Some(image) = &record.image else {
                self.skip(&id, Skip::new(SkipReason::RowWithoutImage, "it has no `image`"));
                continue;
            };
            let inside =
                Path::new(image).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            let address = image.contains("://");
            if address || !inside {
                let reason = if address { SkipReason::ImageIsAddress } else { SkipReason::ImageOutsideFolder };
                self.skip(&id, Skip::new(reason, image.clone()));
                continue;
            }
            let place = root.join(image);
            let known = self.by_path.get(&place).copied();
            let sample = known.unwrap_or_else(|| {
                let bytes = ImageBytes::File(place.clone());
                let (at, _) = self.push(Sample::new(Arc::clone(&source), image.clone(), bytes), name);
                self.by_path.insert(place, at);
                at
            });
            self.add(&id, name, sample, &record.conversations);
        }
        Ok(())
    }

    /// Keeps `sample`, which has the name of its list or shard before its id where another one has the id already: its index, and what stands
    /// before.
    pub(super) fn push(&mut self, mut sample: Sample, list: &str) -> (usize, String) {
        let before = before(&mut self.ids, &sample.id, list);
        sample.id.insert_str(0, &before);
        self.samples.push(sample);
        (self.samples.len() - 1, before)
    }

    pub(super) fn skip(&mut self, id: &str, skip: Skip) {
        self.unusable += 1;
        self.skips.add(id, skip);
    }

    /// The instructions of one record, which has the name of its list or shard before its id where another one has the id already.
    pub(super) fn add(&mut self, id: &str, list: &str, sample: usize, turns: &[Turn]) {
        let id = format!("{}{id}", before(&mut self.record_ids, id, list));
        for (number, pair) in turns.chunks(2).enumerate() {
            let turn_id = if number == 0 { id.clone() } else { format!("{id}#{number}") };
            match instruction(pair, number == 0) {
                Ok((question, answer)) => {
                    self.items.push(Instruction { id: turn_id, sample, question, answer });
                }
                Err(skip) => {
                    let lost = skip.reason == SkipReason::RoleUnknown;
                    self.skip(&turn_id, skip);
                    // Behind a turn of nobody it is not known who speaks.
                    if lost {
                        break;
                    }
                }
            }
        }
    }

    pub(super) fn probed(self, limits: ImageLimits, workers: usize) -> Instructions {
        let listed = Listed {
            instructions: self.items.len() + self.unusable,
            unusable: self.unusable,
            pictures: self.samples.len(),
        };
        let keys: Vec<String> = self.samples.iter().map(|sample| sample.id.clone()).collect();
        let mut listing = Listing::default();
        (listing.samples, listing.skips) = (self.samples, self.skips);
        listing.probe(limits, workers);
        let places: HashMap<&str, usize> =
            listing.samples.iter().enumerate().map(|(at, sample)| (sample.id.as_str(), at)).collect();
        let place = |item: Instruction| {
            let sample = keys.get(item.sample).and_then(|key| places.get(key.as_str())).copied()?;
            Some(Instruction { sample, ..item })
        };
        let items = self.items.into_iter().filter_map(place).collect();
        Instructions { items, samples: listing.samples, skips: listing.skips, listed }
    }
}

/// What stands before `id` where another one of those `taken` has it already: the name of its `list` or shard, as often as it needs.
fn before(taken: &mut HashSet<String>, id: &str, list: &str) -> String {
    let mut before = String::new();
    while !taken.insert(format!("{before}{id}")) {
        before.insert_str(0, &format!("{}/", shard_stem(list)));
    }
    before
}

/// Question and answer of two turns. The first question of a record has the slot for the picture, the others have none.
fn instruction(pair: &[Turn], first: bool) -> std::result::Result<(String, String), Skip> {
    let [asked, answered] = pair else {
        return Err(Skip::new(SkipReason::AnswerEmpty, "its last question has no answer"));
    };
    for (turn, roles) in [(asked, ["human", "user"]), (answered, ["gpt", "assistant"])] {
        if !roles.contains(&turn.from.to_lowercase().as_str()) {
            let detail = format!("`{}` where `{}` speaks", turn.from, roles.join("` or `"));
            return Err(Skip::new(SkipReason::RoleUnknown, detail));
        }
    }
    let question = match first {
        true => without_slot(&asked.value)?,
        false => asked.value.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let answer = answered.value.trim().to_owned();
    match words(&question).is_empty() || words(&answer).is_empty() {
        true => Err(Skip::new(SkipReason::AnswerEmpty, "no word in its question or answer")),
        false => Ok((question, answer)),
    }
}

/// Pictures and records for tests.
#[cfg(test)]
pub(super) mod testing {
    use serde_json::{Value, json};

    pub fn png() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(4, 4).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    pub fn record(image: &str, turns: &[(&str, &str)]) -> Value {
        let turns: Vec<Value> = turns.iter().map(|(from, value)| json!({"from": from, "value": value})).collect();
        json!({"id": image, "image": image, "conversations": turns})
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{png, record};
    use super::*;
    use crate::instruction::read_instructions;
    use serde_json::json;

    #[test]
    fn lines_and_lists_are_read_alike_and_what_cannot_be_used_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), png()).unwrap();
        let good =
            record("a.png", &[("human", "<image>\nwhat?"), ("gpt", "a cat"), ("human", "where?"), ("gpt", "here")]);
        let records = [
            good,
            record("a.png", &[("human", "what?"), ("gpt", "a cat")]),
            record("a.png", &[("system", "<image>"), ("gpt", "a cat")]),
            record("a.png", &[("human", "<image> what?"), ("gpt", " ")]),
            record("a.png", &[("human", "<image> what?")]),
            record("../a.png", &[("human", "<image> what?"), ("gpt", "a cat")]),
            record("gone.png", &[("human", "<image> what?"), ("gpt", "a cat")]),
            record("https://a.b/c.png", &[("human", "<image> what?"), ("gpt", "a cat")]),
            json!({"conversations": []}),
            json!({"image": "a.png"}),
        ];
        let mut records = records.to_vec();
        (0..).zip(&mut records).for_each(|(number, record)| record["id"] = json!(number));
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        for (name, text) in [("a.jsonl", lines), ("a.json", json!(records).to_string())] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let read = read_instructions(&path, None, ImageLimits::default(), 1).unwrap();
            let items: Vec<(&str, &str)> =
                read.items.iter().map(|item| (item.question.as_str(), item.answer.as_str())).collect();
            assert_eq!(items, [("what?", "a cat"), ("where?", "here")], "{name}");
            assert_eq!((read.samples.len(), read.items[1].sample), (1, 0));
            assert_eq!(read.listed, Listed { instructions: 11, unusable: 8, pictures: 2 }, "{name}");
            let counts = read.skips.counts();
            for (reason, count) in [
                ("question-without-picture", 1),
                ("role-unknown", 1),
                ("answer-empty", 2),
                ("image-outside-folder", 1),
                ("image-is-address", 1),
                ("row-without-image", 1),
                ("row-unreadable", 1),
                ("image-file-unreadable", 1),
            ] {
                assert_eq!(counts.get(reason), Some(&count), "{name} {reason} {counts:?}");
            }
        }
        for (name, text) in [("empty.jsonl", ""), ("empty.json", "[]")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let said = read_instructions(&path, None, ImageLimits::default(), 1).unwrap_err().to_string();
            assert!(said.contains("can be used: it is empty"), "{said}");
        }
        let path = folder.path().join("none.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(
            read_instructions(&path, None, ImageLimits::default(), 1)
                .unwrap_err()
                .to_string()
                .contains("no instruction")
        );
    }
}
