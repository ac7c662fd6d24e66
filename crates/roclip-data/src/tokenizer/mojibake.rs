//! Text that was decoded in the wrong encoding, found and mended as ftfy 6.3.1 does it (Apache-2.0, Robyn Speer; `fix_encoding`).
//!
//! `data/tokenizer/mojibake.py` wrote the tables with ftfy.

use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Stands for a byte that was lost in an encoding that replaces what it does not know.
const LOST: u8 = 0x1a;
const REPLACEMENT: char = '\u{fffd}';

#[derive(Deserialize)]
struct Tables {
    bad: String,
    detector: String,
    continuation: String,
    encodings: Vec<EncodingTable>,
    ligatures: HashMap<char, String>,
    upper_case_entities: HashMap<String, String>,
}

#[derive(Deserialize)]
struct EncodingTable {
    name: String,
    /// The characters of the bytes from 0x80.
    upper_half: String,
}

/// A single-byte encoding.
struct Encoding {
    /// Windows' code pages, which give a character to every byte here.
    sloppy: bool,
    /// An en dash before a space is common in it, so that spaces are not looked at.
    keeps_spaces: bool,
    bytes: HashMap<char, u8>,
}

pub(super) struct Mojibake {
    bad: Regex,
    /// What looks like UTF-8 in another encoding, if none of `continuation` stands before it.
    detector: Regex,
    continuation: Regex,
    /// In the order in which they are tried.
    encodings: Vec<Encoding>,
    /// The characters of the bytes 0x80 to 0x9f in Windows-1252.
    controls: Vec<char>,
    altered: BytesRegex,
    lossy: BytesRegex,
    pub ligatures: HashMap<char, String>,
    /// With `&` and `;`.
    pub upper_case_entities: HashMap<String, String>,
}

/// None if the built-in tables are broken, which a test rules out.
pub(super) static MOJIBAKE: LazyLock<Option<Mojibake>> = LazyLock::new(|| {
    let tables: Tables = serde_json::from_str(include_str!("../../../../data/tokenizer/mojibake.json")).ok()?;
    let encodings = tables.encodings.iter().map(|table| Encoding {
        sloppy: table.name.starts_with("sloppy"),
        keeps_spaces: table.name == "macroman",
        bytes: table.upper_half.chars().zip(0x80..=0xff).collect(),
    });
    let windows = tables.encodings.iter().find(|table| table.name == "sloppy-windows-1252")?;
    Some(Mojibake {
        bad: Regex::new(&tables.bad).ok()?,
        detector: Regex::new(&tables.detector).ok()?,
        continuation: Regex::new(&format!("[{}]$", tables.continuation)).ok()?,
        encodings: encodings.collect(),
        controls: windows.upper_half.chars().take(32).collect(),
        altered: BytesRegex::new(ALTERED).ok()?,
        lossy: BytesRegex::new(LOSSY).ok()?,
        ligatures: tables.ligatures,
        upper_case_entities: tables.upper_case_entities,
    })
});

/// UTF-8 in which a space stands for the byte 0xa0.
const ALTERED: &str = r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9][ ]|[\xe2\xe3][ ][\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf][ ]|[\xf0][ ][\x80-\xbf][\x80-\xbf]|[\xf0][\x80-\xbf][ ][\x80-\xbf]|[\xf0][\x80-\xbf][\x80-\xbf][ ]";
/// UTF-8 in which bytes were lost.
const LOSSY: &str = r"(?-u)[\xc2-\xdf][\x1a]|[\xc2-\xc3][?]|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a";

impl Encoding {
    /// None where a character is not in the encoding.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |c: char| match c {
            REPLACEMENT if self.sloppy => Some(LOST),
            '\x1a' if self.sloppy => None,
            '\0'..='\x7f' => Some(c as u8),
            _ => self.bytes.get(&c).copied(),
        };
        text.chars().map(byte).collect()
    }
}

impl Mojibake {
    /// The text in the encoding that it was meant in, as far as that can be told.
    pub fn mend(&self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some(mended) = self.step(&text).filter(|mended| *mended != text) {
            text = mended;
        }
        text
    }

