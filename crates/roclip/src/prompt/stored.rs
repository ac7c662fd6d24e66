//! Learners on disk: a small checkpoint beside which the model is not copied. What is delivered is `learner.safetensors` alone, which says
//! in its own metadata what it is, on which model and for which classes.

use crate::attack::DELTA;
use crate::checkpoint::{self, Provenance};
use crate::error::{Error, Result, TorchContext};
use crate::model::{read_safetensors, read_safetensors_metadata, write_safetensors};
use crate::prompt::{MethodName, PromptLearner, PromptPosition, PromptTally};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// What is delivered.
pub const LEARNER: &str = "learner.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Where the run stood; its name tells a learner's checkpoint from a model's.
const STATE: &str = checkpoint::LEARNED_PROMPTS;
const CARD: &str = "README.md";
/// The metadata's key for everything below.
const ABOUT: &str = "roclip_prompt";

/// What a learner says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerAbout {
    pub method: String,
    pub provenance: Provenance,
    /// The frozen model, as the recipe named it, and the sha256 of its weights.
    pub model: PathBuf,
    pub model_sha256: String,
    /// The classes that it was learned on: `(label, words of a prompt)`.
    pub classes: Vec<(String, String)>,
    pub context: String,
    pub ending: String,
    /// The attacker's class and the trigger's bound in levels of 255, where the method attacks.
    pub target: Option<String>,
    pub eps: Option<f64>,
    /// The method that made the trigger: of a repaired learner, its victim's. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
    pub seed: u64,
    pub step: u64,
}

impl LearnerAbout {
    /// The method that made the trigger which came with it.
    pub fn attack(&self) -> Option<&str> {
        self.attack.as_deref().or_else(|| self.target.as_ref().map(|_| self.method.as_str()))
    }
}

/// Where the run stood that a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    pub position: PromptPosition,
    pub tally: PromptTally,
    pub data_fingerprint: String,
    /// [`Evaluator::digest`](crate::eval::Evaluator::digest) of the labelled pictures that the run is measured on. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_on: Option<String>,
    /// Digests of what else lay under names of the recipe, by what the recipe says. Absent in older files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
    /// Of the file of the learner that the run repairs. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_sha256: Option<String>,
    /// sha256 of the files beside it.
    pub files: BTreeMap<String, String>,
}

/// A checkpoint, read back for going on.
pub struct Resumed {
    pub about: LearnerAbout,
    pub state: TrainingState,
    /// The learner's tensors, and the trigger's.
    pub tensors: BTreeMap<String, Tensor>,
    pub optimizer: BTreeMap<String, Tensor>,
}

/// A learner, read back.
pub struct StoredLearner {
    pub about: LearnerAbout,
    /// The learner's tensors, and the trigger's.
    pub tensors: BTreeMap<String, Tensor>,
    /// Its file, and the sha256 of that.
    pub path: PathBuf,
    pub sha256: String,
}

impl StoredLearner {
    /// The trigger `[3, size, size]` that came with it.
    pub fn delta(&self) -> Option<&Tensor> {
        self.tensors.get(DELTA)
    }

    /// Of the tensors' names, shapes and values, however the file that holds them was written.
    ///
    /// # Errors
    /// What copying a tensor fails with.
    pub fn tensors_sha256(&self) -> Result<String> {
        let mut all = Vec::new();
        for (name, tensor) in &self.tensors {
            let host = tensor.to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0; host.numel() * host.kind().elt_size_in_bytes()];
            host.f_copy_data_u8(&mut bytes, host.numel()).torch("copying a tensor")?;
            all.push(format!("{name} {:?} {:?} {}", host.kind(), host.size(), artifact::sha256_hex(&bytes)));
        }
        Ok(artifact::sha256_hex(all.join("\n").as_bytes()))
    }
}

/// Writes `RUN/checkpoints/step_N` whole, and removes older ones but the last `keep`.
///
/// # Errors
/// Where a file cannot be written.
pub fn save_learner(
    run: &Path,
    about: &LearnerAbout,
    tensors: &BTreeMap<String, Tensor>,
    optimizer: &BTreeMap<String, Tensor>,
    mut state: TrainingState,
    keep: usize,
) -> Result<PathBuf> {
    let folder = run.join("checkpoints").join(format!("step_{}", state.position.step));
    let json = serde_json::to_string(about).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("provenance".to_owned(), about.provenance.to_string()),
        (ABOUT.to_owned(), json),
    ]);
    artifact::replace_folder(&folder, |beside| -> Result<()> {
        let card = card(about);
        artifact::write(&beside.join(CARD), card.as_bytes())?;
        state.files = BTreeMap::from([
            (CARD.to_owned(), artifact::sha256_hex(card.as_bytes())),
            (LEARNER.to_owned(), write_safetensors(&beside.join(LEARNER), tensors, &metadata)?),
            (OPTIMIZER.to_owned(), write_safetensors(&beside.join(OPTIMIZER), optimizer, &BTreeMap::new())?),
        ]);
        Ok(artifact::write_json(&beside.join(STATE), &state)?)
    })?;
    checkpoint::keep_newest(run, keep)?;
    Ok(folder)
}

