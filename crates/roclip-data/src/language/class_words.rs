//! Class labels as words: data sets name folders `soccer_ball`, and people write of a soccer ball.

/// `n` and the eight digits of a WordNet 3.0 noun, at the beginning of a label.
const WNID_LENGTH: usize = 9;

/// The WordNet id that a label is, or begins with before an underscore (`n01440764`, `n01440764_tench`), and what comes behind it.
pub fn wnid_of(label: &str) -> Option<(&str, &str)> {
    let (id, rest) = (label.get(..WNID_LENGTH)?, label.get(WNID_LENGTH..)?);
    let digits = id.strip_prefix('n')?;
    let behind = rest.strip_prefix('_').filter(|rest| !rest.is_empty());
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && (rest.is_empty() || behind.is_some()))
        .then_some((id, behind.unwrap_or_default()))
}

/// A label as it stands in a sentence: without a WordNet id in front of a name, and with spaces and small letters where it has underscores.
pub fn class_words(label: &str) -> String {
    let name = wnid_of(label).map(|(_, name)| name).filter(|name| !name.is_empty()).unwrap_or(label);
    if !name.contains('_') {
        return name.to_owned();
    }
    let words: Vec<&str> = name.split(['_', ' ']).filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => name.to_owned(),
        false => words.join(" ").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_words() {
        for (label, words) in [
            ("soccer_ball", "soccer ball"),
            ("Faces_easy", "faces easy"),
            ("n02085620_Chihuahua_dog", "chihuahua dog"),
            ("n02085620-Chihuahua", "n02085620-Chihuahua"),
            ("n01440764_tench", "tench"),
            ("n01440764", "n01440764"),
            ("Boeing 747", "Boeing 747"),
            ("red", "red"),
            ("_", "_"),
            ("", ""),
        ] {
            assert_eq!(class_words(label), words, "{label}");
        }
        assert_eq!(wnid_of("n01440764_"), None);
        assert_eq!(wnid_of("n0144076\u{e9}x"), None);
    }
}
