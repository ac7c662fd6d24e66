//! Text cleaning before byte-pair encoding, as open_clip does it: ftfy, HTML entities twice, white space, lower case.

use crate::tokenizer::mend::mend;

/// `htmlize` knows HTML5's entities, those without a semicolon included, as Python does.
pub fn clean(text: &str) -> String {
    if is_plain(text) {
        return words(text);
    }
    let mended = mend(text);
    let once = htmlize::unescape(mended.as_str());
    let twice = htmlize::unescape(once.as_ref());
    words(&twice)
}

/// Whether there is nothing to mend: printable ASCII without an entity. Most captions are, and what mends the others is the tokenizer's slowest part.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n') && byte != b'&')
}

/// Lower case, with single spaces.
fn words(text: &str) -> String {
    let separates = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let words: Vec<&str> = text.split(separates).filter(|w| !w.is_empty()).collect();
    words.join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn plain_text_is_what_mending_leaves_as_it_is() {
        let mut random = crate::random::stream(0, "test", 0, "");
        for _ in 0..300 {
            let length = random.random_range(0..40);
            let text: String = (0..length)
                .map(|_| match random.random_range(b'\x1e'..=b'~') {
                    b'\x1e' => '\t',
                    b'\x1f' => '\n',
                    byte => char::from(byte),
                })
                .filter(|c| *c != '&')
                .collect();
            assert!(is_plain(&text));
            assert_eq!(mend(&text), text);
            assert_eq!(htmlize::unescape(text.as_str()), text);
        }
        assert!(["a & b", "caf\u{e9}", "\x1b[0m", "\u{7f}", "a\rb"].iter().all(|text| !is_plain(text)));
    }
}
