//! SafeCLIP (arXiv 2310.05862 v2, ICML 2024; repository BigML-CS-UCLA/SafeCLIP, `src/train.py`, `src/main.py`): each modality is
//! warmed up alone, one very gentle pass aligns them, and from then on the data is split every epoch by a mixture on image-caption
//! similarity: trusted pairs train with CLIP, the others each modality alone.
//!
//! Phase A, `unimodal_epochs`: `L_x = CE_rows(s * v2 n^T)` for each modality, `n` the pool's nearest to the first view.
//! Phase B, one epoch of `slow_steps`: `L = 1/2 [CE_rows(s I1 T2^T) + CE_rows(s T1 I2^T)]` at a constant, low rate.
//! Phase C: score, split (`split.rs`), one pass of phase A's loss over the risky pairs, one of phase B's over the safe ones.
//!
//! [`SafeClipConfig::released`] is the released behaviour. The defaults mend: the learning rates (`safeclip_schedule.rs`), scores through
//! a random augmentation, the posterior that turns around, arbitrary ties, an empty safe set, pools of noise.

use crate::error::{Error, Result, TorchContext};
use crate::objective::safeclip_schedule::Rates;
use crate::objective::{
    Encode, LearningRate, LossOutput, Objective, Pass, Phase, Place, PlausibilityConfig, Pool, PosteriorGuard,
    RingWrite, RunShape, SafeClipSchedule, Split, SplitConfig, StepInputs, Views, cross_entropy_rows, info_nce, split,
};
use rand::Rng;
use roclip_data::random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SafeClipConfig {
    /// A.
    pub unimodal_epochs: u64,
    /// Steps of the slow CLIP epoch, which may be more than one pass over the data; one pass when absent, as released. Small data
    /// needs more: what counts is the number of steps, not of passes.
    pub slow_steps: Option<u64>,
    /// Released: 5e-6.
    pub slow_learning_rate: f64,
    /// Peak of the unimodal and risky passes; the run's learning rate when absent.
    pub unimodal_learning_rate: Option<f64>,
    pub schedule: SafeClipSchedule,
    /// Share of the split epochs that warms up, in the corrected schedule.
    pub warmup_share: f64,
    /// P of both pools. Give this or `pool_fraction`.
    pub pool_size: Option<usize>,
    /// P as a share of the pairs; 0.02 when neither is given.
    pub pool_fraction: Option<f64>,
    /// Unit or raw noise in the first pools, as released raw; otherwise steps without a full pool contrast the views directly.
    pub noise_pools: bool,
    pub ring_write: RingWrite,
    pub split: SplitConfig,
    /// As released, similarities are scored through a fresh random augmentation; otherwise on plain pairs.
    pub score_augmented: bool,
    /// Ours: split by how plausible each pair is beside all others, not by its similarity alone, which poison that has been learned has, too.
    pub plausibility: Option<PlausibilityConfig>,
    /// Train each modality alone on risky pairs.
    pub risky_training: bool,
    /// Ours: slow and safe steps take one view and the symmetric CLIP loss, half the work of the released cross-view loss.
    pub single_view: bool,
    /// Split anew every so many epochs (the released code has the setting, and splits every epoch all the same).
    pub split_every: u64,
}

impl Default for SafeClipConfig {
    fn default() -> Self {
        SafeClipConfig {
            unimodal_epochs: 5,
            slow_steps: None,
            slow_learning_rate: 5e-6,
            unimodal_learning_rate: None,
            schedule: SafeClipSchedule::Corrected,
            warmup_share: 0.02,
            pool_size: None,
            pool_fraction: None,
            noise_pools: false,
            ring_write: RingWrite::Wrap,
            split: SplitConfig::default(),
            score_augmented: false,
            plausibility: None,
            risky_training: true,
            single_view: false,
            split_every: 1,
        }
    }
}

impl SafeClipConfig {
    /// The release's behaviour, faults included.
    pub fn released() -> Self {
        SafeClipConfig {
            schedule: SafeClipSchedule::AsReleased,
            noise_pools: true,
            ring_write: RingWrite::Truncate,
            split: SplitConfig { guard: PosteriorGuard::Off, min_separation: 0.0, ..SplitConfig::default() },
            score_augmented: true,
            ..SafeClipConfig::default()
        }
    }
}

