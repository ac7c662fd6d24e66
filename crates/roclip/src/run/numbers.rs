//! Whether the numbers of a file can be those of a measurement. A damaged or changed file must not become a row of a report.

use crate::error::{Error, Result};
use roclip_data::artifact;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;

/// Between a rate and the quotient of its counts, as decimals may round it.
const ROUNDING: f64 = 1e-6;
/// Numbers from 0 to 1, beside `rate` and its interval.
const SHARES: [&str; 14] = [
    "mean_per_class_recall",
    "harmonic_mean",
    "bleu1",
    "bleu2",
    "bleu3",
    "bleu4",
    "bleu4_smoothed",
    "rouge_l",
    "share",
    "duplicate_share",
    "poison_of_safe",
    "true_concept",
    "adversarial",
    "own_caption",
];
/// Numbers that are never below 0.
const AMOUNTS: [&str; 8] = [
    "seconds",
    "elapsed_seconds",
    "weights_moved",
    "warmup_moved",
    "cider_d",
    "mean_words",
    "ratio",
    "peak_memory_bytes",
];
/// Cosines.
const COSINES: [&str; 3] = ["shift_cosine", "mean_similarity", "similarity"];
/// Levels of a channel.
const LEVELS: [&str; 1] = ["eps"];

/// Reads `path`, whose numbers are looked at.
///
/// # Errors
/// A file that cannot be read, is not what is expected, or has a number that nothing measures.
pub fn read_measured<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = artifact::read_json_bytes(path)?;
    check_measured(path, &artifact::json_of(path, &bytes)?)?;
    // From the text and not from the value: then a message says on which line something else is wrong.
    Ok(artifact::json_of(path, &bytes)?)
}

/// Reads the lines `text` of the file `path`, each of which is an entry; `wrong_entry` says what of one cannot be, beside what no number of a
/// measurement can.
///
/// # Errors
/// Names the first line that is no such entry, or that nobody can have measured.
pub(super) fn read_measured_lines<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    wrong_entry: &dyn Fn(&T) -> Option<String>,
) -> Result<Vec<T>> {
    let entry = |(at, line): (usize, &str)| {
        let refuse = |what: String| {
            Error::file(path, format!("line {at}: {what}"), "remove the line, or name another folder with --run")
        };
        // Of the one line that it is given the parser says that it is the first.
        let no_entry = |e: serde_json::Error| refuse(e.to_string().replace(" at line 1 column ", " at column "));
        let value: Value = serde_json::from_str(line).map_err(no_entry)?;
        let entry: T = serde_json::from_str(line).map_err(no_entry)?;
        match wrong(&value, "").or_else(|| wrong_entry(&entry)) {
            None => Ok(entry),
            Some(what) => Err(refuse(format!("it has numbers that nothing measures: {what}"))),
        }
    };
    (1..).zip(text.lines()).map(entry).collect()
}

/// Whether all numbers of `value`, which stands in the file `path`, can have been measured.
///
/// # Errors
/// Names the first that cannot.
pub fn check_measured(path: &Path, value: &Value) -> Result<()> {
    match wrong(value, "") {
        None => Ok(()),
        Some(what) => Err(Error::file(path, format!("has numbers that nothing measures: {what}"), "check the file")),
    }
}

/// What cannot be in `value`, which is found at the dotted key `place`.
fn wrong(value: &Value, place: &str) -> Option<String> {
    let inner = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match value {
        Value::Object(fields) => wrong_counts(fields, place)
            .or_else(|| fields.iter().find_map(|(name, value)| wrong_number(name, value, fields, &inner(name))))
            .or_else(|| fields.iter().find_map(|(name, value)| wrong(value, &inner(name)))),
        Value::Array(entries) => {
            entries.iter().enumerate().find_map(|(at, entry)| wrong(entry, &inner(&at.to_string())))
        }
        _ => None,
    }
}

/// What is wrong with the counts of an object, and with a rate that they do not give.
fn wrong_counts(fields: &Map<String, Value>, place: &str) -> Option<String> {
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let place = if place.is_empty() { "it" } else { place };
    let within = |part: &str, whole: &str| {
        let (part_of, all) = (number(part)?, number(whole)?);
        (part_of > all || part_of < 0.0).then(|| format!("{place} has {part_of} {part} of {all} {whole}"))
    };
    let counts = within("hits", "n").or_else(|| within("poisoned_pairs", "pairs"));
    if counts.is_some() {
        return counts;
    }
    let (hits, n, rate) = (number("hits")?, number("n")?, number("rate")?);
    let found = if n > 0.0 { hits / n } else { 0.0 };
    if (found - rate).abs() > ROUNDING {
        return Some(format!("{place} has the rate {rate}, and {hits} of {n} are {found:.6}"));
    }
    let (low, high) = (number("low")?, number("high")?);
    (low > rate + ROUNDING || high < rate - ROUNDING)
        .then(|| format!("{place} has the rate {rate}, outside of its interval from {low} to {high}"))
}

