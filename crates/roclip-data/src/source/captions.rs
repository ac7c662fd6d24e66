//! Captions as sources take them, and how many of a sample: one sample with a million captions would dominate the training.

use crate::skip::{Skip, SkipReason};

/// Captions that one sample may have.
const MOST_CAPTIONS: usize = 1_000;
/// Longer captions are junk, and would only be cut by the tokenizer.
pub(super) const CAPTION_LIMIT_BYTES: usize = 64 << 10;
/// The most bytes that the captions of one sample may have together.
const TOTAL_LIMIT_BYTES: usize = 1 << 20;

/// A caption without what surrounds it: white space, and the mark that some editors put before a text.
pub(super) fn tidy(caption: &str) -> &str {
    caption.trim_start_matches('\u{feff}').trim()
}

/// Whether a sample without captions yet could have this one.
pub(super) fn fits(caption: &str) -> bool {
    let length = tidy(caption).len();
    length > 0 && length <= CAPTION_LIMIT_BYTES
}

/// Adds a tidied caption to those of a sample; one that is empty adds nothing.
///
/// # Errors
/// A skip for a caption that is too long or one too many.
pub(super) fn add(captions: &mut Vec<String>, caption: &str) -> Result<(), Skip> {
    let caption = tidy(caption);
    if caption.len() > CAPTION_LIMIT_BYTES {
        let detail = format!("it has {} bytes, at most {CAPTION_LIMIT_BYTES} are taken", caption.len());
        return Err(Skip::new(SkipReason::CaptionTooLarge, detail));
    }
    if captions.len() >= MOST_CAPTIONS {
        return Err(Skip::new(SkipReason::TooManyCaptions, format!("the first {MOST_CAPTIONS} are used")));
    }
    let before: usize = captions.iter().map(String::len).sum();
    if before + caption.len() > TOTAL_LIMIT_BYTES {
        let detail = format!("the first {} of them are used, which hold {before} bytes", captions.len());
        return Err(Skip::new(SkipReason::TooManyCaptions, detail));
    }
    if !caption.is_empty() {
        captions.push(caption.to_owned());
    }
    Ok(())
}

/// As many of `captions` as a sample may have, and why the others are left out.
pub(super) fn bounded<'a>(captions: impl IntoIterator<Item = &'a str>) -> (Vec<String>, Option<Skip>) {
    let (mut kept, mut left_out) = (Vec::new(), None);
    for caption in captions {
        if let Err(skip) = add(&mut kept, caption) {
            let no_more = skip.reason == SkipReason::TooManyCaptions;
            left_out = Some(skip);
            if no_more {
                break;
            }
        }
    }
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_bounded_in_number_length_and_sum() {
        let (kept, skip) = bounded(std::iter::repeat_n("a", 1_000_000));
        assert_eq!((kept.len(), skip.unwrap().reason), (MOST_CAPTIONS, SkipReason::TooManyCaptions));
        let long = "long ".repeat(200_000);
        let (kept, skip) = bounded(["", " a dog ", long.as_str(), "\u{feff}a cat"]);
        assert_eq!(
            (kept, skip.unwrap().reason),
            (vec!["a dog".to_owned(), "a cat".into()], SkipReason::CaptionTooLarge)
        );
        let heavy = "w".repeat(60 << 10);
        let (kept, skip) = bounded(std::iter::repeat_n(heavy.as_str(), 900));
        assert_eq!((kept.len(), skip.unwrap().reason), (17, SkipReason::TooManyCaptions));
    }
}
