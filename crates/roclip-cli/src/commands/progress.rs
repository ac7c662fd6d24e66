//! Progress on stderr. Nobody may be reading it (`2>&1 | head`, a full disk), and that is no reason to stop.

use std::io::Write;

/// Writes one line to stderr.
pub fn say(line: &str) {
    // Nothing is left to say it with.
    let _ = writeln!(std::io::stderr(), "{line}");
}