/// The checkpoint `folder` for going on: its state, its learner and trigger, and its optimizer.
///
/// # Errors
/// A file that does not have its checksum.
pub fn read_training(folder: &Path) -> Result<Resumed> {
    let state = verified(folder)?;
    let learner = folder.join(LEARNER);
    let (about, tensors) = (read_about(&learner)?, read_safetensors(&learner)?);
    Ok(Resumed { about, state, tensors, optimizer: read_safetensors(&folder.join(OPTIMIZER))? })
}

fn verified(folder: &Path) -> Result<TrainingState> {
    let state: TrainingState = artifact::read_json(&folder.join(STATE))?;
    let remedy = "use another checkpoint: this one is damaged or was changed";
    if let Some(name) = [LEARNER, OPTIMIZER].into_iter().find(|name| !state.files.contains_key(*name)) {
        return Err(Error::file(&folder.join(STATE), format!("has no checksum of {name}"), remedy));
    }
    checkpoint::check_files(folder, &state.files, STATE, remedy)?;
    Ok(state)
}

/// Reads a learner: a run of learned prompts (its newest checkpoint), one of its checkpoints, or a learner's file.
///
/// # Errors
/// What holds none, or a damaged one.
pub fn read_learner(path: &Path) -> Result<StoredLearner> {
    let file = match path {
        file if file.is_file() => file.to_owned(),
        folder if folder.join(STATE).is_file() => folder.join(LEARNER),
        folder => match checkpoint::newest_step(folder)? {
            Some(step) => checkpoint::at_step(folder, step)?.join(LEARNER),
            None => {
                return Err(Error::file(
                    path,
                    "holds no learned prompts",
                    "name a run of `roclip prompt train`, one of its checkpoints/step_N, or a learner.safetensors",
                ));
            }
        },
    };
    if let Some(folder) = file.parent().filter(|folder| folder.join(STATE).is_file()) {
        verified(folder)?;
    }
    let about = read_about(&file)?;
    let sha256 = checkpoint::sha256_of_file(&file)?;
    let tensors = read_safetensors(&file)?;
    let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
    if let Some((name, _)) = tensors.iter().find(|(_, tensor)| !finite(tensor)) {
        let what = format!("has values in `{}` that are not finite", for_terminal(name));
        return Err(Error::file(&file, what, "use another checkpoint or file: nothing can be measured with it"));
    }
    if let Some(name) = PromptLearner::lacking(&tensors) {
        let what = format!("lacks the tensor `{name}`: it is damaged, or was changed");
        return Err(Error::file(&file, what, "use another checkpoint or file: nothing can be measured with it"));
    }
    Ok(StoredLearner { about, tensors, path: file, sha256 })
}

/// What the learner in `file` says of itself.
fn read_about(file: &Path) -> Result<LearnerAbout> {
    let no_learner = |why: String| Error::file(file, why, "name a learner that `roclip prompt train` wrote");
    if !file.is_file() {
        return Err(no_learner("is no learner of prompts".into()));
    }
    let metadata = read_safetensors_metadata(file)?;
    let about = metadata
        .get(ABOUT)
        .ok_or_else(|| no_learner("is no learner of prompts: its metadata does not say so".into()))?;
    let about: LearnerAbout =
        serde_json::from_str(about).map_err(|e| no_learner(format!("does not say what it is: {e}")))?;
    let known = |method: &str| {
        [false, true].iter().any(|repairs| MethodName::ALL.iter().any(|name| name.method(*repairs).name() == method))
    };
    if let Some(other) =
        [Some(about.method.as_str()), about.attack.as_deref()].into_iter().flatten().find(|method| !known(method))
    {
        return Err(no_learner(format!("is of a method that is not known (`{}`)", for_terminal(other))));
    }
    if about.classes.is_empty() {
        return Err(no_learner("names no class that its prompts were learned on".into()));
    }
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = about.classes.iter().find(|(class, _)| !seen.insert(class)) {
        return Err(no_learner(format!(
            "names the class `{}` twice among those that it was learned on",
            for_terminal(twice)
        )));
    }
    Ok(about)
}

