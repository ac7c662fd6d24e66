//! Looking for a trigger in delivered prompts, after CLIP-Inspector (arXiv 2604.09101; the abstract has the idea, the details are ours):
//! for every class one small universal change is optimised that carries unlabelled pictures to it. The class of a trigger that prompts
//! were trained with gives way to a change under which the others hardly move.

use crate::attack::{DeltaRule, Perturbation, UniversalDelta};
use crate::error::{Error, Result, TorchContext};
use crate::model::{Clip, unit};
use crate::prompt::{ClassTokens, DetectorConfig, LearnedPrompts, PromptLearner};
use crate::train::SgdConfig;
use rand::seq::SliceRandom;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The smallest deviation of scores that is divided by: scores of a few dozen pictures are not known better.
const LEAST_DEVIATION: f64 = 0.02;

/// How far one class gave way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    pub class: String,
    /// Of pictures that were not optimised on and are not read as the class, those that its inverted trigger carries there.
    pub carried: Rate,
}

/// Share of the pictures from which on a class counts as carried, and share of the classes from which on none of them can stand out.
const CARRIED: f64 = 0.9;
const SATURATED: f64 = 0.8;

/// What a detection comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectionVerdict {
    Flagged,
    NotFlagged,
    /// Nearly every class carries nearly all pictures: the changes are large enough for any class, and none can stand out.
    CannotTell,
}

/// What inversion says of a learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The largest score first.
    pub classes: Vec<ClassScore>,
    /// The largest score's distance from the mean of the others, in their standard deviations.
    pub statistic: f64,
    pub threshold: f64,
    /// Whether the statistic is above the threshold, and the test not saturated.
    pub flagged: bool,
    /// Absent in older files; [`Detection::verdict`] knows it of them, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<DetectionVerdict>,
    /// Classes that every scored picture is read as without any change: nothing can be carried there, so that they have no score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<String>,
    pub pictures: usize,
    /// The inverted triggers' bound, in levels of 255.
    pub eps: f64,
}

impl Detection {
    fn new(scored: Vec<ClassScore>, pictures: usize, config: &DetectorConfig) -> Detection {
        let (mut classes, rest): (Vec<_>, Vec<_>) = scored.into_iter().partition(|class| class.carried.n > 0);
        let unjudged = rest.into_iter().map(|class| class.class).collect();
        classes.sort_by(|a, b| b.carried.rate.total_cmp(&a.carried.rate));
        let scores: Vec<f64> = classes.iter().map(|class| class.carried.rate).collect();
        let statistic = statistic(&scores);
        let (threshold, eps) = (config.threshold, config.eps);
        let mut found =
            Detection { classes, statistic, threshold, flagged: false, verdict: None, unjudged, pictures, eps };
        let verdict = found.verdict();
        (found.flagged, found.verdict) = (verdict == DetectionVerdict::Flagged, Some(verdict));
        found
    }

    /// Classes to which a change carries nearly all pictures.
    pub fn carried_classes(&self) -> usize {
        self.classes.iter().filter(|class| class.carried.rate >= CARRIED).count()
    }

    pub fn verdict(&self) -> DetectionVerdict {
        let saturated =
            self.classes.len() > 1 && self.carried_classes() as f64 >= SATURATED * self.classes.len() as f64;
        match self.statistic > self.threshold {
            _ if saturated => DetectionVerdict::CannotTell,
            true => DetectionVerdict::Flagged,
            false => DetectionVerdict::NotFlagged,
        }
    }

    /// The verdict in words.
    pub fn words(&self) -> String {
        match self.verdict() {
            DetectionVerdict::Flagged => "flagged".to_owned(),
            DetectionVerdict::NotFlagged => "not flagged".to_owned(),
            DetectionVerdict::CannotTell => {
                format!("cannot tell: {} of {} classes are carried", self.carried_classes(), self.classes.len())
            }
        }
    }
}

/// `scores`, the largest first.
fn statistic(scores: &[f64]) -> f64 {
    let Some((largest, others)) = scores.split_first().filter(|(_, others)| !others.is_empty()) else { return 0.0 };
    let count = others.len() as f64;
    let mean = others.iter().sum::<f64>() / count;
    let variance = others.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
    (largest - mean) / variance.sqrt().max(LEAST_DEVIATION)
}

