//! Rates with their counts and 95 % Wilson intervals.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rate {
    pub hits: usize,
    pub n: usize,
    /// `hits / n`; 0 of nothing, where nothing was measured ([`Rate::measured`]).
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

    /// None where there was nothing to count: a rate of nothing is no 0 %.
    pub fn measured(self) -> Option<Rate> {
        (self.n > 0).then_some(self)
    }

    /// The rate itself; none where nothing was measured.
    pub fn share(self) -> Option<f64> {
        self.measured().map(|rate| rate.rate)
    }

    /// In percent with so many decimals; `-` where nothing was measured.
    pub fn percent(self, decimals: usize) -> String {
        self.share().map_or_else(|| "-".to_owned(), |share| format!("{:.decimals$}", 100.0 * share))
    }
}

/// A rate in files: of nothing, the share and its interval are null.
#[derive(Serialize, Deserialize)]
struct Written {
    hits: usize,
    n: usize,
    rate: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl From<Rate> for Written {
    fn from(rate: Rate) -> Self {
        let known = |value: f64| rate.measured().map(|_| value);
        Written { hits: rate.hits, n: rate.n, rate: known(rate.rate), low: known(rate.low), high: known(rate.high) }
    }
}

impl TryFrom<Written> for Rate {
    type Error = String;

    fn try_from(Written { hits, n, rate, low, high }: Written) -> std::result::Result<Self, String> {
        match (n, rate, low, high) {
            (0, ..) => Ok(Rate::new(hits, n)),
            (_, Some(rate), Some(low), Some(high)) => Ok(Rate { hits, n, rate, low, high }),
            _ => Err(format!("{hits} hits of {n} without their rate, or its interval")),
        }
    }
}

/// One rate by another, with a 95 % interval.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// `of / by` with Katz's log interval, as of independent pictures; none where `by` has no hits, or `of` nothing to hit. Where `of` has no
    /// hits, half a hit and half a miss more of both (Walter 1975) bound it from above.
    pub fn new(of: Rate, by: Rate) -> Option<Ratio> {
        if of.n == 0 || by.hits == 0 {
            return None;
        }
        const Z: f64 = 1.96;
        let more = if of.hits == 0 { 0.5 } else { 0.0 };
        let of_more = |rate: Rate| (rate.hits as f64 + more, rate.n as f64 + more);
        let ((own, own_all), (other, other_all)) = (of_more(of), of_more(by));
        let middle = (own / own_all) / (other / other_all);
        let spread = (Z * (1.0 / own - 1.0 / own_all + 1.0 / other - 1.0 / other_all).sqrt()).exp();
        match of.hits {
            0 => Some(Ratio { ratio: 0.0, low: 0.0, high: middle * spread }),
            _ => Some(Ratio { ratio: middle, low: middle / spread, high: middle * spread }),
        }
    }
}

/// A difference with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub middle: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Whether zero lies outside.
    pub fn is_clear(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// `a` less `b`, two rates of one run each, by Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10). Runs share
/// their test images, which it does not know: it is rather too wide.
pub fn difference(a: Rate, b: Rate) -> Interval {
    let middle = a.rate - b.rate;
    Interval {
        middle,
        low: middle - (a.rate - a.low).hypot(b.high - b.rate),
        high: middle + (a.high - a.rate).hypot(b.rate - b.low),
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

    #[test]
    fn of_nothing_there_is_no_rate() {
        let none = serde_json::to_value(Rate::new(0, 0)).unwrap();
        assert!(none["rate"].is_null() && none["low"].is_null() && none["n"] == 0, "{none}");
        assert_eq!(serde_json::from_value::<Rate>(none).unwrap(), Rate::new(0, 0));
        let older = serde_json::json!({"hits": 0, "n": 0, "rate": 0.0, "low": 0.0, "high": 1.0});
        assert_eq!(serde_json::from_value::<Rate>(older).unwrap().measured(), None);
        let some = Rate::new(1, 3);
        assert_eq!(serde_json::from_value::<Rate>(serde_json::to_value(some).unwrap()).unwrap(), some);
        assert!(serde_json::from_value::<Rate>(serde_json::json!({"hits": 1, "n": 3})).is_err());
        assert_eq!([some.percent(1), Rate::new(0, 0).percent(1)], ["33.3", "-"]);
    }

    /// Newcombe 1998, table II, case (a), method 10: 56/70 less 48/80 is 0.2 [0.0524, 0.3339].
    #[test]
    fn the_difference_of_two_rates() {
        let found = difference(Rate::new(56, 70), Rate::new(48, 80));
        assert!((found.low - 0.0524).abs() < 1e-4 && (found.high - 0.3339).abs() < 1e-4, "{found:?}");
        assert!(found.is_clear() && !difference(Rate::new(53, 184), Rate::new(66, 184)).is_clear());
    }

    /// Katz et al. 1978: 40 of 100 by 20 of 100.
    #[test]
    fn a_ratio_of_two_rates_has_an_interval_that_is_symmetric_in_its_logarithm() {
        let ratio = Ratio::new(Rate::new(40, 100), Rate::new(20, 100)).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-12 && (ratio.low * ratio.high - 4.0).abs() < 1e-9);
        assert!((ratio.low - 1.2632).abs() < 1e-3, "{ratio:?}");
        assert_eq!(Ratio::new(Rate::new(3, 9), Rate::new(0, 9)), None);
    }

    /// log(0.5 / 177.5 * 177.5 / 99.5) + 1.96 * sqrt(1 / 0.5 - 1 / 177.5 + 1 / 99.5 - 1 / 177.5), by hand.
    #[test]
    fn no_hits_are_a_ratio_of_zero_with_a_bound() {
        let ratio = Ratio::new(Rate::new(0, 177), Rate::new(99, 177)).unwrap();
        assert_eq!((ratio.ratio, ratio.low), (0.0, 0.0));
        assert!((ratio.high - 0.0803).abs() < 1e-4, "{ratio:?}");
    }
}
