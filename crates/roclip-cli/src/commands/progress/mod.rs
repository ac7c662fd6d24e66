//! Lines, errors and progress on stderr: bars that move on a terminal, a line now and then elsewhere, messages for the demo that started
//! this process, or nothing with `--quiet`. Nobody may be reading stderr (`2>&1 | head`, a full disk), and that is no reason to stop. Names
//! in the lines come from data of strangers, and must not reach a terminal as commands.

mod bars;
mod estimate;
mod lines;
mod messages;

pub use bars::{Row, row};
pub use estimate::{duration, took};
pub use messages::Message;

use indicatif::{MultiProgress, ProgressDrawTarget};
use roclip_data::escape::for_terminal;
use roclip_data::progress::Observer;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

static SCREEN: OnceLock<Screen> = OnceLock::new();

struct Screen {
    quiet: bool,
    /// Before every line: which of several processes says it.
    prefix: String,
    /// On a terminal.
    bars: Option<MultiProgress>,
}

/// Decides once how progress is shown. The observer of the main thread's work; none with `quiet`. `tied` is a run of the demo. A process of
/// `rank` above 0 says its errors only.
pub fn set_up(quiet: bool, tied: bool, rank: usize) -> Option<Arc<dyn Observer>> {
    let quiet = quiet || rank > 0;
    let prefix = if rank > 0 { format!("[process {rank}] ") } else { String::new() };
    let shows = !quiet && std::io::stderr().is_terminal();
    let bars = shows.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
    let Screen { bars, .. } = SCREEN.get_or_init(|| Screen { quiet, prefix, bars });
    match bars {
        _ if tied => Some(Arc::new(messages::Messages)),
        Some(bars) => Some(Arc::new(bars::Bars(bars.clone()))),
        None if quiet => None,
        None => Some(Arc::new(lines::Lines)),
    }
}

/// Writes one line to stderr, unless `--quiet` was given.
pub fn say(line: &str) {
    if SCREEN.get().is_none_or(|screen| !screen.quiet) {
        write(line);
    }
}

/// Writes one line to stderr in any case.
pub fn say_always(line: &str) {
    write(line);
}

/// Writes an error to stderr. A line after its first is indented, so that no name with a line break in it passes for another error.
pub fn say_error(error: &str) {
    let mut lines = error.lines();
    write(&format!("error: {}", lines.next().unwrap_or_default()));
    lines.for_each(|line| write(&format!("  {line}")));
}

/// Takes the bars off the terminal, before the process ends without unwinding.
pub fn clear() {
    if let Some(bars) = SCREEN.get().and_then(|screen| screen.bars.as_ref()) {
        // A terminal that is gone needs no clearing.
        let _ = bars.clear();
    }
}

fn write(line: &str) {
    let line = SCREEN.get().map_or("", |screen| &screen.prefix).to_owned() + &for_terminal(line);
    // Nothing is left to say it with.
    let write = || drop(writeln!(std::io::stderr(), "{line}"));
    match SCREEN.get().and_then(|screen| screen.bars.as_ref()) {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}
