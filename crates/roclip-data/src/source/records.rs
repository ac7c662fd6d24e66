//! The rows of a CSV or TSV file, one at a time and of bounded length. A quotation mark that is opened and never closed takes its own line
//! only, and not the rows after it.
//!
//! Lines end with a line feed, a carriage return, or both. A carriage return alone is text where the first line ends otherwise and no separator
//! stands between it and the next end of a line: no row has a single column.

use std::collections::VecDeque;
use std::io::{self, BufRead};

/// Longer lines are no rows.
const LINE_LIMIT_BYTES: usize = 1 << 20;
const NO_UTF8: &str = "it is no UTF-8 (--csv-encoding names another one)";
/// Lines that one quoted text may go over.
const RECORD_LIMIT_LINES: usize = 64;

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Of its first line, from 1.
    pub line: u64,
    /// The fields, or why there are none.
    pub fields: Result<Vec<String>, String>,
    /// The row as it stands there, with its end; nothing of one that is too long.
    pub raw: Vec<u8>,
}

/// Reads the rows of a text.
pub(super) struct Records<R> {
    reader: R,
    separator: u8,
    /// Lines that were read ahead.
    waiting: VecDeque<Line>,
    /// What follows the last of them, where it had to be known.
    following: Option<Line>,
    next_line: u64,
    /// How the first row ends; none before it is read.
    first_end: Option<LineEnd>,
}

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// With a line feed, perhaps behind a carriage return.
    Feed,
    /// With a carriage return alone, as on old Macintoshes.
    Return,
}

impl LineEnd {
    fn of(text: &[u8]) -> LineEnd {
        if text.ends_with(b"\r") { LineEnd::Return } else { LineEnd::Feed }
    }

    /// A row as it stands there, with this end where it has none or the other one.
    pub(super) fn of_row(self, raw: &[u8]) -> (&[u8], &'static [u8]) {
        match self {
            LineEnd::Feed if raw.ends_with(b"\n") => (raw, b""),
            LineEnd::Feed => (without_end_of_line(raw), b"\n"),
            LineEnd::Return => (without_end_of_line(raw), b"\r"),
        }
    }
}

struct Line {
    number: u64,
    /// With its end; nothing of one that is too long.
    bytes: Vec<u8>,
    too_long: bool,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(reader: R, separator: u8) -> Self {
        Records { reader, separator, waiting: VecDeque::new(), following: None, next_line: 1, first_end: None }
    }

    /// How the lines of the file end, by its first row.
    pub(super) fn line_end(&self) -> LineEnd {
        self.first_end.unwrap_or(LineEnd::Feed)
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let found = self.read()?;
        if let Some(record) = &found {
            self.first_end.get_or_insert(LineEnd::of(&record.raw));
        }
        Ok(found)
    }

    fn read(&mut self) -> io::Result<Option<Record>> {
        let separator = self.separator;
        loop {
            let Some(first) = self.line(0)? else { return Ok(None) };
            let (number, too_long) = (first.number, first.too_long);
            if too_long {
                self.waiting.pop_front();
                let why = format!("line {number} has more than {LINE_LIMIT_BYTES} bytes");
                return Ok(Some(Record { line: number, fields: Err(why), raw: Vec::new() }));
            }
            if first.bytes.iter().all(u8::is_ascii_whitespace) {
                self.waiting.pop_front();
                continue;
            }
            let mut lines = 1;
            let mut end = scan(&first.bytes, separator);
            if end != End::InsideQuotes {
                let text = self.waiting.pop_front().map(|line| line.bytes).unwrap_or_default();
                return Ok(Some(Record { line: number, fields: split(&text, separator, end), raw: text }));
            }
            let mut text = first.bytes.clone();
            while end == End::InsideQuotes && lines < RECORD_LIMIT_LINES && text.len() < LINE_LIMIT_BYTES {
                let Some(line) = self.line(lines)?.filter(|line| !line.too_long) else { break };
                text.extend_from_slice(&line.bytes);
                lines += 1;
                end = scan(&text, separator);
            }
            // A text goes over several lines only when its quotation marks are closed.
            let broken = end == End::InsideQuotes || lines > 1 && end == End::TextAfterQuotes;
            if !broken {
                self.waiting.drain(..lines);
                return Ok(Some(Record { line: number, fields: split(&text, separator, end), raw: text }));
            }
            let first = self.waiting.pop_front().map(|line| line.bytes).unwrap_or_default();
            let fields = match separator {
                // Tab-separated files are often written without any quoting.
                b'\t' => split(&first, separator, End::TextAfterQuotes),
                _ => Err(format!("line {number}: a quotation mark is opened and not closed")),
            };
            return Ok(Some(Record { line: number, fields, raw: first }));
        }
    }

