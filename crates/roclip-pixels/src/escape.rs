//! Text of strangers (ids, paths, captions) made safe to print.

use std::borrow::Cow;

/// `text` with every character escaped that could move a terminal's cursor, forge a line or turn the reading direction round.
/// Text without such characters is returned as it is.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_unsafe(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// Control characters, line separators, and the marks that override the direction of writing.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

/// `text` as one word of a shell.
pub fn for_shell(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:,@%".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_is_kept() {
        assert_eq!(for_terminal("\u{1b}]0;x\u{7}\nerror: y"), "\\u{1b}]0;x\\u{7}\\nerror: y");
        assert_eq!(for_terminal("a\u{9b}2Jb\u{202e}c"), "a\\u{9b}2Jb\\u{202e}c");
        for plain in ["Straße/犬 1.jpg", "it's \"quoted\" \\ kept"] {
            assert!(matches!(for_terminal(plain), Cow::Borrowed(text) if text == plain));
        }
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(for_shell("runs/a-1"), "runs/a-1");
        assert_eq!(for_shell("my run's"), "'my run'\\''s'");
        assert_eq!(for_shell("$(x)"), "'$(x)'");
    }
}
