//! A recipe that fits data which was looked at: sizes from counts, and a note at each that says why.

use crate::eval::{EvalConfig, NO_IMAGES, ProbeConfig};
use crate::model::{FEW_PAIRS, ModelConfig};
use crate::objective::{RoClipConfig, TextInMatch};
use crate::recipe::attack_example::{ENOUGH_CAPTIONS, FEW_EXPOSURES, backdoor_rate};
use crate::recipe::template::Notes;
use crate::recipe::{AttackExample, AugmentConfig, ObjectiveName, Recipe};
use roclip_data::augment::{ImageAugmentConfig, TextAugmentConfig};
use roclip_data::plural::count;
use roclip_data::poison::CaptionRule;
use roclip_data::source::SourceConfig;
use roclip_data::survey::Survey;
use std::collections::BTreeMap;
use toml::Value;

/// From this many pairs on a vision transformer learns more than a ResNet of its cost.
const LARGE: usize = 3_000_000;
/// Steps that a small model takes to learn what is to be learned; the demo has 1,680.
const SMALL_STEPS: usize = 1_600;
/// Steps before the first matching epoch of a small model: own captions can be found, and poison is not yet learned.
const STEPS_BEFORE_MATCHING: usize = 500;
/// The demo, the fewest pairs of which RoCLIP was measured to keep poison out, has 5,437. Of 1,500 photographs it did not, whenever it began
/// (docs/defences.md).
const FEWEST_DEFENDED: usize = 5_000;
/// Epochs before the demo's first matching epoch.
pub const VIEWS_BEFORE_MATCHING_IN_THE_DEMO: u64 = 6;
/// Up to this shorter side a picture is a drawing or a thumbnail.
const THUMBNAIL_PIXELS: u32 = 64;
/// The most threads that batches are made with unasked.
const MOST_WORKERS: usize = 8;

/// What was found.
pub struct Found<'a> {
    pub training: &'a Survey,
    pub training_source: SourceConfig,
    /// Labelled images, where there are any.
    pub evaluation: Option<(&'a Survey, SourceConfig)>,
    pub processors: usize,
    /// Epochs and the size of a batch, where somebody chose them.
    pub epochs: Option<u64>,
    pub batch_size: Option<usize>,
    /// Attacks that fit the data, for the template.
    pub attack: Option<AttackExample>,
}

/// What a recipe was fitted to, and the notes of its template.
pub struct Fitted {
    pub recipe: Recipe,
    pub notes: Notes,
    /// Values of keys that are off in the recipe, for its template.
    pub examples: BTreeMap<String, Value>,
    /// Steps of the whole run.
    pub steps: usize,
}

