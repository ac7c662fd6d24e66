//! A Gaussian mixture of two components on one dimension, by expectation maximisation in f64 (scikit-learn's `GaussianMixture`
//! with its defaults, which SafeCLIP uses on pair similarities), with what the released code lacks: a posterior that cannot turn
//! around, and a measure of whether there are two components at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MAX_ITERATIONS: usize = 100;
/// On the mean log-likelihood.
const TOLERANCE: f64 = 1e-3;
/// Added to variances.
const REGULARISATION: f64 = 1e-6;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Component {
    pub weight: f64,
    pub mean: f64,
    pub variance: f64,
}

impl Component {
    fn log_density(&self, x: f64) -> f64 {
        let scaled = (x - self.mean).powi(2) / self.variance;
        self.weight.max(f64::MIN_POSITIVE).ln() - 0.5 * (scaled + (std::f64::consts::TAU * self.variance).ln())
    }
}

/// `low` has the smaller mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    pub low: Component,
    pub high: Component,
    pub iterations: usize,
}

/// What the posterior does where the wider component wins again on the far side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PosteriorGuard {
    /// It never falls as the score rises: 0 below the low mean, and above the high mean at least what it is there.
    #[default]
    Monotone,
    /// Nothing, as released.
    Off,
}

impl Mixture {
    /// Fits `scores`; none when there are fewer than four, one is not finite, or all are equal.
    pub fn fit(scores: &[f64]) -> Option<Mixture> {
        let (low, high) = scores.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
        if scores.len() < 4 || low >= high || scores.iter().any(|score| !score.is_finite()) {
            return None;
        }
        let mut mixture = from_responsibilities(scores, &two_means(scores, low, high), 0);
        let mut previous = f64::NEG_INFINITY;
        for iteration in 1..=MAX_ITERATIONS {
            let mut likelihood = 0.0;
            let responsibilities: Vec<f64> = scores
                .iter()
                .map(|x| {
                    let (a, b) = (mixture.low.log_density(*x), mixture.high.log_density(*x));
                    let total = a.max(b) + ((a - a.max(b)).exp() + (b - a.max(b)).exp()).ln();
                    likelihood += total;
                    (b - total).exp()
                })
                .collect();
            likelihood /= scores.len() as f64;
            mixture = from_responsibilities(scores, &responsibilities, iteration);
            if (likelihood - previous).abs() < TOLERANCE {
                break;
            }
            previous = likelihood;
        }
        if mixture.low.mean > mixture.high.mean {
            std::mem::swap(&mut mixture.low, &mut mixture.high);
        }
        Some(mixture)
    }

    /// Ashman's D: the distance of the means in units of the root mean variance. Two humps of equal width and weight have a valley between
    /// them above 2. It measures the fit, not the data: one normal gives about 1.6, one exponential 1.8, and a uniform 3.1.
    pub fn separation(&self) -> f64 {
        (self.high.mean - self.low.mean) / ((self.low.variance + self.high.variance) / 2.0).sqrt()
    }

    /// Probability that `score` belongs to the high component.
    pub fn posterior(&self, score: f64, guard: PosteriorGuard) -> f64 {
        let plain = |x: f64| {
            let (a, b) = (self.low.log_density(x), self.high.log_density(x));
            1.0 / (1.0 + (a - b).exp())
        };
        match guard {
            PosteriorGuard::Off => plain(score),
            PosteriorGuard::Monotone if score <= self.low.mean => 0.0,
            PosteriorGuard::Monotone => match self.turning_point() {
                // A wide low component wins again beyond the turn: stay at the greatest value.
                Some(turn) if self.low.variance > self.high.variance => plain(score.min(turn)),
                // A wide high component wins again below it: stay at the least.
                Some(turn) => plain(score.max(turn)),
                None => plain(score),
            },
        }
    }

    /// Where the log ratio of the components turns around; none for equal variances.
    fn turning_point(&self) -> Option<f64> {
        let (a, b) = (1.0 / self.low.variance, 1.0 / self.high.variance);
        ((a - b).abs() > f64::EPSILON).then(|| (self.low.mean * a - self.high.mean * b) / (a - b))
    }
}

