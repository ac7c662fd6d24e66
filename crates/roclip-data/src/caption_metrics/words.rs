//! The words of a caption.

/// Runs of letters and digits, in lower case; everything else separates words. On ASCII text this is the tokenisation of Google's
/// `rouge-score`. (COCO's scores use the Stanford tokenizer, which keeps apostrophes and hyphens within words.)
pub fn words(caption: &str) -> Vec<String> {
    let lower = caption.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_separates_and_case_does_not_count() {
        assert_eq!(words("A dog's ball, 2 RED-hot Ünits!"), ["a", "dog", "s", "ball", "2", "red", "hot", "ünits"]);
        assert!(words(" ,.- ").is_empty());
    }
}
