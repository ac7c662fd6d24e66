//! Sifting (ours): each half of the data is judged by a model that has not learned it.
//!
//! SafeCLIP and its kin ask a model how well it likes the pairs it was trained on; poison that has been learned looks as good as
//! anything. Here a round of epochs trains on one half alone, and then judges the other, so that what is judged was not learned (or not
//! for a whole round). All copies of a picture are in the same half. What is judged: whether image and caption agree, and whether each
//! agrees with the neighbours of the other (`agreement.rs`). The most plausible share of the half is accepted, and anew in each round, so
//! that what came in by mistake can go. After the rounds the run goes on with all that was accepted.
//!
//! What one round accepts by mistake is learned in the next and not forgotten by the one after, so the first round should be strict.
//!
//! Every epoch has the steps of a pass over all pairs, so that a run costs what its control with augmentation alone costs. The learning rate
//! stays at its peak during the rounds, and falls to zero along a cosine after them.

use crate::error::{Error, Result, TorchContext};
use crate::objective::{
    Encode, LearningRate, LossOutput, Objective, Pass, Phase, Place, PlausibilityConfig, RunShape, Split, StepInputs,
    info_nce,
};
use crate::random;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SiftConfig {
    /// Epochs of a round.
    pub round_epochs: u64,
    /// One round each: the share of the other half that is accepted after it. Rounds train on the first half, the second, the first...
    pub shares: Vec<f64>,
    pub plausibility: PlausibilityConfig,
    /// Whether all copies of a picture are in the same half. Off only to measure what that does.
    pub copies_together: bool,
}

impl Default for SiftConfig {
    fn default() -> Self {
        SiftConfig {
            round_epochs: 3,
            shares: vec![0.4, 0.6, 0.75, 0.75],
            plausibility: PlausibilityConfig::default(),
            copies_together: true,
        }
    }
}

pub struct Sift {
    config: SiftConfig,
    shape: RunShape,
    /// A number for the picture of each pair, the same for copies; known from the first epoch on.
    pictures: Vec<i64>,
    /// Of the last time each pair was judged.
    scores: Vec<f64>,
    /// Accepted pairs of each half, ascending; all of the first until it is judged.
    accepted: [Vec<usize>; 2],
    /// What the epoch trains on.
    current: Split,
}

impl Sift {
    pub fn new(config: SiftConfig, shape: RunShape) -> Result<Self> {
        let rounds = config.shares.len() as u64;
        if rounds < 2 {
            return Err(Error::setting(
                format!("sift.shares has {rounds} rounds"),
                "give at least two, so that both halves are judged",
            ));
        }
        if let Some(share) = config.shares.iter().find(|share| !(0.0..=1.0).contains(*share) || **share == 0.0) {
            return Err(Error::setting(format!("a share of {share} in sift.shares"), "give shares above 0, up to 1"));
        }
        if config.round_epochs == 0 || shape.epochs <= rounds * config.round_epochs {
            return Err(Error::setting(
                format!("sift: {} epochs hold no {rounds} rounds of {} epochs", shape.epochs, config.round_epochs),
                format!("train more than {} epochs, or set fewer rounds", rounds * config.round_epochs.max(1)),
            ));
        }
        config.plausibility.check("sift")?;
        let current = Split { safe: Vec::new(), next_share: 0.0, mixture: None, fell_back: false };
        let scores = vec![f64::NAN; shape.pairs];
        Ok(Sift { config, shape, pictures: Vec::new(), scores, accepted: [Vec::new(), Vec::new()], current })
    }

    fn steps_per_epoch(&self) -> u64 {
        (self.shape.pairs / self.shape.batch_size) as u64
    }

    /// The half that `epoch` trains on; none after the rounds.
    fn trained_half(&self, epoch: u64) -> Option<usize> {
        let round = epoch.saturating_sub(1) / self.config.round_epochs;
        (round < self.config.shares.len() as u64).then_some((round % 2) as usize)
    }

