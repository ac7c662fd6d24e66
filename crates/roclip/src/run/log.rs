//! `log.jsonl`: the lines that a run says, for programs: each with its date, the seconds since the run began (over all its sessions) and the
//! most memory that it had by then. It only grows, so that it also says what sessions cost that were killed.

use crate::error::{IoContext, Result};
use crate::run::clock::Clock;
use crate::train::{Stamp, read_metrics};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// No line of a log is longer, so that its last whole one is found within as many bytes from its end.
const TAIL_BYTES: u64 = 1 << 16;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    stamp: Stamp,
    line: &'a str,
}

pub(super) struct RunLog {
    pub clock: Clock,
    /// None before the run has its folder, and where the file cannot be written.
    file: Option<(PathBuf, File)>,
    /// Said before there was a folder.
    early: Vec<String>,
}

impl RunLog {
    pub fn new() -> RunLog {
        RunLog { clock: Clock::start(), file: None, early: Vec::new() }
    }

    /// Keeps the log in the folder `run`: a new one, or behind what earlier sessions said and cost.
    pub fn open(&mut self, run: &Path, resumed: bool) -> Result<()> {
        let path = run.join("log.jsonl");
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).io("open", &path)?;
        match resumed {
            true => {
                let tail = tail(&mut file).io("read", &path)?;
                let metrics = if run.join("metrics.jsonl").is_file() { read_metrics(run)? } else { Vec::new() };
                for cost in tail.lines().filter_map(|line| serde_json::from_str(line).ok()).chain(metrics) {
                    let Ok(Cost { elapsed_seconds, peak_memory_bytes }) = serde_json::from_value::<Cost>(cost) else {
                        continue;
                    };
                    self.clock.add_earlier(elapsed_seconds, peak_memory_bytes);
                }
                // A killed session may have left half a line.
                if !tail.is_empty() && !tail.ends_with('\n') {
                    writeln!(file).io("append to", &path)?;
                }
            }
            false => file.set_len(0).io("empty", &path)?,
        }
        self.file = Some((path, file));
        std::mem::take(&mut self.early).iter().try_for_each(|line| self.line(line))
    }

    /// Keeps `line`.
    ///
    /// # Errors
    /// Once: a log that cannot be written is given up.
    pub fn line(&mut self, line: &str) -> Result<()> {
        let Some((path, file)) = &mut self.file else {
            self.early.push(line.to_owned());
            return Ok(());
        };
        let text = serde_json::to_string(&Line { stamp: self.clock.stamp(), line }).unwrap_or_default();
        let written = file.write_all(format!("{text}\n").as_bytes()).io("append to", path);
        if written.is_err() {
            self.file = None;
        }
        written
    }
}

/// What a line of the log or the metrics says of the run's cost so far.
#[derive(Deserialize)]
struct Cost {
    elapsed_seconds: f64,
    peak_memory_bytes: u64,
}

/// The end of the file, behind which it stands then.
fn tail(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(run: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[test]
    fn a_session_goes_on_where_the_killed_one_was_cut_off() {
        let run = tempfile::tempdir().unwrap();
        let mut log = RunLog::new();
        log.line("before the folder").unwrap();
        log.open(run.path(), false).unwrap();
        log.clock.add_earlier(100.0, 1 << 50);
        log.line("one").unwrap();
        let path = run.path().join("log.jsonl");
        let mut killed = std::fs::read(&path).unwrap();
        killed.extend(b"{\"date\":");
        std::fs::write(&path, killed).unwrap();
        let mut next = RunLog::new();
        next.open(run.path(), true).unwrap();
        next.line("two").unwrap();
        assert!((100.0..110.0).contains(&next.clock.seconds()) && next.clock.peak_memory_bytes() == 1 << 50);
        let said: Vec<Value> = read(run.path()).iter().map(|line| line["line"].clone()).collect();
        assert_eq!(said, ["before the folder", "one", "two"]);
        RunLog::new().open(run.path(), false).unwrap();
        assert!(read(run.path()).is_empty(), "a run that begins has a log of its own");
    }

    #[test]
    fn a_log_on_a_full_disk_is_given_up_with_one_error() {
        let mut log = RunLog::new();
        log.file = Some(("/dev/full".into(), OpenOptions::new().write(true).open("/dev/full").unwrap()));
        let error = log.line("one").unwrap_err().to_string();
        assert!(error.contains("/dev/full"), "{error}");
        log.line("two").unwrap();
    }
}
