//! Pictures that could not be read, and how many of them may be.

use crate::error::{Error, Result};
use roclip_data::skip::{SkipReason, SkipReport};
use roclip_data::source::allowed_losses;
use serde::Serialize;

/// A picture that could not be read, or a part of a source with all that it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    pub id: String,
    /// The reason's word, as in a run's `skips.jsonl`.
    pub unreadable: String,
    pub detail: String,
    /// One of the trusted pictures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
}

/// The pictures that `skips` tells of.
pub(super) fn unread(skips: &SkipReport, trusted: bool) -> impl Iterator<Item = Unread> {
    let is_lost = |word: &str| {
        let reason = serde_json::from_value::<SkipReason>(word.into());
        reason.is_ok_and(|reason| reason.loses_sample() || reason.loses_shard())
    };
    let lost = skips.examples(usize::MAX).into_iter().filter(move |(word, _)| is_lost(word));
    lost.flat_map(move |(word, pictures)| {
        pictures.into_iter().map(move |(id, detail)| Unread { id, unreadable: word.clone(), detail, trusted })
    })
}

/// Whether enough can be read of the pictures that are named by `key`: `lost` of `of` cannot, for the reasons in `skips`.
///
/// # Errors
/// More than the share `most`, rounded up.
pub(super) fn check_read(key: &str, lost: usize, of: usize, skips: &SkipReport, most: f64) -> Result<()> {
    match lost > allowed_losses(most, of) {
        true => Err(Error::setting(
            format!("{key}: {lost} of {of} pictures could not be read: {}", skips.summary()),
            format!("repair the data, leave them out of it, or raise data.max_skip_fraction (now {most})"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::skip::Skip;

    #[test]
    fn pictures_that_are_lost_are_named_and_too_many_are_an_error() {
        let mut skips = SkipReport::default();
        skips.add("b.png", Skip::new(SkipReason::ImageTruncated, "x"));
        skips.add("a.png", Skip::new(SkipReason::ImageTruncated, "y"));
        skips.add("0.tar", Skip::new(SkipReason::ShardTruncated, "z"));
        skips.add("a.txt", Skip::new(SkipReason::MemberUnused, "no picture is lost by it"));
        let found: Vec<Unread> = unread(&skips, false).collect();
        let ids: Vec<(&str, &str)> = found.iter().map(|one| (one.id.as_str(), one.unreadable.as_str())).collect();
        assert_eq!(ids, [("a.png", "image-truncated"), ("b.png", "image-truncated"), ("0.tar", "shard-truncated")]);
        let line = |trusted| serde_json::to_value(unread(&skips, trusted).next().unwrap()).unwrap();
        assert_eq!(line(false), serde_json::json!({"id": "a.png", "unreadable": "image-truncated", "detail": "y"}));
        assert_eq!(line(true)["trusted"], true);
        check_read("--trusted-data", 2, 21, &skips, 0.05).unwrap();
        let said = check_read("--trusted-data", 2, 20, &skips, 0.05).unwrap_err().to_string();
        for words in ["--trusted-data: 2 of 20 pictures", "2 images are cut off", "data.max_skip_fraction (now 0.05)"] {
            assert!(said.contains(words), "{said}");
        }
    }
}
