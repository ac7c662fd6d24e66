//! `metrics.jsonl`: one JSON object a line, appended as the run goes. A resumed run first cuts what came after its checkpoint.

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use serde::Serialize;
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
            let kept: Vec<String> = read(run)?
                .into_iter()
                .filter(|line| line["step"].as_u64().is_some_and(|at| at <= step))
                .map(|l| l.to_string())
                .collect();
            artifact::write(&path, format!("{}\n", kept.join("\n")).as_bytes())?;
        } else {
            artifact::write(&path, b"")?;
        }
        let file = OpenOptions::new().append(true).open(&path).io("open", &path)?;
        Ok(MetricsLog { path, file })
    }

    pub fn write<T: Serialize>(&mut self, event: &str, step: u64, epoch: u64, values: &T) -> Result<()> {
        let mut line = serde_json::to_value(values).map_err(|e| Error::internal(format!("metrics: {e}")))?;
        line["event"] = event.into();
        line["step"] = step.into();
        line["epoch"] = epoch.into();
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