/// Inverts one trigger for each class of `names`, or for the one at `only`, on `pictures` `[n, 3, size, size]`, half of which are optimised on and half scored. The
/// scores, and the inverted trigger of the class with the largest.
///
/// # Errors
/// Fewer than four pictures, and failures of libtorch.
pub fn invert(
    (model, learner, classes): (&Clip, &PromptLearner, &ClassTokens),
    names: &[String],
    only: Option<usize>,
    pictures: &Tensor,
    config: &DetectorConfig,
    seed: u64,
) -> Result<(Detection, UniversalDelta)> {
    let count = pictures.size().first().copied().unwrap_or(0);
    if count < 4 {
        return Err(Error::setting(
            format!("{count} pictures to look for a trigger with"),
            "give at least 4, and better a hundred",
        ));
    }
    model.freeze();
    let half = count / 2;
    let (ours, held_out) = (pictures.narrow(0, 0, half), pictures.narrow(0, half, count - half));
    let task = Task::begin("inverting triggers", names.len(), "classes");
    let prompts = LearnedPrompts { model, learner, classes };
    let read = |images: &Tensor| -> Result<Vec<i64>> {
        let features = tch::no_grad(|| model.image_features(images, false).map(|raw| unit(&raw)))?;
        Vec::try_from(prompts.logits_of(&features, &features)?.argmax(1, false)).torch("reading predictions")
    };
    let (own_clean, clean) = (read(&ours)?, read(&held_out)?);
    let mut scores = Vec::new();
    let mut best: Option<(f64, UniversalDelta)> = None;
    let asked = |place: usize| only.is_none_or(|only| only == place);
    for (name, class) in names.iter().zip(0i64..).enumerate().filter(|(place, _)| asked(*place)).map(|(_, named)| named)
    {
        let usable: Vec<i64> =
            own_clean.iter().zip(0i64..).filter(|(read, _)| **read != class).map(|(_, at)| at).collect();
        let mut search = Inversion { model, learner, classes, class, config };
        let delta = search.run(&ours, &usable, seed)?;
        let after = read(&tch::no_grad(|| delta.apply(&held_out)))?;
        let others = || clean.iter().zip(&after).filter(|(clean, _)| **clean != class);
        let carried = Rate::new(others().filter(|(_, after)| **after == class).count(), others().count());
        if carried.n > 0 && best.as_ref().is_none_or(|(score, _)| carried.rate > *score) {
            best = Some((carried.rate, delta));
        }
        scores.push(ClassScore { class: name.clone(), carried });
        task.advance(1);
    }
    let (_, delta) = best.ok_or_else(|| {
        let asked = only.and_then(|only| names.get(only)).map(|class| format!("`{class}`"));
        Error::setting(
            format!(
                "every one of {} pictures is read as {} without any change, so that no trigger can be looked for",
                count - half,
                asked.unwrap_or_else(|| "one class".to_owned())
            ),
            "look with other pictures (--train-data), or with more (prompt.detector.pictures); prompts that read all pictures as one class are of no use",
        )
    })?;
    Ok((Detection::new(scores, count as usize, config), delta))
}

/// The inversion of one class's trigger.
struct Inversion<'a> {
    model: &'a Clip,
    learner: &'a PromptLearner,
    classes: &'a ClassTokens,
    class: i64,
    config: &'a DetectorConfig,
}

