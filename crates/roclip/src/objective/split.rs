//! SafeCLIP's split of the data into safe and risky (arXiv 2310.05862; repository BigML-CS-UCLA/SafeCLIP, `src/samplers.py`): a pure
//! function of the scores and of how much was safe before.

use crate::error::{Error, Result};
use crate::objective::dip::scaled_dip;
use crate::objective::mixture::{Mixture, PosteriorGuard};
use crate::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when the scores do not fall into two groups, or the safe one is smaller than a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Unseparated {
    /// The most similar `fallback_fraction` of the pairs is safe (the authors' older rule), and the metrics say so.
    #[default]
    Fallback,
    /// The run stops.
    Stop,
}

/// How SafeCLIP splits the pairs into safe and risky ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// First split: a pair is safe when its posterior reaches this. It is used once, as released.
    pub threshold: f64,
    /// Ours: the first split takes this share of the pairs, the best by score, and the mixture has no say; off when absent. For scores that
    /// are good at the top but do not fall into two groups.
    #[schemars(example = 0.15)]
    pub first_share: Option<f64>,
    /// Share of all pairs by which the safe set grows in each later epoch.
    pub growth: f64,
    /// Largest share of the pairs in the safe set.
    pub cap: f64,
    /// What the posterior does where the wider component wins again on the far side.
    pub guard: PosteriorGuard,
    /// Least distance of the two means, in units of their root mean variance (Ashman's D). Ours.
    pub min_separation: f64,
    /// Whether the mixture counts only where the scores have two humps: a mixture of two fits one hump of any shape, too. They have where
    /// the dip test rejects a single hump, or where the means are further apart than the halves of any hump are. Ours.
    pub dip_test: bool,
    /// What happens when the scores do not fall into two groups, or the safe one is smaller than a batch.
    pub unseparated: Unseparated,
    /// Share of the pairs that is safe when the scores do not fall into two groups, with `unseparated = "fallback"`.
    pub fallback_fraction: f64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        SplitConfig {
            threshold: 0.9,
            first_share: None,
            growth: 0.01,
            cap: 0.85,
            guard: PosteriorGuard::Monotone,
            min_separation: 1.0,
            dip_test: true,
            unseparated: Unseparated::Fallback,
            fallback_fraction: 0.15,
        }
    }
}

/// Scaled dips above this are those of fewer than one in a thousand samples with a single hump.
const DIP_OF_TWO_HUMPS: f64 = 0.7;
/// Two halves of a uniform distribution, the widest hump that there is, have 3.5.
const PLAINLY_APART: f64 = 4.0;

impl SplitConfig {
    /// Refuses numbers that no split can be made with.
    pub fn check(&self) -> Result<()> {
        let key = |name: &str| format!("objective.safeclip.split.{name}");
        settings::not_negative(&key("threshold"), self.threshold)?;
        settings::share(&key("growth"), self.growth)?;
        settings::share(&key("cap"), self.cap)?;
        settings::not_negative(&key("min_separation"), self.min_separation)?;
        settings::share(&key("fallback_fraction"), self.fallback_fraction)?;
        match self.first_share.filter(|share| !(0.0..=self.cap).contains(share)) {
            None => Ok(()),
            Some(share) => Err(Error::setting(
                format!("{} is {share}, and cap {}", key("first_share"), self.cap),
                "set a share between 0 and the cap, or remove it and let the mixture decide",
            )),
        }
    }

