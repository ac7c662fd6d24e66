//! What the search lowers.

use roclip_data::caption_metrics::{Rouge, Smoothing, sentence_bleu, words};
use serde::{Deserialize, Serialize};

/// A score of a caption beside references, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Fitness {
    /// BLEU-4 without smoothing, as released: flat where no four words in a row match.
    #[default]
    Bleu4,
    /// BLEU-4 with one added to matches and n-grams.
    Bleu4Smoothed,
    /// The mean of smoothed BLEU-4, BLEU-1 and ROUGE-L, which is flat nowhere (ours).
    Mixed,
}

impl Fitness {
    pub const ALL: [(&'static str, Fitness); 3] =
        [("bleu4", Fitness::Bleu4), ("bleu4-smoothed", Fitness::Bleu4Smoothed), ("mixed", Fitness::Mixed)];

    fn score(self, caption: &[String], references: &[Vec<String>]) -> f64 {
        let smoothed = || sentence_bleu(caption, references, Smoothing::AddOne);
        match self {
            Fitness::Bleu4 => sentence_bleu(caption, references, Smoothing::None).bleu4,
            Fitness::Bleu4Smoothed => smoothed().bleu4,
            Fitness::Mixed => {
                let bleu = smoothed();
                (bleu.bleu4 + bleu.bleu1 + Rouge::of(caption, references).rouge_l.f) / 3.0
            }
        }
    }
}

/// What an attack is after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// A caption that is unlike the references.
    Untargeted,
    /// This caption.
    Targeted(String),
}

/// Lower is better for the attacker. Below this nothing is left to gain.
const NOTHING: f64 = 1e-9;

/// Scores captions of one picture.
pub(super) struct Judge {
    pub fitness: Fitness,
    references: Vec<Vec<String>>,
    targeted: bool,
}

impl Judge {
    pub fn new(fitness: Fitness, goal: &Goal, references: &[Vec<String>]) -> Judge {
        match goal {
            Goal::Untargeted => Judge { fitness, references: references.to_vec(), targeted: false },
            Goal::Targeted(caption) => Judge { fitness, references: vec![words(caption)], targeted: true },
        }
    }

    /// 0 where the attack has all it wants.
    pub fn cost(&self, caption: &str) -> f64 {
        let said = words(caption);
        // Smoothed or not, BLEU-4 of a caption of fewer than four words is below 1 even with itself.
        if self.targeted && self.references.contains(&said) {
            return 0.0;
        }
        let score = self.fitness.score(&said, &self.references);
        if self.targeted { 1.0 - score } else { score }
    }

    /// Whether nothing is to be gained from a picture whose clean caption costs so much.
    pub fn is_idle(cost: f64) -> bool {
        cost < NOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untargeted_attack_lowers_the_score_and_a_targeted_one_raises_that_of_its_caption() {
        let references = [words("a red apple on the table")];
        let cost = |fitness, goal: &Goal, caption: &str| Judge::new(fitness, goal, &references).cost(caption);
        let near = "a red apple on a box";
        for (_, fitness) in Fitness::ALL {
            assert!((cost(fitness, &Goal::Untargeted, "a red apple on the table") - 1.0).abs() < 1e-9);
            let target = Goal::Targeted("a blue car".into());
            assert!(Judge::is_idle(cost(fitness, &target, "A blue car.")));
            assert!(cost(fitness, &target, near) > 0.5);
        }
        assert!(Judge::is_idle(cost(Fitness::Bleu4, &Goal::Untargeted, "red apple")), "flat");
        assert!(!Judge::is_idle(cost(Fitness::Mixed, &Goal::Untargeted, "red apple")));
    }
}
