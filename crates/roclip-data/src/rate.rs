//! Rates with their counts and 95 % Wilson intervals.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct Rate {
    pub hits: usize,
    pub n: usize,
    /// `hits / n`.
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

impl Rate {
    /// The Wilson score interval with z = 1.96; of nothing it is all of [0, 1].
    pub fn new(hits: usize, n: usize) -> Rate {
        if n == 0 {
            return Rate { hits, n, rate: 0.0, low: 0.0, high: 1.0 };
        }
        const Z: f64 = 1.96;
        let (count, p) = (n as f64, hits as f64 / n as f64);
        let scale = 1.0 + Z * Z / count;
        let centre = (p + Z * Z / (2.0 * count)) / scale;
        let half = Z * (p * (1.0 - p) / count + Z * Z / (4.0 * count * count)).sqrt() / scale;
        Rate { hits, n, rate: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with statsmodels' `proportion_confint(2, 16, method="wilson")`.
    #[test]
    fn two_of_sixteen() {
        let rate = Rate::new(2, 16);
        assert!((rate.low - 0.0350).abs() < 5e-4 && (rate.high - 0.3602).abs() < 5e-4, "{rate:?}");
    }
}