impl Inversion<'_> {
    /// Signed gradient steps from nothing, on batches of the pictures `usable`.
    fn run(&mut self, pictures: &Tensor, usable: &[i64], seed: u64) -> Result<UniversalDelta> {
        let size = i64::from(self.model.config().image_size());
        let start = Tensor::zeros([3, size, size], (tch::Kind::Float, pictures.device()));
        let none = SgdConfig { momentum: 0.0, weight_decay: 0.0 };
        let eps = self.config.eps / 255.0;
        let mut delta = UniversalDelta::new(&start, eps, none)?;
        // In normalised units; the bound is about four times eps there, and is reached after a third of the steps.
        delta.rule = DeltaRule::Sign { step: 4.0 * 3.0 * eps / self.config.steps as f64 };
        if usable.is_empty() {
            return Ok(delta);
        }
        let mut draws = random::stream(seed, "prompt-inversion", self.class as u64, "");
        let mut order = Vec::new();
        for _ in 0..self.config.steps {
            let mut batch = Vec::new();
            while batch.len() < self.config.batch_size.min(usable.len()) {
                if order.is_empty() {
                    order = usable.to_vec();
                    order.shuffle(&mut draws);
                }
                batch.extend(order.pop());
            }
            let images = pictures.index_select(0, &Tensor::from_slice(&batch).to_device(pictures.device()));
            let features = unit(&self.model.image_features(&delta.apply(&images), false)?);
            let logits = self.learner.logits(self.model, self.classes, &features, &features);
            let wanted = Tensor::full([batch.len() as i64], self.class, (tch::Kind::Int64, pictures.device()));
            logits.cross_entropy_for_logits(&wanted).backward();
            delta.update()?;
            for tensor in self.learner.tensors().values_mut() {
                tensor.zero_grad();
            }
        }
        Ok(delta)
    }
}

/// The chance that an attacked learner's statistic is above a clean one's, ties counted half: the area under the ROC curve. None where
/// either kind is missing.
pub fn area_under_curve(clean: &[f64], attacked: &[f64]) -> Option<f64> {
    if clean.is_empty() || attacked.is_empty() {
        return None;
    }
    let wins = attacked.iter().flat_map(|attacked| {
        clean.iter().map(move |clean| match attacked.total_cmp(clean) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
    });
    Some(wins.sum::<f64>() / (clean.len() * attacked.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_that_gives_way_alone_is_told_from_many_that_do() {
        let alone = statistic(&[0.9, 0.1, 0.05, 0.1, 0.0]);
        assert!(alone > 10.0, "{alone}");
        assert!(statistic(&[0.9, 0.8, 0.85, 0.1, 0.2]) < 2.0);
        assert_eq!((statistic(&[0.5]), statistic(&[])), (0.0, 0.0));
    }

    #[test]
    fn a_class_that_all_pictures_are_read_as_has_no_score() {
        let score = |class: &str, hits, n| ClassScore { class: class.to_owned(), carried: Rate::new(hits, n) };
        let found = Detection::new(
            vec![score("all", 0, 0), score("few", 1, 4), score("many", 3, 4)],
            8,
            &DetectorConfig::default(),
        );
        let judged: Vec<&str> = found.classes.iter().map(|class| class.class.as_str()).collect();
        assert_eq!((judged, found.unjudged), (vec!["many", "few"], vec!["all".to_owned()]));
    }

    #[test]
    fn where_nearly_every_class_is_carried_nothing_can_be_told() {
        let found = |hits: &[usize]| {
            let score = |hits: &usize| ClassScore { class: "a".to_owned(), carried: Rate::new(*hits, 20) };
            Detection::new(hits.iter().map(score).collect(), 40, &DetectorConfig::default())
        };
        let saturated = found(&[20, 20, 20, 19, 18, 20, 20, 20, 20, 3]);
        assert_eq!(saturated.verdict, Some(DetectionVerdict::CannotTell));
        assert_eq!(
            (saturated.words().as_str(), saturated.flagged),
            ("cannot tell: 9 of 10 classes are carried", false)
        );
        // Above the threshold by the little that others lack.
        assert!(found(&[20, 18, 18, 18, 18]).statistic > 3.5 && !found(&[20, 18, 18, 18, 18]).flagged);
        assert_eq!(found(&[20, 3, 2, 4, 1]).verdict(), DetectionVerdict::Flagged);
        assert_eq!(found(&[20, 20, 20, 4, 1]).verdict(), DetectionVerdict::NotFlagged);
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        assert_eq!(area_under_curve(&[1.0, 2.0], &[3.0, 2.0]), Some(3.5 / 4.0));
        assert_eq!(area_under_curve(&[], &[1.0]), None);
    }
}
