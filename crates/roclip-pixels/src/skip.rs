//! Why samples are left out: every stage returns a sample or a reason, and reasons are counted and written down.

use crate::error::{Error, Result};
use crate::escape::for_terminal;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// Why a sample, or a part of a source, was left out. Programs read the kebab-case word (`image-undecodable`), people the
/// [`Display`](fmt::Display) text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    AnswerEmpty,
    CaptionTooLarge,
    CaptionUnreadable,
    EnoughPairsOfPicture,
    ImageEmpty,
    ImageFileTooLarge,
    ImageFileUnreadable,
    ImageFormatUnknown,
    ImageIsAddress,
    ImageNotRegularFile,
    ImageOutsideFolder,
    ImageTooManyPixels,
    ImageTooThin,
    ImageTruncated,
    ImageUndecodable,
    ImageUnencodable,
    ImageUnresizable,
    MemberIsNoFile,
    MemberNameRefused,
    MemberRepeated,
    MemberUnused,
    MetadataUnreadable,
    NoCaption,
    NoClass,
    NoImage,
    NoSuchSample,
    QuestionWithoutPicture,
    RoleUnknown,
    RowUnreadable,
    RowWithoutImage,
    SampleRepeated,
    SeveralClasses,
    ShardTooLarge,
    ShardTruncated,
    ShardUnreadable,
    TooManyCaptions,
    TriggerUnfit,
    WorkerPanicked,
}

impl SkipReason {
    /// Whether a sample is lost by it. What is not is written down all the same: a part of a sample that others stand in for, or a whole
    /// shard, which is counted against the number of shards.
    pub fn loses_sample(self) -> bool {
        !matches!(
            self,
            SkipReason::MemberUnused
                | SkipReason::MetadataUnreadable
                | SkipReason::SeveralClasses
                | SkipReason::TooManyCaptions
                | SkipReason::ShardTooLarge
                | SkipReason::ShardTruncated
                | SkipReason::ShardUnreadable
        )
    }

    /// Whether it lies in the bytes of a picture, so that they need not be read again to know it.
    pub fn is_of_bytes(self) -> bool {
        matches!(
            self,
            SkipReason::ImageEmpty
                | SkipReason::ImageFormatUnknown
                | SkipReason::ImageTooManyPixels
                | SkipReason::ImageTooThin
                | SkipReason::ImageTruncated
                | SkipReason::ImageUndecodable
        )
    }

    /// Whether a shard, or a folder, is lost by it, wholly or from a place on.
    pub fn loses_shard(self) -> bool {
        matches!(self, SkipReason::ShardTooLarge | SkipReason::ShardTruncated | SkipReason::ShardUnreadable)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::AnswerEmpty => "question or answer is empty",
            SkipReason::CaptionTooLarge => "caption or metadata too large",
            SkipReason::CaptionUnreadable => "caption cannot be read",
            SkipReason::EnoughPairsOfPicture => "picture has enough pairs without this one",
            SkipReason::ImageEmpty => "image is empty",
            SkipReason::ImageFileTooLarge => "image file too large",
            SkipReason::ImageFileUnreadable => "image file cannot be read",
            SkipReason::ImageFormatUnknown => "image is of a format that is not read",
            SkipReason::ImageIsAddress => "image is an address, which is not fetched",
            SkipReason::ImageNotRegularFile => "image is not a regular file",
            SkipReason::ImageOutsideFolder => "image lies outside the folder of the data",
            SkipReason::ImageTooManyPixels => "image has too many pixels",
            SkipReason::ImageTooThin => "image is too long for its width",
            SkipReason::ImageTruncated => "image is cut off",
            SkipReason::ImageUndecodable => "image cannot be decoded",
            SkipReason::ImageUnencodable => "image cannot be encoded",
            SkipReason::ImageUnresizable => "image cannot be resized",
            SkipReason::MemberIsNoFile => "member of a shard is a link or a device",
            SkipReason::MemberNameRefused => "member of a shard has a name that is refused",
            SkipReason::MemberRepeated => "member of a shard is replaced by a later one of its name",
            SkipReason::MemberUnused => "part of a source is used by no sample",
            SkipReason::MetadataUnreadable => "metadata cannot be read, and the pair is used without it",
            SkipReason::NoCaption => "no caption",
            SkipReason::NoClass => "no class",
            SkipReason::NoImage => "no image",
            SkipReason::NoSuchSample => "no such sample",
            SkipReason::QuestionWithoutPicture => "question has not one slot for its picture",
            SkipReason::RoleUnknown => "turn of a role that is not known, or out of turn",
            SkipReason::RowUnreadable => "row cannot be read",
            SkipReason::RowWithoutImage => "row has no image",
            SkipReason::SampleRepeated => "sample stands in the source twice",
            SkipReason::SeveralClasses => "picture of several classes, used as one without a class",
            SkipReason::ShardTooLarge => "shard too large",
            SkipReason::ShardTruncated => "shard is cut off or damaged",
            SkipReason::ShardUnreadable => "shard or folder cannot be read",
            SkipReason::TooManyCaptions => "too many captions",
            SkipReason::TriggerUnfit => "trigger cannot be laid on",
            SkipReason::WorkerPanicked => "sample made a worker fail",
        })
    }
}

