//! How the program was started: by its own binary, or from Python.

use anyhow::{Context, Result};
use roclip::world::JoinInPython;
use std::ffi::OsString;
use std::process::Command;
use std::sync::OnceLock;

/// What was typed, and how to start the same program once more.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Words that start the program, before its arguments: a binary, or Python and its flags. None where they cannot be found.
    pub program: Option<Vec<OsString>>,
    /// The arguments.
    pub words: Vec<OsString>,
    /// How Python's part of PyTorch joins several processes, where the program was started from Python.
    pub join_in_python: Option<JoinInPython>,
}

static INVOCATION: OnceLock<Invocation> = OnceLock::new();

impl Invocation {
    /// Of a process that is the binary.
    pub fn of_this_process() -> Invocation {
        let program = std::env::current_exe().ok().map(|path| vec![path.into_os_string()]);
        Invocation { program, words: std::env::args_os().skip(1).collect(), join_in_python: None }
    }

    /// Keeps it for all commands of the process.
    pub(crate) fn begin(self) {
        // A process performs one invocation: a second one would be the first again.
        let _ = INVOCATION.set(self);
    }
}

/// How Python's part of PyTorch joins several processes; none without Python.
pub fn join_in_python() -> Option<JoinInPython> {
    INVOCATION.get().and_then(|invocation| invocation.join_in_python)
}

/// The whole command as a person types it, `roclip` first.
pub fn typed_words() -> Vec<OsString> {
    let words = INVOCATION.get().map(|invocation| invocation.words.as_slice()).unwrap_or_default();
    std::iter::once("roclip".into()).chain(words.iter().cloned()).collect()
}

/// The same as texts, for what is written beside results.
pub fn typed() -> Vec<String> {
    typed_words().iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A command that starts this program; the caller adds its arguments.
pub fn program() -> Result<Command> {
    let program = INVOCATION.get().and_then(|invocation| invocation.program.as_deref());
    let (first, rest) = program.and_then(<[OsString]>::split_first).context("cannot find this program")?;
    let mut command = Command::new(first);
    command.args(rest);
    Ok(command)
}
