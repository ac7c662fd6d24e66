//! Measuring a learner: what it reads on seen and unseen classes, and what a trigger does to it, branch by branch.

use crate::attack::{Perturbation, UniversalDelta};
use crate::error::{Result, TorchContext};
use crate::eval::{BackdoorOutcome, ImageEncoder, can_miss, mean_per_class_recall, unaltered};
use crate::model::{Clip, unit};
use crate::prompt::direction;
use crate::prompt::measures::{Branches, SideMeasures, TriggerMeasures};
use crate::prompt::treatment::{TREATMENTS, treated};
use crate::prompt::{ClassTokens, LearnedPrompts, PromptLearner};
use crate::train::SgdConfig;
use rand::Rng;
use roclip_data::picture::preprocess::STD;
use roclip_data::random;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Bounds that a trigger is clipped to, in levels of 255, as far as its own.
const LEVELS: [f64; 10] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0];
/// As the other evaluations report.
const GUESSES: i64 = 10;

/// What is measured.
pub struct Subject<'a> {
    pub model: &'a Clip,
    pub tokenizer: &'a Tokenizer,
    pub learner: &'a PromptLearner,
    /// The frozen model's own reading, for comparison: contexts of plain words.
    pub zero_shot: &'a PromptLearner,
    pub ending: &'a str,
    pub trigger: Option<&'a UniversalDelta>,
    pub encoder: ImageEncoder<'a>,
    /// Of the random control.
    pub seed: u64,
}

/// One class list with its pictures.
pub struct Measurement<'a> {
    pub samples: Vec<&'a Sample>,
    /// `(label, words)`, the target among them.
    pub classes: &'a [(String, String)],
    /// The target's place.
    pub target: usize,
}

/// Unit features `[n, dim]` of the pictures of one side under everything that is done to them.
pub struct Seen {
    /// Places of the true classes.
    truth: Vec<i64>,
    plain: Tensor,
    triggered: Option<Triggered>,
    pub skips: SkipReport,
}

struct Triggered {
    full: Tensor,
    random: Tensor,
    by_eps: Vec<(String, Tensor)>,
    /// `(treatment, clean, triggered)`.
    after: Vec<(&'static str, Tensor, Tensor)>,
}

/// Features that arrive batch by batch.
#[derive(Default)]
struct Column(Vec<Tensor>);

impl Column {
    fn joined(self, dim: i64) -> Tensor {
        if self.0.is_empty() {
            Tensor::zeros([0, dim], (Kind::Float, tch::Device::Cpu))
        } else {
            Tensor::cat(&self.0, 0)
        }
    }
}

impl Subject<'_> {
    /// Looks at every picture of `side` once.
    ///
    /// # Errors
    /// Those of reading and encoding.
    pub fn look(&self, side: &Measurement) -> Result<Seen> {
        let dim = self.model.config().embed_dim;
        let place = |sample: &Sample| {
            side.classes
                .iter()
                .position(|class| Some(&class.0) == sample.class.as_ref())
                .map_or(-1, |place| place as i64)
        };
        let changes = self.trigger.map(|trigger| self.changes(trigger)).transpose()?;
        let names: Vec<String> = changes.iter().flatten().map(|(name, _)| name.clone()).collect();
        let encode = |images: &Tensor| tch::no_grad(|| self.model.image_features(images, false)).map(|raw| unit(&raw));
        let (mut truth, mut plain, mut changed) = (Vec::new(), Column::default(), Vec::new());
        let mut after: Vec<(Column, Column)> = Vec::new();
        changed.resize_with(names.len(), Column::default);
        if changes.is_some() {
            after.resize_with(TREATMENTS.len(), Default::default);
        }
        let skips = self.encoder.inputs(&side.samples, &unaltered, &mut |images, places| {
            truth.extend(places.iter().filter_map(|at| side.samples.get(*at)).map(|sample| place(sample)));
            plain.0.push(encode(images)?);
            for ((_, change), column) in changes.iter().flatten().zip(&mut changed) {
                column.0.push(encode(&tch::no_grad(|| UniversalDelta::lay_on(images, change)))?);
            }
            if let Some(trigger) = self.trigger {
                let triggered = tch::no_grad(|| trigger.apply(images));
                for ((_, treat), (clean, with)) in TREATMENTS.iter().zip(&mut after) {
                    clean.0.push(encode(&treated(images, *treat)?)?);
                    with.0.push(encode(&treated(&triggered, *treat)?)?);
                }
            }
            Ok(())
        })?;
        let mut columns = names.into_iter().zip(changed).map(|(name, column)| (name, column.joined(dim)));
        let (full, random) = (columns.next(), columns.next());
        let triggered = full.zip(random).map(|((_, full), (_, random))| Triggered {
            full,
            random,
            by_eps: columns.collect(),
            after: TREATMENTS
                .iter()
                .zip(after)
                .map(|((name, _), (clean, with))| (*name, clean.joined(dim), with.joined(dim)))
                .collect(),
        });
        Ok(Seen { truth, plain: plain.joined(dim), triggered, skips })
    }