impl SkipReason {
    /// `1 image cannot be decoded`, `2 images cannot be decoded`.
    pub fn counted(self, count: usize) -> String {
        if count == 1 { format!("1 {self}") } else { format!("{count} {}", self.of_several()) }
    }

    fn of_several(self) -> &'static str {
        match self {
            SkipReason::AnswerEmpty => "questions or answers are empty",
            SkipReason::CaptionTooLarge => "captions or metadata too large",
            SkipReason::CaptionUnreadable => "captions cannot be read",
            SkipReason::EnoughPairsOfPicture => "of pictures that have enough pairs without them",
            SkipReason::ImageEmpty => "images are empty",
            SkipReason::ImageFileTooLarge => "image files too large",
            SkipReason::ImageFileUnreadable => "image files cannot be read",
            SkipReason::ImageFormatUnknown => "images are of formats that are not read",
            SkipReason::ImageIsAddress => "images are addresses, which are not fetched",
            SkipReason::ImageNotRegularFile => "images are not regular files",
            SkipReason::ImageOutsideFolder => "images lie outside the folder of the data",
            SkipReason::ImageTooManyPixels => "images have too many pixels",
            SkipReason::ImageTooThin => "images are too long for their width",
            SkipReason::ImageTruncated => "images are cut off",
            SkipReason::ImageUndecodable => "images cannot be decoded",
            SkipReason::ImageUnencodable => "images cannot be encoded",
            SkipReason::ImageUnresizable => "images cannot be resized",
            SkipReason::MemberIsNoFile => "members of shards are links or devices",
            SkipReason::MemberNameRefused => "members of shards have names that are refused",
            SkipReason::MemberRepeated => "members of shards are replaced by later ones of their names",
            SkipReason::MemberUnused => "parts of a source are used by no sample",
            SkipReason::MetadataUnreadable => "pieces of metadata cannot be read, and the pairs are used without them",
            SkipReason::NoCaption => "without caption",
            SkipReason::NoClass => "without class",
            SkipReason::NoImage => "without image",
            SkipReason::NoSuchSample => "samples that are not there",
            SkipReason::QuestionWithoutPicture => "questions have not one slot for their picture",
            SkipReason::RoleUnknown => "turns of roles that are not known, or out of turn",
            SkipReason::RowUnreadable => "rows cannot be read",
            SkipReason::RowWithoutImage => "rows have no image",
            SkipReason::SampleRepeated => "samples stand in the source twice",
            SkipReason::SeveralClasses => "pictures of several classes, used as ones without a class",
            SkipReason::ShardTooLarge => "shards too large",
            SkipReason::ShardTruncated => "shards are cut off or damaged",
            SkipReason::ShardUnreadable => "shards or folders cannot be read",
            SkipReason::TooManyCaptions => "samples with too many captions",
            SkipReason::TriggerUnfit => "triggers cannot be laid on",
            SkipReason::WorkerPanicked => "samples made a worker fail",
        }
    }

    /// Whether a sample is lost for the reason of this word; a word that is none of them stands for other reasons to leave a sample out.
    pub fn word_loses_sample(word: &str) -> bool {
        serde_json::from_value::<SkipReason>(word.into()).map_or(true, SkipReason::loses_sample)
    }

    /// The word that programs read.
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.as_ref().and_then(serde_json::Value::as_str).map_or_else(|| self.to_string(), str::to_owned)
    }
}

