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
        let header = Header { roclip_hashes: VERSION, perceptual: PERCEPTUAL.to_owned() };
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

    /// Reads what `roclip data stats --hashes` wrote.
    ///
    /// # Errors
    /// Another file, one of a newer version, and a line that is none of its lines, with its number.
    pub fn read(path: &Path) -> Result<HashFile> {
        const REMEDY: &str = "name a file that `roclip data stats --hashes` wrote";
        let (file, _) = bounded::open(path).io("open", path)?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        let mut file = HashFile::default();
        for number in 1.. {
            line.clear();
            if reader.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).io("read", path)? == 0 {
                if number == 1 {
                    return Err(Error::file(path, "is empty", REMEDY));
                }
                break;
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
                continue;
            }
            let broken = || Error::file(path, format!("line {number} is none of such a file, or is cut off"), REMEDY);
            let Line { id, sha256, hash } = serde_json::from_slice(&line).map_err(|_| broken())?;
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
        assert!(read(&text[..text.len() - 9]).unwrap_err().contains("line 3"));
        let newer = String::from_utf8(text.clone()).unwrap().replacen(":1", ":2", 1);
        assert!(read(newer.as_bytes()).unwrap_err().contains("version 2"));
        let twice = [text.as_slice(), text.split(|b| *b == b'\n').nth(1).unwrap(), b"\n"].concat();
        assert!(read(&twice).unwrap_err().contains("again"));
    }
}