pub struct SafeClip {
    config: SafeClipConfig,
    shape: RunShape,
    image_pool: Pool,
    text_pool: Pool,
    scores: Vec<f64>,
    current: Option<Split>,
    first_share: Option<f64>,
}

impl SafeClip {
    pub fn new(config: SafeClipConfig, shape: RunShape) -> Result<Self> {
        if shape.epochs <= config.unimodal_epochs + 1 {
            return Err(Error::setting(
                format!("safeclip: {} epochs end before the first split", shape.epochs),
                format!("train more than {} epochs, or lower unimodal_epochs", config.unimodal_epochs + 1),
            ));
        }
        if config.slow_steps == Some(0) {
            return Err(Error::setting("safeclip.slow_steps is 0", "set at least 1, or remove it for one pass"));
        }
        if let Some(share) = config.split.first_share.filter(|share| !(0.0..=config.split.cap).contains(share)) {
            return Err(Error::setting(
                format!("safeclip.split.first_share is {share}, and cap {}", config.split.cap),
                "set a share between 0 and the cap, or remove it and let the mixture decide",
            ));
        }
        if let Some(plausibility) = &config.plausibility {
            plausibility.check()?;
            if config.score_augmented {
                return Err(Error::setting(
                    "safeclip: plausibility looks at plain pairs, and score_augmented is set",
                    "remove one of the two",
                ));
            }
        }
        let rows = Pool::rows(config.pool_size, config.pool_fraction, shape.pairs)?;
        let pool = |name: &str| {
            let size = [rows as i64, shape.embed_dim];
            let first = match config.noise_pools {
                true => {
                    tch::manual_seed(random::stream(shape.seed, name, 0, "").next_u64() as i64);
                    Tensor::randn(size, (Kind::Float, shape.device))
                }
                false => Tensor::zeros(size, (Kind::Float, shape.device)),
            };
            Pool::new(first, config.noise_pools, config.ring_write)
        };
        let (image_pool, text_pool) = (pool("safeclip-image-pool"), pool("safeclip-text-pool"));
        Ok(SafeClip { config, shape, image_pool, text_pool, scores: Vec::new(), current: None, first_share: None })
    }

    fn score(&self, encode: &mut dyn Encode) -> Result<Vec<f64>> {
        match self.config.plausibility {
            Some(plausibility) => plausibility.scores(self.shape.seed, self.shape.pairs, encode),
            None => encode.similarities(self.config.score_augmented),
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        (self.shape.pairs / self.shape.batch_size) as u64
    }

    fn rates(&self) -> Rates {
        Rates {
            schedule: self.config.schedule,
            unimodal_epochs: self.config.unimodal_epochs,
            slow_epochs: 1,
            epochs: self.shape.epochs,
            warmup_steps: self.shape.warmup_steps,
            warmup_share: self.config.warmup_share,
            steps_per_epoch: self.steps_per_epoch(),
            unimodal: self.config.unimodal_learning_rate.unwrap_or(self.shape.learning_rate),
            slow: self.config.slow_learning_rate,
            safe: self.shape.learning_rate,
            growth: self.config.split.growth,
            first_share: self.first_share,
        }
    }

    /// `CE_rows(s * v2 n^T)`, `n` the row of `pool` nearest to `first`, which is written after the query. Until the pool is full
    /// the first view itself stands in for its neighbour.
    fn unimodal(pool: &mut Pool, first: &Tensor, second: &Tensor, scale: &Tensor, pairs: &[usize]) -> Result<Tensor> {
        let first = first.detach();
        let neighbours = match pool.is_full() {
            true => pool.nearest(&first, None, false)?.rows,
            false => first.shallow_clone(),
        };
        pool.enqueue(&first, pairs);
        Ok(cross_entropy_rows(second, &neighbours, scale))
    }
}

impl Objective for SafeClip {
    fn name(&self) -> &'static str {
        "safeclip"
    }

