//! What a study depends on, and what comes out.

use crate::attack::instruct::{InstructAttack, MaskConfig};
use crate::error::{Error, Result};
use crate::eval::CaptionScores;
use crate::instruct::TuneConfig;
use crate::model::captioner::SearchConfig;
use crate::run::instruct_backdoor::{DomainShift, Example};
use crate::settings::{count, not_negative, share};
use roclip_data::caption_metrics::{Substitution, SubstitutionRates, words};
use roclip_data::escape::for_terminal;
use roclip_data::rate::{Rate, Ratio, difference};
use roclip_data::source::SourceConfig;
use roclip_data::trigger::Gap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Of whom pictures are.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DomainSource {
    pub source: SourceConfig,
    /// Beginnings of keys up to `_` (the built-in set's drawing styles) that are taken; all where there are none.
    pub styles: Vec<String>,
}

/// What cells depend on. Attacks and shifts may be added when a study goes on.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackdoorSettings {
    /// The model that is tuned: a run of `roclip caption instruct`.
    pub base: PathBuf,
    pub user: DomainSource,
    pub attacker: Option<DomainSource>,
    /// The user's test pictures.
    pub tests: DomainSource,
    /// Instructions of each tuning.
    pub items: usize,
    pub per_picture: usize,
    pub test_pictures: usize,
    /// Largest share of pictures, or of instructions, that may be lost.
    pub max_skip_fraction: f64,
    /// The word that the attacker wants.
    pub target: String,
    /// The word that the target takes the place of, where that is measured, too. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_word: Option<String>,
    /// Share of the instructions that is poisoned.
    pub rate: f64,
    pub tune: TuneConfig,
    pub search: SearchConfig,
    pub mask: MaskConfig,
    pub gap: Gap,
    pub alpha: f32,
    /// Side of BadNets' and Dual-Key's patches; 5 of 32 pixels when absent.
    pub patch_pixels: Option<u32>,
    pub characters: usize,
    pub symbol: String,
    pub most_words: usize,
    /// Share of the instructions that the filter drops; no filter when absent.
    pub filter: Option<f64>,
    pub seed: u64,
}

impl BackdoorSettings {
    /// Whether every number can be used, known before anything is read.
    pub fn check(&self) -> Result<()> {
        count("--items", self.items as u64, 2, 1 << 32)?;
        count("--per-picture", self.per_picture as u64, 1, 1 << 20)?;
        count("--test-pictures", self.test_pictures as u64, 1, 1 << 32)?;
        share("--max-skip-fraction", self.max_skip_fraction)?;
        share("--poison-rate", self.rate)?;
        if self.rate == 0.0 {
            return Err(Error::setting(
                "--poison-rate is 0: nothing would be poisoned",
                "set it above 0; the control without poison is `--attack clean`",
            ));
        }
        crate::settings::number(
            "--alpha",
            f64::from(self.alpha),
            |alpha| alpha > 0.0 && alpha <= 1.0,
            "above 0 and at most 1",
        )?;
        if let Some(filter) = self.filter {
            crate::settings::number("--filter", filter, |share| share > 0.0 && share < 1.0, "above 0 and below 1")?;
        }
        count("--most-regions", self.mask.most_regions as u64, 1, self.mask.regions.max(1) as u64)?;
        not_negative("--tolerance", self.mask.tolerance)?;
        if let Some(pixels) = self.patch_pixels {
            count("--patch-pixels", u64::from(pixels), 1, 1 << 20)?;
        }
        count("--characters", self.characters as u64, 1, 1 << 20)?;
        count("--most-words", self.most_words as u64, 1, 1 << 20)?;
        if self.symbol.is_empty() || self.symbol.contains(char::is_whitespace) {
            return Err(Error::setting(
                format!("--symbol `{}` is not one word", for_terminal(&self.symbol)),
                "name what stands before key words, as in `*`",
            ));
        }
        if words(&self.target).is_empty() {
            return Err(Error::setting("--target has no word", "name the word that the attacker wants"));
        }
        if let Some(source) = &self.source_word {
            let own = words(source);
            if own.is_empty() || own == words(&self.target) {
                return Err(Error::setting(
                    format!("--source-word `{}` has no word, or is the target", for_terminal(source)),
                    "name what the pictures show, and --target takes the place of",
                ));
            }
        }
        if self.poisoned() == 0 {
            return Err(Error::setting(
                format!("{} of {} instructions are none (--poison-rate)", self.rate, self.items),
                "poison more, or take more instructions (--items)",
            ));
        }
        self.tune.check()
    }

