//! Counts in words that people read: `1 epoch`, `2 epochs`.

use std::fmt::Display;

/// `number` with the noun `one` in the number that fits it. `one` is a singular noun, or words that end with one.
pub fn count(number: impl Display, one: &str) -> String {
    let number = number.to_string();
    if number == "1" { format!("1 {one}") } else { format!("{number} {}", plural(one)) }
}

/// The regular plural of an English noun.
pub fn plural(one: &str) -> String {
    // The ch of an epoch is a k.
    let hisses = !one.ends_with("epoch") && ["s", "x", "z", "ch", "sh"].iter().any(|end| one.ends_with(end));
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if hisses => format!("{one}es"),
        _ => format!("{one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_no_several() {
        let said = [count(1, "epoch"), count(0, "epoch"), count(12, "class"), count(2u64, "entry"), count(3, "key")];
        assert_eq!(said, ["1 epoch", "0 epochs", "12 classes", "2 entries", "3 keys"]);
        assert_eq!(count(2, "batch"), "2 batches");
    }
}
