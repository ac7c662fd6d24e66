//! The hashes of a data set's pictures as a file, for a later look at whether they are still the same pictures: JSON lines, a header first.

use crate::artifact;
use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::sample::Sample;
use crate::statistics::look::Look;
use crate::statistics::perceptual::PerceptualHash;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

/// Of this layout.
const VERSION: u32 = 1;
/// Longer lines are none of such a file: an id has some hundred bytes.
const LINE_LIMIT_BYTES: u64 = 1 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    roclip_hashes: u32,
    /// How `hash` is computed.
    perceptual: String,
    /// Whether the file has an [`End`]: older ones have none.
    #[serde(default)]
    counted: bool,
}

/// The last line, since the pictures are counted while they are looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// That stand before it.
    pictures: usize,
}

/// One picture.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: String,
    sha256: String,
    #[serde(default)]
    hash: Option<String>,
}

/// The name of the perceptual hash.
const PERCEPTUAL: &str = "phash-64";

/// What was known of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    pub sha256: [u8; 32],
    /// None of a picture of one colour.
    pub hash: Option<PerceptualHash>,
}

/// The hashes of earlier pictures by their ids.
#[derive(Debug, Default)]
pub struct HashFile {
    by_id: HashMap<Box<str>, Hashes>,
}

impl HashFile {
    /// Writes the header of a new file to `out`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin(out: &mut dyn Write) -> std::io::Result<()> {
        let header = Header { roclip_hashes: VERSION, perceptual: PERCEPTUAL.to_owned(), counted: true };
        line(out, &header)
    }

    /// Writes the line of one picture.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn add(out: &mut dyn Write, sample: &Sample, look: &Look) -> std::io::Result<()> {
        let hash = look.hash.map(PerceptualHash::hex);
        line(out, &Line { id: sample.id.clone(), sha256: artifact::hex(&look.sha256), hash })
    }

    /// Writes the end of a file with the lines of so many pictures.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(out: &mut dyn Write, pictures: usize) -> std::io::Result<()> {
        line(out, &End { pictures })
    }

    /// Reads what `roclip data stats --hashes` wrote.
    ///
    /// # Errors
    /// Another file, one of a newer version, a line that is none of its lines, with its number, and one that has lost lines.
    pub fn read(path: &Path) -> Result<HashFile> {
        const REMEDY: &str = "name a file that `roclip data stats --hashes` wrote";
        const WHOLE: &str = "bring back the whole file as `roclip data stats --hashes` wrote it";
        let (file, _) = bounded::open(path).io("open", path)?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        let mut file = HashFile::default();
        let mut counted = false;
        let mut end: Option<End> = None;
        for number in 1.. {
            line.clear();
            if reader.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).io("read", path)? == 0 {
                match end {
                    _ if number == 1 => return Err(Error::file(path, "is empty", REMEDY)),
                    Some(End { pictures }) if pictures != file.len() => {
                        let what = format!("has the hashes of {} of its {pictures} pictures", file.len());
                        return Err(Error::file(path, what, WHOLE));
                    }
                    None if counted => {
                        let what = format!(
                            "is cut off behind line {}: the last line, which says of how many pictures it is, is not there",
                            number - 1
                        );
                        return Err(Error::file(path, what, WHOLE));
                    }
                    _ => {}
                }
                break;
            }
            if end.is_some() {
                return Err(Error::file(path, format!("goes on behind its last line, in line {number}"), WHOLE));
            }
            if number == 1 {
                let header: Header =
                    serde_json::from_slice(&line).map_err(|_| Error::file(path, "is no file of hashes", REMEDY))?;
                if header.roclip_hashes != VERSION || header.perceptual != PERCEPTUAL {
                    let what = format!(
                        "is of version {} with {}, and this program reads version {VERSION} with {PERCEPTUAL}",
                        header.roclip_hashes, header.perceptual
                    );
                    return Err(Error::file(path, what, "write it again with this version"));
                }
                counted = header.counted;
                continue;
            }
            let broken = || Error::file(path, format!("line {number} is none of such a file, or is cut off"), REMEDY);
            let Line { id, sha256, hash } = match serde_json::from_slice(&line) {
                Ok(line) => line,
                Err(_) if counted => {
                    end = Some(serde_json::from_slice(&line).map_err(|_| broken())?);
                    continue;
                }
                Err(_) => return Err(broken()),
            };
            let sha256 = artifact::sha256_of_hex(&sha256).ok_or_else(broken)?;
            let hash = match hash {
                Some(hex) => Some(PerceptualHash::parse(&hex).ok_or_else(broken)?),
                None => None,
            };
            if file.by_id.insert(id.into(), Hashes { sha256, hash }).is_some() {
                return Err(Error::file(path, format!("line {number} names a picture again"), REMEDY));
            }
        }
        Ok(file)
    }

    pub fn of(&self, id: &str) -> Option<&Hashes> {
        self.by_id.get(id)
    }

    /// Of all pictures, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(|id| &**id)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

fn line<T: Serialize>(out: &mut dyn Write, value: &T) -> std::io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    #[test]
    fn hashes_are_read_back_and_other_files_are_refused() {
        let sample = Sample::new("data".into(), "a \"b\"\n.jpg", ImageBytes::Memory(Vec::new().into()));
        let look =
            Look { width: 1, height: 1, length: 1, format: "png", sha256: [7; 32], hash: Some(PerceptualHash(5)) };
        let mut text = Vec::new();
        HashFile::begin(&mut text).unwrap();
        HashFile::add(&mut text, &sample, &look).unwrap();
        HashFile::add(&mut text, &Sample { id: "flat".into(), ..sample.clone() }, &Look { hash: None, ..look })
            .unwrap();
        let lines = text.len();
        HashFile::end(&mut text, 2).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            HashFile::read(file.path()).map_err(|e| e.to_string())
        };
        let found = read(&text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found.of(&sample.id), Some(&Hashes { sha256: [7; 32], hash: Some(PerceptualHash(5)) }));
        assert_eq!(found.of("flat").unwrap().hash, None);
        assert!(read(b"").unwrap_err().contains("is empty"));
        assert!(read(b"id,hash\n").unwrap_err().contains("no file of hashes"));
        assert!(read(&text[..text.len() - 2]).unwrap_err().contains("line 4"));
        assert!(read(&text[..lines - 9]).unwrap_err().contains("line 3"));
        // At the end of a line, too, and within.
        assert!(read(&text[..lines]).unwrap_err().contains("cut off behind line 3"));
        let all: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        assert!(read(&all[..1].concat()).unwrap_err().contains("cut off behind line 1"));
        assert!(read(&[all[0], all[2], all[3]].concat()).unwrap_err().contains("the hashes of 1 of its 2 pictures"));
        assert!(read(&[&text[..], all[1]].concat()).unwrap_err().contains("behind its last line, in line 5"));
        // Older files say nothing of it.
        let older = String::from_utf8(text[..lines].to_vec()).unwrap().replacen(",\"counted\":true", "", 1);
        assert_eq!(read(older.as_bytes()).unwrap().len(), 2);
        let newer = String::from_utf8(text.clone()).unwrap().replacen(":1", ":2", 1);
        assert!(read(newer.as_bytes()).unwrap_err().contains("version 2"));
        let twice = [all[0], all[1], all[1]].concat();
        assert!(read(&twice).unwrap_err().contains("again"));
    }
}
