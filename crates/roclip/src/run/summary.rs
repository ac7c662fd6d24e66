//! What a finished run says of itself, and the machine it ran on.

use crate::eval::{Accuracy, CaptionEvaluation, Evaluation, TriggerMeasures};
use crate::objective::Phase;
use crate::prompt::PromptMeasures;
use crate::run::caller::Caller;
use crate::run::clock::date;
use roclip_data::rate::{Rate, Ratio};
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
    /// Of learned prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptMeasures>,
    /// Of the learner that the run repaired, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_before: Option<PromptMeasures>,
    /// Of the cleaned model on its way through harmless fine-tuning, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebound: Option<Vec<ReboundPoint>>,
    /// Of the teacher, where the run distilled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Evaluation>,
    /// What a classifier's triggers do beside their success, by attack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers: BTreeMap<String, TriggerMeasures>,
    pub evaluation: Evaluation,
    /// Of the captioner, where the run trained one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captions: Option<CaptionEvaluation>,
    /// After the last epoch of each kind.
    pub after: BTreeMap<String, PhaseEvaluation>,
    pub linear_probe: Option<Accuracy>,
    /// That the run ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Wall-clock of the whole run over all its sessions, evaluations included.
    pub seconds: f64,
    /// Most resident memory of any session.
    pub peak_memory_bytes: u64,
}

impl Summary {
    /// What the student has of its teacher's attack; none of a run without a teacher, or of an attack that either was not measured by.
    pub fn inheritance(&self, attack: &str) -> Option<Inheritance> {
        let (own, teacher) = (self.evaluation.asr.get(attack)?, self.teacher.as_ref()?.asr.get(attack)?);
        Inheritance::of(own.success, teacher.success, teacher.base_rate)
    }
}

/// What a student has of an attack that its teacher was trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inheritance {
    /// The 95 % interval of the teacher's success does not lie above that of its base rate: a ratio would be one of two accidents.
    NothingToInherit,
    /// Strict ASR of the student by that of its teacher.
    Share(Ratio),
}

impl Inheritance {
    /// Of a student's strict ASR, beside its teacher's and that one's base rate; none where the student was shown no picture.
    pub fn of(own: Rate, teacher: Rate, base_rate: Rate) -> Option<Inheritance> {
        match teacher.low > base_rate.high {
            false => Some(Inheritance::NothingToInherit),
            true => Ratio::new(own, teacher).map(Inheritance::Share),
        }
    }

    pub fn share(self) -> Option<Ratio> {
        match self {
            Inheritance::NothingToInherit => None,
            Inheritance::Share(ratio) => Some(ratio),
        }
    }
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

/// `env.json`: the program, its command and the machine.
pub(super) fn environment(caller: &Caller) -> serde_json::Value {
    serde_json::json!({
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "processor": processor(),
        "roclip": env!("CARGO_PKG_VERSION"),
        "commit": caller.commit,
        "command": caller.command,
        "date": date(),
        "libtorch": torch_bridge::torch_version(),
        "processors": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "threads": tch::get_num_threads(),
        "processes": caller.world.size(),
        "cuda": tch::Cuda::is_available(),
    })
}

/// The processor's name, where the system tells.
fn processor() -> Option<String> {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = told.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_student_without_a_hit_inherits_nothing_of_an_attack_that_took() {
        let (taken, by_chance) = (Rate::new(99, 177), Rate::new(11, 177));
        let none = Inheritance::of(Rate::new(0, 177), taken, by_chance).unwrap();
        assert_eq!(none.share().map(|ratio| (ratio.ratio, ratio.low)), Some((0.0, 0.0)));
        let accident = Inheritance::of(Rate::new(20, 177), Rate::new(15, 177), by_chance);
        assert_eq!(accident, Some(Inheritance::NothingToInherit));
        assert_eq!(Inheritance::of(Rate::new(0, 0), taken, by_chance), None);
    }
}
