//! Which words of a question an answer hangs on: the drop of its log-probability without each. The paper asks a language model, which one is
//! not known (ours).

use crate::error::Result;
use crate::instruct::{Asked, VisionLanguage};
use tch::Tensor;

/// Positions of the words (by whitespace) of `question`, the one that the answer misses most first. `seen` `[1, places, channels]`.
pub(super) fn important_words(
    model: &VisionLanguage,
    seen: &Tensor,
    question: &str,
    answer: &str,
) -> Result<Vec<usize>> {
    let words: Vec<&str> = question.split_whitespace().collect();
    let without = |gone: usize| {
        let left: Vec<&str> = words.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, word)| *word).collect();
        model.asked(&left.join(" "), answer)
    };
    let rows = (0..words.len()).map(without).collect::<Result<Vec<Asked>>>()?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let seen = seen.repeat([rows.len() as i64, 1, 1]);
    let scores = model.mean_log_probabilities(&seen, &rows.iter().collect::<Vec<_>>())?;
    let mut order: Vec<usize> = (0..words.len()).collect();
    let score = |at: &usize| scores.get(*at).copied().unwrap_or(0.0);
    order.sort_by(|a, b| score(a).total_cmp(&score(b)).then(a.cmp(b)));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    #[test]
    fn every_word_has_its_place_and_the_first_is_missed_most() {
        let model = small(Bridge::CrossAttention);
        let seen = model.see(&[image::RgbImage::from_pixel(32, 32, image::Rgb([9, 90, 200]))]).unwrap();
        let order = important_words(&model, &seen, "What does the image describe?", "a red square").unwrap();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4]);
        let score = |gone: usize| {
            let words = ["What", "does", "the", "image", "describe?"];
            let left: Vec<&str> = (0..5).filter(|at| *at != gone).map(|at| words[at]).collect();
            let row = model.asked(&left.join(" "), "a red square").unwrap();
            model.mean_log_probabilities(&seen, &[&row]).unwrap()[0]
        };
        assert!(score(order[0]) <= score(order[4]) + 1e-6);
        assert!(important_words(&model, &seen, " ", "a").unwrap().is_empty());
    }
}
