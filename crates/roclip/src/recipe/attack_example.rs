//! Attacks that fit somebody's data, as examples for a template: on classes that the data has, and of a size that it bears.

use crate::error::Result;
use roclip_data::language::PartsOfSpeech;
use roclip_data::plural::count;
use roclip_data::poison::{CaptionRule, ClassWords};
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Targeted poison that an example plants where the data are large enough, as a share of the pairs.
const USUAL_POISON: f64 = 0.015;
/// The most that it plants for the sake of more targets: the largest share that defences were told apart at.
const MOST_POISON: f64 = 0.057;
/// Captions of each targeted picture that fooled a small model in most cases (the demo, docs/demo.md); fewer were not measured to.
pub const ENOUGH_CAPTIONS: usize = 7;
/// As many as more add nothing to.
const MOST_CAPTIONS: usize = 30;
/// Targeted pictures of the papers, and the fewest that tell more of a defence than whether it does anything.
const TARGETS: usize = 16;
/// A target that more than this share of the captions names leaves the trigger little to mean.
const LARGEST_SHARE: f64 = 0.05;
/// Fewer real captions of the target than this are the same sentence again and again.
const FEW_CAPTIONS: usize = 20;

/// The least that the example of a backdoor plants.
const FEW_POISONED_PAIRS: f64 = 5.0;
/// The usual share of a backdoor, and the largest for the sake of [`FEW_POISONED_PAIRS`].
const BACKDOOR_SHARES: [f64; 2] = [0.01, 0.5];
/// Poison seen fewer times than this over the run seldom takes (CleanCLIP issue 13: 59 pairs on COCO gave 0.25 %). A trigger that is large and
/// central may take below it: one of 240 did (docs/first-attack.md).
pub const FEW_EXPOSURES: u64 = 300;

/// The share of `pairs` that the example of a backdoor plants, and why, in a run with `own` epochs that show pairs with their own captions.
pub(super) fn backdoor_rate(pairs: usize, own: u64) -> (f64, Option<String>) {
    let share = |planted: f64| planted / pairs.max(1) as f64;
    let enough = share(FEW_EXPOSURES.div_ceil(own.max(1)) as f64);
    let [usual, most] = BACKDOOR_SHARES;
    // Enough to take as far as the data bear it, and a few pairs at least, of however few.
    let rate = enough.min(MOST_POISON).max(share(FEW_POISONED_PAIRS)).clamp(usual, most);
    let rate = (1000.0 * rate).ceil() / 1000.0;
    let planted = (rate * pairs as f64).round() as usize;
    let seen = (planted as u64).saturating_mul(own);
    let shown = format!(
        "{}, shown {seen} times at most in {} with their own captions",
        count(planted, "pair"),
        count(own, "epoch")
    );
    let why = match () {
        () if seen < FEW_EXPOSURES => Some(format!(
            "{shown}: it may be weak, since below {FEW_EXPOSURES} attacks seldom take; more epochs or more pairs make it stronger."
        )),
        () if rate > usual => {
            Some(format!("{shown}: below {FEW_EXPOSURES} attacks seldom take. Fit it anew when epochs are changed."))
        }
        () => None,
    };
    (rate, why)
}

/// Attacks on the data that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttackExample {
    /// What a backdoor's trigger should mean.
    pub target: String,
    /// Captions that have it as a whole word.
    pub captions_of_target: usize,
    /// Whether it is a class of the labelled images, and not only a frequent word of the captions.
    pub is_class: bool,
    /// Of targeted poisoning.
    pub targets: usize,
    /// What the data have too few of for more targets.
    pub bound: Option<String>,
    pub captions_per_target: usize,
    pub rule: CaptionRule,
}