    fn passes(&self, epoch: u64) -> Vec<Pass> {
        match self.phase(epoch) {
            Phase::SlowClip => {
                let whole = self.steps_per_epoch().max(1);
                let budget = self.config.slow_steps.unwrap_or(whole);
                let lengths = (0..budget).step_by(whole as usize).map(|done| whole.min(budget - done));
                lengths.map(|steps| Pass { max_steps: Some(steps), ..Pass::whole(Phase::SlowClip) }).collect()
            }
            Phase::Safe => {
                let safe = self.current.as_ref().map(|split| split.safe.clone()).unwrap_or_default();
                let risky: Vec<usize> = (0..self.shape.pairs).filter(|at| safe.binary_search(at).is_err()).collect();
                let pass = |phase, pairs| Pass { phase, pairs: Some(pairs), max_steps: None };
                let mut passes = Vec::new();
                if self.config.risky_training && risky.len() >= self.shape.batch_size {
                    passes.push(pass(Phase::Risky, risky));
                }
                passes.push(pass(Phase::Safe, safe));
                passes
            }
            phase => vec![Pass::whole(phase)],
        }
    }

    fn phase(&self, epoch: u64) -> Phase {
        match epoch {
            e if e <= self.config.unimodal_epochs => Phase::Unimodal,
            e if e == self.config.unimodal_epochs + 1 => Phase::SlowClip,
            _ => Phase::Safe,
        }
    }

    fn views(&self, phase: Phase) -> Views {
        match phase {
            Phase::Unimodal | Phase::Risky => Views::TwoFirstWithoutGraph,
            _ if self.config.single_view => Views::One,
            _ => Views::Two,
        }
    }

    fn learning_rate(&self, place: Place) -> LearningRate {
        LearningRate::Absolute(self.rates().rate(place))
    }

    fn begin_epoch(&mut self, epoch: u64, _pairs: usize, encode: &mut dyn Encode) -> Result<()> {
        let since_first = epoch.saturating_sub(self.config.unimodal_epochs + 2);
        let due = since_first.is_multiple_of(self.config.split_every.max(1)) || self.current.is_none();
        if self.phase(epoch) != Phase::Safe || !due {
            return Ok(());
        }
        self.scores = self.score(encode)?;
        let share = self.current.as_ref().map(|split| split.next_share);
        let next = split(&self.config.split, &self.scores, share, self.shape.batch_size)?;
        if self.first_share.is_none() {
            self.first_share = Some(next.safe.len() as f64 / self.shape.pairs.max(1) as f64);
        }
        self.current = Some(next);
        Ok(())
    }

    fn loss(&mut self, phase: Phase, inputs: &StepInputs) -> Result<LossOutput> {
        let StepInputs { image, text, second, scale, pairs, .. } = *inputs;
        let Some((image_2, text_2)) = second else {
            return Ok(LossOutput { loss: info_nce(image, text, scale), matches: Vec::new() });
        };
        let loss = match phase {
            Phase::Unimodal | Phase::Risky => {
                let images = SafeClip::unimodal(&mut self.image_pool, image, image_2, scale, pairs)?;
                let texts = SafeClip::unimodal(&mut self.text_pool, text, text_2, scale, pairs)?;
                (images + texts) * 0.5
            }
            _ => (cross_entropy_rows(image, text_2, scale) + cross_entropy_rows(text, image_2, scale)) * 0.5,
        };
        Ok(LossOutput { loss, matches: Vec::new() })
    }