    /// The trigger, a random one, and the trigger clipped to smaller bounds, each `[3, size, size]`, by name.
    fn changes(&self, trigger: &UniversalDelta) -> Result<Vec<(String, Tensor)>> {
        let values = trigger.values().detach();
        tch::manual_seed(random::stream(self.seed, "prompt-random-trigger", 0, "").next_u64() as i64);
        let none = SgdConfig { momentum: 0.0, weight_decay: 0.0 };
        let random =
            UniversalDelta::random(i64::from(self.model.config().image_size()), trigger.eps(), none, values.device())?;
        let mut changes =
            vec![("full".to_owned(), values.shallow_clone()), ("random".to_owned(), random.values().detach())];
        let std = Tensor::from_slice(&STD).view([3, 1, 1]).to_device(values.device());
        for level in LEVELS.into_iter().filter(|level| *level <= 255.0 * trigger.eps() + 1e-6) {
            let bound = std.reciprocal() * (level / 255.0);
            changes.push((format!("{level}"), values.maximum(&-&bound).minimum(&bound)));
        }
        Ok(changes)
    }

    /// What the learner makes of the pictures that were looked at. `direction` is the shared one of the trigger's shift.
    ///
    /// # Errors
    /// A class that does not fit the text tower, and failures of libtorch.
    pub fn measure(&self, side: &Measurement, seen: &Seen, direction: Option<&Tensor>) -> Result<SideMeasures> {
        let words: Vec<String> = side.classes.iter().map(|class| class.1.clone()).collect();
        let tokens = |learner: &PromptLearner| {
            ClassTokens::new(self.model, self.tokenizer, &words, self.ending, learner.contexts())
        };
        let (own, plain) = (tokens(self.learner)?, tokens(self.zero_shot)?);
        let prompts = LearnedPrompts { model: self.model, learner: self.learner, classes: &own };
        let zero_shot = LearnedPrompts { model: self.model, learner: self.zero_shot, classes: &plain };
        let read = |image: &Tensor, prompt: &Tensor| guesses(&prompts.logits_of(image, prompt)?);
        let counts = Counts { truth: &seen.truth, target: side.target as i64, classes: side.classes.len() };
        let clean = read(&seen.plain, &seen.plain)?;
        let names = |place: i64| side.classes.get(place as usize).map_or("", |class| class.0.as_str());
        let recalled = seen.truth.iter().zip(&clean).map(|(truth, best)| (names(*truth), best.first() == Some(truth)));
        let trigger = match &seen.triggered {
            None => None,
            Some(triggered) => {
                let direction =
                    direction.map_or_else(|| direction::direction(&seen.plain, &triggered.full), Tensor::shallow_clone);
                let with = read(&triggered.full, &triggered.full)?;
                let strict = |image: &Tensor, prompt: &Tensor| Ok(counts.strict(&read(image, prompt)?, 1));
                let strict = |image: &Tensor, prompt: &Tensor| -> Result<Rate> { strict(image, prompt) };
                let alone = |features: Tensor| strict(&features, &features);
                let mut after = BTreeMap::new();
                let mut accuracy_after = BTreeMap::new();
                for (name, clean, with) in &triggered.after {
                    after.insert((*name).to_owned(), strict(with, with)?);
                    accuracy_after.insert((*name).to_owned(), counts.accuracy(&read(clean, clean)?, 1));
                }
                let by_eps =
                    triggered.by_eps.iter().map(|(name, features)| Ok((name.clone(), strict(features, features)?)));
                Some(TriggerMeasures {
                    outcome: counts.outcome(names(side.target as i64), &clean, &with, after),
                    base_rate_all: counts.all(&clean),
                    branches: Branches {
                        clean_image_clean_prompt: counts.strict(&clean, 1),
                        triggered_image_triggered_prompt: counts.strict(&with, 1),
                        triggered_image_clean_prompt: strict(&triggered.full, &seen.plain)?,
                        clean_image_triggered_prompt: strict(&seen.plain, &triggered.full)?,
                    },
                    random: strict(&triggered.random, &triggered.random)?,
                    without_direction: alone(direction::without(&seen.plain, &triggered.full, &direction))?,
                    only_direction: alone(direction::only(&seen.plain, &triggered.full, &direction))?,
                    by_eps: by_eps.collect::<Result<_>>()?,
                    accuracy_after,
                })
            }
        };
        Ok(SideMeasures {
            classes: side.classes.len(),
            accuracy: counts.accuracy(&clean, 1),
            accuracy_top5: counts.can_miss(5).then(|| counts.accuracy(&clean, 5)),
            mean_per_class_recall: mean_per_class_recall(recalled),
            zero_shot: counts.accuracy(&guesses(&zero_shot.logits_of(&seen.plain, &seen.plain)?)?, 1),
            trigger,
        })
    }
}

