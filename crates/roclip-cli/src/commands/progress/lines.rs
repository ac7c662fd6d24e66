//! Progress where there is no terminal: a line now and then about a task that takes long. Training has lines of its own.

use super::estimate::Estimate;
use super::say;
use roclip_data::progress::{Gauge, Observer};
use std::time::Duration;

/// Between two lines about one task, and before the first.
const EVERY: Duration = Duration::from_secs(10);

pub struct Lines;

struct LineGauge {
    name: String,
    estimate: Estimate,
}

impl Observer for Lines {
    fn begin(&self, name: &str, total: u64, units: &'static str) -> Box<dyn Gauge> {
        Box::new(LineGauge { name: name.to_owned(), estimate: Estimate::new(total, units, EVERY) })
    }

    fn moves(&self) -> bool {
        false
    }
}

impl Gauge for LineGauge {
    fn done(&self, done: u64) {
        if self.name != "training" && self.estimate.is_due() {
            say(&format!("{}: {}", self.name, self.estimate.words(done)));
        }
    }

    fn note(&self, _: &str, _: Option<f64>) {}
}
