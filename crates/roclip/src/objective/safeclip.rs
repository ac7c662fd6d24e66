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
    BatchView, ClipObjective, Component, Encode, LearningRate, LossOutput, Mixture, Objective, Pass, Phase, Place,
    Pool, RunShape, SafeClipConfig, Split, Towers, cross_entropy_of, split,
};
use rand::Rng;
use roclip_data::random;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

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
        config.check()?;
        if shape.epochs <= config.unimodal_epochs + 1 {
            return Err(Error::setting(
                format!("safeclip: {} epochs end before the first split", shape.epochs),
                format!("train more than {} epochs, or lower unimodal_epochs", config.unimodal_epochs + 1),
            ));
        }
        let rows = Pool::rows(config.pool_size, config.pool_fraction, shape.pairs)?;
        let pool = |name: &str| {
            let size = [rows as i64, shape.embed_dim];
            let first = match config.noise_pools {
                true => {
                    tch::manual_seed(random::stream(shape.seed, name, 0, "").next_u64() as i64);
                    // Drawn on the CPU, so that every device gets the same.
                    Tensor::randn(size, (Kind::Float, Device::Cpu)).to_device(shape.device)
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

    /// A pass over all pairs, with the views that its loss takes.
    fn whole(&self, phase: Phase) -> Pass {
        let two_views = matches!(phase, Phase::Unimodal | Phase::Risky) || !self.config.single_view;
        Pass { two_views, ..Pass::whole(phase) }
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

    /// `CE_rows(s * v2 n^T)`, `n` the row of `pool` nearest to the first of `views`, which is written after the query. Until the pool is
    /// full the first view itself stands in for its neighbour.
    fn unimodal(pool: &mut Pool, [first, second]: [&Tensor; 2], towers: &dyn Towers) -> Result<Tensor> {
        let first = first.detach();
        let neighbours = match pool.is_full() {
            true => pool.nearest(&first, None, false)?.rows,
            false => first.shallow_clone(),
        };
        pool.enqueue(&first, towers.pairs());
        Ok(cross_entropy_of(second, &neighbours, &towers.scale(), towers.own_rows()))
    }

    /// Each modality alone, through its pool. The first view only feeds the pools.
    fn unimodal_loss(&mut self, towers: &dyn Towers) -> Result<Tensor> {
        let (images, first_text) = match self.config.joint_views {
            true => (towers.images()?, tch::no_grad(|| towers.text(BatchView::First))?),
            false => {
                let first = tch::no_grad(|| -> Result<_> {
                    Ok((towers.image(BatchView::First)?, towers.text(BatchView::First)?))
                })?;
                ([first.0, towers.image(BatchView::Second)?], first.1)
            }
        };
        let [image, image_2] = images;
        let text_2 = towers.text(BatchView::Second)?;
        let images = SafeClip::unimodal(&mut self.image_pool, [&image, &image_2], towers)?;
        let texts = SafeClip::unimodal(&mut self.text_pool, [&first_text, &text_2], towers)?;
        Ok((images + texts) * 0.5)
    }

    /// Each view's images with the other view's captions.
    fn cross_view_loss(towers: &dyn Towers) -> Result<Tensor> {
        let [image, image_2] = towers.images()?;
        let (text, text_2) = (towers.text(BatchView::First)?, towers.text(BatchView::Second)?);
        let (scale, own) = (towers.scale(), towers.own_rows());
        Ok((cross_entropy_of(&image, &text_2, &scale, own) + cross_entropy_of(&text, &image_2, &scale, own)) * 0.5)
    }
}

/// Numbers of a mixture in a checkpoint, in this order: of `low`, then of `high`, its weight, mean and variance; and the iterations.
fn mixture_to_numbers(mixture: &Mixture) -> Vec<f64> {
    let of = |component: &Component| [component.weight, component.mean, component.variance];
    [of(&mixture.low).as_slice(), &of(&mixture.high), &[mixture.iterations as f64]].concat()
}

/// The mixture of these numbers; none when they are of another count.
fn mixture_from_numbers(saved: &Tensor) -> Result<Option<Mixture>> {
    let numbers: Vec<f64> = Vec::try_from(saved).torch("reading the mixture")?;
    let of = |weight, mean, variance| Component { weight, mean, variance };
    Ok(match *numbers {
        [a, b, c, d, e, f, iterations] => {
            Some(Mixture { low: of(a, b, c), high: of(d, e, f), iterations: iterations as usize })
        }
        _ => None,
    })
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
                lengths.map(|steps| Pass { max_steps: Some(steps), ..self.whole(Phase::SlowClip) }).collect()
            }
            Phase::Safe => {
                let safe = self.current.as_ref().map(|split| split.safe.clone()).unwrap_or_default();
                let risky: Vec<usize> = (0..self.shape.pairs).filter(|at| safe.binary_search(at).is_err()).collect();
                let pass = |phase, pairs| Pass { pairs: Some(pairs), ..self.whole(phase) };
                let mut passes = Vec::new();
                if self.config.risky_training && risky.len() >= self.shape.batch_size {
                    passes.push(pass(Phase::Risky, risky));
                }
                passes.push(pass(Phase::Safe, safe));
                passes
            }
            phase => vec![self.whole(phase)],
        }
    }

    fn phase(&self, epoch: u64) -> Phase {
        match epoch {
            e if e <= self.config.unimodal_epochs => Phase::Unimodal,
            e if e == self.config.unimodal_epochs + 1 => Phase::SlowClip,
            _ => Phase::Safe,
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

    fn loss(&mut self, phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        let loss = match phase {
            Phase::Unimodal | Phase::Risky => self.unimodal_loss(towers)?,
            _ if self.config.single_view => ClipObjective::first_view_loss(towers)?,
            _ => SafeClip::cross_view_loss(towers)?,
        };
        Ok(LossOutput { loss, matches: None })
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
            let mixture = split.mixture.as_ref().map(|mixture| Tensor::from_slice(&mixture_to_numbers(mixture)));
            state.extend(mixture.map(|mixture| ("split.mixture".to_owned(), mixture)));
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
        let mixture = match state.get("split.mixture") {
            Some(saved) => Some(mixture_from_numbers(saved)?.ok_or_else(broken)?),
            None => None,
        };
        self.first_share = Some(*first_share);
        self.current = Some(Split {
            safe: safe.into_iter().map(|at| at as usize).collect(),
            next_share: *next_share,
            mixture,
            fell_back: *fell_back > 0.0,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit;
    use crate::objective::known_towers::{KnownBatch, KnownTowers};
    use crate::objective::{PlausibilityConfig, SplitConfig, info_nce};

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
        let leaf = |seed: i64| {
            tch::manual_seed(seed);
            Tensor::randn([4, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true)
        };
        for (phase, joint_views) in [(Phase::Unimodal, false), (Phase::Unimodal, true), (Phase::Safe, false)] {
            let mut safeclip = safeclip(SafeClipConfig { joint_views, ..SafeClipConfig::default() });
            let [image, text, image_2, text_2] = [1, 2, 3, 4].map(leaf);
            let batch = KnownBatch::new(&unit(&image), &unit(&text), 10.0, &[0, 1, 2, 3])
                .second(&unit(&image_2), &unit(&text_2));
            safeclip.loss(phase, &batch).unwrap().loss.backward();
            assert!(image_2.grad().defined() && text_2.grad().defined());
            assert_eq!(image.grad().defined(), phase == Phase::Safe);
            assert_eq!(text.grad().defined(), phase == Phase::Safe);
        }
    }

    #[test]
    fn a_single_view_is_the_clip_loss_and_splits_come_when_they_are_due() {
        let mut safeclip = safeclip(SafeClipConfig { single_view: true, split_every: 2, ..SafeClipConfig::default() });
        let two_views = |epoch| safeclip.passes(epoch).iter().all(|pass| pass.two_views);
        assert_eq!([two_views(1), two_views(6)], [true, false]);
        tch::manual_seed(5);
        let [image, text] = [(); 2].map(|()| unit(&Tensor::randn([4, 8], (Kind::Float, Device::Cpu))));
        let loss = safeclip.loss(Phase::Safe, &KnownBatch::new(&image, &text, 10.0, &[0, 1, 2, 3])).unwrap().loss;
        assert!((loss - info_nce(&image, &text, &Tensor::from(10f32))).abs().double_value(&[]) < 1e-7);

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

    /// What a resumed epoch reports is what it was split by, also where scores are missing or did not separate.
    #[test]
    fn its_state_survives_a_checkpoint() {
        let apart = |n: i32| if n < 30 { 0.1 + 0.001 * f64::from(n) } else { 0.7 };
        let unreadable = |n: i32| if n == 3 { f64::NAN } else { apart(n) };
        let one_hump = |n: i32| 0.01 * f64::from(n);
        let scores: [&dyn Fn(i32) -> f64; 3] = [&apart, &unreadable, &one_hump];
        for (case, score) in scores.into_iter().enumerate() {
            let mut first = safeclip(SafeClipConfig::default());
            let scores = (0..40).map(score).collect();
            first.begin_epoch(7, 40, &mut KnownTowers::with_similarities(scores)).unwrap();
            let mut second = safeclip(SafeClipConfig::default());
            second.load_state(&first.state()).unwrap();
            assert_eq!(first.passes(7), second.passes(7));
            assert_eq!(first.split().unwrap().1, second.split().unwrap().1, "case {case}");
            assert_eq!(first.split().unwrap().1.mixture.is_some(), case < 2, "case {case}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_their_keys() {
        let default = SafeClipConfig::default;
        let split = |split: SplitConfig| SafeClipConfig { split, ..default() };
        let plain = SplitConfig::default();
        for (config, named) in [
            (SafeClipConfig { slow_steps: Some(0), ..default() }, "objective.safeclip.slow_steps is 0"),
            (SafeClipConfig { slow_learning_rate: f64::NAN, ..default() }, "slow_learning_rate is NaN"),
            (SafeClipConfig { unimodal_learning_rate: Some(-1.0), ..default() }, "unimodal_learning_rate is -1"),
            (SafeClipConfig { warmup_share: 2.0, ..default() }, "warmup_share is 2"),
            (SafeClipConfig { unimodal_epochs: u64::MAX, ..default() }, "unimodal_epochs is"),
            (SafeClipConfig { split_every: 0, ..default() }, "split_every is 0"),
            (SafeClipConfig { pool_fraction: Some(-0.1), ..default() }, "pool_fraction is -0.1"),
            (split(SplitConfig { growth: -0.1, ..plain }), "split.growth is -0.1"),
            (split(SplitConfig { cap: 1.5, ..plain }), "split.cap is 1.5"),
            (split(SplitConfig { threshold: f64::INFINITY, ..plain }), "split.threshold is inf"),
            (split(SplitConfig { fallback_fraction: 7.0, ..plain }), "split.fallback_fraction is 7"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        SafeClipConfig::released().check().unwrap();
    }
}
