//! Text cleaning before byte-pair encoding, as open_clip does it: ftfy, HTML entities twice, white space, lower case.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// ANSI escapes such as colours. plsfix 0.1.8 means to remove them and looks for a literal `\\033`.
static TERMINAL_ESCAPE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;]*[a-zA-Z]").ok());

/// `plsfix` is the Rust port of ftfy; `htmlize` knows HTML5's entities, those without a semicolon included, as Python does.
pub fn clean(text: &str) -> String {
    let text = TERMINAL_ESCAPE.as_ref().map_or(Cow::Borrowed(text), |escape| escape.replace_all(text, ""));
    let fixed = plsfix::fix_text(&text, None);
    let once = htmlize::unescape(fixed.as_str());
    let twice = htmlize::unescape(once.as_ref());
    let words: Vec<&str> = twice
        .split(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ").to_lowercase()
}
