//! `metrics.jsonl`: one JSON object a line, appended as the run goes. A resumed run first cuts what came after its checkpoint.

use crate::error::{Error, IoContext, Result};
use crate::objective::Phase;
use roclip_data::artifact;
use roclip_data::plural::count;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens `RUN/metrics.jsonl`, keeping only lines up to `step`.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        if step > 0 && path.is_file() {
            let kept: String = read_metrics(run)?
                .into_iter()
                .filter(|line| line.get("step").and_then(Value::as_u64).is_some_and(|at| at <= step))
                .map(|line| format!("{line}\n"))
                .collect();
            artifact::write(&path, kept.as_bytes())?;
        } else {
            artifact::write(&path, b"")?;
        }
        let file = OpenOptions::new().append(true).open(&path).io("open", &path)?;
        Ok(MetricsLog { path, file })
    }

    pub fn write<T: Serialize>(&mut self, event: &str, step: u64, epoch: u64, stamp: Stamp, values: &T) -> Result<()> {
        let json = |e| Error::internal(format!("metrics: {e}"));
        let mut line = serde_json::to_value(values).map_err(json)?;
        if let (Some(fields), Value::Object(stamp)) = (line.as_object_mut(), serde_json::to_value(stamp).map_err(json)?)
        {
            fields.extend(stamp);
            fields.insert("event".into(), event.into());
            fields.insert("step".into(), step.into());
            fields.insert("epoch".into(), epoch.into());
        }
        writeln!(self.file, "{line}").io("append to", &self.path)
    }

    /// Brings what was written to the disk. A checkpoint counts only together with the lines before it.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().io("sync", &self.path)
    }
}

/// All lines of a run. An unfinished last line (the run was killed while writing it) is left out.
///
/// # Errors
/// How many lines are broken, and the first of them.
pub fn read_metrics(run: &Path) -> Result<Vec<Value>> {
    let path = run.join("metrics.jsonl");
    let text = artifact::read_text(&path)?;
    let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()).collect();
    let mut values = Vec::with_capacity(lines.len());
    let mut broken: Vec<(usize, String)> = Vec::new();
    for (place, (number, line)) in lines.iter().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) if value.get("event").is_some() => values.push(value),
            Err(_) if place + 1 == lines.len() => {}
            Ok(_) => broken.push((*number, "is no event of a run".to_owned())),
            Err(e) => broken.push((*number, e.to_string())),
        }
    }
    match broken.first() {
        None => Ok(values),
        Some((number, what)) => Err(Error::file(
            &path,
            format!("{} of {} are broken (first: line {number}: {what})", broken.len(), count(lines.len(), "line")),
            "the file was changed by something else: put back a whole copy of it, or train again; nothing is judged by what is left",
        )),
    }
}

/// When a line was written, and what the run had cost by then. Nothing that is learned depends on it.
#[derive(Debug, Clone, Serialize)]
pub struct Stamp {
    /// UTC, in RFC 3339's format.
    pub date: String,
    /// Since the run began, over all its sessions.
    pub elapsed_seconds: f64,
    /// Most resident memory so far.
    pub peak_memory_bytes: u64,
}

/// A `step` line.
#[derive(Serialize)]
pub struct StepMetrics {
    pub loss: f64,
    pub learning_rate: f64,
    pub scale: f64,
    pub gradient_norm: f64,
    pub phase: Phase,
}

/// One pass of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PassMetrics {
    pub phase: Phase,
    pub steps: u64,
    pub loss: f64,
}