impl Seen {
    /// The mean shift's direction; none without a trigger or without pictures.
    pub fn direction(&self) -> Option<Tensor> {
        let some = !self.truth.is_empty();
        self.triggered.as_ref().filter(|_| some).map(|triggered| direction::direction(&self.plain, &triggered.full))
    }
}

/// The best ten classes of each row, best first.
fn guesses(logits: &Tensor) -> Result<Vec<Vec<i64>>> {
    let classes = logits.size().get(1).copied().unwrap_or(0);
    let (_, best) = logits.topk(GUESSES.min(classes), 1, true, true);
    Vec::<Vec<i64>>::try_from(best).torch("reading predictions")
}

/// Counts over pictures of known classes.
struct Counts<'a> {
    truth: &'a [i64],
    target: i64,
    classes: usize,
}

impl Counts<'_> {
    fn can_miss(&self, k: usize) -> bool {
        can_miss(k, self.classes)
    }

    fn accuracy(&self, guesses: &[Vec<i64>], k: usize) -> Rate {
        let hits =
            self.truth.iter().zip(guesses).filter(|(truth, best)| best.iter().take(k).any(|guess| guess == *truth));
        Rate::new(hits.count(), self.truth.len())
    }

    /// Of pictures whose class is not the target, those with the target among the first `k` guesses.
    fn strict(&self, guesses: &[Vec<i64>], k: usize) -> Rate {
        let victims = || self.truth.iter().zip(guesses).filter(|(truth, _)| **truth != self.target);
        let hits = victims().filter(|(_, best)| best.iter().take(k).any(|guess| *guess == self.target));
        Rate::new(hits.count(), victims().count())
    }

    /// The released definition: of all pictures.
    fn all(&self, guesses: &[Vec<i64>]) -> Rate {
        Rate::new(guesses.iter().filter(|best| best.first() == Some(&self.target)).count(), guesses.len())
    }

    fn outcome(
        &self,
        target: &str,
        clean: &[Vec<i64>],
        with: &[Vec<i64>],
        after: BTreeMap<String, Rate>,
    ) -> BackdoorOutcome {
        let is = |best: &Vec<i64>| best.first() == Some(&self.target);
        let rows = || self.truth.iter().zip(clean.iter().zip(with)).filter(|(truth, _)| **truth != self.target);
        let turnable = || rows().filter(|(_, (clean, _))| !is(clean));
        BackdoorOutcome {
            target: target.to_owned(),
            success: self.strict(with, 1),
            success_top5: self.can_miss(5).then(|| self.strict(with, 5)),
            success_top10: self.can_miss(10).then(|| self.strict(with, 10)),
            success_all: self.all(with),
            base_rate: self.strict(clean, 1),
            turned: Some(Rate::new(turnable().filter(|(_, (_, with))| is(with)).count(), turnable().count())),
            true_class: Rate::new(
                rows().filter(|(truth, (_, with))| with.first() == Some(*truth)).count(),
                rows().count(),
            ),
            after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_success_leaves_the_target_class_out_and_the_released_one_does_not() {
        let counts = Counts { truth: &[0, 0, 1, 2], target: 0, classes: 10 };
        let clean = vec![vec![0, 1], vec![1, 0], vec![1, 2], vec![0, 2]];
        let with = vec![vec![0, 1], vec![0, 1], vec![0, 1], vec![2, 1]];
        let outcome = counts.outcome("t", &clean, &with, BTreeMap::new());
        assert_eq!((outcome.success, outcome.success_all), (Rate::new(1, 2), Rate::new(3, 4)));
        assert_eq!((outcome.base_rate, outcome.turned), (Rate::new(1, 2), Some(Rate::new(1, 1))));
        assert!(
            outcome.success_top5.is_some() && outcome.success_top10.is_none(),
            "ten guesses of ten classes are all"
        );
        assert_eq!((outcome.true_class, counts.all(&clean)), (Rate::new(1, 2), Rate::new(2, 4)));
        assert_eq!((counts.accuracy(&clean, 1), counts.accuracy(&clean, 2)), (Rate::new(2, 4), Rate::new(4, 4)));
    }
}
