//! One target in a process of its own: mutate, run, count.

use crate::mutate::mutated;
use crate::{CRASHES, targets};
use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// The outcome of a target.
#[derive(Default, Serialize, Deserialize)]
pub struct Outcome {
    pub executions: u64,
    /// Inputs that were read to their end without an error.
    pub accepted: u64,
    pub crashes: u64,
    pub slowest_ms: f64,
}

/// Longer than this is a crash too: a file of some kilobytes must not cost it.
const TOO_SLOW: Duration = Duration::from_secs(5);
/// Crashes of one target that are kept.
const KEPT: u64 = 20;

/// Prints the outcome as the last line.
pub fn run_child(name: &str, seconds: &str, seed: &str) -> Result<()> {
    let target = targets::named(name)?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let mut random = ChaCha8Rng::seed_from_u64(seed.parse()?);
    let seeds = (target.seeds)().with_context(|| format!("the sound files of {name}"))?;
    let place = tempfile::tempdir()?;
    let crashes = Path::new(CRASHES);
    std::fs::create_dir_all(crashes)?;
    let last = crashes.join(format!("{name}-last"));
    let (started, mut outcome) = (Instant::now(), Outcome::default());
    while started.elapsed() < seconds {
        let input = mutated(&seeds, &mut random);
        // A process that is killed cannot say by what.
        std::fs::write(&last, &input)?;
        let begun = computed(started);
        let survived = catch_unwind(AssertUnwindSafe(|| (target.run)(&input, place.path())));
        let took = computed(started).saturating_sub(begun);
        outcome.executions += 1;
        outcome.accepted += u64::from(matches!(survived, Ok(true)));
        outcome.slowest_ms = outcome.slowest_ms.max(1000.0 * took.as_secs_f64());
        if survived.is_err() || took > TOO_SLOW {
            outcome.crashes += 1;
            if outcome.crashes <= KEPT {
                std::fs::copy(&last, crashes.join(format!("{name}-{}", outcome.crashes)))?;
            }
        }
    }
    std::fs::remove_file(&last)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Time that this thread has computed, which other processes do not add to; where that cannot be told, the time since `started`.
fn computed(started: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| started.elapsed(), Duration::from_nanos)
}