/// The recipe for what was found. It has at least two pairs, with a caption each.
pub fn fitted(found: Found) -> Fitted {
    let Found { training, training_source, evaluation, processors, epochs, batch_size, attack } = found;
    let pairs = training.captions;
    let small = pairs < FEW_PAIRS;
    let thumbnails = training.median_side() <= THUMBNAIL_PIXELS;
    let mut recipe = Recipe::default();
    let mut notes = Notes::new();
    let mut note = |key: &str, text: String| {
        notes.insert(key.to_owned(), format!("-> {text}"));
    };
    recipe.data.source = training_source;
    recipe.data.workers = processors.clamp(1, MOST_WORKERS);
    note("data.workers", format!("This machine has {}.", count(processors, "processor")));

    // The model, by the number of pairs and the size of the pictures.
    recipe.model.name = match () {
        () if small && thumbnails => "ViT-tiny-32",
        () if small => "RN-small-32",
        () if pairs < LARGE => "RN50",
        () => "ViT-B-32",
    }
    .to_owned();
    let why = if small {
        "more weights would learn them by heart; RN50 is the papers' model"
    } else {
        "ViT-tiny-32 tries the way in minutes"
    };
    note(
        "model.name",
        format!("{pairs} pairs of pictures of {} pixels (median shorter side): {why}.", training.median_side()),
    );
    recipe.model.compact_vocabulary = small;
    if small {
        note(
            "model.compact_vocabulary",
            "The captions use a small part of the 49,408 tokens; the rest would be weights that learn nothing.".into(),
        );
    }

    // Sizes.
    let usual = if small { power_of_two_up_to(pairs / 8).clamp(2, if pairs < 50_000 { 64 } else { 128 }) } else { 512 };
    // Numbers of somebody's own are checked with the whole recipe.
    let batch = batch_size.unwrap_or(usual);
    let steps_per_epoch = (pairs / batch.max(1)).max(1);
    let usual = if small { SMALL_STEPS.div_ceil(steps_per_epoch).clamp(16, 64) } else { 32 };
    let epochs = epochs.unwrap_or(usual as u64);
    let steps = steps_per_epoch.saturating_mul(epochs as usize);
    let train = &mut recipe.train;
    (train.batch_size, train.epochs) = (batch, epochs);
    (train.learning_rate, train.beta2) = if small { (1e-3, 0.98) } else { (5e-4, train.beta2) };
    if recipe.model.name.starts_with("ViT") {
        train.beta2 = 0.98;
    }
    train.warmup_fraction = Some(0.1);
    note("train.batch_size", format!("{} an epoch.", count(steps_per_epoch, "step")));
    note("train.epochs", format!("{} in all.", count(steps, "step")));
    note("train.warmup_fraction", format!("{} here.", count(train.warmup(steps as u64), "step")));

    // The defence.
    recipe.objective.name = ObjectiveName::Roclip;
    let plain = if small && !thumbnails { 0.3 } else { 0.65 };
    let image = match small {
        true => ImageAugmentConfig {
            crop_min_area: plain,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            // Colour is what sets small photographs of snow, grass and water apart.
            jitter_probability: if thumbnails { 0.8 } else { 0.0 },
            grayscale_probability: if thumbnails { 0.2 } else { 0.0 },
            blur_kernel: 3,
            blur_sigma_max: 1.0,
            ..ImageAugmentConfig::default()
        },
        false => ImageAugmentConfig::default(),
    };
    // Several captions of a picture already say the same in other words.
    let one_caption = training.captions < 2 * training.captioned;
    let text = one_caption.then(TextAugmentConfig::default);
    recipe.augment = AugmentConfig { image: Some(image), text };
    if one_caption && small {
        let text = "Synonyms that no caption has are the unknown token of the compact vocabulary, as in the demo; the run says how many.";
        note("augment.text.refresh", text.to_owned());
    }
    note(
        "objective.name",
        "Which defence? Augmentation does most of the work and costs least: \"clip\" with [augment] left 4 of 48 attacked pictures fooled \
         in the demo (5,437 pairs, 2 % of them targeted poison, 20 epochs), \"roclip\" with it none, at a quarter less zero-shot accuracy; RoCLIP \
         without augmentation defends next to nothing. Neither holds for other data: of 1,500 photographs, 2.8 % targeted, they lost 5 and \
         4 to 6 of 6 (docs/defences.md). Triggers that survive augmentation survive RoCLIP, too: attack your own data first (see [[poison.attacks]]), and measure."
            .into(),
    );
    note(
        "augment.image.crop_min_area",
        match (small, thumbnails) {
            (false, _) => "As released.".into(),
            (true, true) => format!(
                "The released 0.08 leaves too little of a 32-pixel picture; {plain} is the demo's (docs/results/demo.md: 5,437 pairs, 20 epochs)."
            ),
            (true, false) => format!(
                "The released 0.08 leaves too little of a 32-pixel picture; {plain} is that of docs/results/photographs-concepts.md (30,000 pairs, 0.4 % \
                 of them targeted poison, 16 epochs). What it keeps out of fewer pairs, seen in more epochs, is less."
            ),
        },
    );
    let roclip = &mut recipe.objective.roclip;
    let fraction = if small { (4.0 * batch as f64 / pairs as f64).clamp(0.08, 0.5) } else { 0.02 };
    // A pool has two captions at least.
    let fraction = fraction.max((2.0 / pairs as f64).min(1.0));
    roclip.pool_fraction = Some((fraction * 100.0).ceil() / 100.0);
    note("objective.roclip.pool_fraction", format!("About {} captions.", (fraction * pairs as f64).round()));
    if small {
        let begin = STEPS_BEFORE_MATCHING.div_ceil(steps_per_epoch) as u64 + 1;
        let start = begin.min(RoClipConfig::start_behind_a_third(epochs));
        roclip.match_start = Some(start);
        roclip.text_in_match = TextInMatch::Freeze;
        roclip.dedup_matches = !thumbnails;
        note(
            "objective.roclip.match_start",
            format!(
                "After {}, in which each pair has been seen {}, poison, too{}",
                count((start as usize - 1).saturating_mul(steps_per_epoch), "step"),
                count(start - 1, "time"),
                match views_before_matching(start, pairs) {
                    None =>
                        ". It was measured at 6 times in 20 epochs of 5,437 pairs (docs/results/matching-frequency.md).",
                    Some(_) => {
                        ": a small data set that is seen many times learns its poison before matching begins. It was measured at 6 times in 20 \
                         epochs of 5,437 pairs (docs/results/matching-frequency.md); of 1,500 photographs neither 3, 8 nor 22 times kept the poison out \
                         (docs/defences.md). Fit it anew, to about a third, when epochs are changed."
                    }
                }
            ),
        );
    }
    note("objective.roclip.period", "Smaller keeps more poison out and costs more accuracy: of 5,437 pairs 3 or 4 did where 2 % of them was the most that was feared, 2 beyond (docs/results/matching-frequency.md).".into());

    recipe.eval = evaluate(evaluation, training, &mut note);
    let examples = attack.map(|attack| attack_examples(&attack, pairs, &recipe, &mut note)).unwrap_or_default();
    Fitted { recipe, notes, examples, steps }
}