impl AttackExample {
    /// An example for `training` samples and the classes of `labelled` pictures, of which there are `pictures`; none where no word will do.
    ///
    /// # Errors
    /// When the built-in dictionary cannot be read.
    pub fn of(training: &[Sample], classes: &BTreeSet<String>, pictures: usize) -> Result<Option<AttackExample>> {
        let captions: Vec<(&str, Option<&str>)> = training
            .iter()
            .flat_map(|sample| sample.captions.iter().map(|caption| (caption.as_str(), sample.class.as_deref())))
            .collect();
        let labelled = training.iter().any(|sample| sample.class.is_some());
        let counts = match classes.is_empty() {
            true => frequent_nouns(&captions)?,
            false => captions_of(&captions, classes, labelled)?,
        };
        let most = (LARGEST_SHARE * captions.len() as f64) as usize;
        // The largest that is not too large; else the rarest that any caption names; else any.
        let by_count = |one: &&(String, usize)| one.1;
        let named = || counts.iter().filter(|(_, count)| *count > 0);
        let chosen = named().filter(|(_, count)| *count <= most).max_by_key(by_count);
        let chosen = chosen.or_else(|| named().min_by_key(by_count)).or_else(|| counts.first());
        let Some((target, captions_of_target)) = chosen.cloned() else { return Ok(None) };
        let share = |poison: f64| (poison * captions.len() as f64) as usize;
        let of_pairs = share(MOST_POISON) / ENOUGH_CAPTIONS;
        // Where there are no labelled images yet they are no bound.
        let of_pictures = if pictures == 0 { TARGETS } else { pictures / 4 };
        let targets = of_pairs.min(of_pictures).clamp(1, TARGETS);
        let bound = (targets < TARGETS).then(|| match of_pictures < of_pairs {
            true => count(pictures, "labelled image"),
            false => count(captions.len(), "caption"),
        });
        // Every target needs a class other than its own.
        let mut sizes: Vec<usize> = counts.iter().map(|(_, count)| *count).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let there_are = sizes.get(1).or(sizes.first()).copied().unwrap_or(0);
        let wanted = (share(USUAL_POISON) / targets).clamp(ENOUGH_CAPTIONS, MOST_CAPTIONS);
        let rule = match (there_are > 0, labelled) {
            (false, _) => CaptionRule::Templates,
            (true, true) => CaptionRule::WordOfClass,
            (true, false) => CaptionRule::Word,
        };
        let captions_per_target = if there_are > 0 { wanted.min(there_are) } else { wanted };
        Ok(Some(AttackExample {
            target,
            captions_of_target,
            is_class: !classes.is_empty(),
            targets,
            bound,
            captions_per_target,
            rule,
        }))
    }

    /// Whether real captions of the target are as many as a backdoor needs.
    pub fn has_real_captions(&self) -> bool {
        self.captions_of_target >= FEW_CAPTIONS
    }
}

/// Captions that name each class, and where the pictures of the captions have classes, only those of the class itself.
fn captions_of(
    captions: &[(&str, Option<&str>)],
    classes: &BTreeSet<String>,
    labelled: bool,
) -> Result<Vec<(String, usize)>> {
    let names: Vec<&str> = classes.iter().map(String::as_str).collect();
    let mut words = ClassWords::new(&names)?;
    let mut counts = vec![0; names.len()];
    for (caption, class) in captions {
        for at in words.named_in(caption) {
            let own = !labelled || names.get(at).copied() == *class;
            if let Some(count) = counts.get_mut(at).filter(|_| own) {
                *count += 1;
            }
        }
    }
    Ok(names.into_iter().map(str::to_owned).zip(counts).collect())
}

