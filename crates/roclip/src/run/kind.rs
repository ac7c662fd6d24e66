//! Which kind of run a folder is of: one that began in the folder of another would write over its files.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run::products::is_product;
use roclip_data::artifact;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file that a run locks, with the number of its process.
pub const LOCK: &str = "lock";
/// The flag by which a command names the folder of one run.
pub(super) const RUN_FLAG: &str = "--run";
/// More than any number of a process has.
const LOCK_BYTES: usize = 32;

/// What runs in a folder. Each kind writes a file of its own there before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunKind {
    /// Everything that a recipe describes: models, captioners, students, cleaned models and learned prompts.
    Training,
    /// A model that answers questions.
    Instruct,
    /// Attacks on a captioner.
    Attack,
    /// A study of poisoned instructions.
    Backdoor,
}

impl RunKind {
    const ALL: [RunKind; 4] = [RunKind::Training, RunKind::Instruct, RunKind::Attack, RunKind::Backdoor];

    /// The file that says what began in a folder.
    pub fn mark(self) -> &'static str {
        match self {
            RunKind::Training => "run.toml",
            RunKind::Instruct => "instruct.json",
            RunKind::Attack => "attack.json",
            RunKind::Backdoor => "backdoor.json",
        }
    }

    /// In words.
    fn title(self) -> &'static str {
        match self {
            RunKind::Training => "a run",
            RunKind::Instruct => "a run of `roclip caption instruct`",
            RunKind::Attack => "a run of `roclip caption attack`",
            RunKind::Backdoor => "a run of `roclip caption backdoor`",
        }
    }

    /// Everything that a run of this kind, or a command that measures it, writes into its folder beside [`RunKind::mark`].
    fn written(self) -> &'static [&'static str] {
        match self {
            RunKind::Training => &[
                "env.json",
                "metrics.jsonl",
                "checkpoints",
                "summary.json",
                "manifest.jsonl",
                "log.jsonl",
                "skips.jsonl",
                "details.json",
                "pictures.json",
                "captions.jsonl",
                "before.json",
                "diverged.json",
                "splits",
                "tensorboard",
                "patch.png",
                "inversion.json",
                "detection.json",
                "doctor.json",
                "eval",
            ],
            RunKind::Instruct => {
                &["weights", "model.json", "summary.json", "answers.jsonl", "losses.jsonl", "skips.jsonl"]
            }
            RunKind::Attack => &["outcomes.jsonl", "results.json", "attack.html", "pictures"],
            RunKind::Backdoor => &["cells.jsonl", "results.json", "manifests", "pictures", "backdoor.html"],
        }
    }

    /// Why the file [`RunKind::mark`] in the folder `path` was not written by a run of this kind; none where it was, and where there is none.
    fn foreign_mark(self, path: &Path) -> Option<String> {
        let (mark, file) = (self.mark(), path.join(self.mark()));
        if !file.is_file() {
            return None;
        }
        let keys: &[&str] = match self {
            RunKind::Training => {
                // Beside what a run leaves it is a run's, by another version of the program where it has keys that this one does not know.
                return self.is_alone(path).then(|| match Recipe::read(&file) {
                    Err(error) => format!("holds a `{mark}` that is no recipe of a run: {error}"),
                    Ok(_) => format!("holds `{mark}` and nothing else of a run"),
                });
            }
            RunKind::Instruct => &["tower", "tune"],
            RunKind::Attack => &["budget", "fitness"],
            // Their settings stand at the top.
            RunKind::Backdoor => &["base_sha256", "data"],
        };
        let found: Option<serde_json::Value> = artifact::read_json(&file).ok();
        let own = found.is_some_and(|found| keys.iter().all(|key| found.get(key).is_some()));
        (!own).then(|| format!("holds a `{mark}` that is not of {}", self.title()))
    }

    /// Whether nothing that a run leaves lies beside its mark, as where somebody keeps a recipe under that name.
    fn is_alone(self, path: &Path) -> bool {
        !path.join(LOCK).exists() && !self.written().iter().any(|name| path.join(name).exists())
    }

    /// Whether a run of this kind may be in the folder `path`: one is there already, or nothing that it would write over. `flag` is what
    /// names the folder.
    ///
    /// # Errors
    /// A folder that holds another kind of run, several runs or files of someone else, or that lies within a run.
    pub fn check(self, path: &Path, flag: &str) -> Result<()> {
        let refuse = |what: String, remedy: String| Err(Error::file(path, what, remedy));
        if let Some(what) = self.foreign_mark(path) {
            return refuse(what, format!("name another folder with {flag}: it would be written over"));
        }
        if path.join(self.mark()).is_file() {
            return Ok(());
        }
        if let Some(kind) = Self::ALL.into_iter().find(|kind| path.join(kind.mark()).is_file()) {
            return refuse(
                format!("already holds {} ({})", kind.title(), kind.mark()),
                format!("name another folder with {flag}: this one's files would be written over"),
            );
        }
        if let Some(name) = self.written().iter().find(|name| is_file_or_folder(&path.join(name))) {
            return refuse(
                format!("holds `{name}` and no {}: another's files, or part of a run", self.mark()),
                format!("name another folder with {flag}: they would be written over"),
            );
        }
        if !is_lock(&path.join(LOCK)) {
            return refuse(
                format!("holds a `{LOCK}` that no run has written"),
                format!("name another folder with {flag}: it would be written over"),
            );
        }
        // A folder of runs, as a demo or a sweep leaves it, is none itself: one that began in it would be lost among them.
        if let Some(name) = checkpoint::runs_within(path).next() {
            return refuse(
                format!("holds runs, as `{}`", name.display()),
                format!("name a new folder for this run with {flag}, in it or elsewhere"),
            );
        }
        check_outside_of_runs(path, flag)
    }
}