    /// The line so many ahead.
    fn line(&mut self, ahead: usize) -> io::Result<Option<&Line>> {
        while self.waiting.len() <= ahead {
            let following = self.following.take();
            let Some(mut line) = following.map_or_else(|| self.read_line(), |line| Ok(Some(line)))? else {
                return Ok(None);
            };
            while self.first_end == Some(LineEnd::Feed) && LineEnd::of(&line.bytes) == LineEnd::Return {
                let Some(next) = self.read_line()? else { break };
                let is_row = next.too_long
                    || next.bytes.contains(&self.separator)
                    || line.bytes.len() + next.bytes.len() > LINE_LIMIT_BYTES;
                if is_row {
                    self.following = Some(next);
                    break;
                }
                line.bytes.extend_from_slice(&next.bytes);
            }
            self.waiting.push_back(line);
        }
        Ok(self.waiting.get(ahead))
    }

    /// What stands up to the next end of a line.
    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line { number: self.next_line, bytes: Vec::new(), too_long: false };
        let mut is_there = false;
        loop {
            let read = self.reader.fill_buf()?;
            if read.is_empty() {
                break;
            }
            is_there = true;
            let end = read.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = end.and_then(|end| read.get(..=end)).unwrap_or(read);
            line.too_long |= line.bytes.len() + part.len() > LINE_LIMIT_BYTES + 1;
            if !line.too_long {
                line.bytes.extend_from_slice(part);
            }
            let (length, is_return) = (part.len(), part.last() == Some(&b'\r'));
            self.reader.consume(length);
            if is_return && self.reader.fill_buf()?.first() == Some(&b'\n') {
                self.reader.consume(1);
                line.bytes.push(b'\n');
            }
            if end.is_some() {
                break;
            }
        }
        if !is_there {
            return Ok(None);
        }
        if line.too_long {
            line.bytes = Vec::new();
        }
        if self.next_line == 1 && line.bytes.starts_with(b"\xef\xbb\xbf") {
            line.bytes.drain(..3);
        }
        self.next_line += 1;
        Ok(Some(line))
    }
}

/// In what state the last character leaves a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    InsideQuotes,
    /// Something follows a closing quotation mark before the separator.
    TextAfterQuotes,
}

fn scan(text: &[u8], separator: u8) -> End {
    let mut found = End::Whole;
    let mut bytes = without_end_of_line(text).iter().copied().peekable();
    let mut at_start = true;
    while let Some(byte) = bytes.next() {
        if !at_start || byte != b'"' {
            at_start = byte == separator;
            continue;
        }
        loop {
            match bytes.next() {
                None => return End::InsideQuotes,
                Some(b'"') if bytes.peek() == Some(&b'"') => drop(bytes.next()),
                Some(b'"') => break,
                Some(_) => {}
            }
        }
        at_start = false;
        if bytes.peek().is_some_and(|next| *next != separator) {
            found = End::TextAfterQuotes;
        }
    }
    found
}

