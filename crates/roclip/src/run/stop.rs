//! Ending a run from outside.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Asks a run to end. It then finishes its step, saves a checkpoint and leaves with [`crate::error::Error::Stopped`].
#[derive(Debug, Default)]
pub struct Stop {
    /// The exit code that the end was asked for with; 0 where it was not.
    code: AtomicI32,
    unsaved: AtomicBool,
    saved: Mutex<Option<Saved>>,
}

/// The newest checkpoint of a run under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub run: PathBuf,
    pub step: u64,
}

/// What becomes of a request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The run comes to its end by itself, within its step.
    Ends,
    /// Leaving at once loses nothing: no step was done since the last checkpoint.
    NothingToSave,
    /// It was asked for before.
    Again,
}

impl Stop {
    /// Asks for the end, with the exit code `code` (not 0), which the first to ask decides.
    pub fn ask(&self, code: i32) -> Asked {
        let first = self.code.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        match (first, self.unsaved.load(Ordering::SeqCst)) {
            (false, _) => Asked::Again,
            (true, true) => Asked::Ends,
            (true, false) => Asked::NothingToSave,
        }
    }

    /// Whether the end was asked for.
    pub fn wanted(&self) -> bool {
        self.code() != 0
    }

    /// The exit code of the end that was asked for; 0 where none was.
    pub fn code(&self) -> i32 {
        self.code.load(Ordering::SeqCst)
    }

    /// Whether there is something that would be lost by leaving at once.
    pub fn set_unsaved(&self, unsaved: bool) {
        self.unsaved.store(unsaved, Ordering::SeqCst);
    }

    /// What is on disk of the run under way; nothing before its first checkpoint.
    pub fn saved(&self) -> Option<Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The run in `run` has a checkpoint of `step`, and nothing beyond it.
    pub(super) fn set_saved(&self, run: &Path, step: u64) {
        let saved = Some(Saved { run: run.to_owned(), step });
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        self.set_unsaved(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_waited_for_once_and_only_where_something_would_be_lost() {
        let stop = Stop::default();
        stop.set_unsaved(true);
        assert_eq!(stop.ask(130), Asked::Ends);
        assert!(stop.wanted());
        assert_eq!(stop.ask(143), Asked::Again, "the second time it leaves at once");
        assert_eq!(stop.code(), 130);
        assert_eq!(Stop::default().ask(143), Asked::NothingToSave);
    }

    #[test]
    fn what_was_saved_is_known() {
        let stop = Stop::default();
        stop.set_unsaved(true);
        assert_eq!(stop.saved(), None);
        stop.set_saved(Path::new("run"), 7);
        assert_eq!(stop.saved(), Some(Saved { run: "run".into(), step: 7 }));
        assert_eq!(stop.ask(143), Asked::NothingToSave);
    }
}