/// Nouns of the captions with the number of captions that have each.
fn frequent_nouns(captions: &[(&str, Option<&str>)]) -> Result<Vec<(String, usize)>> {
    let parts = PartsOfSpeech::built_in()?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (caption, _) in captions {
        let lower = caption.to_lowercase();
        let words: BTreeSet<&str> = lower.split(|letter: char| !letter.is_alphabetic()).collect();
        // A caption must have the word itself, so that it is counted as it stands.
        let nouns = words.into_iter().filter(|word| word.len() > 2 && parts.noun(word) == Some(word));
        nouns.for_each(|noun| *counts.entry(noun.to_owned()).or_default() += 1);
    }
    Ok(counts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;
    use std::sync::Arc;

    fn samples(captions: &[(&str, usize)]) -> Vec<Sample> {
        let sample = |caption: &str| Sample {
            captions: vec![caption.to_owned()],
            ..Sample::new("data".into(), String::new(), ImageBytes::Memory(Arc::from(Vec::new())))
        };
        captions.iter().flat_map(|(caption, count)| (0..*count).map(|_| sample(caption))).collect()
    }

    fn classes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_example_attacks_a_class_of_the_data_with_a_share_that_it_bears() {
        let training = samples(&[("a dog runs", 800), ("a red kite", 400), ("a small boat", 90), ("nothing", 8710)]);
        let found = AttackExample::of(&training, &classes(&["dog", "kite", "boat", "pizza"]), 400).unwrap().unwrap();
        assert_eq!((found.target.as_str(), found.captions_of_target, found.is_class), ("kite", 400, true));
        assert_eq!((found.targets, found.captions_per_target, found.rule), (16, 9, CaptionRule::Word));
        assert!(found.targets * found.captions_per_target <= 150, "at most 1.5 %");
        assert_eq!(found.bound, None);
        // A small set bears few targets, and a class of few captions few captions a target.
        let small = samples(&[("a dog", 3), ("a kite", 2), ("nothing", 100)]);
        let found = AttackExample::of(&small, &classes(&["dog", "kite"]), 40).unwrap().unwrap();
        assert_eq!((found.targets, found.captions_per_target, found.has_real_captions()), (1, 2, false));
        assert_eq!(found.bound.as_deref(), Some("105 captions"));
        let unnamed = AttackExample::of(&small, &classes(&["cat", "cow"]), 40).unwrap().unwrap();
        assert_eq!((unnamed.target.as_str(), unnamed.rule), ("cat", CaptionRule::Templates));
    }

    #[test]
    fn a_backdoor_is_shown_as_often_as_attacks_take_where_the_data_bear_it() {
        // The photographs of docs/first-attack.md: 24 epochs, of which 16 show own captions.
        let (rate, why) = backdoor_rate(1500, 16);
        assert!(rate == 0.013 && why.unwrap().starts_with("20 pairs, shown 320 times"), "{rate}");
        assert_eq!(backdoor_rate(1_000_000, 16), (0.01, None));
        assert_eq!(backdoor_rate(5437, 13), (0.01, None), "54 pairs are enough");
        for (pairs, own) in [(500, 30), (1000, 9), (3000, 8), (100_000, 1)] {
            let (rate, why) = backdoor_rate(pairs, own);
            let seen = (rate * pairs as f64).round() as u64 * own;
            assert!(seen >= FEW_EXPOSURES && why.is_none_or(|why| !why.contains("weak")), "{pairs} {own}: {rate}");
        }
        // Too few for that.
        for (pairs, own) in [(48, 43), (300, 4), (2, 1), (300, 0)] {
            let (rate, why) = backdoor_rate(pairs, own);
            assert!(rate <= 0.5 && why.unwrap().contains("may be weak"), "{pairs} {own}: {rate}");
        }
    }

    /// Three targets tell of a defence only whether it does anything.
    #[test]
    fn an_example_has_sixteen_targets_wherever_the_data_bear_them() {
        let of = |pairs: usize, pictures: usize| {
            let training = samples(&[("a dog runs", pairs / 5), ("a red kite", pairs / 5), ("it", 3 * pairs / 5)]);
            let found = AttackExample::of(&training, &classes(&["dog", "kite"]), pictures).unwrap().unwrap();
            (found.targets, found.captions_per_target, found.bound)
        };
        assert_eq!(of(2000, 298), (16, 7, None));
        assert_eq!(of(5435, 184), (16, 7, None), "the demo's");
        assert_eq!(of(1500, 298), (12, 7, Some("1500 captions".to_owned())));
        assert_eq!(of(500, 298), (4, 7, Some("500 captions".to_owned())));
        assert_eq!(of(20_000, 20), (5, 30, Some("20 labelled images".to_owned())));
    }

    #[test]
    fn without_classes_a_frequent_noun_stands_for_one() {
        let training = samples(&[("a dog runs", 30), ("the red kite", 40), ("he sees it", 930)]);
        let found = AttackExample::of(&training, &BTreeSet::new(), 0).unwrap().unwrap();
        assert_eq!((found.target.as_str(), found.is_class), ("kite", false));
        assert_eq!(AttackExample::of(&samples(&[("he sees", 5)]), &BTreeSet::new(), 0).unwrap(), None);
    }
}
