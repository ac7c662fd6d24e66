//! Children that do not outlive the process that started them. The parent holds the writing end of the child's stdin; when it ends, for
//! whatever reason, that end closes, and the child notices.

use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Set for a child that is to end with its parent.
const VARIABLE: &str = "ROCLIP_ENDS_WITH_STDIN";

/// Starts `command` so that it ends when this process does. The child's stdin is the tie: keep the [`Child`].
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    command.env(VARIABLE, "1").stdin(Stdio::piped()).spawn()
}

/// Watches the parent, where this process was started by [`spawn`].
pub fn exit_with_parent() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut byte = [0];
        loop {
            match std::io::stdin().read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // What was written is whole at any moment; libtorch's threads may hang an orderly exit.
        std::process::abort();
    });
}
