//! The index of a data set: its samples as one file, so that a run starts in seconds and holds next to nothing, however many there are.
//!
//! It is read by position, a small block at a time, through a bounded cache ([`read`]), and not mapped: a map would need unsafe code, which this
//! crate has none of, a file that is cut short under a map kills the process, and a batch needs one block a pair, which costs some microseconds
//! where its picture costs milliseconds. Blocks of captions compress to a third. Processes share what the system has cached of the file.
//!
//! An index is written whole or not at all, beside the data or in a cache folder, and believed only while the files that were listed have the
//! length and the time of modification that they had ([`Index::stale`]). Pictures that are files of their own are not asked for these: there
//! are as many as pairs. [`Index::check`] reads everything again.

mod blocks;
mod file;
mod open;
mod pack;
mod read;
mod record;
mod stored;
mod write;

pub use file::{FORMAT, is_index};
pub use open::{IndexUse, Indexed, existing, make, open_or_make};
pub use stored::Index;
