//! LLaVA's conversation layout: records with `image` and `conversations`, as JSON lines, as one JSON list, or as the JSON members of a
//! WebDataset tar beside the pictures.

use crate::bounded;
use crate::caption_metrics::words;
use crate::error::{Error, IoContext, Result};
use crate::instruction::{Instruction, Instructions, Listed, without_slot};
use crate::picture::ImageLimits;
use crate::sample::{ImageBytes, Sample};
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason, SkipReport};
use crate::source::Listing;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The longest record.
const RECORD_LIMIT_BYTES: u64 = 4 << 20;
/// The longest file of records.
const FILE_LIMIT_BYTES: u64 = 2 << 30;

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    image: Option<String>,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    from: String,
    value: String,
}

/// Reads a file of instructions. `image_root` is where the pictures' paths start, the file's own folder when absent. Several turns about one
/// picture are instructions of their own, without those before them (ours: LLaVA learns them in one row).
///
/// # Errors
/// A file that cannot be read, and one of which nothing can be used. Records and turns that cannot be used are counted.
pub fn read_instructions(
    path: &Path,
    image_root: Option<&Path>,
    limits: ImageLimits,
    workers: usize,
) -> Result<Instructions> {
    let mut found = Found::default();
    let is_tar = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"));
    if is_tar {
        found.read_tar(path, limits)?;
    } else {
        let text = bounded::read(path, FILE_LIMIT_BYTES).io("read", path)?;
        let text = String::from_utf8(text)
            .map_err(|_| Error::file(path, "is no UTF-8 text", "give JSON lines, a JSON list or a tar"))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        found.read_text(&text, image_root.unwrap_or(parent), path)?;
    }
    let instructions = found.probed(limits, workers);
    if instructions.items.is_empty() {
        return Err(Error::file(
            path,
            format!("has no instruction that can be used: {}", instructions.skips.summary()),
            "give records with `image` and `conversations` of `human` and `gpt`, the first question with `<image>`",
        ));
    }
    Ok(instructions)
}

#[derive(Default)]
struct Found {
    samples: Vec<Sample>,
    items: Vec<Instruction>,
    skips: SkipReport,
    unusable: usize,
}

impl Found {
    fn read_text(&mut self, text: &str, root: &Path, path: &Path) -> Result<()> {
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
        let mut by_path: HashMap<String, usize> = HashMap::new();
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
            let known = by_path.get(image).copied();
            let sample = known.unwrap_or_else(|| {
                self.samples.push(Sample::new(Arc::clone(&source), image.clone(), ImageBytes::File(root.join(image))));
                by_path.insert(image.clone(), self.samples.len() - 1);
                self.samples.len() - 1
            });
            self.add(&id, sample, &record.conversations);
        }
        Ok(())
    }

    fn read_tar(&mut self, path: &Path, limits: ImageLimits) -> Result<()> {
        let (shard, file) = Shard::open(path).io("open", path)?;
        let shard = Arc::new(shard);
        let source: Arc<str> = path.to_string_lossy().into();
        let mut archive = tar::Archive::new(file);
        let (mut pictures, mut records) = (BTreeMap::new(), BTreeMap::new());
        for entry in archive.entries_with_seek().io("read", path)? {
            let mut entry = entry.io("read", path)?;
            let name: PathBuf = entry.path().io("read", path)?.into_owned();
            let (Some(ending), true) = (name.extension(), entry.header().entry_type().is_file()) else { continue };
            let key = name.with_extension("").to_string_lossy().into_owned();
            match ending.to_string_lossy().to_lowercase().as_str() {
                "jpg" | "jpeg" | "png" | "webp" => {
                    let (offset, length) = (entry.raw_file_position(), entry.size());
                    if length > limits.max_file_bytes {
                        self.skip(&key, Skip::new(SkipReason::ImageFileTooLarge, format!("{length} bytes")));
                        continue;
                    }
                    pictures.insert(key, ImageBytes::Span { shard: Arc::clone(&shard), offset, length });
                }
                "json" => {
                    let mut text = Vec::new();
                    entry.by_ref().take(RECORD_LIMIT_BYTES + 1).read_to_end(&mut text).io("read", path)?;
                    records.insert(key, text);
                }
                _ => {}
            }
        }
        for (key, text) in records {
            if text.len() as u64 > RECORD_LIMIT_BYTES {
                self.skip(&key, Skip::new(SkipReason::CaptionTooLarge, "its JSON member has more than 4 MiB"));
                continue;
            }
            let record: Record = match serde_json::from_slice(&text) {
                Ok(record) => record,
                Err(why) => {
                    self.skip(&key, Skip::new(SkipReason::RowUnreadable, why.to_string()));
                    continue;
                }
            };
            let Some(image) = pictures.remove(&key) else {
                self.skip(&key, Skip::new(SkipReason::NoImage, "no jpg, png or webp member"));
                continue;
            };
            self.samples.push(Sample::new(Arc::clone(&source), key.clone(), image));
            self.add(&key, self.samples.len() - 1, &record.conversations);
        }
        Ok(())
    }

    fn skip(&mut self, id: &str, skip: Skip) {
        self.unusable += 1;
        self.skips.add(id, skip);
    }

    /// The instructions of one record.
    fn add(&mut self, id: &str, sample: usize, turns: &[Turn]) {
        for (number, pair) in turns.chunks(2).enumerate() {
            let turn_id = if number == 0 { id.to_owned() } else { format!("{id}#{number}") };
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

    fn probed(self, limits: ImageLimits, workers: usize) -> Instructions {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn png() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(4, 4).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn record(image: &str, turns: &[(&str, &str)]) -> Value {
        let turns: Vec<Value> = turns.iter().map(|(from, value)| json!({"from": from, "value": value})).collect();
        json!({"id": image, "image": image, "conversations": turns})
    }

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
        let path = folder.path().join("none.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(
            read_instructions(&path, None, ImageLimits::default(), 1)
                .unwrap_err()
                .to_string()
                .contains("no instruction")
        );
    }

    #[test]
    fn json_members_of_a_tar_are_read_beside_their_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
        let talk = record("", &[("human", "<image> what?"), ("gpt", "a dog")]).to_string().into_bytes();
        for (name, bytes) in [("1.png", png()), ("1.json", talk.clone()), ("2.json", talk), ("3.json", b"{".to_vec())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        archive.into_inner().unwrap();
        let read = read_instructions(&path, None, ImageLimits::default(), 1).unwrap();
        assert_eq!((read.items.len(), read.samples.len()), (1, 1));
        assert!(read.samples[0].picture(ImageLimits::default()).is_ok());
        assert_eq!(read.skips.counts(), BTreeMap::from([("no-image".into(), 1), ("row-unreadable".into(), 1)]));
    }
}
