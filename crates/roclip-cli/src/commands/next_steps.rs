//! What a command says at its end: what was written where, and the next command to type.

use crate::commands::progress::say;
use roclip_data::artifact;
use roclip_data::escape::path_for_shell;
use roclip_data::paths;
use std::path::{Path, PathBuf};

/// Says what lies in `place`, and commands that go on from there.
pub fn say_next(place: &Path, holds: &str, commands: &[String]) {
    say(&format!("written: {}: {holds}", place.display()));
    let mut lead = "next:";
    for command in commands {
        say(&format!("{lead:8} {command}"));
        lead = "";
    }
}

/// A new folder for what is made of `run`: its name with `what` behind it, and a number where that is taken.
pub fn beside(run: &Path, what: &str) -> PathBuf {
    artifact::unused_name(&paths::beside(run, what), "")
}

/// A path as a shell takes it.
pub fn shell_word(path: &Path) -> String {
    path_for_shell(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_beside_a_run_is_one_that_nothing_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("mine");
        for typed in [run.clone(), run.join(""), run.join(".")] {
            assert_eq!(beside(&typed, "attack"), folder.path().join("mine-attack"), "{}", typed.display());
        }
        std::fs::create_dir(folder.path().join("mine-attack")).unwrap();
        assert_eq!(beside(&run, "attack"), folder.path().join("mine-attack-2"));
    }

    #[test]
    fn paths_can_be_typed_as_they_are_shown() {
        let words = ["runs/mine", "my runs/a", "it's"].map(|path| shell_word(Path::new(path)));
        assert_eq!(words, ["runs/mine", "'my runs/a'", r"'it'\''s'"]);
    }
}
