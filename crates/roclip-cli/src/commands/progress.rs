//! Progress and errors on stderr. Nobody may be reading it (`2>&1 | head`, a full disk), and that is no reason to stop. Names in the lines
//! come from data of strangers, and must not reach a terminal as commands.

use roclip_data::escape::for_terminal;
use std::io::Write;

/// Writes one line to stderr.
pub fn say(line: &str) {
    // Nothing is left to say it with.
    let _ = writeln!(std::io::stderr(), "{}", for_terminal(line));
}

/// Writes an error to stderr. A line after its first is indented, so that no name with a line break in it passes for another error.
pub fn say_error(error: &str) {
    let mut lines = error.lines();
    say(&format!("error: {}", lines.next().unwrap_or_default()));
    lines.for_each(|line| say(&format!("  {line}")));
}