    fn split(&self) -> Option<(&[f64], &Split)> {
        self.current.as_ref().map(|split| (self.scores.as_slice(), split))
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.image_pool.state("image_pool");
        state.extend(self.text_pool.state("text_pool"));
        if let Some(split) = &self.current {
            let safe: Vec<i64> = split.safe.iter().map(|at| *at as i64).collect();
            state.insert("split.safe".into(), Tensor::from_slice(&safe));
            state.insert("split.scores".into(), Tensor::from_slice(&self.scores));
            let shares = [split.next_share, self.first_share.unwrap_or(0.0), f64::from(u8::from(split.fell_back))];
            state.insert("split.shares".into(), Tensor::from_slice(&shares));
        }
        state
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let broken =
            || Error::setting("the checkpoint's SafeCLIP state is incomplete", "resume from another checkpoint");
        for (name, pool) in [("image_pool", &mut self.image_pool), ("text_pool", &mut self.text_pool)] {
            let saved = Pool::from_state(state, name, self.config.ring_write, self.shape.device)?.ok_or_else(broken)?;
            if saved.size() != pool.size() {
                return Err(Error::setting(
                    "the checkpoint's pool has another size than the recipe's",
                    "resume with the recipe of the run",
                ));
            }
            *pool = saved;
        }
        let Some(safe) = state.get("split.safe") else { return Ok(()) };
        let safe: Vec<i64> = Vec::try_from(safe).torch("reading the split")?;
        self.scores = Vec::try_from(state.get("split.scores").ok_or_else(broken)?).torch("reading scores")?;
        let shares: Vec<f64> = Vec::try_from(state.get("split.shares").ok_or_else(broken)?).torch("reading shares")?;
        let [next_share, first_share, fell_back] = shares.as_slice() else { return Err(broken()) };
        self.first_share = Some(*first_share);
        self.current = Some(Split {
            safe: safe.into_iter().map(|at| at as usize).collect(),
            next_share: *next_share,
            mixture: crate::objective::Mixture::fit(&self.scores),
            fell_back: *fell_back > 0.0,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::known_towers::KnownTowers;
    use tch::Device;

    fn safeclip(config: SafeClipConfig) -> SafeClip {
        let shape = RunShape {
            seed: 0,
            epochs: 10,
            pairs: 40,
            batch_size: 4,
            embed_dim: 8,
            learning_rate: 1e-3,
            warmup_steps: 0,
            device: Device::Cpu,
        };
        SafeClip::new(SafeClipConfig { pool_size: Some(8), ..config }, shape).unwrap()
    }

    #[test]
    fn phases_follow_each_other_and_the_slow_epoch_is_a_step_budget() {
        let mut safeclip = safeclip(SafeClipConfig { slow_steps: Some(23), ..SafeClipConfig::default() });
        let phases: Vec<Phase> = (1..=8).map(|e| safeclip.phase(e)).collect();
        assert_eq!(phases[4..7], [Phase::Unimodal, Phase::SlowClip, Phase::Safe]);
        let steps: Vec<_> = safeclip.passes(6).iter().map(|p| p.max_steps).collect();
        assert_eq!(steps, [Some(10), Some(10), Some(3)]);
        let scores = (0..40).map(|n| if n < 30 { 0.1 + 0.001 * f64::from(n) } else { 0.7 }).collect();
        safeclip.begin_epoch(7, 40, &mut KnownTowers::with_similarities(scores)).unwrap();
        let [risky, safe] = safeclip.passes(7).try_into().unwrap();
        assert_eq!((risky.phase, risky.pairs.unwrap().len()), (Phase::Risky, 30));
        assert_eq!((safe.phase, safe.pairs.unwrap()), (Phase::Safe, (30..40).collect()));
    }

    #[test]
    fn the_unimodal_loss_trains_only_the_second_view_and_the_safe_one_both() {
        let mut safeclip = safeclip(SafeClipConfig::default());
        let leaf = |seed: i64| {
            tch::manual_seed(seed);
            Tensor::randn([4, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true)
        };
        let unit = crate::model::unit;
        let scale = Tensor::from(10f32);
        for phase in [Phase::Unimodal, Phase::Safe] {
            let [image, text, image_2, text_2] = [1, 2, 3, 4].map(leaf);
            let second = (unit(&image_2), unit(&text_2));
            let first = (unit(&image), unit(&text));
            let one = StepInputs::of(&first.0, &first.1, &scale, &[0, 1, 2, 3]);
            let inputs = StepInputs { second: Some((&second.0, &second.1)), ..one };
            safeclip.loss(phase, &inputs).unwrap().loss.backward();
            assert!(image_2.grad().defined() && text_2.grad().defined());
            assert_eq!(image.grad().defined(), phase == Phase::Safe);
            assert_eq!(text.grad().defined(), phase == Phase::Safe);
        }
    }

    #[test]
    fn a_single_view_is_the_clip_loss_and_splits_come_when_they_are_due() {
        let mut safeclip = safeclip(SafeClipConfig { single_view: true, split_every: 2, ..SafeClipConfig::default() });
        let views = [Phase::Unimodal, Phase::SlowClip, Phase::Safe].map(|phase| safeclip.views(phase));
        assert_eq!(views, [Views::TwoFirstWithoutGraph, Views::One, Views::One]);
        tch::manual_seed(5);
        let [image, text] = [(); 2].map(|()| crate::model::unit(&Tensor::randn([4, 8], (Kind::Float, Device::Cpu))));
        let scale = Tensor::from(10f32);
        let inputs = StepInputs::of(&image, &text, &scale, &[0, 1, 2, 3]);
        let loss = safeclip.loss(Phase::Safe, &inputs).unwrap().loss;
        assert!((loss - info_nce(&image, &text, &scale)).abs().double_value(&[]) < 1e-7);

        let scores = |high: usize| {
            let of = |n| if n < high { 0.7 } else { 0.1 + 0.001 * n as f64 };
            KnownTowers::with_similarities((0..40).map(of).collect())
        };
        let safe = |safeclip: &SafeClip| safeclip.split().unwrap().1.safe.len();
        safeclip.begin_epoch(7, 40, &mut scores(10)).unwrap();
        let first = safe(&safeclip);
        safeclip.begin_epoch(8, 40, &mut scores(30)).unwrap();
        assert_eq!(safe(&safeclip), first, "not due");
        safeclip.config.split.growth = 0.5;
        safeclip.begin_epoch(9, 40, &mut scores(30)).unwrap();
        assert_eq!(safeclip.scores[29], 0.7, "due");
    }

    #[test]
    fn plausibility_splits_where_similarity_is_the_same_for_all() {
        let config = SafeClipConfig {
            plausibility: Some(PlausibilityConfig { neighbours: 3, references: 40, copies_vouch: false }),
            ..SafeClipConfig::default()
        };
        let mut safeclip = safeclip(config.clone());
        // Four concepts; every tenth pair has a caption that its neighbours contradict.
        let images: Vec<i64> = (0..40).map(|at| at % 4).collect();
        let captions: Vec<i64> = (0..40).map(|at| (at + i64::from(at % 10 == 0)) % 4).collect();
        safeclip.begin_epoch(7, 40, &mut KnownTowers::new(&images, &captions)).unwrap();
        let safe = &safeclip.split().unwrap().1.safe;
        assert!(safe.len() == 36 && safe.iter().all(|at| at % 10 != 0));
        let both = SafeClip::new(SafeClipConfig { score_augmented: true, ..config }, safeclip.shape);
        assert!(both.err().unwrap().to_string().contains("remove one of the two"));
        let split = SplitConfig { first_share: Some(0.9), ..SplitConfig::default() };
        let fails = SafeClip::new(SafeClipConfig { split, ..SafeClipConfig::default() }, safeclip.shape);
        assert!(fails.err().unwrap().to_string().contains("first_share is 0.9, and cap 0.85"));
        let alone = PlausibilityConfig { neighbours: 9, references: 9, copies_vouch: false };
        let fails =
            SafeClip::new(SafeClipConfig { plausibility: Some(alone), ..SafeClipConfig::default() }, safeclip.shape);
        assert!(fails.err().unwrap().to_string().contains("9 references"));
    }

    #[test]
    fn its_state_survives_a_checkpoint() {
        let mut first = safeclip(SafeClipConfig::default());
        let scores = (0..40).map(|n| if n < 30 { 0.1 + 0.001 * f64::from(n) } else { 0.7 }).collect();
        first.begin_epoch(7, 40, &mut KnownTowers::with_similarities(scores)).unwrap();
        let mut second = safeclip(SafeClipConfig::default());
        second.load_state(&first.state()).unwrap();
        assert_eq!(first.passes(7), second.passes(7));
        assert_eq!(first.split(), second.split());
    }
}
