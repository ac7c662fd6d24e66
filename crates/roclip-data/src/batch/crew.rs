//! The workers of a pass, who make each batch together, a few rows at a time.
//!
//! A batch is ready as soon as all workers together can make it, and the memory of the batches that are made ahead does not grow with the
//! number of workers. What a row becomes does not depend on who makes it, so their number changes speed only.

use crate::batch::places::{PassPlan, Places};
use crate::batch::transform::{BatchMaker, HostBatch, Row};
use crate::error::{Error, Result};
use crate::skip::{Skip, SkipReport};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Batches that are made, or being made, before the consumer asks for them.
const AHEAD: usize = 2;
/// Of small batches as many as have so many rows.
const ROWS_AHEAD: usize = 256;
/// Most rows that a worker takes at a time.
const MOST_ROWS: usize = 32;
/// Parts of a batch for each worker, so that none waits long for the slowest.
const PARTS_EACH: usize = 4;

/// Some rows of a batch.
struct Part {
    step: u64,
    rows: Range<usize>,
}

/// What became of a row's pairs: the one that is used, and why the row's own could not be.
#[derive(Default)]
struct MadeRow {
    row: Option<Row>,
    skip: Option<(String, Skip)>,
}

/// A batch on its way.
enum Open {
    /// With so many rows still to be made.
    Making(usize, Vec<MadeRow>),
    /// All rows are there, and one worker makes them a batch.
    Joining,
    Ready(Box<HostBatch>),
}

struct State {
    /// What is handed out next: step and first row.
    next: (u64, usize),
    /// Step of the first of `open`, which the consumer takes next.
    taken: u64,
    open: VecDeque<Open>,
    /// The consumer takes no more, or a worker has failed.
    closed: bool,
}

/// What the workers and the consumer of a pass share.
struct Work {
    maker: Arc<BatchMaker>,
    places: Places,
    plan: PassPlan,
    /// Rows that a worker takes at a time.
    part: usize,
    /// Batches that may be open.
    ahead: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next rows to make, once there is room for them; none when there are no more.
    fn next_part(&self) -> Option<Part> {
        let mut state = self.lock();
        loop {
            let (step, first) = state.next;
            if state.closed || step >= self.plan.steps {
                return None;
            }
            if step < state.taken + self.ahead {
                let count = self.places.count(step);
                if first == 0 {
                    let rows = std::iter::repeat_with(MadeRow::default).take(count).collect();
                    state.open.push_back(Open::Making(count, rows));
                }
                let end = (first + self.part).min(count);
                state.next = if end < count { (step, end) } else { (step + 1, 0) };
                return Some(Part { step, rows: first..end });
            }
            state = self.wait(state);
        }
    }

    fn make(&self, part: &Part) -> Vec<MadeRow> {
        let made = |row| {
            let mut made = MadeRow::default();
            for (tried, index) in self.places.candidates(part.step, row).enumerate() {
                match self.maker.row(self.plan.draw(), self.plan.two_views, index) {
                    Some(Ok(row)) => {
                        made.row = Some(row);
                        break;
                    }
                    // A pair that only tried to take another's place is counted in its own.
                    Some(Err(skip)) if tried == 0 => made.skip = Some(skip),
                    Some(Err(_)) | None => {}
                }
            }
            made
        };
        part.rows.clone().map(made).collect()
    }

    /// Puts rows into their batch. All of its rows, where these were the last.
    fn put(&self, part: &Part, made: Vec<MadeRow>) -> Option<Vec<MadeRow>> {
        let mut state = self.lock();
        let at = part.step.checked_sub(state.taken)? as usize;
        let open = state.open.get_mut(at)?;
        let Open::Making(missing, rows) = open else { return None };
        *missing = missing.saturating_sub(made.len());
        for (place, made) in rows.iter_mut().skip(part.rows.start).zip(made) {
            *place = made;
        }
        if *missing > 0 {
            return None;
        }
        match std::mem::replace(open, Open::Joining) {
            Open::Making(_, rows) => Some(rows),
            Open::Joining | Open::Ready(_) => None,
        }
    }

    fn join(&self, step: u64, made: Vec<MadeRow>) {
        let mut skips = SkipReport::default();
        let mut rows = Vec::with_capacity(made.len());
        for MadeRow { row, skip } in made {
            rows.extend(row);
            if let Some((id, skip)) = skip {
                skips.add(&id, skip);
            }
        }
        let batch = self.maker.batch(step, &self.plan, rows, skips);
        let mut state = self.lock();
        let at = step.saturating_sub(state.taken) as usize;
        if let Some(open) = state.open.get_mut(at) {
            *open = Open::Ready(Box::new(batch));
        }
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next batch of the pass; none where a worker has failed.
    fn take(&self) -> Option<HostBatch> {
        let mut state = self.lock();
        loop {
            if let Some(Open::Ready(_)) = state.open.front() {
                let Some(Open::Ready(batch)) = state.open.pop_front() else { return None };
                state.taken += 1;
                self.changed.notify_all();
                return Some(*batch);
            }
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
    }
}

/// Tells the consumer when a worker fails, instead of letting it wait.
struct Duty<'a>(&'a Work);

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// The workers of a pass; they end with it.
pub(super) struct Crew {
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// # Errors
    /// Where the system gives no more threads.
    pub fn begin(maker: Arc<BatchMaker>, places: Places, plan: PassPlan, workers: usize) -> Result<Crew> {
        let rows = places.rows.len().max(1);
        let part = rows.div_ceil(workers * PARTS_EACH).clamp(1, MOST_ROWS);
        let ahead = AHEAD.max(ROWS_AHEAD.max(workers * part * 2).div_ceil(rows)) as u64;
        let batches = plan.steps.saturating_sub(plan.first_step);
        let parts = batches.saturating_mul(rows.div_ceil(part) as u64);
        let state = State { next: (plan.first_step, 0), taken: plan.first_step, open: VecDeque::new(), closed: false };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let mut crew =
            Crew { work: Arc::new(Work { maker, places, plan, part, ahead, state, changed }), threads: Vec::new() };
        // More workers than parts would have nothing to do.
        for _ in 0..(workers as u64).min(parts) {
            let work = Arc::clone(&crew.work);
            let started = std::thread::Builder::new().spawn(move || {
                let _duty = Duty(&work);
                while let Some(part) = work.next_part() {
                    if let Some(made) = work.put(&part, work.make(&part)) {
                        work.join(part.step, made);
                    }
                }
            });
            match started {
                Ok(thread) => crew.threads.push(thread),
                Err(cause) => {
                    let what = format!("cannot start {workers} threads that make batches: {cause}");
                    return Err(Error::setting(what, "lower --workers (data.workers)"));
                }
            }
        }
        Ok(crew)
    }

    /// The next batch.
    ///
    /// # Errors
    /// Where a worker has failed.
    pub fn take(&self) -> Result<HostBatch> {
        self.work.take().ok_or_else(|| Error::internal("a data worker stopped"))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.work.close();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so; the batch that is missing was an error to the consumer.
            let _ = thread.join();
        }
    }
}