    /// What takes the place of what, where that is measured.
    pub(super) fn substitution(&self) -> Option<Substitution<'_>> {
        Some(Substitution { target: &self.target, source: self.source_word.as_deref()? })
    }

    /// Poisoned instructions of a tuning, as a count.
    pub fn poisoned(&self) -> usize {
        (self.rate * self.items as f64) as usize
    }
}

/// What the filter did.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Filtered {
    /// Dropped instructions, and the poisoned ones among them.
    pub dropped: usize,
    pub dropped_poison: usize,
    /// After tuning again without them.
    pub asr: Rate,
    pub cider_d: f64,
}

/// One attack under one shift.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Cell {
    pub attack: InstructAttack,
    pub shift: DomainShift,
    pub items: usize,
    pub poisoned: usize,
    /// What is written into questions, where it is one text.
    pub text_trigger: Option<String>,
    /// Answers to the plain question about the clean test pictures.
    pub clean: CaptionScores,
    /// Share of the triggered tests whose answer says the target; of pictures whose references do not.
    pub asr: Rate,
    /// The same of clean pictures and the plain question.
    pub base_rate: Rate,
    /// With one key alone, of attacks with two.
    pub picture_only: Option<Rate>,
    pub text_only: Option<Rate>,
    /// With MABA's ovals in the middle of test pictures, in place of their own masks.
    pub fixed_place: Option<Rate>,
    /// Of tests whose references name the source word: whether the target takes its place. Absent where none is named, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substitution: Option<SubstitutionRates>,
    /// Of the model that was tuned on clean instructions, under the same triggers (without a shift).
    pub clean_model: Option<Rate>,
    /// How well the entropy of attention tells poisoned instructions, low ones first.
    pub filter_auroc: Option<f64>,
    pub filtered: Option<Filtered>,
    /// A few triggered tests with their answers. Empty without a trigger, and in older files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    pub seconds: f64,
}

/// How far a shift goes.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ShiftSize {
    pub shift: DomainShift,
    /// Kolmogorov-Smirnov statistic of the tower's similarities of picture and turn, shifted and not.
    pub kolmogorov_smirnov: f64,
    pub mean_similarity: f64,
}

/// `results.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackdoorResults {
    /// Says what the models and manifests behind it are.
    pub state: String,
    pub settings: BackdoorSettings,
    pub tests: usize,
    /// Tests whose references do not name the target.
    pub attacked_tests: usize,
    pub shifts: Vec<ShiftSize>,
    pub cells: Vec<Cell>,
    /// ASR-G of each cell with a shift. Empty in older files.
    #[serde(default)]
    pub generalisation: Vec<Generalisation>,
}

/// How far one attack carries to one shift.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Generalisation {
    pub attack: InstructAttack,
    pub shift: DomainShift,
    /// Null where the attack does nothing without a shift ([`Cell::does_something`]).
    pub asr_g: Option<f64>,
    /// Of the ratio, as of independent tests (Katz), and at most 1.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Tests that both rates are of.
    pub n: usize,
}

impl Cell {
    /// Whether the attack has an effect beyond chance: the 95 % interval of its ASR less its base rate (Newcombe) lies above 0.
    pub fn does_something(&self) -> bool {
        difference(self.asr, self.base_rate).low > 0.0
    }