/// Lloyd's algorithm from the extremes: 1 for members of the upper cluster.
fn two_means(scores: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut border = (low + high) / 2.0;
    for _ in 0..MAX_ITERATIONS {
        let mean = |upper: bool| {
            let members = scores.iter().filter(|x| (**x > border) == upper);
            let (sum, count) = members.fold((0.0, 0usize), |(s, n), x| (s + x, n + 1));
            sum / count.max(1) as f64
        };
        let next = (mean(false) + mean(true)) / 2.0;
        if (next - border).abs() < 1e-12 {
            break;
        }
        border = next;
    }
    scores.iter().map(|x| f64::from(u8::from(*x > border))).collect()
}

/// The maximisation step; `responsibilities` are the high component's.
fn from_responsibilities(scores: &[f64], responsibilities: &[f64], iterations: usize) -> Mixture {
    let component = |share: &dyn Fn(f64) -> f64| {
        let total = responsibilities.iter().map(|r| share(*r)).sum::<f64>().max(1e-12);
        let weighted = |value: &dyn Fn(f64) -> f64| {
            scores.iter().zip(responsibilities).map(|(x, r)| share(*r) * value(*x)).sum::<f64>() / total
        };
        let mean = weighted(&|x| x);
        let variance = weighted(&|x| (x - mean).powi(2)) + REGULARISATION;
        Component { weight: total / scores.len() as f64, mean, variance }
    };
    Mixture { low: component(&|r| 1.0 - r), high: component(&|r| r), iterations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use roclip_data::random;

    fn sample(count: usize, mean: f64, deviation: f64, seed: u64) -> Vec<f64> {
        let mut random = random::stream(seed, "test-mixture", 0, "");
        let normal = |random: &mut random::Stream| {
            let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..count).map(|_| mean + deviation * normal(&mut random)).collect()
    }

    #[test]
    fn two_gaussians_are_found_again() {
        let mut scores = sample(20_000, 0.05, 0.04, 1);
        scores.extend(sample(10_000, 0.5, 0.06, 2));
        let found = Mixture::fit(&scores).unwrap();
        assert!((found.low.mean - 0.05).abs() < 1.5e-3 && (found.high.mean - 0.5).abs() < 2e-3, "{found:?}");
        assert!((found.low.weight - 2.0 / 3.0).abs() < 2e-3, "{found:?}");
        assert!((found.high.variance.sqrt() - 0.06).abs() < 2e-3, "{found:?}");
        assert!(found.separation() > 5.0);
    }

    #[test]
    fn equal_scores_have_no_mixture_and_one_hump_no_separation() {
        assert_eq!(Mixture::fit(&[0.2; 50]), None);
        assert_eq!(Mixture::fit(&[f64::NAN, 0.0, 0.1, 0.2]), None);
        let one = Mixture::fit(&sample(5_000, 0.3, 0.1, 3)).unwrap();
        assert!(one.separation() < 3.0, "{one:?}");
    }

    /// The case of the released code's missing guard: a wide high component claims the lowest scores.
    #[test]
    fn the_guard_keeps_low_scores_low() {
        let component = |mean, deviation: f64| Component { weight: 0.5, mean, variance: deviation * deviation };
        let wide = Mixture { low: component(0.05, 0.05), high: component(0.20, 0.09), iterations: 0 };
        assert!(wide.posterior(-0.3, PosteriorGuard::Off) > 0.999);
        assert_eq!(wide.posterior(-0.3, PosteriorGuard::Monotone), 0.0);
        let narrow = Mixture { low: component(0.05, 0.09), high: component(0.20, 0.03), iterations: 0 };
        assert!(narrow.posterior(0.6, PosteriorGuard::Off) < 0.01);
        for mixture in [wide, narrow] {
            let mut last = 0.0;
            for step in -100..200 {
                let now = mixture.posterior(f64::from(step) / 100.0, PosteriorGuard::Monotone);
                assert!(now >= last - 1e-12, "falls at {step}: {last} to {now} in {mixture:?}");
                last = now;
            }
            assert!(last > 0.5);
        }
    }
}
