//! `metrics.jsonl`: one JSON object a line, appended as the run goes. A resumed run first cuts what came after its checkpoint.

use crate::error::{Error, IoContext, Result};
use crate::eval::Evaluation;
use crate::objective::Phase;
use crate::train::diagnostics::{MatchSummary, SimilarityHistogram, SplitSummary};
use roclip_data::artifact;
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
            let kept: String = read(run)?
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

    pub fn write<T: Serialize>(&mut self, event: &str, step: u64, epoch: u64, values: &T) -> Result<()> {
        let mut line = serde_json::to_value(values).map_err(|e| Error::internal(format!("metrics: {e}")))?;
        if let Some(fields) = line.as_object_mut() {
            fields.insert("event".into(), event.into());
            fields.insert("step".into(), step.into());
            fields.insert("epoch".into(), epoch.into());
        }
        writeln!(self.file, "{line}").io("append to", &self.path)
    }
}

/// All lines of a run. An unfinished last line (the run was killed while writing it) is left out.
pub fn read(run: &Path) -> Result<Vec<Value>> {
    let path = run.join("metrics.jsonl");
    let text = artifact::read_text(&path)?;
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
    let mut values = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            Err(_) if number + 1 == lines.len() => {}
            Err(e) => {
                return Err(Error::file(
                    &path,
                    format!("line {}: {e}", number + 1),
                    "the file was changed by something else",
                ));
            }
        }
    }
    Ok(values)
}

/// An `epoch` line, read back.
#[derive(Debug, Clone, Deserialize)]
pub struct EpochLine {
    pub epoch: u64,
    pub phase: String,
    pub loss: f64,
    #[serde(default)]
    pub passes: Vec<PassMetrics>,
    pub evaluation: Option<Evaluation>,
    pub matches: Option<MatchSummary>,
    pub split: Option<SplitSummary>,
    pub similarity: SimilarityHistogram,
}

/// The `epoch` lines of a run.
pub fn read_epochs(run: &Path) -> Result<Vec<EpochLine>> {
    let lines = read(run)?.into_iter().filter(|line| line.get("event").is_some_and(|event| event == "epoch"));
    let parse = |line| {
        serde_json::from_value(line).map_err(|e| {
            Error::file(&run.join("metrics.jsonl"), e.to_string(), "was it written by another version? train again")
        })
    };
    lines.map(parse).collect()
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

/// An `epoch` line.
#[derive(Serialize)]
pub struct EpochMetrics<'a> {
    /// What the epoch ended with; `loss` is that pass's.
    pub phase: Phase,
    pub loss: f64,
    pub passes: &'a [PassMetrics],
    pub seconds: f64,
    pub data_seconds: f64,
    pub evaluation: Option<&'a Evaluation>,
    pub matches: Option<MatchSummary>,
    pub split: Option<SplitSummary>,
    pub similarity: SimilarityHistogram,
}

/// One pass of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PassMetrics {
    pub phase: Phase,
    pub steps: u64,
    pub loss: f64,
}

/// The line for people.
pub fn epoch_line(epoch: u64, phase: Phase, report: &EpochMetrics) -> String {
    let mut line = format!("Epoch {epoch} ({phase:?}) loss {:.4} {:.1}s", report.loss, report.seconds);
    if let Some(evaluation) = report.evaluation {
        line += &format!(
            " zero-shot {:.1}% / {:.1}%",
            100.0 * evaluation.zero_shot_top1.rate,
            100.0 * evaluation.zero_shot_top5.rate
        );
        if let Some(psr) = evaluation.psr {
            line += &format!(" PSR {}/{}", psr.hits, psr.n);
        }
        for (attack, outcome) in &evaluation.asr {
            line += &format!(" ASR {attack} {:.1}%", 100.0 * outcome.success.rate);
        }
    }
    if let Some(matches) = &report.matches {
        line += &format!(" own concept {:.0}%", 100.0 * matches.clean.true_concept);
    }
    if let Some(split) = &report.split {
        let admitted = split.poison_in_safe.iter().map(|(attack, rate)| format!(" {attack} {}/{}", rate.hits, rate.n));
        line +=
            &format!(" safe {:.1}% of the pairs, poison in it:{}", 100.0 * split.share, admitted.collect::<String>());
    }
    line
}
