//! Glitches of text, mended as ftfy 6.3.1 does it (`fix_text` with its defaults): mojibake, entities, widths, ligatures, quotes, line breaks, control
//! characters.

use crate::tokenizer::mojibake::{MOJIBAKE, Mojibake};
use regex::Regex;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

struct Patterns {
    /// An entity with its semicolon.
    entity: Regex,
    /// Colours and the like of terminals.
    terminal: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let entity = Regex::new("&#?[0-9A-Za-z]{1,24};").ok()?;
    Some(Patterns { entity, terminal: Regex::new("\u{1b}\\[((?:\\d|;)*)([a-zA-Z])").ok()? })
});

/// Mended line by line. Markup anywhere before it leaves a line's entities as they are.
pub(super) fn mend(text: &str) -> String {
    let (Some(mojibake), Some(patterns)) = (&*MOJIBAKE, &*PATTERNS) else { return text.to_owned() };
    let mut markup = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        markup |= line.contains('<');
        out += &mend_line(line, markup, mojibake, patterns);
    }
    out
}

fn mend_line(line: &str, markup: bool, mojibake: &Mojibake, patterns: &Patterns) -> String {
    let mut text = line.to_owned();
    loop {
        let before = text.clone();
        if !markup {
            text = unescape(&text, mojibake, patterns);
        }
        text = mojibake.mend(&text);
        text = mojibake.mend_controls(&text);
        text = characters(&text, mojibake);
        text = line_breaks(&text);
        text = patterns.terminal.replace_all(&text, "").into_owned();
        text = text.chars().filter(|c| !is_control(*c)).nfc().collect();
        if text == before {
            return text;
        }
    }
}

/// Entities with a semicolon, and those that were put in capitals.
fn unescape(text: &str, mojibake: &Mojibake, patterns: &Patterns) -> String {
    let entity = |found: &regex::Captures| {
        let found = found.get(0).map(|found| found.as_str()).unwrap_or_default();
        if let Some(known) = mojibake.upper_case_entities.get(found) {
            return known.clone();
        }
        let unescaped = htmlize::unescape(found);
        if unescaped.contains(';') { found.to_owned() } else { unescaped.into_owned() }
    };
    patterns.entity.replace_all(text, entity).into_owned()
}

/// Ligatures, widths and quotes.
fn characters(text: &str, mojibake: &Mojibake) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc()),
            c => match mojibake.ligatures.get(&c) {
                // One of them holds a quotation mark.
                Some(letters) => out.extend(letters.chars().map(|c| if c == '\u{2bc}' { '\'' } else { c })),
                None => out.push(c),
            },
        }
    }
    out
}

fn line_breaks(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n")
}

/// Characters that nobody means to write; joiners and marks of direction are not among them.
fn is_control(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        fixed: String,
    }

    /// `tests/golden/ftfy.py` wrote the file with ftfy.
    #[test]
    fn equals_ftfy_on_the_golden_file() {
        let golden: Vec<Golden> = serde_json::from_str(include_str!("../../../../tests/golden/ftfy.json")).unwrap();
        assert!(golden.len() >= 500);
        let wrong: Vec<_> =
            golden.iter().map(|g| (&g.text, mend(&g.text), &g.fixed)).filter(|(_, ours, ftfy)| ours != *ftfy).collect();
        assert!(wrong.is_empty(), "{} of {} differ: {:#?}", wrong.len(), golden.len(), wrong);
    }
}
