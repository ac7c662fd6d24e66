//! What a run has cost over all its sessions: wall-clock time and memory.

use crate::train::Stamp;
use std::time::{Instant, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Runs from the start of a session, and counts what earlier sessions cost.
pub(super) struct Clock {
    started: Instant,
    earlier_seconds: f64,
    earlier_peak_bytes: u64,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { started: Instant::now(), earlier_seconds: 0.0, earlier_peak_bytes: 0 }
    }

    /// Adds what earlier sessions had cost at their last sign of life.
    pub fn add_earlier(&mut self, seconds: f64, peak_memory_bytes: u64) {
        self.earlier_seconds = self.earlier_seconds.max(seconds);
        self.earlier_peak_bytes = self.earlier_peak_bytes.max(peak_memory_bytes);
    }

    /// Since the run began, without the time between its sessions.
    pub fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    pub fn peak_memory_bytes(&self) -> u64 {
        self.earlier_peak_bytes.max(peak_memory_bytes())
    }

    pub fn stamp(&self) -> Stamp {
        Stamp {
            date: date(),
            // Milliseconds are enough, and short.
            elapsed_seconds: (self.seconds() * 1e3).round() / 1e3,
            peak_memory_bytes: self.peak_memory_bytes(),
        }
    }
}

/// The time now in UTC, as in `2026-01-31T12:00:00.123456Z`.
pub(super) fn date() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// Seconds since 1970.
pub(super) fn seconds_since_1970() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// High-water mark of resident memory (`VmHWM`), 0 where the system does not tell.
pub(super) fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
