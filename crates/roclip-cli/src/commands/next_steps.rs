//! What a command says at its end: what was written where, and the next command to type.

use crate::commands::progress::say;
use roclip_data::escape::for_shell;
use std::path::Path;

/// Says what lies in `place`, and commands that go on from there.
pub fn say_next(place: &Path, holds: &str, commands: &[String]) {
    say(&format!("written: {}: {holds}", place.display()));
    let mut lead = "next:";
    for command in commands {
        say(&format!("{lead:8} {command}"));
        lead = "";
    }
}

/// A path as a shell takes it.
pub fn shell_word(path: &Path) -> String {
    for_shell(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_typed_as_they_are_shown() {
        let words = ["runs/mine", "my runs/a", "it's"].map(|path| shell_word(Path::new(path)));
        assert_eq!(words, ["runs/mine", "'my runs/a'", r"'it'\''s'"]);
    }
}