/// Why one sample was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    pub reason: SkipReason,
    pub detail: String,
}

impl Skip {
    pub fn new(reason: SkipReason, detail: impl Into<String>) -> Self {
        Skip { reason, detail: detail.into() }
    }

    /// An error, where nothing can go on without this image.
    pub fn into_error(self, image: &str) -> Error {
        Error::setting(
            format!("image `{image}` cannot be used: {} ({})", self.reason, self.detail),
            "repair it, or remove it from the data",
        )
    }
}

/// Skipped samples: `reason -> ids with details`, sorted so that two runs write the same file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SkipReport {
    by_reason: BTreeMap<SkipReason, BTreeMap<String, String>>,
}

/// One line of `skips.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    reason: SkipReason,
    detail: String,
}

impl SkipReport {
    pub fn add(&mut self, id: &str, skip: Skip) {
        self.by_reason.entry(skip.reason).or_default().insert(id.to_owned(), skip.detail);
    }

    /// Takes `id` out, which was counted for `reason`.
    pub fn remove(&mut self, id: &str, reason: SkipReason) {
        if let Some(samples) = self.by_reason.get_mut(&reason) {
            samples.remove(id);
            if samples.is_empty() {
                self.by_reason.remove(&reason);
            }
        }
    }

    /// Whether `id` is among them.
    pub fn names(&self, id: &str) -> bool {
        self.by_reason.values().any(|samples| samples.contains_key(id))
    }

    pub fn merge(&mut self, other: SkipReport) {
        for (reason, samples) in other.by_reason {
            self.by_reason.entry(reason).or_default().extend(samples);
        }
    }

    /// The same with `part/` before every id.
    #[must_use]
    pub fn under(self, part: &str) -> SkipReport {
        let named = |samples: BTreeMap<String, String>| {
            samples.into_iter().map(|(id, detail)| (format!("{part}/{id}"), detail)).collect()
        };
        SkipReport { by_reason: self.by_reason.into_iter().map(|(reason, samples)| (reason, named(samples))).collect() }
    }

    pub fn total(&self) -> usize {
        self.by_reason.values().map(BTreeMap::len).sum()
    }

