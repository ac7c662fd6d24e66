//! What a finished run says of itself, and the machine it ran on.

use crate::eval::{Accuracy, Evaluation};
use crate::objective::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub objective: String,
    pub seed: u64,
    pub epoch: u64,
    pub phase: Phase,
    pub pairs: usize,
    pub poisoned_pairs: usize,
    /// Of the victim, where the run cleaned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Evaluation>,
    /// How far the weights of a cleaned model lie from its victim's: the length of the difference by the length of the victim's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_moved: Option<f64>,
    /// Of the cleaned model on its way through harmless fine-tuning, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebound: Option<Vec<ReboundPoint>>,
    pub evaluation: Evaluation,
    /// After the last epoch of each kind.
    pub after: BTreeMap<String, PhaseEvaluation>,
    pub linear_probe: Option<Accuracy>,
    /// Wall-clock of the whole run, evaluations included (of the last session, if it was resumed).
    pub seconds: f64,
    pub peak_memory_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhaseEvaluation {
    pub epoch: u64,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReboundPoint {
    /// Finished steps of harmless fine-tuning.
    pub step: u64,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// High-water mark of resident memory (`VmHWM`), 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// `env.json`: of the session that wrote it last.
pub fn environment() -> serde_json::Value {
    let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    serde_json::json!({
        "started": utc(std::time::SystemTime::now()),
        "command": command.join(" "),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "processor": processor(),
        "roclip": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_bridge::torch_version(),
        "processors": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "threads": tch::get_num_threads(),
        "cuda": tch::Cuda::is_available(),
    })
}

/// The processor's name; null where the system does not tell.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Date and time as ISO 8601 has them, in UTC.
fn utc(time: std::time::SystemTime) -> String {
    let seconds = time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day ends one; eras of 400 years have 146,097 days (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month < 3);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
    }
}
