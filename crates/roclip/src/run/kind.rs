//! Which kind of run a folder is of: one that began in the folder of another would write over its files.

use crate::checkpoint;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

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

    /// What a run of this kind would write over, or take for its own.
    fn written(self) -> &'static [&'static str] {
        match self {
            RunKind::Training => {
                &["metrics.jsonl", "checkpoints", "summary.json", "manifest.jsonl", "log.jsonl", "skips.jsonl"]
            }
            RunKind::Instruct => {
                &["weights", "model.json", "summary.json", "answers.jsonl", "losses.jsonl", "skips.jsonl"]
            }
            RunKind::Attack => &["outcomes.jsonl", "results.json", "attack.html"],
            RunKind::Backdoor => &["cells.jsonl", "results.json", "manifests", "backdoor.html"],
        }
    }

    /// Whether a run of this kind may be in the folder `path`: one is there already, or nothing that it would write over.
    ///
    /// # Errors
    /// A folder that holds another kind of run, several runs or files of someone else, or that lies within a run.
    pub fn check(self, path: &Path) -> Result<()> {
        if path.join(self.mark()).is_file() {
            return Ok(());
        }
        let refuse = |what: String, remedy: &str| Err(Error::file(path, what, remedy));
        if let Some(kind) = Self::ALL.into_iter().find(|kind| path.join(kind.mark()).is_file()) {
            return refuse(
                format!("already holds {} ({})", kind.title(), kind.mark()),
                "name another folder with --run: this one's files would be written over",
            );
        }
        if let Some(name) = self.written().iter().find(|name| is_file_or_folder(&path.join(name))) {
            return refuse(
                format!("holds `{name}` and no {}: another's files, or part of a run", self.mark()),
                "name another folder with --run: they would be written over",
            );
        }
        // A folder of runs, as a demo or a sweep leaves it, is none itself: one that began in it would be lost among them.
        if let Some(name) = checkpoint::runs_within(path).next() {
            return refuse(
                format!("holds runs, as `{}`", name.display()),
                "name a new folder for this run with --run, in it or elsewhere",
            );
        }
        match run_around(path) {
            Some(run) => refuse(
                format!("lies within the run `{}`", run.display()),
                "name a folder outside of it with --run: what is in a run is the run's own",
            ),
            None => Ok(()),
        }
    }
}

/// A device, as a log that is thrown away leads to, is not written over.
fn is_file_or_folder(path: &Path) -> bool {
    path.is_file() || path.is_dir()
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
    began && ["lock", "checkpoints", "weights"].iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            std::fs::write(run.join(file), "").unwrap();
            std::fs::write(run.join("lock"), "").unwrap();
            for other in RunKind::ALL {
                let said = other.check(&run);
                assert_eq!(said.is_ok(), kind == other, "{file}, {other:?}");
                if let Err(error) = said {
                    assert!(error.to_string().contains("already holds a run"), "{error}");
                }
                for inner in ["inner", "new", "inner/new/er"] {
                    let said = other.check(&run.join(inner)).unwrap_err().to_string();
                    assert!(said.contains("lies within the run"), "{file}, {inner}: {said}");
                }
            }
            std::os::unix::fs::symlink(run.join("inner"), path("link")).unwrap();
            assert!(kind.check(&path("link")).unwrap_err().to_string().contains("lies within"));
            std::fs::remove_file(path("link")).unwrap();
        }
        // What lies beside runs is free, and so is a folder with a recipe; one with a summary is not.
        let files = [("notes", "recipe.toml", true), ("others", "summary.json", false)];
        for (folder, file, free) in files {
            std::fs::create_dir(path(folder)).unwrap();
            std::fs::write(path(folder).join(file), "").unwrap();
            assert_eq!(RunKind::Training.check(&path(folder)).is_ok(), free, "{folder}");
            assert!(RunKind::Training.check(&path(folder).join("new")).is_ok());
        }
        let sweep = RunKind::Instruct.check(lab.path()).unwrap_err().to_string();
        assert!(sweep.contains("holds runs, as `run`"), "{sweep}");
    }
}
