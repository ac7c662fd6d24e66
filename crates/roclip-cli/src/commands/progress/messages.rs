//! Progress from a run to the demo that started it: JSON lines on stdout, which the demo reads.

use super::estimate::Estimate;
use roclip_data::progress::{Gauge, Observer};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(200);

/// What a run says of the task that it is at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub task: String,
    pub done: u64,
    pub total: u64,
    /// Words of the task's own, with the seconds left, where it has them.
    pub note: Option<(String, Option<f64>)>,
}

pub struct Messages;

struct MessageGauge {
    name: String,
    estimate: Estimate,
    note: Mutex<Option<(String, Option<f64>)>>,
}

impl Observer for Messages {
    fn begin(&self, name: &str, total: u64, units: &'static str) -> Box<dyn Gauge> {
        let estimate = Estimate::new(total, units, EVERY);
        Box::new(MessageGauge { name: name.to_owned(), estimate, note: Mutex::default() })
    }

    fn moves(&self) -> bool {
        false // The run's log keeps its lines.
    }
}

impl Gauge for MessageGauge {
    fn done(&self, done: u64) {
        if !self.estimate.is_due() {
            return;
        }
        let note = self.note.lock().map_or(None, |note| note.clone());
        let message = Message { task: self.name.clone(), done, total: self.estimate.total, note };
        // A demo that no longer reads is about to end this run.
        let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&message).unwrap_or_default());
    }

    fn note(&self, note: &str, seconds_left: Option<f64>) {
        if let Ok(mut kept) = self.note.lock() {
            *kept = Some((note.to_owned(), seconds_left));
        }
    }
}