/// What is wrong with one number, by its name.
fn wrong_number(name: &str, value: &Value, beside: &Map<String, Value>, place: &str) -> Option<String> {
    let number = value.as_f64()?;
    let of_rate = beside.contains_key("rate") && ["rate", "low", "high"].contains(&name);
    let range = match name {
        _ if of_rate || SHARES.contains(&name) => Some((0.0, 1.0)),
        _ if COSINES.contains(&name) => Some((-1.0, 1.0)),
        _ if LEVELS.contains(&name) => Some((0.0, 255.0)),
        _ if AMOUNTS.contains(&name) => Some((0.0, f64::INFINITY)),
        _ => None,
    };
    let (low, high) = range?;
    let is_outside = number < low - ROUNDING || number > high + ROUNDING;
    is_outside.then(|| match high.is_finite() {
        true => format!("{place} is {number}, and can be from {low} to {high}"),
        false => format!("{place} is {number}, and is never below {low}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::rate::{Rate, Ratio};
    use serde_json::json;

    #[test]
    fn what_was_measured_passes() {
        for (hits, n) in [(0, 0), (0, 7), (7, 7), (1, 3), (123_456, 1_000_000)] {
            assert_eq!(wrong(&json!(Rate::new(hits, n)), "rate"), None, "{hits} of {n}");
        }
        let ratio = Ratio::new(Rate::new(9, 10), Rate::new(1, 10));
        let whole = json!({"pairs": 3, "poisoned_pairs": 3, "inheritance": {"a": ratio}, "seed": 18_446_744_073_709_551_615u64,
            "evaluation": {"asr": {"a": {"success": Rate::new(2, 3)}}, "mean_per_class_recall": 1.0}, "eps": 16.0,
            "captions": {"captioner": {"cider_d": 3.2, "bleu": {"bleu1": 1.0000000002}}}, "shift_cosine": -1.0});
        assert_eq!(wrong(&whole, ""), None);
    }

    #[test]
    fn a_line_that_cannot_be_is_named_by_its_place_in_the_file() {
        #[derive(Debug, serde::Deserialize)]
        struct Entry {
            id: u32,
        }
        let read = |lines: &str| {
            let large = |entry: &Entry| (entry.id > 9).then(|| format!("id is {}", entry.id));
            read_measured_lines::<Entry>(Path::new("cells.jsonl"), lines, &large)
        };
        assert_eq!(read("{\"id\": 1}\n{\"id\": 2}\n").unwrap().len(), 2);
        for (lines, says) in [
            ("{\"id\": 1}\n{}\n", "line 2: missing field `id` at column 2"),
            ("{\"id\": 1}\n{\"id\": 2}\n{\"id\"", "line 3: EOF"),
            ("{\"id\": 10}\n", "line 1: it has numbers that nothing measures: id is 10"),
            ("{\"id\": 1, \"asr\": {\"hits\": 777, \"n\": 6}}\n", "asr has 777 hits of 6 n"),
        ] {
            let said = read(lines).unwrap_err().to_string();
            assert!(said.contains("`cells.jsonl`") && said.contains(says), "{lines}: {said}");
        }
    }

    #[test]
    fn what_nothing_measures_is_named_wherever_it_stands() {
        let rate = |hits: i64, n: i64, rate: f64| json!({"hits": hits, "n": n, "rate": rate, "low": 0.0, "high": 1.0});
        for (value, says) in [
            (rate(7, 1, 7.5), "7 hits of 1 n"),
            (rate(99, 20, 0.5), "99 hits of 20 n"),
            (rate(-1, 20, 0.5), "-1 hits of 20 n"),
            (rate(0, -3, 0.0), "0 hits of -3 n"),
            (rate(5, 20, 0.5), "5 of 20 are 0.25"),
            (rate(0, 0, 1.0), "the rate 1"),
            (json!({"hits": 5, "n": 10, "rate": 0.5, "low": 0.6, "high": 0.7}), "outside of its interval"),
            (json!({"hits": 5, "n": 10, "rate": 0.5, "low": -1.0, "high": 0.7}), "low is -1"),
            (json!({"hits": 3, "n": 2}), "3 hits of 2 n"),
            (json!({"pairs": 3, "poisoned_pairs": 4}), "4 poisoned_pairs of 3 pairs"),
            (json!({"harmonic_mean": 1.5}), "from 0 to 1"),
            (json!({"shift_cosine": -1.5}), "from -1 to 1"),
            (json!({"cider_d": -0.5}), "never below 0"),
            (json!({"rate": 7.5}), "from 0 to 1"),
        ] {
            let outermost = wrong(&value, "").unwrap_or_default();
            assert!(outermost.starts_with(|letter: char| letter.is_ascii_lowercase()), "{value}: {outermost}");
            let deep = json!({"prompt": {"others": [1, {"x": value}]}});
            let said = wrong(&deep, "").unwrap_or_default();
            assert!(said.contains("prompt.others.1.x") && said.contains(says), "{value}: {said}");
            let error = check_measured(Path::new("summary.json"), &deep).unwrap_err().to_string();
            assert!(error.contains("`summary.json`") && error.ends_with("check the file"), "{error}");
        }
    }
}
