//! What a finished run says of itself, and the machine it ran on.

use crate::eval::{Accuracy, BackdoorOutcome, CaptionEvaluation, Evaluation, TriggerMeasures};
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
    /// Poisoned pairs that the list at `data.drop` took. Absent without a list, and of older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poison_left_out: Option<usize>,
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
    /// Whether anybody attacked that teacher; absent where it is not known, and of older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_attacked: Option<bool>,
    /// What the student has of each attack of its teacher's ([`Summary::inheritance`]). Lacks all of runs older than this figure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inheritance: BTreeMap<String, InheritanceFigures>,
    /// What a classifier's triggers do beside their success, by attack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers: BTreeMap<String, TriggerMeasures>,
    pub evaluation: Evaluation,
    /// A digest of the labelled pictures that `evaluation` is of, and of their classes: wherever they lie, runs with the same one were
    /// measured on the same. Absent of older runs, and where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_on: Option<String>,
    /// Of the pairs that the run was trained on, poison included, as its checkpoints have it: checkpoints may be removed. Absent of older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_fingerprint: Option<String>,
    /// Digests of what else lay under names of the recipe, as the run's checkpoints have them. Absent of older runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
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
        let inherited = Inheritance::of(Effect::of(own), Effect::of(teacher))?;
        Some(if self.teacher_attacked == Some(false) { Inheritance::NobodyAttacked } else { inherited })
    }

    /// With [`Summary::inheritance`] of every attack written down, as files have it since they do.
    #[must_use]
    pub fn with_inheritance(mut self) -> Self {
        let of = |attack: &String| Some((attack.clone(), InheritanceFigures::from(self.inheritance(attack)?)));
        self.inheritance = self.evaluation.asr.keys().filter_map(of).collect();
        self
    }
}

/// A trigger's success, and the part of it that is chance: the same pictures without the trigger, read as the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    pub success: Rate,
    pub base_rate: Rate,
}

impl Effect {
    /// That of an attack as it was measured.
    pub fn of(outcome: &BackdoorOutcome) -> Effect {
        Effect { success: outcome.success, base_rate: outcome.base_rate }
    }

    /// Whether the 95 % interval of the success lies above that of the base rate.
    pub fn is_above_chance(self) -> bool {
        self.success.low > self.base_rate.high
    }
}

/// What a student has of an attack that its teacher was trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inheritance {
    /// The teacher was trained on no poison: it is the control.
    NobodyAttacked,
    /// The teacher's success is not above chance ([`Effect::is_above_chance`]): a ratio would be one of two accidents.
    NothingToInherit,
    /// The student's success is not above chance: what a ratio would divide is none of the attack's.
    StudentAtChance,
    /// Strict ASR of the student by that of its teacher.
    Share(Ratio),
}

impl Inheritance {
    /// Of a student's attack and its teacher's; none where the student was shown no picture.
    pub fn of(own: Effect, teacher: Effect) -> Option<Inheritance> {
        match (teacher.is_above_chance(), own.is_above_chance()) {
            _ if own.success.n == 0 => None,
            (false, _) => Some(Inheritance::NothingToInherit),
            (true, false) => Some(Inheritance::StudentAtChance),
            (true, true) => Ratio::new(own.success, teacher.success).map(Inheritance::Share),
        }
    }

    /// The ratio, where it means something.
    pub fn share(self) -> Option<Ratio> {
        match self {
            Inheritance::Share(ratio) => Some(ratio),
            _ => None,
        }
    }

    /// Why there is no ratio, where there is none.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Inheritance::NobodyAttacked => Some("nobody attacked the teacher"),
            Inheritance::NothingToInherit => Some("the teacher's attack did not take"),
            Inheritance::StudentAtChance => Some("the student is at chance"),
            Inheritance::Share(_) => None,
        }
    }
}

/// [`Inheritance`] in files: the ratio and its interval, or null and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InheritanceFigures {
    pub ratio: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub reason: Option<String>,
}

impl From<Inheritance> for InheritanceFigures {
    fn from(inherited: Inheritance) -> Self {
        let share = inherited.share();
        InheritanceFigures {
            ratio: share.map(|share| share.ratio),
            low: share.map(|share| share.low),
            high: share.map(|share| share.high),
            reason: inherited.reason().map(str::to_owned),
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
        "processors": roclip_data::threads::processors(),
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
    fn a_ratio_is_of_what_is_above_chance_on_both_sides() {
        let effect = |hits, without, n| Effect { success: Rate::new(hits, n), base_rate: Rate::new(without, n) };
        let inherited = |own, teacher| Inheritance::of(own, teacher).unwrap();
        let (taken, accident) = (effect(99, 11, 177), effect(15, 11, 177));
        let share = inherited(effect(50, 9, 177), taken).share();
        assert_eq!(share.map(|share| share.ratio), Some(50.0 / 99.0));
        assert_eq!(inherited(effect(20, 9, 177), accident), Inheritance::NothingToInherit);
        // No hit, fewer with the trigger than without it, and a student that always answers the target.
        for own in [effect(0, 9, 177), effect(53, 54, 120), effect(120, 120, 120)] {
            assert_eq!(inherited(own, taken), Inheritance::StudentAtChance, "{own:?}");
        }
        assert_eq!(Inheritance::of(effect(0, 0, 0), taken), None);
        assert_eq!((Inheritance::NobodyAttacked.share(), Inheritance::NobodyAttacked.reason().is_some()), (None, true));
        let written = serde_json::to_value(InheritanceFigures::from(Inheritance::StudentAtChance)).unwrap();
        let (null, reason) = (serde_json::Value::Null, "the student is at chance");
        assert_eq!((&written["ratio"], &written["reason"]), (&null, &reason.into()));
    }
}