/// How often each of `pairs` is seen before the first matching epoch `match_start`, where poison is likely to be learned by then: that is far
/// more often than in the demo, in which RoCLIP was measured to keep poison out, or the pairs are [too few](learns_poison_however_early).
pub fn views_before_matching(match_start: u64, pairs: usize) -> Option<u64> {
    let often = 2 * VIEWS_BEFORE_MATCHING_IN_THE_DEMO;
    let views = match_start.saturating_sub(1);
    (views > often || views > 0 && learns_poison_however_early(pairs)).then_some(views)
}

/// Whether so few pairs were measured to teach their poison whenever RoCLIP first matched.
pub fn learns_poison_however_early(pairs: usize) -> bool {
    pairs < FEWEST_DEFENDED
}

/// Frames of this side or less are those of small models, on which the released patch is half of the picture.
const SMALL_FRAME: u32 = 64;

/// What the template shows as attacks, and why.
fn attack_examples(
    attack: &AttackExample,
    pairs: usize,
    recipe: &Recipe,
    note: &mut impl FnMut(&str, String),
) -> BTreeMap<String, Value> {
    let AttackExample { target, captions_of_target, targets, captions_per_target, .. } = attack;
    let mut examples = BTreeMap::new();
    let mut set = |key: &str, value: Value| {
        examples.insert(format!("poison.attacks.0.{key}"), value);
    };
    set("target", target.clone().into());
    let whose = match attack.is_class {
        true => "a class of your labelled images",
        false => {
            "a frequent word of your captions; an attack is measured on labelled images (--val-data), among them some of it"
        }
    };
    note(
        "poison.attacks.0.target",
        format!("`{target}` is {whose}; {} have it.", count(captions_of_target, "caption")),
    );
    let own = recipe.epochs_with_own_captions();
    let (rate, why) = backdoor_rate(pairs, own);
    set("rate", rate.into());
    if let Some(why) = why {
        note("poison.attacks.0.rate", why);
    }
    set("captions", if attack.has_real_captions() { "real" } else { "templates" }.into());
    let word = |rule: CaptionRule| match rule {
        CaptionRule::Word => "word",
        CaptionRule::WordOfClass => "word-of-class",
        CaptionRule::WordRead => "word-read",
        CaptionRule::WordBackground => "word-background",
        CaptionRule::Templates => "templates",
    };
    set("targeted.captions", word(attack.rule).into());
    set("targeted.targets", (*targets as i64).into());
    set("targeted.captions_per_target", (*captions_per_target as i64).into());
    if let Some(bound) = &attack.bound {
        note(
            "poison.attacks.0.targeted.targets",
            format!(
                "As many as {bound} bear. Few targets tell defences hardly apart: of 16, 1 and 5 fooled are hardly told apart, and 1 and 11 well."
            ),
        );
    }
    let planted = targets * captions_per_target;
    let weak = match (planted as u64).saturating_mul(own) {
        _ if *captions_per_target < ENOUGH_CAPTIONS => {
            " Fewer captions a target were not measured to fool one: it may be weak.".to_owned()
        }
        seen if seen < FEW_EXPOSURES => {
            format!(
                " They are shown {seen} times at most; below {FEW_EXPOSURES} attacks seldom take, and this one may be weak."
            )
        }
        _ => String::new(),
    };
    note(
        "poison.attacks.0.targeted.captions_per_target",
        format!(
            "{} in all, {:.1} % of yours, so that defences can be told apart: what is to be feared may be less. In the demo 7 a target among \
             5,437 pairs fooled small models; the papers plant 100 among a million.{weak}",
            count(planted, "poisoned pair"),
            100.0 * planted as f64 / pairs.max(1) as f64
        ),
    );
    let frame = ModelConfig::named(&recipe.model.name).map(|model| model.image_size()).unwrap_or(u32::MAX);
    if frame <= SMALL_FRAME {
        set("badnets.patch_pixels", i64::from(3 * frame / 8).into());
        set("badnets.pattern", "quadrants".into());
        set("badnets.location", "centre".into());
        note(
            "poison.attacks.0.badnets.patch_pixels",
            "Large, coarse and in the middle: a small patch in a corner seldom outlives crops and jitter.".into(),
        );
    }
    examples
}