/// Whether a folder of runs, which `flag` names, may be made at `path`.
///
/// # Errors
/// One that lies within a run.
pub fn check_outside_of_runs(path: &Path, flag: &str) -> Result<()> {
    match run_around(path) {
        Some(run) => Err(Error::file(
            path,
            format!("lies within the run `{}`", run.display()),
            format!("name a folder outside of it with {flag}: what is in a run is the run's own"),
        )),
        None => Ok(()),
    }
}

/// What `roclip demo` and a sweep write into the folder of a run before it begins.
const OF_A_GRID: [&str; 2] = ["recipe.toml", "train.log"];

/// Whether a training run in the folder `path`, which `flag` names, writes over nothing but what such a run has left there. A recipe that
/// somebody keeps there by the name of a run's is theirs.
///
/// # Errors
/// A folder that holds another kind of run, several runs or files of someone else, or that lies within a run.
pub fn check_run_folder(path: &Path, flag: &str) -> Result<()> {
    RunKind::Training.check(path, flag)
}

/// The name of something in the folder `run` that neither a training run nor the command that started it wrote there, nor one that looked at
/// it; none where all is theirs.
pub fn foreign_file(run: &Path) -> Option<String> {
    let kind = RunKind::Training;
    let own = |name: &str| {
        name == LOCK
            || name == kind.mark()
            || kind.written().contains(&name)
            || OF_A_GRID.contains(&name)
            || artifact::is_left_over(name)
            || is_product(run, name)
    };
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.into_iter().find(|name| !own(name))
}

/// The command that goes on with what the folder `run` holds; none where it holds no run.
pub fn continued_by(run: &Path) -> Option<&'static str> {
    let kind = RunKind::ALL.into_iter().find(|kind| run.join(kind.mark()).is_file())?;
    Some(match kind {
        RunKind::Training => {
            let recipe = Recipe::read(&run.join(kind.mark())).ok()?;
            match &recipe.prompt {
                Some(prompt) if prompt.repair.is_some() => "roclip prompt repair",
                Some(_) => "roclip prompt train",
                None if recipe.clean.is_some() => "roclip clean",
                None if recipe.distillation().is_some() => "roclip distil",
                None if recipe.caption.is_some() => "roclip caption train",
                None => "roclip train",
            }
        }
        RunKind::Instruct => "roclip caption instruct",
        RunKind::Attack => "roclip caption attack",
        RunKind::Backdoor => "roclip caption backdoor",
    })
}

