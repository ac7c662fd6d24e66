//! `roclip data concepts | stats | verify | drop | index`

mod concepts;
mod drop;
mod index;
mod named;
mod stats;
mod verify;

pub use named::check_different;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Derive classes from captions: a class is a noun of the training captions, an image's class the rarest one that most of its
    /// captions have. Labels every image that the recipe's sources name, for `labels` and `eval.classes`
    Concepts(concepts::Arguments),
    /// Count what is in a data set: sizes, caption lengths, what cannot be read, copies, and near-copies whose captions say the same
    /// (natural backdoors)
    Stats(stats::Arguments),
    /// Compare every picture with the sha256 that the data has of it, or with the hashes of an earlier look: has somebody changed it since?
    /// Exit code 1 where some are other pictures, cannot be read, or are gone
    Verify(verify::Arguments),
    /// Write the data set again without some of it, in its own format: CSV stays CSV, JSON lines, tar shards, Parquet and folders likewise
    Drop(drop::Arguments),
    /// Make the index of a large data set, with which runs start in seconds and hold little in memory. Runs make it on their own, too, where
    /// the data is large (more than 8 MiB of a list, 256 MiB of shards, or 1,024 MiB of Parquet)
    Index(index::Arguments),
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Concepts(arguments) => concepts::run(arguments),
        Command::Stats(arguments) => stats::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Drop(arguments) => drop::run(arguments),
        Command::Index(arguments) => index::run(arguments),
    }
}
