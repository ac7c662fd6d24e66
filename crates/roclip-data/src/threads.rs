//! Threads, which a system may refuse: `std` panics where it does.

use crate::error::Error;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, Result, ScopedJoinHandle, scope};

/// The error for a thread that cannot start, and without which the work cannot be done; `what` says what it does.
pub fn refused(what: &str, cause: &std::io::Error) -> Error {
    Error::setting(
        format!("cannot start a thread that {what}: {cause}"),
        "lower --workers (data.workers), or raise what this shell may use (`ulimit -u` processes, `ulimit -v` memory)",
    )
}

/// As many threads as the machine has processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// `work` of every part, in a thread each, in the order of the parts: what it made of the part, or its panic. Where the system gives no more
/// threads, the part is done here.
pub fn of_parts<P: Copy + Send, T: Send>(
    parts: impl IntoIterator<Item = P>,
    work: impl Fn(P) -> T + Sync,
) -> Vec<(P, Result<T>)> {
    of_parts_by(parts, work, Builder::new)
}

fn of_parts_by<P: Copy + Send, T: Send>(
    parts: impl IntoIterator<Item = P>,
    work: impl Fn(P) -> T + Sync,
    thread: impl Fn() -> Builder,
) -> Vec<(P, Result<T>)> {
    enum Begun<'scope, T> {
        Thread(ScopedJoinHandle<'scope, T>),
        Done(Result<T>),
    }
    let work = &work;
    scope(|scope| {
        let begin = |part| match thread().spawn_scoped(scope, move || work(part)) {
            Ok(thread) => (part, Begun::Thread(thread)),
            Err(_) => (part, Begun::Done(catch_unwind(AssertUnwindSafe(|| work(part))))),
        };
        let begun: Vec<(P, Begun<T>)> = parts.into_iter().map(begin).collect();
        let end = |(part, begun)| match begun {
            Begun::Thread(thread) => (part, thread.join()),
            Begun::Done(made) => (part, made),
        };
        begun.into_iter().map(end).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_done_in_their_order_with_threads_or_without() {
        let work = |part: usize| {
            assert!(part != 2, "two");
            part * 10
        };
        let of = |thread: fn() -> Builder| -> Vec<(usize, Option<usize>)> {
            of_parts_by(0..4, work, thread).into_iter().map(|(part, made)| (part, made.ok())).collect()
        };
        let expected = [(0, Some(0)), (1, Some(10)), (2, None), (3, Some(30))];
        assert_eq!(of(Builder::new), expected);
        // No system has room for such a stack.
        assert_eq!(of(|| Builder::new().stack_size(1 << 60)), expected);
    }
}