    /// The Windows-1252 characters of the C1 control characters.
    pub fn mend_controls(&self, text: &str) -> String {
        text.chars().map(|c| self.control(c)).collect()
    }

    fn control(&self, c: char) -> char {
        let place = u32::from(c).checked_sub(0x80);
        place.and_then(|place| self.controls.get(place as usize)).copied().unwrap_or(c)
    }

    fn step(&self, text: &str) -> Option<String> {
        if text.is_ascii() || !self.bad.is_match(text) {
            return None;
        }
        for encoding in &self.encodings {
            let Some(bytes) = encoding.encode(text) else { continue };
            let spaced = if encoding.keeps_spaces { Cow::Borrowed(&bytes[..]) } else { self.restore_spaces(&bytes) };
            let bytes = match encoding.sloppy {
                true => self.lossy.replace_all(&spaced, "\u{fffd}".as_bytes()),
                false => spaced,
            };
            if let Some(decoded) = decode_variants(&bytes) {
                return Some(decoded);
            }
        }
        let apart = self.mend_parts(text);
        if apart != text {
            return Some(apart);
        }
        // Latin-1 for Windows-1252.
        Some(self.mend_controls(text))
    }

    /// Puts back the bytes 0xa0 that became spaces.
    fn restore_spaces<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.altered.is_match(bytes) {
            return Cow::Borrowed(bytes);
        }
        // "Ã la": the letter is a word, and keeps its space. Not in Portuguese contractions, and not before another space.
        let mut kept = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            kept.push(*byte);
            rest = behind;
            if let (0xc3, Some(after)) = (*byte, behind.strip_prefix(b" ")) {
                let joined: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
                if !joined.iter().any(|word| after.starts_with(word)) {
                    kept.extend(b"\xa0 ");
                    rest = after;
                }
            }
        }
        let restored = self.altered.replace_all(&kept, |found: &regex::bytes::Captures| {
            let found = found.get(0).map(|found| found.as_bytes()).unwrap_or_default();
            found.iter().map(|byte| if *byte == b' ' { 0xa0 } else { *byte }).collect::<Vec<u8>>()
        });
        Cow::Owned(restored.into_owned())
    }

    /// Mends sequences that look like UTF-8 amid text that is well.
    fn mend_parts(&self, text: &str) -> String {
        let (mut out, mut copied, mut from) = (String::new(), 0, 0);
        while let Some(found) = self.detector.find_at(text, from) {
            let before = text.get(..found.start()).unwrap_or_default();
            if before.chars().next_back().is_some_and(|c| self.continues(c)) {
                from = found.start() + found.as_str().chars().next().map_or(1, char::len_utf8);
                continue;
            }
            out += text.get(copied..found.start()).unwrap_or_default();
            match found.len() < text.len() && self.bad.is_match(found.as_str()) {
                true => out += &self.mend(found.as_str()),
                false => out += found.as_str(),
            }
            (copied, from) = (found.end(), found.end());
        }
        out + text.get(copied..).unwrap_or_default()
    }

    fn continues(&self, c: char) -> bool {
        self.continuation.is_match(c.encode_utf8(&mut [0; 4]))
    }
}

/// UTF-8, and what Java and MySQL take for it: a null of two bytes, and surrogates of three each.
fn decode_variants(bytes: &[u8]) -> Option<String> {
    if !bytes.contains(&0xed) && !bytes.contains(&0xc0) {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => break,
            [0xc0, 0x80, rest @ ..] => {
                plain.push(0);
                rest
            }
            [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf, rest @ ..] => {
                let bits = |byte: &u8, mask: u8| u32::from(byte & mask);
                let code = (bits(a, 0x0f) << 16) | (bits(b, 0x3f) << 10) | (bits(c, 0x0f) << 6) | bits(d, 0x3f);
                plain.extend(char::from_u32(code + 0x1_0000)?.encode_utf8(&mut [0; 4]).bytes());
                rest
            }
            // A surrogate alone, which becomes the replacement character in the end.
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => {
                plain.extend("\u{fffd}".bytes());
                rest
            }
            [byte, rest @ ..] => {
                plain.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(plain).ok()
}