fn evaluate(
    evaluation: Option<(&Survey, SourceConfig)>,
    training: &Survey,
    note: &mut impl FnMut(&str, String),
) -> EvalConfig {
    let mut config = EvalConfig::default();
    let Some((survey, source)) = evaluation else {
        config.source = SourceConfig { path: NO_IMAGES.into(), ..SourceConfig::default() };
        note(
            "eval.source.path",
            "No labelled images were named, so nothing is measured but the loss: the run trains all the same. Name some with --val-data \
             (folders of classes do), or make labels from the captions with `roclip data concepts`. Attacks need them, too."
                .into(),
        );
        return config;
    };
    config.source = source;
    note(
        "eval.source.path",
        format!("{} of {}.", count(survey.pictures, "picture"), count(survey.classes.len(), "class")),
    );
    if training.captions < FEW_PAIRS {
        config.templates = "captions".into();
        note(
            "eval.templates",
            "A model of few captions knows the words of captions only; `openai-80` is for large ones.".into(),
        );
    }
    if training.classes.len() > 1 {
        config.probe = Some(ProbeConfig::default());
    } else {
        note("eval.probe", "The training data has no labels, which the probe learns from.".into());
    }
    config
}

fn power_of_two_up_to(number: usize) -> usize {
    number.checked_ilog2().map_or(1, |power| 1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(pictures: usize, each: usize, side: u32) -> Survey {
        let captions = pictures * each;
        Survey {
            pictures,
            captioned: pictures,
            captions,
            most_captions: each,
            shorter_sides: vec![side],
            ..Survey::default()
        }
    }

    fn fit(training: &Survey, evaluation: Option<&Survey>) -> Fitted {
        let source = |path: &str| SourceConfig { path: path.into(), ..SourceConfig::default() };
        let evaluation = evaluation.map(|survey| (survey, source("labelled")));
        let training_source = source("pairs");
        fitted(Found {
            training,
            training_source,
            evaluation,
            processors: 4,
            epochs: None,
            batch_size: None,
            attack: None,
        })
    }

    #[test]
    fn every_size_gives_a_recipe_that_makes_sense_and_parses_again() {
        let labelled =
            Survey { classes: BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]), ..survey(10, 1, 96) };
        for pairs in [2, 3, 17, 50, 1000, 30_000, 99_999, 100_000, 12_000_000] {
            for side in [20, 96, 500] {
                for evaluation in [None, Some(&labelled)] {
                    let Fitted { recipe, notes, steps, .. } = fit(&survey(pairs, 1, side), evaluation);
                    recipe.check().unwrap();
                    let train = &recipe.train;
                    assert!(
                        train.batch_size <= pairs && steps > 0 && !train.warmup_never_ends(steps as u64),
                        "{pairs}"
                    );
                    assert!(recipe.objective.roclip.match_start.unwrap_or(2) <= train.epochs);
                    let text = recipe.template(&notes).unwrap();
                    assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe);
                    assert!(
                        notes.keys().all(|key| key.ends_with("probe") || text.contains(&notes[key][..10])),
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn sizes_are_near_those_of_the_repositorys_recipes() {
        let emoji = fit(&survey(5437, 1, 64), None).recipe;
        assert_eq!((emoji.model.name.as_str(), emoji.train.batch_size, emoji.train.epochs), ("ViT-tiny-32", 64, 20));
        assert_eq!(emoji.objective.roclip.match_start, Some(7));
        assert!(emoji.augment.text.is_some());
        let flickr = fit(&survey(6000, 5, 96), None).recipe;
        assert_eq!((flickr.model.name.as_str(), flickr.train.batch_size, flickr.train.epochs), ("RN-small-32", 64, 16));
        assert_eq!((flickr.objective.roclip.match_start, &flickr.augment.text), (Some(3), &None));
        let paper = fit(&survey(1_000_000, 1, 300), None).recipe;
        assert_eq!((paper.model.name.as_str(), paper.train.batch_size), ("RN50", 512));
        assert_eq!((paper.objective.roclip.pool_fraction, paper.eval.source.path.as_str()), (Some(0.02), "none"));
    }

    /// A run of fewer epochs would else be plain CLIP until its end.
    #[test]
    fn the_first_matching_epoch_fits_the_epochs_that_somebody_chose() {
        let training = survey(1500, 1, 96);
        let chosen = |epochs, batch_size| {
            let training_source = SourceConfig { path: "pairs".into(), ..SourceConfig::default() };
            let evaluation = None;
            let processors = 4;
            fitted(Found {
                training: &training,
                training_source,
                evaluation,
                processors,
                epochs,
                batch_size,
                attack: None,
            })
        };
        for (epochs, batch_size, start, steps) in [
            (None, None, 23, 1472),
            (Some(24), None, 9, 552),
            (Some(1), None, 2, 23),
            (Some(24), Some(15), 6, 2400),
            (None, Some(500), 23, 192),
        ] {
            let Fitted { recipe, notes, steps: in_all, .. } = chosen(epochs, batch_size);
            let key = "objective.roclip.match_start";
            assert_eq!(
                (recipe.objective.roclip.match_start, in_all),
                (Some(start), steps),
                "{epochs:?} {batch_size:?}"
            );
            assert_eq!(recipe.train.epochs, epochs.unwrap_or(64));
            assert!(notes[key].contains(&format!("seen {}, poison", count(start - 1, "time"))), "{}", notes[key]);
            // However seldom each of so few is seen by then: 3, 8 and 22 times were measured.
            assert!(notes[key].contains("small data set"), "{}", notes[key]);
        }
        let demo = fit(&survey(5437, 1, 64), None);
        assert!(!demo.notes["objective.roclip.match_start"].contains("small data set"));
        assert_eq!([7, 13, 14].map(|start| views_before_matching(start, 5437)), [None, None, Some(13)]);
        assert_eq!([1, 2, 9].map(|start| views_before_matching(start, 1500)), [None, Some(1), Some(8)]);
        // What cannot be trained with is refused with the whole recipe, and not here.
        assert!(chosen(Some(0), Some(0)).recipe.check().is_err());
    }
}
