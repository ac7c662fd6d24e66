//! Text of strangers (ids, paths, captions) made safe to print.

use std::borrow::Cow;
use std::path::Path;

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

/// `text` as one word of a shell. What a terminal would obey is named by its bytes (`$'...'`), so that the word can be printed and typed.
pub fn for_shell(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:,@%".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false if text.contains(is_unsafe) => by_bytes(text.as_bytes()),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A path as one word of a shell, one too that is no UTF-8.
pub fn path_for_shell(path: &Path) -> String {
    path.to_str().map_or_else(|| by_bytes(path.as_os_str().as_encoded_bytes()), for_shell)
}

/// A word that bash, zsh and ksh read as these bytes.
fn by_bytes(bytes: &[u8]) -> String {
    let letters = bytes.iter().map(|byte| match byte {
        b'\\' | b'\'' => format!("\\{}", char::from(*byte)),
        b'\n' => "\\n".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        // As octal numbers, which have three digits at most: a letter behind them is not taken for one more.
        _ => format!("\\{byte:03o}"),
    });
    format!("$'{}'", letters.collect::<String>())
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
        assert_eq!(for_shell("v\n\u{1b}[31mx"), r"$'v\n\033[31mx'");
        assert_eq!(for_shell("it's \\\t\u{202e}1"), r"$'it\'s \\\011\342\200\2561'");
        assert_eq!(path_for_shell(Path::new("my run")), "'my run'");
    }
}