/// A device, as a log that is thrown away leads to, is not written over.
fn is_file_or_folder(path: &Path) -> bool {
    path.is_file() || path.is_dir()
}

/// Whether what is at `path`, if anything, is the lock of a run: the number of a process, or nothing. What is no regular file is refused when
/// the lock is taken.
fn is_lock(path: &Path) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return true;
    }
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LOCK_BYTES as u64).read_to_string(&mut text));
    read.is_ok() && text.len() < LOCK_BYTES && text.trim().bytes().all(|byte| byte.is_ascii_digit())
}

/// The run that the folder `path`, which need not exist, lies within.
fn run_around(path: &Path) -> Option<PathBuf> {
    let above = match path.canonicalize() {
        Ok(there) => there.parent()?.to_owned(),
        Err(_) => std::path::absolute(path).ok()?.ancestors().skip(1).find_map(|above| above.canonicalize().ok())?,
    };
    above.ancestors().find(|folder| is_run(folder)).map(Path::to_owned)
}

/// A recipe that somebody named `run.toml` makes no run of the folder that it lies in.
fn is_run(folder: &Path) -> bool {
    let began = RunKind::ALL.iter().any(|kind| folder.join(kind.mark()).is_file());
    began && [LOCK, "checkpoints", "weights"].iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run of this kind writes first, as far as it is looked at.
    fn mark(kind: RunKind) -> &'static str {
        match kind {
            RunKind::Training => "seed = 3\n",
            RunKind::Instruct => r#"{"tower": "run", "tune": {}}"#,
            RunKind::Attack => r#"{"budget": {}, "fitness": "bleu4"}"#,
            RunKind::Backdoor => r#"{"base": "run", "base_sha256": "00", "data": {}}"#,
        }
    }

    #[test]
    fn nothing_that_a_run_writes_is_written_over_where_it_is_somebodys() {
        for kind in RunKind::ALL {
            let lab = tempfile::tempdir().unwrap();
            for name in kind.written().iter().chain(&[kind.mark(), LOCK]) {
                let folder = lab.path().join(format!("with-{name}"));
                std::fs::create_dir(&folder).unwrap();
                std::fs::write(folder.join(name), "somebody = 'else'\n").unwrap();
                let said = kind.check(&folder, RUN_FLAG).unwrap_err().to_string();
                assert!(said.contains(name) && said.contains("--run"), "{name}: {said}");
            }
        }
        // A recipe that somebody keeps as `run.toml` is theirs until a run has begun beside it.
        let lab = tempfile::tempdir().unwrap();
        std::fs::write(lab.path().join("run.toml"), mark(RunKind::Training)).unwrap();
        let said = RunKind::Training.check(lab.path(), RUN_FLAG).unwrap_err().to_string();
        assert!(said.contains("nothing else of a run"), "{said}");
        std::fs::write(lab.path().join(LOCK), "4711\n").unwrap();
        RunKind::Training.check(lab.path(), RUN_FLAG).unwrap();
        // A run of another version of the program is one, too.
        std::fs::write(lab.path().join("run.toml"), "key_of_tomorrow = 1\n").unwrap();
        RunKind::Training.check(lab.path(), RUN_FLAG).unwrap();
    }

    #[test]
    fn what_commands_write_of_a_run_is_nobody_elses() {
        let run = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = run.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("summary.json", "{}");
        write("report.html", "<!DOCTYPE html><title>roclip report</title>");
        write("results.csv", "run,label,control,seed,top1\n");
        write("suspects/detect.json", r#"{"looked": {}, "methods": []}"#);
        write("suspects/drop.txt", "a\nb\n");
        assert_eq!(foreign_file(run.path()), None);
        write("suspects/notes.md", "precious");
        assert_eq!(foreign_file(run.path()).as_deref(), Some("suspects"));
        std::fs::remove_dir_all(run.path().join("suspects")).unwrap();
        // By their names alone they are somebody's.
        write("report.html", "<!DOCTYPE html><title>My thesis</title>");
        assert_eq!(foreign_file(run.path()).as_deref(), Some("report.html"));
    }

    #[test]
    fn every_kind_of_run_has_the_command_that_goes_on_with_it() {
        let lab = tempfile::tempdir().unwrap();
        let said = |file: &str, text: &str| {
            let run = lab.path().join(artifact::sha256_hex(format!("{file}{text}").as_bytes()));
            std::fs::create_dir(&run).unwrap();
            std::fs::write(run.join(file), text).unwrap();
            continued_by(&run)
        };
        for (text, command) in [
            ("seed = 1", "roclip train"),
            ("[prompt]\nmodel = 'm'", "roclip prompt train"),
            ("[prompt]\nmodel = 'm'\n[prompt.repair]\nlearner = 'l'", "roclip prompt repair"),
            ("[clean]\nvictim = 'v'", "roclip clean"),
            ("[objective]\nname = 'distil'\n[objective.distil]\nteacher = 't'", "roclip distil"),
            ("[caption]", "roclip caption train"),
        ] {
            assert_eq!(said("run.toml", text), Some(command), "{text}");
        }
        assert_eq!(said("instruct.json", ""), Some("roclip caption instruct"));
        assert_eq!(said("attack.json", ""), Some("roclip caption attack"));
        assert_eq!(said("backdoor.json", ""), Some("roclip caption backdoor"));
        assert_eq!(said("notes.txt", ""), None);
    }

    #[test]
    fn a_run_begins_in_no_other_run_and_over_nobodys_files() {
        let lab = tempfile::tempdir().unwrap();
        let path = |name: &str| lab.path().join(name);
        for (kind, file) in [
            (RunKind::Training, "run.toml"),
            (RunKind::Instruct, "instruct.json"),
            (RunKind::Attack, "attack.json"),
            (RunKind::Backdoor, "backdoor.json"),
        ] {
            let run = path(file).with_extension("");
            std::fs::create_dir_all(run.join("inner")).unwrap();
            std::fs::write(run.join(file), mark(kind)).unwrap();
            std::fs::write(run.join("lock"), "").unwrap();
            for other in RunKind::ALL {
                let said = other.check(&run, RUN_FLAG);
                assert_eq!(said.is_ok(), kind == other, "{file}, {other:?}");
                if let Err(error) = said {
                    assert!(error.to_string().contains("already holds a run"), "{error}");
                }
                for inner in ["inner", "new", "inner/new/er"] {
                    let said = other.check(&run.join(inner), "--out").unwrap_err().to_string();
                    assert!(said.contains("lies within the run"), "{file}, {inner}: {said}");
                    // As the flag of the command is called.
                    assert!(said.contains("outside of it with --out") && !said.contains("--run"), "{said}");
                }
            }
            std::os::unix::fs::symlink(run.join("inner"), path("link")).unwrap();
            assert!(kind.check(&path("link"), RUN_FLAG).unwrap_err().to_string().contains("lies within"));
            std::fs::remove_file(path("link")).unwrap();
        }
        // What lies beside runs is free, and so is a folder with a recipe; one with a summary is not.
        let files = [("notes", "recipe.toml", true), ("others", "summary.json", false)];
        for (folder, file, free) in files {
            std::fs::create_dir(path(folder)).unwrap();
            std::fs::write(path(folder).join(file), "").unwrap();
            assert_eq!(RunKind::Training.check(&path(folder), RUN_FLAG).is_ok(), free, "{folder}");
            assert!(RunKind::Training.check(&path(folder).join("new"), RUN_FLAG).is_ok());
        }
        let sweep = RunKind::Instruct.check(lab.path(), RUN_FLAG).unwrap_err().to_string();
        assert!(sweep.contains("holds runs, as `run`"), "{sweep}");
    }
}
