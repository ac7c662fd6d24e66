//! RoCLIP (arXiv 2303.06854 v2, NeurIPS 2023; repository BigML-CS-UCLA/RoCLIP, `src/train.py`, `src/memory_bank.py`).
//!
//! Every `period` epochs each image is contrasted not with its own caption but with the most similar one of a pool of recent
//! captions: `t_i = Q[argmax_m cos(zI_i, Q_m)]`, detached, and the loss is symmetric InfoNCE over `(zI, t)`. The batch's own
//! captions enter the pool after the query. Plain CLIP epochs neither read nor write the pool.
//!
//! [`RoClipConfig::released`] is the released behaviour; the defaults mend its faults, each named at its switch.

use crate::error::{Error, Result};
use crate::model::Part;
use crate::objective::pool::Nearest;
use crate::objective::{
    BatchView, Encode, LearningRate, LossOutput, Matches, Objective, Phase, Place, Pool, RingWrite, RunShape, Towers,
    Update, info_nce_of,
};
use crate::settings;
use rand::seq::SliceRandom;
use roclip_data::random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What the pool holds before the first matching step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PoolInit {
    /// Captions of random training pairs, encoded at the start of the first matching epoch.
    #[default]
    Captions,
    /// Nothing: matching steps train as CLIP does until the pool is full.
    FillBeforeUse,
    /// Noise rows of length 1.
    GaussianUnit,
    /// As released: noise rows of length about sqrt(dim), which inflate logits until they are overwritten.
    GaussianRaw,
}

/// When captions enter the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PoolUpdate {
    /// In matching epochs, as released.
    #[default]
    MatchingEpochsOnly,
    /// In every step.
    EveryStep,
}

/// What matching epochs do to the text tower, which gets no gradient in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum TextInMatch {
    /// As released: zero gradients, so that AdamW's momentum and weight decay still move the weights.
    #[default]
    ZeroGradStep,
    /// It rests.
    Freeze,
}

/// RoCLIP's settings. The defaults mend the faults of the released code, each named at its switch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RoClipConfig {
    /// K: every K-th epoch is a matching epoch.
    pub period: u64,
    /// First matching epoch, from 1; the period when absent, as released. Too early wrecks the model, too late confirms the poison.
    #[schemars(example = 4)]
    pub match_start: Option<u64>,
    /// Captions in the pool (P); give this or `pool_fraction`.
    #[schemars(example = 21845)]
    pub pool_size: Option<usize>,
    /// Captions in the pool as a share of the pairs; 0.02 when neither is given (21,845 of a million, as released).
    #[schemars(example = 0.02)]
    pub pool_fraction: Option<f64>,
    /// What the pool holds before the first matching step.
    pub pool_init: PoolInit,
    /// When captions enter the pool.
    pub pool_update: PoolUpdate,
    /// What happens to a batch that does not fit before the end of the pool.
    pub ring_write: RingWrite,
    /// What matching epochs do to the text tower, which gets no gradient in them.
    pub text_in_match: TextInMatch,
    /// Whether no caption of the pool may go to two images of a batch.
    pub dedup_matches: bool,
    /// Captions of the pool that are more similar than this cosine are passed over; none are when absent.
    #[schemars(example = 0.9)]
    pub max_match_similarity: Option<f64>,
    /// Factor on the learning rate in matching epochs; 1 as released.
    pub match_learning_rate_scale: f64,
}

impl Default for RoClipConfig {
    fn default() -> Self {
        RoClipConfig {
            period: 2,
            match_start: None,
            pool_size: None,
            pool_fraction: None,
            pool_init: PoolInit::Captions,
            pool_update: PoolUpdate::MatchingEpochsOnly,
            ring_write: RingWrite::Wrap,
            text_in_match: TextInMatch::ZeroGradStep,
            dedup_matches: false,
            max_match_similarity: None,
            match_learning_rate_scale: 1.0,
        }
    }
}

