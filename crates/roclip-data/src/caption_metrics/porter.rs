//! Porter's stemmer (1980) with the changes of NLTK's `PorterStemmer`, which `rouge-score` and with it AICAttack's metrics use.

/// Words that NLTK stems by a list.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes of step 2, in NLTK's order.
const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// Whether each letter is a consonant. A `y` behind a consonant is none.
fn consonants(word: &[char]) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word {
        let consonant = match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        };
        flags.push(consonant);
    }
    flags
}

/// The number of vowel groups that a consonant follows.
fn measure(word: &[char]) -> usize {
    let flags = consonants(word);
    flags.iter().zip(flags.iter().skip(1)).filter(|(before, after)| !**before && **after).count()
}

fn has_vowel(word: &[char]) -> bool {
    consonants(word).contains(&false)
}

fn ends_in_double_consonant(word: &[char]) -> bool {
    matches!(word, [.., a, b] if a == b) && consonants(word).last() == Some(&true)
}

/// Consonant, vowel, consonant other than w, x and y at the end; or a vowel and a consonant alone (NLTK).
fn ends_short(word: &[char]) -> bool {
    match consonants(word).as_slice() {
        [false, true] => true,
        [.., true, false, true] => !matches!(word.last(), Some('w' | 'x' | 'y')),
        _ => false,
    }
}

/// What stands before `suffix`.
fn before<'a>(word: &'a [char], suffix: &str) -> Option<&'a [char]> {
    let suffix: Vec<char> = suffix.chars().collect();
    word.strip_suffix(suffix.as_slice())
}

fn joined(stem: &[char], end: &str) -> Vec<char> {
    stem.iter().copied().chain(end.chars()).collect()
}

fn step_1a(word: Vec<char>) -> Vec<char> {
    if let (Some(stem), 4) = (before(&word, "ies"), word.len()) {
        return joined(stem, "ie");
    }
    for (suffix, end) in [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")] {
        if let Some(stem) = before(&word, suffix) {
            return joined(stem, end);
        }
    }
    word
}

fn step_1b(word: Vec<char>) -> Vec<char> {
    if let Some(stem) = before(&word, "ied") {
        return joined(stem, if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = before(&word, "eed") {
        return if measure(stem) > 0 { joined(stem, "ee") } else { word };
    }
    let stripped = ["ed", "ing"].iter().find_map(|suffix| before(&word, suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stripped.map(<[char]>::to_vec) else { return word };
    for (suffix, end) in [("at", "ate"), ("bl", "ble"), ("iz", "ize")] {
        if let Some(stem) = before(&stem, suffix) {
            return joined(stem, end);
        }
    }
    if ends_in_double_consonant(&stem) {
        return match stem.split_last() {
            Some((last, shorter)) if !matches!(last, 'l' | 's' | 'z') => shorter.to_vec(),
            _ => stem,
        };
    }
    if measure(&stem) == 1 && ends_short(&stem) { joined(&stem, "e") } else { stem }
}

fn step_1c(word: Vec<char>) -> Vec<char> {
    match before(&word, "y") {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => joined(stem, "i"),
        _ => word,
    }
}

fn step_2(word: Vec<char>) -> Vec<char> {
    if let Some(stem) = before(&word, "alli").filter(|stem| measure(stem) > 0) {
        return step_2(joined(stem, "al"));
    }
    for (suffix, end) in STEP_2 {
        if let Some(stem) = before(&word, suffix) {
            return if measure(stem) > 0 { joined(stem, end) } else { word };
        }
    }
    match (before(&word, "logi"), before(&word, "ogi")) {
        (Some(stem), Some(longer)) if measure(longer) > 0 => joined(stem, "log"),
        _ => word,
    }
}

fn step_3(word: Vec<char>) -> Vec<char> {
    for (suffix, end) in STEP_3 {
        if let Some(stem) = before(&word, suffix) {
            return if measure(stem) > 0 { joined(stem, end) } else { word };
        }
    }
    word
}

fn step_4(word: Vec<char>) -> Vec<char> {
    for suffix in STEP_4 {
        if let Some(stem) = before(&word, suffix) {
            let allowed = suffix != "ion" || matches!(stem.last(), Some('s' | 't'));
            return if measure(stem) > 1 && allowed { stem.to_vec() } else { word };
        }
    }
    word
}

fn step_5(word: Vec<char>) -> Vec<char> {
    let word = match before(&word, "e") {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_short(stem)) => stem.to_vec(),
        _ => word,
    };
    match (word.split_last(), before(&word, "ll")) {
        (Some((_, shorter)), Some(_)) if measure(shorter) > 1 => shorter.to_vec(),
        _ => word,
    }
}

/// The stem of `word`, which is in lower case.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    let letters: Vec<char> = word.chars().collect();
    if letters.len() <= 2 {
        return word.to_owned();
    }
    let steps = [step_1a, step_1b, step_1c, step_2, step_3, step_4, step_5];
    steps.into_iter().fold(letters, |word, step| step(word)).into_iter().collect()
}

/// The words with those of more than three letters stemmed, as `rouge-score` does it.
pub fn stemmed(words: &[String]) -> Vec<String> {
    words.iter().map(|word| if word.chars().count() > 3 { stem(word) } else { word.clone() }).collect()
}
