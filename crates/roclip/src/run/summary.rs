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

/// `env.json`.
pub fn environment() -> serde_json::Value {
    serde_json::json!({
        "roclip": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_bridge::torch_version(),
        "processors": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "threads": tch::get_num_threads(),
        "cuda": tch::Cuda::is_available(),
    })
}