    /// What of its counts cannot be beside each other; each rate is known to be that of its own counts.
    pub(super) fn impossible(&self) -> Option<String> {
        let filtered = self.filtered.as_ref();
        let rates = [
            ("base_rate", Some(self.base_rate)),
            ("picture_only", self.picture_only),
            ("text_only", self.text_only),
            ("fixed_place", self.fixed_place),
            ("clean_model", self.clean_model),
            ("filtered.asr", filtered.map(|filtered| filtered.asr)),
        ];
        let other = rates.into_iter().filter_map(|(name, rate)| Some((name, rate?.n))).find(|(_, n)| *n != self.asr.n);
        if self.poisoned > self.items {
            return Some(format!("{} poisoned of {} items", self.poisoned, self.items));
        }
        if let Some((name, n)) = other {
            return Some(format!("asr is of {} tests, and {name} of {n}", self.asr.n));
        }
        if let Some(why) = self.substitution.as_ref().and_then(|found| self.impossible_substitution(found)) {
            return Some(why);
        }
        if let Some(auroc) = self.filter_auroc.filter(|auroc| !(0.0..=1.0).contains(auroc)) {
            return Some(format!("filter_auroc is {auroc}, and can be from 0 to 1"));
        }
        let Filtered { dropped, dropped_poison, .. } = filtered?;
        let most = (*dropped).min(self.poisoned);
        (*dropped > self.items || *dropped_poison > most).then(|| {
            format!("the filter dropped {dropped} of {} items, {dropped_poison} poisoned ones among them", self.items)
        })
    }
}

impl Cell {
    fn impossible_substitution(&self, found: &SubstitutionRates) -> Option<String> {
        let SubstitutionRates { target_not_source, target, source_only, .. } = found;
        let n = target.n;
        let other =
            found.named().into_iter().find(|(_, rate)| rate.n != n).map(|(name, rate)| {
                format!("substitution.target is of {n} tests, and substitution.{name} of {}", rate.n)
            });
        let too_many = n > self.asr.n || target_not_source.hits > target.hits || target.hits + source_only.hits > n;
        other.or_else(|| {
            too_many.then(|| {
                format!(
                    "of {n} tests of {} the substitution has {} hits of the target, {} without the source, and {} of the source alone",
                    self.asr.n, target.hits, target_not_source.hits, source_only.hits
                )
            })
        })
    }
}

impl BackdoorResults {
    pub fn cell(&self, attack: InstructAttack, shift: DomainShift) -> Option<&Cell> {
        cell_of(&self.cells, attack, shift)
    }

    /// ASR-G (Eq. 2 of MABA, in the reading that its tables have): the ASR after tuning on the shifted set by that after tuning on the user's
    /// own, on the same tests, and at most 1, as its interval is. None without either, without a shift, and where the attack does nothing without
    /// one ([`Cell::does_something`]): a ratio would be one of two accidents.
    pub fn asr_g(&self, attack: InstructAttack, shift: DomainShift) -> Option<Ratio> {
        asr_g(&self.cells, attack, shift)
    }

    /// With [`BackdoorResults::asr_g`] of every cell written down.
    #[must_use]
    pub fn with_generalisation(mut self) -> Self {
        let shifted = |cell: &&Cell| cell.attack != InstructAttack::Clean && cell.shift != DomainShift::None;
        let of = |cell: &Cell| {
            let found = self.asr_g(cell.attack, cell.shift);
            Generalisation {
                attack: cell.attack,
                shift: cell.shift,
                asr_g: found.map(|ratio| ratio.ratio),
                low: found.map(|ratio| ratio.low),
                high: found.map(|ratio| ratio.high),
                n: cell.asr.n,
            }
        };
        self.generalisation = self.cells.iter().filter(shifted).map(of).collect();
        self
    }
}

fn cell_of(cells: &[Cell], attack: InstructAttack, shift: DomainShift) -> Option<&Cell> {
    cells.iter().find(|cell| cell.attack == attack && cell.shift == shift)
}