    /// Whether `mixture` stands for two groups of `scores`.
    fn separates(&self, mixture: &Mixture, scores: &[f64]) -> bool {
        let separation = mixture.separation();
        let two_humps = || separation >= PLAINLY_APART || scaled_dip(scores) >= DIP_OF_TWO_HUMPS;
        separation >= self.min_separation && (!self.dip_test || two_humps())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Indices of safe pairs, ascending.
    pub safe: Vec<usize>,
    /// Share of all pairs that may be safe in the next epoch.
    pub next_share: f64,
    pub mixture: Option<Mixture>,
    /// The fallback decided.
    pub fell_back: bool,
}

/// Splits pairs by `scores` (similarity of image and own caption, by pair; not finite where a pair cannot be read). `share` is the share to
/// fill, none for the first split. `batch_size` is the least useful safe set.
pub fn split(config: &SplitConfig, scores: &[f64], share: Option<f64>, batch_size: usize) -> Result<Split> {
    let count = scores.len();
    let first = if share.is_none() { config.first_share } else { None };
    let given = share.or(first);
    let readable: Vec<f64> = scores.iter().copied().filter(|score| score.is_finite()).collect();
    let mixture = Mixture::fit(&readable).filter(|mixture| config.separates(mixture, &readable));
    let posterior =
        |score: f64| mixture.filter(|_| score.is_finite()).map_or(0.0, |m| m.posterior(score, config.guard));
    // By posterior, then similarity, then id: saturated posteriors tie, and ties must not be arbitrary.
    let ranked = |(at, score): (usize, &f64)| {
        let score = if score.is_finite() { *score } else { f64::NEG_INFINITY };
        (posterior(score), score, at)
    };
    let mut keyed: Vec<(f64, f64, usize)> = scores.iter().enumerate().map(ranked).collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    let wanted = match given {
        Some(share) => (share * count as f64).floor() as usize,
        None => keyed.iter().filter(|(q, _, _)| *q >= config.threshold).count(),
    };
    let unusable = first.is_none() && (mixture.is_none() || wanted < batch_size.min(count));
    if unusable && config.unseparated == Unseparated::Stop {
        let why = match mixture {
            None => "the similarities of images and captions do not fall into two groups".to_owned(),
            Some(_) => format!("only {wanted} of {count} pairs are safe, fewer than a batch of {batch_size}"),
        };
        return Err(Error::setting(
            format!("safeclip: {why}"),
            "raise slow_steps or slow_learning_rate, lower split.threshold, or set split.unseparated = \"fallback\"",
        ));
    }
    // A later epoch's share stands even when its mixture does not: then similarity alone ranks.
    let take = match given {
        None if unusable => (config.fallback_fraction * count as f64).floor() as usize,
        _ => wanted,
    };
    let take = take.clamp(batch_size.min(count), count);
    let mut safe: Vec<usize> = keyed.iter().take(take).map(|(_, _, at)| *at).collect();
    safe.sort_unstable();
    let now = safe.len() as f64 / count.max(1) as f64;
    let next_share = (share.unwrap_or(now) + config.growth).min(config.cap);
    Ok(Split { safe, next_share, mixture, fell_back: unusable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use roclip_data::random;

    fn scores() -> Vec<f64> {
        // 60 low, 40 high, each with a little spread.
        (0..100).map(|n| if n < 60 { 0.1 + 0.001 * f64::from(n) } else { 0.6 + 0.001 * f64::from(n) }).collect()
    }

    #[test]
    fn the_first_split_takes_the_high_component_and_the_safe_share_grows_to_its_cap() {
        let config = SplitConfig::default();
        let first = split(&config, &scores(), None, 8).unwrap();
        assert_eq!(first.safe, (60..100).collect::<Vec<_>>());
        assert!(!first.fell_back && (first.next_share - 0.41).abs() < 1e-12);
        let second = split(&config, &scores(), Some(first.next_share), 8).unwrap();
        assert_eq!(second.safe.len(), 41);
        assert!(second.safe.contains(&59), "the most similar of the rest comes in");
        let late = split(&config, &scores(), Some(0.849), 8).unwrap();
        assert_eq!(late.next_share, 0.85);
    }

    #[test]
    fn a_first_share_asks_no_mixture_and_grows_from_there() {
        let config = SplitConfig { first_share: Some(0.3), unseparated: Unseparated::Stop, ..SplitConfig::default() };
        let first = split(&config, &scores(), None, 8).unwrap();
        assert_eq!(first.safe, (70..100).collect::<Vec<_>>());
        assert!((first.next_share - 0.31).abs() < 1e-12);
        let flat = split(&config, &[0.3; 100], None, 8).unwrap();
        assert!(!flat.fell_back && flat.safe.len() == 30);
        let later = split(&config, &scores(), Some(0.5), 8).unwrap();
        assert_eq!(later.safe.len(), 50);
    }

    #[test]
    fn ties_are_broken_by_similarity_and_then_by_place() {
        let equal: Vec<f64> = (0..100).map(|n| if n < 50 { 0.1 } else { 0.9 }).collect();
        let found = split(&SplitConfig::default(), &equal, Some(0.2), 8).unwrap();
        assert_eq!(found.safe, (50..70).collect::<Vec<_>>());
    }

    #[test]
    fn scores_without_two_groups_fall_back_or_stop() {
        let flat = vec![0.3; 100];
        let found = split(&SplitConfig::default(), &flat, None, 8).unwrap();
        assert!(found.fell_back && found.mixture.is_none());
        assert_eq!(found.safe, (0..15).collect::<Vec<_>>());
        let stop = SplitConfig { unseparated: Unseparated::Stop, ..SplitConfig::default() };
        assert!(split(&stop, &flat, None, 8).unwrap_err().to_string().contains("two groups"));
        let strict = SplitConfig { threshold: 1.1, ..stop };
        assert!(split(&strict, &scores(), None, 8).unwrap_err().to_string().contains("fewer than a batch"));
    }

    /// `count` draws from a normal distribution of this mean and deviation.
    fn normal(count: usize, mean: f64, deviation: f64, seed: u64) -> Vec<f64> {
        let mut random = random::stream(seed, "test-split", 0, "");
        let mut draw = || {
            let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
            mean + deviation * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..count).map(|_| draw()).collect()
    }

    #[test]
    fn one_hump_of_any_shape_is_not_two_groups() {
        let config = SplitConfig::default();
        let plain = normal(20_000, 0.3, 0.1, 1);
        let mut random = random::stream(2, "test-split", 0, "");
        let exponential: Vec<f64> = (0..20_000).map(|_| -(1.0 - random.random::<f64>()).ln()).collect();
        let uniform: Vec<f64> = (0..20_000).map(|_| random.random()).collect();
        for (name, scores) in [("normal", plain), ("exponential", exponential), ("uniform", uniform)] {
            let found = split(&config, &scores, None, 8).unwrap();
            assert!(found.fell_back && found.mixture.is_none(), "{name}: {:?}", found.mixture);
            let off = SplitConfig { dip_test: false, ..config };
            assert!(split(&off, &scores, None, 8).unwrap().mixture.is_some(), "{name} fits two components well");
        }
    }

    #[test]
    fn groups_that_a_slow_clip_epoch_pulls_apart_are_two() {
        let config = SplitConfig::default();
        // Most pairs near nought, and those that are learned first above; boundary near 0.2 as observed on CC1M.
        let mut scores = normal(8_000, 0.08, 0.05, 1);
        scores.extend(normal(1_500, 0.34, 0.06, 2));
        let found = split(&config, &scores, None, 8).unwrap();
        assert!(!found.fell_back, "{:?}", found.mixture);
        assert!((0.12..0.18).contains(&(found.safe.len() as f64 / 9_500.0)), "{}", found.safe.len());
        // A small group far away is one, however few they are.
        let mut few = normal(400, 0.9, 0.01, 3);
        few.extend(normal(6, 0.1, 0.01, 4));
        assert!(split(&config, &few, None, 8).unwrap().mixture.is_some());
    }
}