impl RoClipConfig {
    /// The release's defaults and faults (`src/parser.py`).
    pub fn released() -> Self {
        RoClipConfig {
            pool_size: Some(21_845),
            pool_init: PoolInit::GaussianRaw,
            ring_write: RingWrite::Truncate,
            ..RoClipConfig::default()
        }
    }

    /// The first matching epoch behind a third of `epochs`, where it did well in docs/results/matching-frequency.md.
    pub fn start_behind_a_third(epochs: u64) -> u64 {
        epochs.div_ceil(3).max(1) + 1
    }

    /// The first epoch that matches.
    pub fn first_match(&self) -> u64 {
        self.match_start.unwrap_or(self.period)
    }

    /// How many of `epochs` match.
    pub fn matching_epochs(&self, epochs: u64) -> u64 {
        epochs.checked_sub(self.first_match()).map_or(0, |after| after / self.period.max(1) + 1)
    }

    /// Refuses numbers that it cannot train with.
    pub fn check(&self) -> Result<()> {
        settings::count("objective.roclip.period", self.period, 1, settings::MANY)?;
        if let Some(start) = self.match_start {
            settings::count("objective.roclip.match_start", start, 1, settings::MANY)?;
        }
        Pool::check("objective.roclip", self.pool_size, self.pool_fraction)?;
        if let Some(limit) = self.max_match_similarity {
            let cosine = |value: f64| (-1.0..=1.0).contains(&value);
            settings::number("objective.roclip.max_match_similarity", limit, cosine, "a cosine, from -1 to 1")?;
        }
        settings::not_negative("objective.roclip.match_learning_rate_scale", self.match_learning_rate_scale)
    }
}

pub struct RoClip {
    config: RoClipConfig,
    shape: RunShape,
    rows: usize,
    pool: Option<Pool>,
}

impl RoClip {
    pub fn new(config: RoClipConfig, shape: RunShape) -> Result<Self> {
        config.check()?;
        let rows = Pool::rows(config.pool_size, config.pool_fraction, shape.pairs)?;
        Ok(RoClip { config, shape, rows, pool: None })
    }

    fn noise(&self) -> Tensor {
        // The generator is libtorch's, seeded here from the run's own stream: one pool for all machines.
        use rand::Rng;
        tch::manual_seed(random::stream(self.shape.seed, "roclip-pool", 0, "").next_u64() as i64);
        // Drawn on the CPU, so that every device gets the same.
        Tensor::randn([self.rows as i64, self.shape.embed_dim], (Kind::Float, Device::Cpu)).to_device(self.shape.device)
    }

    fn first_pool(&self, pairs: usize, encode: &mut dyn Encode) -> Result<Pool> {
        let write = self.config.ring_write;
        let empty = || Tensor::zeros([self.rows as i64, self.shape.embed_dim], (Kind::Float, self.shape.device));
        Ok(match self.config.pool_init {
            PoolInit::GaussianRaw => Pool::new(self.noise(), true, write),
            PoolInit::GaussianUnit => Pool::new(crate::model::unit(&self.noise()), true, write),
            PoolInit::FillBeforeUse => Pool::new(empty(), false, write),
            PoolInit::Captions => {
                let mut order: Vec<usize> = (0..pairs).collect();
                order.shuffle(&mut random::stream(self.shape.seed, "roclip-pool", 0, ""));
                order.truncate(self.rows);
                let mut pool = Pool::new(empty(), false, write);
                pool.enqueue(&encode.captions(&order)?, &order);
                pool
            }
        })
    }
}