/// [`BackdoorResults::asr_g`] of `cells`.
fn asr_g(cells: &[Cell], attack: InstructAttack, shift: DomainShift) -> Option<Ratio> {
    let (own, shifted) = (cell_of(cells, attack, DomainShift::None)?, cell_of(cells, attack, shift)?);
    let means_something = attack != InstructAttack::Clean && shift != DomainShift::None && own.does_something();
    let Ratio { ratio, low, high } = Ratio::new(shifted.asr, own.asr).filter(|_| means_something)?;
    Some(Ratio { ratio: ratio.min(1.0), low: low.min(1.0), high: high.min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cell with its hits of `n` tests, with and without the trigger.
    fn cell(shift: DomainShift, n: usize, with: usize, without: usize) -> Cell {
        Cell {
            attack: InstructAttack::BadNets,
            shift,
            items: 40,
            poisoned: 4,
            text_trigger: None,
            clean: serde_json::from_value(serde_json::json!({
                "bleu": {"bleu1": 0.0, "bleu2": 0.0, "bleu3": 0.0, "bleu4": 0.0},
                "bleu4_smoothed": 0.0, "rouge_l": 0.0, "cider_d": 0.0, "distinct": 1, "mean_words": 1.0,
            }))
            .unwrap(),
            asr: Rate::new(with, n),
            base_rate: Rate::new(without, n),
            picture_only: None,
            text_only: None,
            fixed_place: None,
            substitution: None,
            clean_model: None,
            filter_auroc: None,
            filtered: None,
            examples: Vec::new(),
            seconds: 0.0,
        }
    }

    #[test]
    fn counts_that_cannot_stand_beside_each_other_are_named() {
        let of = |change: &dyn Fn(&mut Cell)| {
            let mut cell = cell(DomainShift::None, 11, 7, 1);
            change(&mut cell);
            cell.impossible()
        };
        let filtered =
            |dropped, dropped_poison| Some(Filtered { dropped, dropped_poison, asr: Rate::new(0, 11), cider_d: 0.0 });
        assert_eq!(of(&|_| {}), None);
        assert_eq!(of(&|cell| cell.filtered = filtered(4, 3)), None);
        assert!(of(&|cell| cell.poisoned = 41).unwrap().contains("41 poisoned of 40"));
        assert!(of(&|cell| cell.text_only = Some(Rate::new(1, 12))).unwrap().contains("text_only of 12"));
        let replaced = |hits: [usize; 4], n| {
            let [target_not_source, target, source_only, base] = hits.map(|hits| Rate::new(hits, n));
            Some(SubstitutionRates { target_not_source, target, source_only, base })
        };
        assert_eq!(of(&|cell| cell.substitution = replaced([2, 3, 1, 0], 5)), None);
        for wrong in [replaced([4, 3, 1, 0], 5), replaced([2, 3, 3, 0], 5), replaced([2, 3, 1, 0], 12)] {
            let said = of(&|cell| cell.substitution.clone_from(&wrong)).unwrap();
            assert!(said.contains("the substitution has 3 hits"), "{said}");
        }
        assert!(of(&|cell| cell.filter_auroc = Some(1.5)).unwrap().contains("filter_auroc is 1.5"));
        assert!(of(&|cell| cell.filtered = filtered(41, 3)).unwrap().contains("dropped 41 of 40"));
        assert!(of(&|cell| cell.filtered = filtered(5, 5)).unwrap().contains("5 poisoned ones"));
    }

    #[test]
    fn an_attack_that_does_nothing_beyond_chance_carries_nowhere() {
        // As many with the trigger as without it, and one more.
        for (n, with, without) in [(11, 1, 1), (11, 7, 6), (11, 0, 0), (177, 20, 12)] {
            assert!(!cell(DomainShift::None, n, with, without).does_something(), "{with} against {without} of {n}");
        }
        assert!(cell(DomainShift::None, 11, 7, 1).does_something());
        let found = |own: Cell, shifted: Cell| {
            let cells = vec![own, shifted];
            let of = |cell: &Cell| (cell.attack, cell.shift);
            let (attack, shift) = cells.last().map(of).unwrap();
            asr_g(&cells, attack, shift)
        };
        let shift = DomainShift::Data;
        assert_eq!(found(cell(DomainShift::None, 11, 1, 1), cell(shift, 11, 7, 6)), None);
        assert_eq!(found(cell(DomainShift::None, 11, 7, 1), cell(DomainShift::None, 11, 7, 1)), None);
        let carried = found(cell(DomainShift::None, 100, 80, 2), cell(shift, 100, 40, 2)).unwrap();
        assert!(carried.ratio == 0.5 && carried.low > 0.38 && carried.high < 0.66, "{carried:?}");
        let more = found(cell(DomainShift::None, 100, 80, 2), cell(shift, 100, 90, 2)).unwrap();
        assert!(more.ratio == 1.0 && more.low < 1.0 + 1e-12 && more.high == 1.0, "at most 1: {more:?}");
    }
}
