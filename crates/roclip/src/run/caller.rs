//! Who asks for a run.

use crate::run::stop::Stop;

/// What a run is told of the program that asks for it. The program and its command are written into `env.json`.
pub struct Caller<'a> {
    /// Ends the run early.
    pub stop: &'a Stop,
    /// The commit that the program was built from, or `unknown`.
    pub commit: &'a str,
    /// Its command line.
    pub command: Vec<String>,
}