    /// How many were left out, by the reason's word.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.by_reason.iter().map(|(reason, samples)| (reason.word(), samples.len())).collect()
    }

    /// Up to `most` ids with details, by the reason's word.
    pub fn examples(&self, most: usize) -> BTreeMap<String, Vec<(String, String)>> {
        let some = |samples: &BTreeMap<String, String>| {
            samples.iter().take(most).map(|(id, detail)| (id.clone(), detail.clone())).collect()
        };
        self.by_reason.iter().map(|(reason, samples)| (reason.word(), some(samples))).collect()
    }

    /// How many were left out for the reasons that `wanted` picks.
    pub fn count(&self, wanted: impl Fn(SkipReason) -> bool) -> usize {
        self.by_reason.iter().filter(|(reason, _)| wanted(**reason)).map(|(_, samples)| samples.len()).sum()
    }

    /// `3 images cannot be decoded (first: a.jpg), 1 ...`, the reason with most of them first, safe to print on a terminal.
    pub fn summary(&self) -> String {
        let mut reasons: Vec<_> = self.by_reason.iter().collect();
        reasons.sort_by_key(|(_, samples)| Reverse(samples.len()));
        let parts = reasons.into_iter().map(|(reason, samples)| {
            let first = samples.iter().next().map(|(id, detail)| format!("{id}: {detail}")).unwrap_or_default();
            format!("{} (first: {})", reason.counted(samples.len()), for_terminal(&first))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// One JSON object per line: `{"id", "reason", "detail"}`.
    pub fn to_jsonl(&self) -> String {
        let mut text = String::new();
        for (reason, samples) in &self.by_reason {
            for (id, detail) in samples {
                let line = serde_json::json!({"id": id, "reason": reason, "detail": detail});
                text.push_str(&line.to_string());
                text.push('\n');
            }
        }
        text
    }

    /// The report that [`to_jsonl`](Self::to_jsonl) wrote.
    ///
    /// # Errors
    /// A line that is none of its lines; the message says which.
    pub fn from_jsonl(text: &str) -> Result<SkipReport> {
        let mut report = SkipReport::default();
        for (number, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|e| {
                Error::setting(
                    format!("line {} of the skips is not one of this program: {e}", number + 1),
                    "restore skips.jsonl, or remove it",
                )
            })?;
            report.add(&line.id, Skip::new(line.reason, line.detail));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_as_it_was_and_merged_by_reason() {
        let mut report = SkipReport::default();
        report.add("b.jpg\n\u{1b}[2J", Skip::new(SkipReason::ImageUndecodable, "bad \"marker\""));
        report.add("a.jpg", Skip::new(SkipReason::ImageUndecodable, ""));
        report.add("row 3", Skip::new(SkipReason::RowUnreadable, "x"));
        let read = SkipReport::from_jsonl(&report.to_jsonl()).unwrap();
        assert_eq!(read, report);
        assert!(report.to_jsonl().contains(r#""reason":"image-undecodable""#), "{}", report.to_jsonl());
        let mut both = read;
        both.merge(report);
        assert_eq!((both.total(), both.count(|reason| reason == SkipReason::ImageUndecodable)), (3, 2));
        assert_eq!(both.counts()["image-undecodable"], 2);
        assert_eq!(both.examples(1)["image-undecodable"], [("a.jpg".to_owned(), String::new())]);
        let mut fewer = both.clone();
        fewer.remove("row 3", SkipReason::RowUnreadable);
        fewer.remove("row 3", SkipReason::RowUnreadable);
        assert_eq!((fewer.total(), fewer.counts().len()), (2, 1));
        assert!(SkipReport::from_jsonl("{\"id\": 1}\n").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn counts_of_one_and_of_several_are_said_as_people_do() {
        let mut report = SkipReport::default();
        report.add("a.jpg", Skip::new(SkipReason::ImageUndecodable, "x"));
        assert_eq!(report.summary(), "1 image cannot be decoded (first: a.jpg: x)");
        report.add("b.jpg", Skip::new(SkipReason::ImageUndecodable, "x"));
        report.add("c.jpg", Skip::new(SkipReason::NoCaption, "y"));
        assert_eq!(report.summary(), "2 images cannot be decoded (first: a.jpg: x), 1 no caption (first: c.jpg: y)");
        // The largest loss is the cause that a reader looks for.
        report.add("d.jpg", Skip::new(SkipReason::NoCaption, "y"));
        report.add("e.jpg", Skip::new(SkipReason::NoCaption, "y"));
        assert!(report.summary().starts_with("3 without caption (first: c.jpg: y), 2 images"), "{}", report.summary());
        assert_eq!(SkipReason::ImageIsAddress.word(), "image-is-address");
        assert_eq!(SkipReason::ImageIsAddress.counted(2), "2 images are addresses, which are not fetched");
    }

    #[test]
    fn a_summary_forges_no_lines() {
        let mut report = SkipReport::default();
        report.add("a\nerror: b\u{1b}[2J", Skip::new(SkipReason::NoImage, "\r"));
        assert!(!report.summary().contains(|c: char| c.is_control()), "{}", report.summary());
    }
}
