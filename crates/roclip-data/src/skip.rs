//! Why samples are left out: every stage returns a sample or a reason, and reasons are counted and written down.

use crate::error::Error;
use serde::Serialize;
use std::collections::BTreeMap;

/// Why one sample was left out.
#[derive(Debug, Clone, Serialize)]
pub struct Skip {
    pub reason: &'static str,
    pub detail: String,
}

impl Skip {
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
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
#[derive(Debug, Default, Clone)]
pub struct SkipReport {
    by_reason: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl SkipReport {
    pub fn add(&mut self, id: &str, skip: Skip) {
        self.by_reason.entry(skip.reason).or_default().insert(id.to_owned(), skip.detail);
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

    pub fn total(&self) -> usize {
        self.by_reason.values().map(BTreeMap::len).sum()
    }

    /// How many were left out, by reason.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.by_reason.iter().map(|(reason, samples)| (reason.to_string(), samples.len())).collect()
    }

    /// `3 image cannot be decoded (first: a.jpg), 1 ...`
    pub fn summary(&self) -> String {
        let parts = self.by_reason.iter().map(|(reason, samples)| {
            let first = samples.iter().next().map(|(id, detail)| format!("{id}: {detail}")).unwrap_or_default();
            format!("{} {reason} (first: {first})", samples.len())
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
}
