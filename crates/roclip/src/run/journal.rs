//! Everything that a run says of itself while it goes: lines for people, `log.jsonl`, `metrics.jsonl`, TensorBoard's event files and the
//! task that an observer sees.

use crate::error::{Error, Result};
use crate::run::clock::seconds_since_1970;
use crate::run::lines::{EpochMetrics, StepRow, epoch_line, epoch_scalars, step_line, step_scalars};
use crate::run::log::RunLog;
use crate::run::pace::{Left, Pace};
use crate::run::tensorboard::EventFile;
use crate::train::{MetricsLog, StepDone, Trainer};
use roclip_data::progress::{self, Task};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// An observer is told of steps at most this often.
const TOLD_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Journal<'a> {
    lines: &'a mut dyn FnMut(&str),
    pub log: RunLog,
    files: Option<Files>,
    pub pace: Pace,
    task: Option<Task>,
    told: Option<Instant>,
}

/// What is written in the run's folder besides the log.
struct Files {
    metrics: MetricsLog,
    /// None where it could not be written: what it holds is in the metrics, too.
    events: Option<EventFile>,
}

impl<'a> Journal<'a> {
    pub fn new(lines: &'a mut dyn FnMut(&str)) -> Self {
        Journal { lines, log: RunLog::new(), files: None, pace: Pace::default(), task: None, told: None }
    }

    /// Begins to write in the folder `run`, behind `step` where the run goes on.
    pub fn open(&mut self, run: &Path, step: u64, resumed: bool) -> Result<()> {
        let opened = self.log.open(run, resumed);
        self.warn(opened);
        let events = EventFile::create(&run.join("tensorboard"), seconds_since_1970(), step);
        let events = self.warn(events);
        self.files = Some(Files { metrics: MetricsLog::open(run, step)?, events });
        Ok(())
    }

    /// Says a line to people and to the log.
    pub fn say(&mut self, line: &str) {
        (self.lines)(line);
        self.note(line);
    }

    /// Says a line to the log alone.
    pub fn note(&mut self, line: &str) {
        let kept = self.log.line(line);
        self.warn(kept);
    }

    /// Says what ended the run to the log alone; being stopped is no error.
    pub fn note_end(&mut self, error: &Error) {
        self.note(&match error {
            Error::Stopped { .. } => error.to_string(),
            _ => format!("error: {error}"),
        });
    }

    /// What the metrics hold, too, is worth a warning and not a run.
    fn warn<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| (self.lines)(&format!("warning: {error}; the run goes on without that file"))).ok()
    }

    /// Appends a row to the metrics.
    pub fn row<T: Serialize>(&mut self, event: &str, step: u64, epoch: u64, values: &T) -> Result<()> {
        let stamp = self.log.clock.stamp();
        let files = self.files.as_mut().ok_or_else(|| Error::internal("the journal is not open"))?;
        files.metrics.write(event, step, epoch, stamp, values)
    }

    /// Brings the metrics to the disk.
    pub fn sync(&self) -> Result<()> {
        self.files.as_ref().map_or(Ok(()), |files| files.metrics.sync())
    }

    /// Appends a row to TensorBoard's file.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) {
        let Some(events) = self.files.as_mut().and_then(|files| files.events.as_mut()) else { return };
        let written = events.write(seconds_since_1970(), step, scalars);
        if self.warn(written).is_none()
            && let Some(files) = &mut self.files
        {
            files.events = None;
        }
    }

    /// A step is done, and so much of the run is `left`.
    pub fn step(&mut self, trainer: &Trainer, done: &StepDone, left: &Left) -> Result<()> {
        let position = trainer.position;
        self.pace.step(done.seconds);
        let seconds_left = self.pace.seconds_left(left);
        let pairs_per_second = trainer.config.batch_size as f64 / self.pace.seconds_a_step().max(1e-9);
        if position.step.is_multiple_of(trainer.config.log_every_steps.max(1)) {
            let row = StepRow { metrics: &done.metrics, pairs_per_second };
            self.row("step", position.step, position.epoch, &row)?;
            self.scalars(position.step, &step_scalars(&row));
            let line = step_line(trainer, done, seconds_left);
            if progress::moves() { self.note(&line) } else { self.say(&line) }
        }
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            let steps = trainer.schedule.steps_per_epoch * trainer.config.epochs;
            let task = self.task.get_or_insert_with(|| Task::begin("training", steps as usize, "steps"));
            task.set(steps.saturating_sub(left.steps));
            let (epoch, epochs, loss) = (position.epoch, trainer.config.epochs, done.metrics.loss);
            task.note(
                &format!("epoch {epoch}/{epochs} loss {loss:.3} {pairs_per_second:.0} pairs/s"),
                Some(seconds_left),
            );
        }
        Ok(())
    }

    /// The epoch of `report` is done.
    pub fn epoch(&mut self, trainer: &Trainer, epoch: u64, report: &EpochMetrics) -> Result<()> {
        let step = trainer.position.step;
        self.row("epoch", step, epoch, report)?;
        self.scalars(step, &epoch_scalars(report));
        self.say(&epoch_line(epoch, report));
        Ok(())
    }

    /// Training is over: its task ends.
    pub fn trained(&mut self) {
        self.task = None;
    }
}
