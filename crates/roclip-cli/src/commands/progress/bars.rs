//! Progress on a terminal: a bar for each task that takes more than a moment, gone when the task is done.

use super::SCREEN;
use super::estimate::{Estimate, duration};
use super::messages::Message;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use roclip_data::escape::for_terminal;
use roclip_data::progress::{Gauge, Observer};
use std::sync::OnceLock;
use std::time::Duration;

/// Between two looks of a bar, and before the first.
const EVERY: Duration = Duration::from_millis(150);
/// Below as many columns a percentage stands in for the bar.
const NARROW_COLUMNS: u16 = 70;

pub struct Bars(pub MultiProgress);

struct BarGauge {
    bars: MultiProgress,
    name: String,
    estimate: Estimate,
    /// From the first time that it is due.
    bar: OnceLock<ProgressBar>,
    noted: OnceLock<()>,
}

impl Observer for Bars {
    fn begin(&self, name: &str, total: u64, units: &'static str) -> Box<dyn Gauge> {
        Box::new(BarGauge {
            bars: self.0.clone(),
            name: name.to_owned(),
            estimate: Estimate::new(total, units, EVERY),
            bar: OnceLock::new(),
            noted: OnceLock::new(),
        })
    }

    fn moves(&self) -> bool {
        true
    }
}

impl Gauge for BarGauge {
    fn done(&self, done: u64) {
        if self.estimate.is_due() {
            let bar = self.bar.get_or_init(|| new_bar(&self.bars, &self.name, self.estimate.total));
            if self.noted.get().is_none() {
                bar.set_message(self.estimate.words(done));
            }
            bar.set_position(done);
        }
    }

    fn note(&self, note: &str, seconds_left: Option<f64>) {
        // Its words are better than a count.
        let _ = self.noted.set(());
        if let Some(bar) = self.bar.get() {
            bar.set_message(with_time(note, seconds_left));
        }
    }
}

impl Drop for BarGauge {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
    }
}

/// The time first: a narrow terminal cuts off what comes last.
fn with_time(note: &str, seconds_left: Option<f64>) -> String {
    let left = seconds_left.map(|seconds| format!("{} left, ", duration(seconds))).unwrap_or_default();
    for_terminal(&format!("{left}{note}")).into_owned()
}

fn new_bar(bars: &MultiProgress, name: &str, total: u64) -> ProgressBar {
    let (_, columns) = Term::stderr().size();
    let template = match (total, columns < NARROW_COLUMNS) {
        (0, _) => "{prefix} {wide_msg}",
        (_, true) => "{prefix} {percent:>3}% {wide_msg}",
        (_, false) => "{prefix} [{bar:20}] {percent:>3}% {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = bars.add(ProgressBar::new(total).with_style(style.progress_chars("=> ")));
    bar.set_prefix(for_terminal(name).into_owned());
    bar
}

/// A run of the demo.
pub struct Row {
    bar: Option<ProgressBar>,
    bars: Option<MultiProgress>,
}

/// Shows a run of the demo until the row is dropped; nothing where there is no terminal.
pub fn row(name: &str) -> Row {
    let bars = SCREEN.get().and_then(|screen| screen.bars.clone());
    let bar = bars.as_ref().map(|bars| new_bar(bars, name, 1));
    if let Some(bar) = &bar {
        bar.set_message("starts");
        bar.tick();
    }
    Row { bar, bars }
}

impl Row {
    pub fn show(&self, message: &Message) {
        let Some(bar) = &self.bar else { return };
        match &message.note {
            Some((note, left)) => {
                bar.set_length(message.total.max(1));
                bar.set_position(message.done);
                bar.set_message(with_time(note, *left));
            }
            None => {
                let share = 100 * message.done / message.total.max(1);
                bar.set_message(for_terminal(&format!("{} {share} %", message.task)).into_owned());
            }
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if let (Some(bar), Some(bars)) = (&self.bar, &self.bars) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
    }
}
