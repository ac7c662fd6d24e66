//! A program that runs beside this one. It has a process group of its own, so that whatever it starts ends with it; a terminal's Ctrl-C does
//! therefore not reach it, and [`end_programs`] ends it where this process leaves at once.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The groups of all programs under way.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all programs with what they have started: the last thing that a process does that leaves without dropping what it holds.
pub fn end_programs() {
    for group in groups().drain(..) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A program under way, with pipes to it. It is ended when this is dropped.
pub(super) struct Program {
    pub child: Child,
    group: Pid,
}

impl Program {
    /// Starts `command` in a shell.
    ///
    /// # Errors
    /// A shell that cannot be started.
    pub fn start(command: &str) -> io::Result<Program> {
        // Whoever ends all programs meanwhile waits until this one is known.
        let mut groups = groups();
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        groups.push(group);
        Ok(Program { child, group })
    }

    /// How it ended; none where it runs on for longer than `wait`.
    ///
    /// # Errors
    /// A process that cannot be asked about.
    pub fn status_within(&mut self, wait: Duration) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || begun.elapsed() >= wait {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with all that it has started.
    pub fn end(&mut self) {
        let mut groups = groups();
        // A group is ended once: later, its number may be somebody else's.
        if let Some(at) = groups.iter().position(|group| *group == self.group) {
            groups.swap_remove(at);
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        drop(groups);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
