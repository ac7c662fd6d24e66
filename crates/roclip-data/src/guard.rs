//! A panic over one sample costs that sample and not the run: decoders and what stands on them see bytes that nobody has vetted.

use crate::skip::{Skip, SkipReason};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread becomes a skip. A panic hook that says so, or says nothing, is right then.
pub fn panic_is_contained() -> bool {
    CONTAINED.get()
}

/// Runs `work` on a sample and turns its panic into a skip. Everything that `work` has begun is thrown away with it.
pub fn contained<T>(work: impl FnOnce() -> Result<T, Skip>) -> Result<T, Skip> {
    let before = CONTAINED.replace(true);
    let made = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    made.unwrap_or_else(|panic| Err(Skip::new(SkipReason::WorkerPanicked, message(panic.as_ref()))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_skip_that_says_what_it_was() {
        let skip = contained::<()>(|| {
            assert!(panic_is_contained());
            panic!("no {}", "pixels")
        })
        .unwrap_err();
        assert_eq!((skip.reason, skip.detail.as_str()), (SkipReason::WorkerPanicked, "no pixels"));
        assert!(!panic_is_contained());
        assert_eq!(contained(|| Ok(3)).unwrap(), 3);
    }
}