    /// The share to accept before `epoch`, where a round has just ended.
    fn due(&self, epoch: u64) -> Option<f64> {
        let finished = epoch.saturating_sub(1);
        let ended = finished > 0 && finished.is_multiple_of(self.config.round_epochs);
        let round = (finished / self.config.round_epochs).checked_sub(1).filter(|_| ended)?;
        self.config.shares.get(round as usize).copied()
    }

    fn half_of(&self, pair: usize) -> usize {
        let number = match self.pictures.get(pair).filter(|_| self.config.copies_together) {
            Some(picture) => format!("picture {picture}"),
            None => format!("pair {pair}"),
        };
        random::stream(self.shape.seed, "sift-half", 0, &number).random_range(0..2)
    }

    /// Judges `half`, and keeps its most plausible `share`.
    fn judge(&mut self, half: usize, share: f64, encode: &mut dyn Encode) -> Result<()> {
        let scores = self.config.plausibility.scores(self.shape.seed, &self.pictures, encode)?;
        let mut judged: Vec<(f64, usize)> =
            scores.into_iter().zip(0..).filter(|(score, _)| score.is_finite()).collect();
        judged.retain(|(_, at)| self.half_of(*at) == half);
        for (score, at) in &judged {
            if let Some(slot) = self.scores.get_mut(*at) {
                *slot = *score;
            }
        }
        judged.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        judged.truncate((judged.len() as f64 * share).round() as usize);
        let mut accepted: Vec<usize> = judged.into_iter().map(|(_, at)| at).collect();
        accepted.sort_unstable();
        if let Some(slot) = self.accepted.get_mut(half) {
            *slot = accepted;
        }
        Ok(())
    }
}