fn without_end_of_line(text: &[u8]) -> &[u8] {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A field without ends of lines around it, but with its blanks, which may be those of a name.
fn without_line_ends(field: &str) -> String {
    field.trim_matches(['\r', '\n']).to_owned()
}

fn split(text: &[u8], separator: u8, end: End) -> Result<Vec<String>, String> {
    let line = without_end_of_line(text);
    if !line.contains(&b'"') {
        // Most rows are as plain as that, and are read several times as fast.
        let Ok(line) = std::str::from_utf8(line) else { return Err(NO_UTF8.to_owned()) };
        return Ok(line.split(char::from(separator)).map(without_line_ends).collect());
    }
    // A tab-separated text that merely begins with a quoted word is not a quoted one.
    let quoting = separator != b'\t' || end == End::Whole;
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .quoting(quoting)
        // A carriage return is text here; as the end of a record it would cut the row.
        .terminator(::csv::Terminator::Any(b'\n'))
        .buffer_capacity(line.len().clamp(16, 8 << 10))
        .from_reader(line);
    let mut record = ::csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record.iter().map(without_line_ends).collect()),
        // The reader of the line knows no number of it.
        Err(e) if matches!(e.kind(), ::csv::ErrorKind::Utf8 { .. }) => Err(NO_UTF8.to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, separator: u8) -> Vec<Result<Vec<String>, String>> {
        let mut records = Records::new(text.as_bytes(), separator);
        std::iter::from_fn(|| records.next().unwrap()).map(|record| record.fields).collect()
    }

    fn good(rows: &[Result<Vec<String>, String>]) -> Vec<&str> {
        rows.iter().flatten().flatten().map(String::as_str).collect()
    }

    #[test]
    fn quoted_texts_may_hold_separators_marks_and_ends_of_lines() {
        let text = "\u{feff}a,\"b, \"\"c\"\"\"\r\n\n \nd,\"e\nf\"\ng,5\" screen\n\"h\",i";
        assert_eq!(good(&rows(text, b',')), ["a", "b, \"c\"", "d", "e\nf", "g", "5\" screen", "h", "i"]);
        let tabs = "a\t\"b \"\"c\"\"\nd\"\ne\t\"a word\" of it\nf\t\"open\n";
        assert_eq!(good(&rows(tabs, b'\t')), ["a", "b \"c\"\nd", "e", "\"a word\" of it", "f", "\"open"]);
    }

    #[test]
    fn a_mark_that_is_not_closed_takes_its_own_line_only() {
        let others: String = (0..3_000).map(|n| format!("{n}.jpg,text {n}\n")).collect();
        let quoted: String = (0..3_000).map(|n| format!("{n}.jpg,\"text {n}, b\"\n")).collect();
        for rest in [others, quoted] {
            let rows = rows(&format!("bad.jpg,\"never closed\n{rest}"), b',');
            assert_eq!((rows.len(), rows.iter().filter(|row| row.is_err()).count()), (3_001, 1));
        }
    }

    #[test]
    fn long_lines_are_no_rows_and_take_no_memory() {
        let text = format!("a,b\n{}\nc,d\n", "x".repeat(5 << 20));
        let rows = rows(&text, b',');
        assert_eq!(good(&rows), ["a", "b", "c", "d"]);
        assert!(rows[1].as_ref().unwrap_err().contains("line 2"));
    }

    /// Either such a text is whole, or what follows is a row of its own, which is counted where it makes no sense.
    #[test]
    fn a_carriage_return_alone_loses_nothing() {
        let inside = "filepath,title\nimg/0.png,a red\rlong half\nimg/1.png,b\rimg/2.png,c\nimg/3.png,\"quoted d\rkept\"\r\r\n4.png,e\r";
        let rows_of = |text: &str| -> Vec<String> {
            rows(text, b',').into_iter().map(|fields| fields.unwrap().join("|")).collect()
        };
        let expected = [
            "filepath|title",
            "img/0.png|a red\rlong half",
            "img/1.png|b",
            "img/2.png|c",
            "img/3.png|quoted d\rkept",
            "4.png|e",
        ];
        assert_eq!(rows_of(inside), expected);
        // However the bytes arrive.
        for bytes in 1..7 {
            let reader = std::io::BufReader::with_capacity(bytes, inside.as_bytes());
            let mut records = Records::new(reader, b',');
            let read: Vec<String> =
                std::iter::from_fn(|| records.next().unwrap()).map(|record| record.fields.unwrap().join("|")).collect();
            assert_eq!(read, expected, "{bytes}");
        }
        let mixed: String = (0..24).map(|n| format!("{n}.png,t {n}{}", if n % 3 == 0 { "\n" } else { "\r" })).collect();
        assert_eq!(rows_of(&format!("image,caption\n{mixed}")).len(), 25);
        assert_eq!(rows_of(&format!("image,caption\r\n{mixed}"))[24], "23.png|t 23");
        let mac = "a,b\r1,\"x\ry\"\rno columns\r\r2,z";
        assert_eq!(rows_of(mac), ["a|b", "1|x\ry", "no columns", "2|z"]);
        let mut records = Records::new(mac.as_bytes(), b',');
        records.next().unwrap();
        assert_eq!(records.line_end(), LineEnd::Return);
    }
}