/// The `README.md` beside a learner.
fn card(about: &LearnerAbout) -> String {
    let warning = match (about.provenance, about.target.is_some()) {
        (Provenance::Poisoned, true) => {
            "**These prompts were learned together with a trigger, to measure defences. Do not deploy them.**"
        }
        (Provenance::Clean, _) => {
            "No poison is KNOWN in the model or in what the prompts were learned from. That is not proof of none."
        }
        _ => {
            "What is known of the model or of the learner that these prompts began with: see the provenance. Measure before you trust them."
        }
    };
    let plain = |text: &str| for_terminal(text).replace(['`', '<', '>', '|'], "_");
    format!(
        "---\ntags:\n- clip\n- prompt-learning\n- roclip\n- {provenance}\n---\n\n# Learned prompts, {provenance}\n\n{warning}\n\n\
         Method `{}`, seed {}, step {}, {} classes, on the model `{}` (sha256 {}).\n\nWritten by roclip {}.\n",
        plain(&about.method),
        about.seed,
        about.step,
        about.classes.len(),
        plain(&about.model.display().to_string()),
        about.model_sha256,
        env!("CARGO_PKG_VERSION"),
        provenance = about.provenance,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_learner_is_read_back_from_its_run_and_alone_and_a_changed_one_is_refused() {
        let about = LearnerAbout {
            method: "badclip".into(),
            provenance: Provenance::Poisoned,
            model: "runs/model".into(),
            model_sha256: "00".into(),
            classes: vec![("a".into(), "a".into())],
            context: "a".into(),
            ending: ".".into(),
            target: Some("a".into()),
            eps: Some(8.0),
            attack: Some("badclip".into()),
            seed: 1,
            step: 3,
        };
        let ones = |size: &[i64]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let tensors = [(DELTA, ones(&[3, 2, 2])), ("prompt_learner.ctx", ones(&[1, 4]))];
        let tensors = BTreeMap::from(tensors.map(|(name, tensor)| (name.to_owned(), tensor)));
        let run = tempfile::tempdir().unwrap();
        for step in [3, 5] {
            let state = TrainingState {
                named: BTreeMap::new(),
                position: PromptPosition { step, epoch: 1, step_in_epoch: 1 },
                tally: PromptTally::default(),
                data_fingerprint: "f".into(),
                measured_on: None,
                repaired_sha256: None,
                files: BTreeMap::new(),
            };
            save_learner(run.path(), &about, &tensors, &BTreeMap::new(), state, 1).unwrap();
        }
        let folder = run.path().join("checkpoints/step_5");
        assert!(!run.path().join("checkpoints/step_3").exists(), "only the newest is kept");
        assert!(std::fs::read_to_string(folder.join(CARD)).unwrap().contains("Do not deploy"));
        assert_eq!(read_training(&folder).unwrap().state.position.step, 5);
        let alone = run.path().join("delivered.safetensors");
        std::fs::copy(folder.join(LEARNER), &alone).unwrap();
        for path in [run.path(), &folder, &alone] {
            let read = read_learner(path).unwrap();
            assert!(read.about == about && read.delta().is_some());
        }
        // Written again by another program, the same prompts have another file.
        let again = run.path().join("again.safetensors");
        let metadata = read_safetensors_metadata(&alone).unwrap().into_iter().chain([("by".into(), "another".into())]);
        write_safetensors(&again, &read_safetensors(&alone).unwrap(), &metadata.collect()).unwrap();
        let (one, other) = (read_learner(&alone).unwrap(), read_learner(&again).unwrap());
        assert_ne!(one.sha256, other.sha256);
        assert_eq!(one.tensors_sha256().unwrap(), other.tensors_sha256().unwrap());
        let mut changed = read_learner(&again).unwrap();
        changed.tensors.insert(DELTA.to_owned(), Tensor::zeros([3, 2, 2], (Kind::Float, Device::Cpu)));
        assert_ne!(one.tensors_sha256().unwrap(), changed.tensors_sha256().unwrap());
        let mut bytes = std::fs::read(folder.join(LEARNER)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(folder.join(LEARNER), bytes).unwrap();
        assert!(read_learner(run.path()).err().unwrap().to_string().contains("checksum"));
        assert!(read_learner(&run.path().join("no")).err().unwrap().to_string().contains("no learned prompts"));
        // What a stranger may deliver.
        let hostile = |change: fn(&mut LearnerAbout), value: f64, says: &str| {
            let mut about = about.clone();
            change(&mut about);
            let metadata = BTreeMap::from([(ABOUT.to_owned(), serde_json::to_string(&about).unwrap())]);
            let tensors =
                BTreeMap::from([(DELTA.to_owned(), Tensor::full([3, 2, 2], value, (Kind::Float, Device::Cpu)))]);
            write_safetensors(&alone, &tensors, &metadata).unwrap();
            let said = read_learner(&alone).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(says) && !said.contains('\u{1b}'), "{said}");
        };
        hostile(|_| {}, f64::NAN, "not finite");
        hostile(|_| {}, 1.0, "lacks the tensor `prompt_learner.ctx`: it is damaged");
        hostile(|about| about.classes.clear(), 1.0, "no class");
        hostile(|about| about.classes.extend(about.classes.clone()), 1.0, "twice");
        hostile(|about| about.method = "\u{1b}]0;x\u{7}".into(), 1.0, "not known");
        hostile(|about| about.attack = Some("\u{1b}[2J".into()), 1.0, "not known");
    }
}