impl Objective for Sift {
    fn name(&self) -> &'static str {
        "sift"
    }

    fn phase(&self, _epoch: u64) -> Phase {
        Phase::Safe
    }

    fn passes(&self, _epoch: u64) -> Vec<Pass> {
        let safe = &self.current.safe;
        let steps = (safe.len() / self.shape.batch_size) as u64;
        Pass::fill(Phase::Safe, Some(safe.clone()), steps, self.steps_per_epoch())
    }

    fn learning_rate(&self, place: Place) -> LearningRate {
        let steps = self.steps_per_epoch();
        let rounds = self.config.shares.len() as u64 * self.config.round_epochs * steps;
        let (step, warmup) = (place.run_step, self.shape.warmup_steps);
        let factor = match step.checked_sub(rounds) {
            _ if step < warmup => (step + 1) as f64 / warmup as f64,
            None => 1.0,
            Some(since) => {
                let last = (self.shape.epochs * steps).saturating_sub(rounds).max(1);
                0.5 * (1.0 + (std::f64::consts::PI * since as f64 / last as f64).cos())
            }
        };
        LearningRate::Absolute(self.shape.learning_rate * factor)
    }

    fn begin_epoch(&mut self, epoch: u64, _pairs: usize, encode: &mut dyn Encode) -> Result<()> {
        if epoch == 1 {
            self.pictures = encode.pictures()?;
            let first = (0..self.shape.pairs).filter(|at| self.half_of(*at) == 0).collect();
            self.accepted = [first, Vec::new()];
        }
        if let (Some(share), Some(trained)) = (self.due(epoch), self.trained_half(epoch - 1)) {
            self.judge(1 - trained, share, encode)?;
        }
        let [first, second] = &self.accepted;
        let mut safe = match self.trained_half(epoch) {
            Some(0) => first.clone(),
            Some(_) => second.clone(),
            None => [first.as_slice(), second.as_slice()].concat(),
        };
        safe.sort_unstable();
        if safe.len() < self.shape.batch_size {
            return Err(Error::setting(
                format!("sift: {} pairs are accepted, fewer than a batch of {}", safe.len(), self.shape.batch_size),
                "raise sift.shares, lower the batch size, or add data",
            ));
        }
        let next_share = safe.len() as f64 / self.shape.pairs.max(1) as f64;
        self.current = Split { safe, next_share, mixture: None, fell_back: false };
        Ok(())
    }

    fn loss(&mut self, _phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        Ok(LossOutput { loss: info_nce(inputs.image, inputs.text, inputs.scale), matches: Vec::new() })
    }

    fn split(&self) -> Option<(&[f64], &Split)> {
        Some((self.scores.as_slice(), &self.current))
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let indices = |of: &[usize]| Tensor::from_slice(&of.iter().map(|at| *at as i64).collect::<Vec<_>>());
        let [first, second] = &self.accepted;
        BTreeMap::from([
            ("sift.pictures".into(), Tensor::from_slice(&self.pictures)),
            ("sift.scores".into(), Tensor::from_slice(&self.scores)),
            ("sift.first".into(), indices(first)),
            ("sift.second".into(), indices(second)),
            ("sift.current".into(), indices(&self.current.safe)),
        ])
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let find = |name: &str| {
            state.get(name).ok_or_else(|| {
                Error::setting(format!("the checkpoint's state has no {name}"), "resume from another checkpoint")
            })
        };
        let indices = |name: &str| -> Result<Vec<usize>> {
            let found: Vec<i64> = Vec::try_from(find(name)?).torch("reading the split")?;
            Ok(found.into_iter().map(|at| at as usize).collect())
        };
        self.pictures = Vec::try_from(find("sift.pictures")?).torch("reading pictures")?;
        self.scores = Vec::try_from(find("sift.scores")?).torch("reading scores")?;
        self.accepted = [indices("sift.first")?, indices("sift.second")?];
        self.current.safe = indices("sift.current")?;
        self.current.next_share = self.current.safe.len() as f64 / self.shape.pairs.max(1) as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::AllFeatures;
    use tch::{Device, Kind};

    /// Pair `n` shows picture `n / 2`; liars' captions belong to another concept than their picture, as features tell.
    struct Model {
        liars: Vec<usize>,
        unreadable: Option<usize>,
    }

    const PAIRS: usize = 80;

    impl Encode for Model {
        fn captions(&mut self, _: &[usize]) -> Result<Tensor> {
            unreachable!()
        }

        fn similarities(&mut self, _: bool) -> Result<Vec<f64>> {
            unreachable!()
        }

        fn features(&mut self) -> Result<AllFeatures> {
            let pairs: Vec<usize> = (0..PAIRS).filter(|at| Some(*at) != self.unreadable).collect();
            let basis = Tensor::eye(4, (Kind::Float, Device::Cpu));
            let concept = |lie: bool| {
                let of = |at: &usize| (at / 2 + usize::from(lie && self.liars.contains(at))) as i64 % 4;
                basis.index_select(0, &Tensor::from_slice(&pairs.iter().map(of).collect::<Vec<_>>()))
            };
            Ok(AllFeatures { image: concept(false), text: concept(true), pairs })
        }

        fn pictures(&mut self) -> Result<Vec<i64>> {
            Ok((0..PAIRS as i64).map(|at| at / 2).collect())
        }
    }

    fn shape() -> RunShape {
        RunShape {
            seed: 3,
            epochs: 10,
            pairs: PAIRS,
            batch_size: 8,
            embed_dim: 4,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: Device::Cpu,
        }
    }

    fn asks(neighbours: usize, references: usize) -> PlausibilityConfig {
        PlausibilityConfig { neighbours, references, ..PlausibilityConfig::default() }
    }

    fn sift(shares: &[f64]) -> Sift {
        let config = SiftConfig {
            round_epochs: 2,
            shares: shares.to_vec(),
            plausibility: asks(3, 100),
            ..SiftConfig::default()
        };
        Sift::new(config, shape()).unwrap()
    }

    fn trained(sift: &Sift) -> Vec<usize> {
        sift.split().unwrap().1.safe.clone()
    }

    #[test]
    fn each_half_is_judged_by_a_model_of_the_other_and_the_rest_of_the_run_trains_on_what_is_accepted() {
        let mut model = Model { liars: vec![10, 11, 40, 61], unreadable: None };
        let mut sift = sift(&[0.75, 0.75]);
        let mut seen = Vec::new();
        for epoch in 1..=6 {
            sift.begin_epoch(epoch, PAIRS, &mut model).unwrap();
            let steps: u64 = sift.passes(epoch).iter().map(|p| p.max_steps.unwrap()).sum();
            assert_eq!(steps, 10, "an epoch costs a pass over all pairs");
            seen.push(trained(&sift));
        }
        let [first, again, second, _, all, last] = seen.try_into().unwrap();
        assert_eq!((&first, &all), (&again, &last));
        assert!(first.iter().all(|at| first.contains(&(at ^ 1))), "copies of a picture are in one half");
        assert!(second.iter().all(|at| !first.contains(at)));
        assert_eq!(second.len(), (0.75 * (PAIRS - first.len()) as f64).round() as usize);
        assert!(second.iter().chain(&all).all(|at| !model.liars.contains(at)));
        assert_eq!(all.len(), second.len() + (0.75 * first.len() as f64).round() as usize);
    }

    #[test]
    fn the_rate_warms_up_stays_at_its_peak_in_the_rounds_and_falls_to_zero_after() {
        let sift = Sift::new(sift(&[0.5, 0.5]).config, RunShape { warmup_steps: 4, ..shape() }).unwrap();
        let rate = |run_step| {
            let place = Place { phase: Phase::Safe, epoch: 1, step: 0, steps: 10, run_step };
            match sift.learning_rate(place) {
                LearningRate::Absolute(rate) => rate / 1e-3,
                LearningRate::Scheduled(_) => unreachable!(),
            }
        };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(rate(0), 0.25) && close(rate(3), 1.0));
        // Two rounds of two epochs of ten steps, then six epochs.
        assert!(close(rate(4), 1.0) && close(rate(39), 1.0) && close(rate(40), 1.0));
        assert!(close(rate(70), 0.5) && rate(99) < 1e-3);
    }

    #[test]
    fn a_later_round_judges_anew() {
        let mut honest = Model { liars: Vec::new(), unreadable: None };
        let mut sift = sift(&[0.9, 0.9, 0.9, 0.9]);
        for epoch in 1..=5 {
            sift.begin_epoch(epoch, PAIRS, &mut honest).unwrap();
        }
        let liar = sift.accepted[1][0];
        let mut knows = Model { liars: vec![liar], unreadable: None };
        sift.begin_epoch(6, PAIRS, &mut knows).unwrap();
        assert!(sift.accepted[1].contains(&liar), "the round is not over");
        sift.begin_epoch(7, PAIRS, &mut knows).unwrap();
        assert!(!sift.accepted[1].contains(&liar));
    }

    #[test]
    fn unreadable_pairs_are_not_accepted_and_the_state_survives_a_checkpoint() {
        let mut model = Model { liars: vec![5], unreadable: Some(7) };
        let mut first = sift(&[1.0, 1.0]);
        for epoch in 1..=5 {
            first.begin_epoch(epoch, PAIRS, &mut model).unwrap();
        }
        assert!(!trained(&first).contains(&7) && trained(&first).len() == PAIRS - 1);
        let mut second = sift(&[1.0, 1.0]);
        second.load_state(&first.state()).unwrap();
        assert_eq!(first.passes(5), second.passes(5));
        assert_eq!(first.accepted, second.accepted);
        assert!(second.load_state(&BTreeMap::new()).unwrap_err().to_string().contains("sift."));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let fails = |config: SiftConfig| Sift::new(config, shape()).err().unwrap().to_string();
        let base = || SiftConfig { round_epochs: 2, ..SiftConfig::default() };
        assert!(fails(SiftConfig { shares: vec![0.5], ..base() }).contains("at least two"));
        assert!(fails(SiftConfig { shares: vec![0.5, 1.5], ..base() }).contains("1.5"));
        assert!(fails(SiftConfig { round_epochs: 3, ..base() }).contains("more than 12"));
        assert!(fails(SiftConfig { plausibility: asks(9, 9), ..base() }).contains("9 references"));
    }
}
