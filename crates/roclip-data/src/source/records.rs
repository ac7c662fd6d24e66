//! The rows of a CSV or TSV file, one at a time and of bounded length. A quotation mark that is opened and never closed takes its own line
//! only, and not the rows after it.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

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
    next_line: u64,
}

struct Line {
    number: u64,
    /// With its end; cut where it is too long.
    bytes: Vec<u8>,
    too_long: bool,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(reader: R, separator: u8) -> Self {
        Records { reader, separator, waiting: VecDeque::new(), next_line: 1 }
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
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
            let mut bytes = Vec::new();
            let limit = LINE_LIMIT_BYTES as u64 + 1;
            if self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            let too_long = bytes.len() > LINE_LIMIT_BYTES && !bytes.ends_with(b"\n");
            if too_long {
                self.reader.skip_until(b'\n')?;
                bytes = Vec::new();
            }
            if self.next_line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
            self.waiting.push_back(Line { number: self.next_line, bytes, too_long });
            self.next_line += 1;
        }
        Ok(self.waiting.get(ahead))
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

fn split(text: &[u8], separator: u8, end: End) -> Result<Vec<String>, String> {
    let line = without_end_of_line(text);
    if !line.iter().any(|byte| matches!(byte, b'"' | b'\r' | b'\n')) {
        // Most rows are as plain as that, and are read several times as fast.
        let Ok(line) = std::str::from_utf8(line) else { return Err(NO_UTF8.to_owned()) };
        return Ok(line.split(char::from(separator)).map(|field| field.trim().to_owned()).collect());
    }
    // A tab-separated text that merely begins with a quoted word is not a quoted one.
    let quoting = separator != b'\t' || end == End::Whole;
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .quoting(quoting)
        .buffer_capacity(text.len().clamp(16, 8 << 10))
        .from_reader(text);
    let mut record = ::csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record.iter().map(|field| field.trim().to_owned()).collect()),
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
}
