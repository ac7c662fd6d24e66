//! How far long work has come. Whoever wants to show it observes a thread with [`observe`]; work of that thread begins a [`Task`] and counts
//! on. Nothing here knows a terminal, and without an observer a task costs one look at a thread's own variable.
//!
//! The observer belongs to a thread, as `tracing`'s scoped subscribers do, so that no signature between the command and the loop has to
//! carry it, and two runs of one process can be watched apart. A [`Task`] may be handed to other threads, which count on it.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who shows how far tasks have come.
pub trait Observer: Send + Sync {
    /// A task has begun: `name` in one or two words, and its number of `units`; 0 where that is not known.
    fn begin(&self, name: &str, total: u64, units: &'static str) -> Box<dyn Gauge>;

    /// Whether a person sees tasks move, so that a line about each step would only repeat it.
    fn moves(&self) -> bool;
}

/// What is told of one task. It ends when it is dropped. Calls come often and from several threads: they must be cheap.
pub trait Gauge: Send + Sync {
    /// `done` units are done.
    fn done(&self, done: u64);

    /// Words beside the task, and the seconds that are left where whoever works knows better than done units tell.
    fn note(&self, note: &str, seconds_left: Option<f64>);
}

/// A piece of work that counts on. It ends when it is dropped.
pub struct Task {
    gauge: Option<Arc<dyn Gauge>>,
    done: Arc<AtomicU64>,
}

/// What a task counts on, and the units done.
type Counter = (Option<Arc<dyn Gauge>>, Arc<AtomicU64>);

thread_local! {
    static OBSERVER: RefCell<Option<Arc<dyn Observer>>> = const { RefCell::new(None) };
    /// The task that parts of work on this thread count on.
    static WHOLE: RefCell<Option<Counter>> = const { RefCell::new(None) };
}

/// Does `work` while `observer` is told of the tasks that this thread begins.
pub fn observe<T>(observer: Arc<dyn Observer>, work: impl FnOnce() -> T) -> T {
    let _restored = Restore(OBSERVER.replace(Some(observer)));
    work()
}

/// Puts the former observer back, after a panic too.
struct Restore(Option<Arc<dyn Observer>>);

impl Drop for Restore {
    fn drop(&mut self) {
        OBSERVER.set(self.0.take());
    }
}

/// Whether somebody sees tasks move ([`Observer::moves`]).
pub fn moves() -> bool {
    OBSERVER.with_borrow(|observer| observer.as_ref().is_some_and(|observer| observer.moves()))
}

impl Task {
    /// Begins a task of `total` units (0 where nobody knows), named in one or two words.
    pub fn begin(name: &str, total: usize, units: &'static str) -> Task {
        let gauge = OBSERVER.with_borrow(|observer| {
            observer.as_ref().map(|observer| Arc::from(observer.begin(name, total as u64, units)))
        });
        Task { gauge, done: Arc::default() }
    }

    /// A part of the task that [`Task::whole`] has begun on this thread, or a task of its own where there is none.
    pub fn part(name: &str, total: usize, units: &'static str) -> Task {
        match WHOLE.with_borrow(Clone::clone) {
            Some((gauge, done)) => Task { gauge, done },
            None => Task::begin(name, total, units),
        }
    }

    /// Begins a task whose parts are counted by the functions that `work` calls.
    pub fn whole<T>(name: &str, total: usize, units: &'static str, work: impl FnOnce() -> T) -> T {
        let task = Task::begin(name, total, units);
        let _restored = RestoreWhole(WHOLE.replace(Some((task.gauge.clone(), Arc::clone(&task.done)))));
        work()
    }

    /// `count` more units are done.
    pub fn advance(&self, count: usize) {
        let Some(gauge) = &self.gauge else { return };
        gauge.done(self.done.fetch_add(count as u64, Ordering::Relaxed) + count as u64);
    }

    /// `done` units are done in all.
    pub fn set(&self, done: u64) {
        let Some(gauge) = &self.gauge else { return };
        self.done.store(done, Ordering::Relaxed);
        gauge.done(done);
    }

    /// Words beside the task, and the seconds left where the work knows them better than its units tell.
    pub fn note(&self, note: &str, seconds_left: Option<f64>) {
        if let Some(gauge) = &self.gauge {
            gauge.note(note, seconds_left);
        }
    }
}

/// Puts the former whole back, after a panic too.
struct RestoreWhole(Option<Counter>);

impl Drop for RestoreWhole {
    fn drop(&mut self) {
        WHOLE.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Book(Arc<Mutex<Vec<String>>>);

    struct Page(String, Arc<Mutex<Vec<String>>>);

    impl Observer for Book {
        fn begin(&self, name: &str, total: u64, units: &'static str) -> Box<dyn Gauge> {
            self.0.lock().unwrap().push(format!("{name} of {total} {units}"));
            Box::new(Page(name.to_owned(), Arc::clone(&self.0)))
        }

        fn moves(&self) -> bool {
            true
        }
    }

    impl Gauge for Page {
        fn done(&self, done: u64) {
            self.1.lock().unwrap().push(format!("{} {done}", self.0));
        }

        fn note(&self, note: &str, _: Option<f64>) {
            self.1.lock().unwrap().push(note.to_owned());
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(format!("{} ends", self.0));
        }
    }

    #[test]
    fn a_task_is_told_to_the_observer_of_its_thread_and_counted_by_others() {
        let book = Book::default();
        let said = Arc::clone(&book.0);
        Task::begin("nobody sees this", 1, "steps").advance(1);
        observe(Arc::new(book), || {
            assert!(moves());
            let task = Task::begin("reading", 4, "files");
            std::thread::scope(|scope| scope.spawn(|| task.advance(3)).join().unwrap());
            task.advance(1);
            task.note("slow", None);
        });
        assert!(!moves());
        assert_eq!(*said.lock().unwrap(), ["reading of 4 files", "reading 3", "reading 4", "slow", "reading ends"]);
    }

    #[test]
    fn parts_count_on_the_whole_and_stand_alone_without_one() {
        let book = Book::default();
        let said = Arc::clone(&book.0);
        observe(Arc::new(book), || {
            Task::whole("all", 5, "images", || {
                Task::part("first", 2, "images").advance(2);
                Task::part("second", 3, "images").advance(3);
            });
            Task::part("alone", 1, "images").advance(1);
        });
        let expected = ["all of 5 images", "all 2", "all 5", "all ends", "alone of 1 images", "alone 1", "alone ends"];
        assert_eq!(*said.lock().unwrap(), expected);
    }
}
