//! Children that do not outlive the process that started them. The parent holds the writing end of the child's stdin; when it ends, for
//! whatever reason, that end closes, and the child saves what it has and leaves.

use crate::commands::progress::say_error;
use crate::commands::signals;
use roclip::world::VARIABLES as LAUNCHER_VARIABLES;
use roclip_data::threads::refused;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Set for a child that is to end with its parent.
const VARIABLE: &str = "ROCLIP_ENDS_WITH_STDIN";

/// Starts `command` so that it ends when this process does. The child's stdin is the tie: keep the [`Child`]. Its stdout carries messages
/// about its progress.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    // It is a process of its own, and none of those that a launcher started.
    for name in LAUNCHER_VARIABLES {
        command.env_remove(name);
    }
    command.env(VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

/// Whether this process was started by [`spawn`].
pub fn is_tied() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Watches the parent, where this process was started by [`spawn`].
pub fn leave_with_parent() {
    if !is_tied() {
        return;
    }
    let watch = || {
        let mut byte = [0];
        loop {
            match std::io::stdin().read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        signals::parent_is_gone();
    };
    if let Err(cause) = std::thread::Builder::new().name("parent".into()).spawn(watch) {
        say_error(&refused("watches the process that started this one", &cause).to_string());
        std::process::exit(1);
    }
}
