//! AICAttack (Li et al., arXiv 2402.11940): a few pixels, chosen by a surrogate captioner's attention and coloured by a search that sees the
//! victim's captions only, lower the BLEU of the caption or bring it near a target caption.
//!
//! `proper` is differential evolution (rand/1, replacement, signed bounds). `as-released` is what the public code does, which equals the first
//! upload of August 2023, half a year before the paper's first version: its population is never replaced, and mutants only brighten. Sums
//! are clamped here in both; the released code lets bytes wrap around.

mod defence;
mod fitness;
mod individual;
mod paired;
mod places;
mod search;
mod study;
mod tally;

pub use defence::Defence;
pub use fitness::{Fitness, Goal};
pub use individual::{Change, change_between};
pub use paired::MeanInterval;
pub use places::{Places, attention_over};
pub use search::Search;
pub use study::{Inputs, Line, Outcome, study};
pub use tally::{Row, table};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// One way to attack: where the pixels are, and how their colours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
pub struct Strategy {
    pub places: Places,
    pub search: Search,
}

impl Strategy {
    /// All that a study runs where none is named: the attack's own, the released ones, and the controls.
    pub const ALL: [Strategy; 12] = [
        Strategy { places: Places::Sentence, search: Search::Proper },
        Strategy { places: Places::Word, search: Search::Proper },
        Strategy { places: Places::TopK, search: Search::Proper },
        Strategy { places: Places::Proportional, search: Search::Proper },
        Strategy { places: Places::None, search: Search::Proper },
        Strategy { places: Places::Inverse, search: Search::Proper },
        Strategy { places: Places::Sentence, search: Search::AsReleased },
        Strategy { places: Places::Word, search: Search::AsReleased },
        Strategy { places: Places::None, search: Search::AsReleased },
        Strategy { places: Places::Sentence, search: Search::Random },
        Strategy { places: Places::None, search: Search::Random },
        Strategy { places: Places::None, search: Search::Noise },
    ];

    /// The control that says what attention and evolution are worth: as many random members anywhere as there are queries.
    pub const RANDOM: Strategy = Strategy { places: Places::None, search: Search::Random };

    /// As flags spell it: `sentence/proper`.
    pub fn word(self) -> String {
        format!("{}/{}", self.places.word(), self.search.word())
    }

    /// The strategy that a flag spells so; `sentence` alone is `sentence/proper`.
    pub fn named(text: &str) -> Option<Strategy> {
        let (places, search) = text.split_once('/').unwrap_or((text, Search::Proper.word()));
        Some(Strategy { places: Places::named(places)?, search: Search::named(search)? })
    }
}

/// Budget and bounds, the same for every strategy of a study.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Budget {
    /// Pixels that are changed.
    pub pixels: usize,
    /// Captions of the victim that are asked for, that of the clean picture included.
    pub queries: usize,
    /// Members of the population.
    pub population: usize,
    /// Largest change of a colour at first, and of proper evolution throughout, of 255.
    pub amplitude: i32,
    /// Weight of a difference between two members.
    pub factor: f64,
    /// Share of the changes that a trial takes from its mutant, in proper evolution; all when absent.
    pub crossover: Option<f64>,
    pub seed: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { pixels: 8, queries: 121, population: 20, amplitude: 40, factor: 0.5, crossover: None, seed: 0 }
    }
}

impl Budget {
    /// Whether pictures of `side` x `side` pixels can be attacked so.
    pub fn check(&self, side: u32) -> Result<()> {
        let all = (side * side) as usize;
        if self.pixels == 0 || self.pixels > all / 2 {
            return Err(Error::setting(
                format!("{} pixels of a picture of {side} x {side} are to be changed (--pixels)", self.pixels),
                format!(
                    "change at least 1, and at most {}: attention leaves half of the picture to choose from",
                    all / 2
                ),
            ));
        }
        if self.population < 4 {
            return Err(Error::setting(
                format!("a population of {} (--population)", self.population),
                "take at least 4: a mutant is made of three members",
            ));
        }
        if self.queries < self.population + 2 {
            return Err(Error::setting(
                format!("{} queries do not reach beyond a population of {}", self.queries, self.population),
                "raise --queries, or lower --population",
            ));
        }
        if !(1..=255).contains(&self.amplitude) {
            return Err(Error::setting(format!("an amplitude of {}", self.amplitude), "set --amplitude from 1 to 255"));
        }
        let shares = [("--factor", Some(self.factor), 2.0), ("--crossover", self.crossover, 1.0)];
        match shares.into_iter().find(|(_, value, most)| value.is_some_and(|value| !(0.0..=*most).contains(&value))) {
            Some((flag, value, most)) => Err(Error::setting(
                format!("{flag} is {}", value.unwrap_or_default()),
                format!("set it from 0 to {most}"),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_can_be_named_and_budgets_that_cannot_be_are_refused() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::named(&strategy.word()), Some(strategy));
        }
        assert_eq!(Strategy::named("word").map(Strategy::word).as_deref(), Some("word/proper"));
        assert_eq!(Strategy::named("eyes/proper"), None);
        let refused = |budget: Budget| budget.check(4).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(refused(Budget::default()), "");
        assert!(refused(Budget { pixels: 9, ..Budget::default() }).contains("--pixels"));
        assert!(refused(Budget { queries: 20, ..Budget::default() }).contains("queries"));
        assert!(refused(Budget { population: 3, ..Budget::default() }).contains("population"));
        assert!(refused(Budget { crossover: Some(1.5), ..Budget::default() }).contains("--crossover"));
        assert!(refused(Budget { amplitude: 0, ..Budget::default() }).contains("--amplitude"));
    }
}
