//! Text files that are not UTF-8: of a named encoding, or of UTF-16 with the mark that Windows programs begin it with.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use encoding_rs::{CoderResult, Decoder, Encoding};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// What a decoder writes for bytes that are no text of its encoding.
pub(super) const NO_TEXT: char = '\u{fffd}';

const BUFFER_BYTES: usize = 64 << 10;

/// The bytes of a text file as UTF-8, and the name of the encoding where that was another one. Without a name they are taken as they are, unless
/// they begin with the mark of UTF-16.
///
/// # Errors
/// An encoding that nobody knows, and a file that cannot be opened.
pub(super) fn open(path: &Path, encoding: Option<&str>) -> Result<(Box<dyn BufRead>, Option<&'static str>)> {
    let (file, _) = bounded::open(path).io("open", path)?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let begins = reader.fill_buf().io("read", path)?;
    let encoding = match encoding {
        Some(name) => Some(named(name)?),
        None => Encoding::for_bom(begins).map(|(encoding, _)| encoding).filter(|found| *found != encoding_rs::UTF_8),
    };
    Ok(match encoding {
        None => (Box::new(reader), None),
        Some(encoding) => {
            let decoded = Decoded {
                reader,
                decoder: encoding.new_decoder(),
                text: vec![0; BUFFER_BYTES],
                from: 0,
                to: 0,
                ended: false,
            };
            (Box::new(BufReader::with_capacity(BUFFER_BYTES, decoded)), Some(encoding.name()))
        }
    })
}

/// The mark that some programs write before UTF-8, and need to know it as such.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// The encoding that the web, or Python, calls so.
fn named(name: &str) -> Result<&'static Encoding> {
    let name = name.trim().to_lowercase();
    let python = name.replace('_', "-");
    let python = match python.as_str() {
        "utf-8-sig" => "utf-8",
        "latin-1" => "latin1",
        other => other,
    };
    Encoding::for_label(name.as_bytes()).or_else(|| Encoding::for_label(python.as_bytes())).ok_or_else(|| {
        Error::setting(
            format!("`{name}` is no encoding known here (--csv-encoding)"),
            "use utf-8, latin-1, windows-1252, utf-16, gbk, big5, shift_jis, euc-kr, koi8-r or another name of the WHATWG's list",
        )
    })
}

/// Reads as UTF-8 what is of another encoding.
struct Decoded {
    reader: BufReader<File>,
    decoder: Decoder,
    text: Vec<u8>,
    /// What of `text` is not yet read.
    from: usize,
    to: usize,
    ended: bool,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.from == self.to && !self.ended {
            let bytes = self.reader.fill_buf()?;
            let last = bytes.is_empty();
            let (result, read, written, _) = self.decoder.decode_to_utf8(bytes, &mut self.text, last);
            self.reader.consume(read);
            (self.from, self.to) = (0, written);
            self.ended = last && result == CoderResult::InputEmpty;
        }
        let waiting = self.text.get(self.from..self.to).unwrap_or_default();
        let count = waiting.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.from += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], encoding: Option<&str>) -> Result<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut text = String::new();
        open(file.path(), encoding)?.0.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn named_encodings_and_marks_are_obeyed() {
        let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}Straße 犬 \u{1f600}\n".encode_utf16().flat_map(order).collect()
        };
        for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
            for encoding in [None, Some("utf-16"), Some("latin-1")] {
                assert_eq!(text(&bytes, encoding).unwrap(), "Straße 犬 \u{1f600}\n", "{encoding:?}");
            }
        }
        for name in ["latin-1", "Latin_1", "iso-8859-1", "cp1252", "windows-1252"] {
            assert_eq!(text(b"caf\xe9 \x80", Some(name)).unwrap(), "café €", "{name}");
        }
        assert_eq!(text("犬".as_bytes(), Some("utf-8-sig")).unwrap(), "犬");
        assert_eq!(text(b"\xb9\xb7", Some("gbk")).unwrap(), "狗");
        assert_eq!(text(b"a\xffb", Some("utf-8")).unwrap(), format!("a{NO_TEXT}b"));
        let unknown = text(b"", Some("klingon")).unwrap_err().to_string();
        assert!(unknown.contains("klingon") && unknown.contains("windows-1252"), "{unknown}");
    }

    #[test]
    fn a_text_of_many_buffers_loses_nothing() {
        let line = "a picture of a café\n";
        let latin: Vec<u8> = line.chars().map(|letter| letter as u32 as u8).collect();
        assert_eq!(text(&latin.repeat(20_000), Some("latin-1")).unwrap(), line.repeat(20_000));
        let odd: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(line.repeat(20_000).encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(text(&odd, None).unwrap(), line.repeat(20_000));
    }
}