impl Objective for RoClip {
    fn name(&self) -> &'static str {
        "roclip"
    }

    fn phase(&self, epoch: u64) -> Phase {
        let start = self.config.first_match();
        if epoch >= start && (epoch - start).is_multiple_of(self.config.period) { Phase::Matching } else { Phase::Clip }
    }

    fn update(&self, phase: Phase, part: Part) -> Update {
        match (phase, part, self.config.text_in_match) {
            (Phase::Matching, Part::Text, TextInMatch::ZeroGradStep) => Update::ByGradientOrZero,
            (Phase::Matching, Part::Text, TextInMatch::Freeze) => Update::Rest,
            _ => Update::ByGradient,
        }
    }

    fn learning_rate(&self, place: Place) -> LearningRate {
        let matching = place.phase == Phase::Matching;
        LearningRate::Scheduled(if matching { self.config.match_learning_rate_scale } else { 1.0 })
    }

    fn begin_epoch(&mut self, epoch: u64, pairs: usize, encode: &mut dyn Encode) -> Result<()> {
        let needed = self.phase(epoch) == Phase::Matching || self.config.pool_update == PoolUpdate::EveryStep;
        if self.pool.is_none() && needed {
            self.pool = Some(self.first_pool(pairs, encode)?);
        }
        Ok(())
    }

    fn loss(&mut self, phase: Phase, towers: &dyn Towers) -> Result<LossOutput> {
        // No gradient of a matching step reaches the text tower.
        let text = match phase {
            Phase::Matching => tch::no_grad(|| towers.text(BatchView::First))?,
            _ => towers.text(BatchView::First)?,
        };
        let (image, scale, pairs) = (towers.image(BatchView::First)?, towers.scale(), towers.pairs());
        let mut output = LossOutput { loss: Tensor::new(), matches: None };
        match (&self.pool, phase) {
            (Some(pool), Phase::Matching) if pool.is_full() => {
                let Nearest { rows, owners, similarities } =
                    pool.nearest(&image.detach(), self.config.max_match_similarity, self.config.dedup_matches)?;
                output.matches = Some(Matches { pairs: pairs.to_vec(), owners, similarities });
                output.loss = info_nce_of(&image, &rows, &scale, towers.own_rows());
            }
            _ => output.loss = info_nce_of(&image, &text, &scale, towers.own_rows()),
        }
        if let Some(pool) = &mut self.pool
            && (phase == Phase::Matching || self.config.pool_update == PoolUpdate::EveryStep)
        {
            pool.enqueue(&text, pairs);
        }
        Ok(output)
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.pool.as_ref().map(|pool| pool.state("pool")).unwrap_or_default()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.pool = Pool::from_state(state, "pool", self.config.ring_write, self.shape.device)?;
        if self.pool.as_ref().is_some_and(|pool| pool.size() != self.rows as i64) {
            return Err(Error::setting(
                "the checkpoint's pool has another size than the recipe's",
                "resume with the recipe of the run",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::known_towers::{KnownBatch, KnownTowers, concepts};

    const SHAPE: RunShape = RunShape {
        seed: 0,
        epochs: 10,
        pairs: 100,
        batch_size: 4,
        embed_dim: 4,
        learning_rate: 1e-3,
        warmup_steps: 0,
        device: Device::Cpu,
    };

    fn roclip(config: RoClipConfig) -> RoClip {
        RoClip::new(RoClipConfig { pool_size: Some(8), ..config }, SHAPE).unwrap()
    }

    #[test]
    fn matching_epochs_follow_period_and_start() {
        let epochs = |config: RoClipConfig| -> Vec<u64> {
            let roclip = roclip(config);
            (1..=9).filter(|e| roclip.phase(*e) == Phase::Matching).collect()
        };
        assert_eq!(epochs(RoClipConfig::default()), [2, 4, 6, 8]);
        assert_eq!(epochs(RoClipConfig { match_start: Some(3), ..RoClipConfig::default() }), [3, 5, 7, 9]);
        assert_eq!(epochs(RoClipConfig { period: 3, ..RoClipConfig::default() }), [3, 6, 9]);
    }

    #[test]
    fn the_matching_loss_gives_text_no_gradient_and_queries_before_it_enqueues() {
        let mut roclip = roclip(RoClipConfig { pool_init: PoolInit::GaussianUnit, ..RoClipConfig::default() });
        roclip.begin_epoch(2, 100, &mut KnownTowers::new(&[], &[])).unwrap();
        let leaf = |seed: i64| {
            tch::manual_seed(seed);
            Tensor::randn([3, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true)
        };
        let read = |output: &LossOutput| output.matches.as_ref().unwrap().read().unwrap();
        let (image, text) = (leaf(1), leaf(2));
        let [image_unit, text_unit] = [&image, &text].map(crate::model::unit);
        let output = roclip.loss(Phase::Matching, &KnownBatch::new(&image_unit, &text_unit, 10.0, &[5, 6, 7])).unwrap();
        output.loss.backward();
        assert!(image.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
        assert!(!text.grad().defined());
        assert!(read(&output).iter().all(|m| m.neighbour.is_none()), "own captions must not be candidates yet");
        let asking = KnownBatch::new(&text_unit, &text_unit, 10.0, &[5, 6, 7]);
        let again = roclip.loss(Phase::Matching, &asking).unwrap();
        assert_eq!(read(&again).iter().map(|m| m.neighbour).collect::<Vec<_>>(), [Some(5), Some(6), Some(7)]);
    }

    #[test]
    fn only_the_text_tower_rests_in_matching_epochs() {
        let parts = [Part::Image, Part::Text, Part::Scale, Part::Objective];
        let updates = |text_in_match, phase| {
            let roclip = roclip(RoClipConfig { text_in_match, ..RoClipConfig::default() });
            parts.map(|part| roclip.update(phase, part))
        };
        let all = [Update::ByGradient; 4];
        for (setting, text) in
            [(TextInMatch::ZeroGradStep, Update::ByGradientOrZero), (TextInMatch::Freeze, Update::Rest)]
        {
            assert_eq!(updates(setting, Phase::Clip), all);
            assert_eq!(updates(setting, Phase::Matching), [all[0], text, all[2], all[3]]);
        }
    }

    /// A pool has as many rows as the settings say, and each row its own owner, whatever pictures can be read.
    #[test]
    fn the_first_pool_holds_a_caption_for_each_row_and_is_resumed() {
        let captions: Vec<i64> = (0..100).map(|at| at % 4).collect();
        let mut first = roclip(RoClipConfig::default());
        first.begin_epoch(2, 100, &mut KnownTowers::new(&captions, &captions)).unwrap();
        let state = first.state();
        let owners: Vec<i64> = Vec::try_from(&state["pool.owners"]).unwrap();
        let owned: Vec<i64> = owners.iter().map(|owner| owner % 4).collect();
        assert!(state["pool.rows"].equal(&concepts(&owned)), "each row is its owner's caption");
        assert_eq!(owners.len(), 8);
        roclip(RoClipConfig::default()).load_state(&state).unwrap();
    }

    #[test]
    fn impossible_settings_are_refused_with_a_remedy() {
        let error = |config: RoClipConfig| RoClip::new(config, SHAPE).err().unwrap().to_string();
        let default = RoClipConfig::default;
        for (config, named) in [
            (RoClipConfig { period: 0, ..default() }, "objective.roclip.period is 0"),
            (RoClipConfig { match_start: Some(0), ..default() }, "objective.roclip.match_start is 0"),
            (RoClipConfig { pool_fraction: Some(f64::NAN), ..default() }, "objective.roclip.pool_fraction is NaN"),
            (RoClipConfig { pool_size: Some(1), ..default() }, "objective.roclip.pool_size is 1"),
            (RoClipConfig { max_match_similarity: Some(1.5), ..default() }, "max_match_similarity is 1.5"),
            (RoClipConfig { match_learning_rate_scale: -1.0, ..default() }, "match_learning_rate_scale is -1"),
        ] {
            assert!(error(config).contains(named), "{named}");
        }
        assert!(
            error(RoClipConfig { pool_size: Some(101), ..RoClipConfig::default() }).contains("larger than the data")
        );
    }
}
