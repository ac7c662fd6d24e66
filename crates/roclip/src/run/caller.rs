//! Who asks for a run.

use crate::run::stop::Stop;
use crate::world::World;

/// What a run is told of the program that asks for it. The program and its command are written into `env.json`.
pub struct Caller<'a> {
    /// Ends the run early.
    pub stop: &'a Stop,
    /// The processes that train together, of which this is the first in [`train`](crate::run::train).
    pub world: &'a World,
    /// The commit that the program was built from, or `unknown`.
    pub commit: &'a str,
    /// Its command line.
    pub command: Vec<String>,
}
