//! Ending a run from outside.

use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a run to end. It then finishes its step, saves a checkpoint and leaves with [`crate::error::Error::Stopped`].
#[derive(Debug, Default)]
pub struct Stop {
    wanted: AtomicBool,
    unsaved: AtomicBool,
}

impl Stop {
    /// Asks for the end. Whether the run will come to it by itself: false where leaving at once loses nothing, because no step was done
    /// since the last checkpoint, and true where it was asked for the first time.
    pub fn ask(&self) -> bool {
        let asked_before = self.wanted.swap(true, Ordering::SeqCst);
        !asked_before && self.unsaved.load(Ordering::SeqCst)
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Whether steps were done that no checkpoint holds.
    pub(super) fn set_unsaved(&self, unsaved: bool) {
        self.unsaved.store(unsaved, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_waited_for_once_and_only_where_something_would_be_lost() {
        let stop = Stop::default();
        stop.set_unsaved(true);
        assert!(stop.ask() && stop.wanted());
        assert!(!stop.ask(), "the second time it leaves at once");
        assert!(!Stop::default().ask(), "nothing would be lost");
    }
}
