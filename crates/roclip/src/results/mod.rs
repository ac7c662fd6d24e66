//! Finished runs, read back from their folders: what each measured, which of them are one experiment, and means over seeds.

mod data;
mod experiment;
mod keys;
mod label;
mod poison;
mod record;
mod seeds;
mod title;

pub use data::{TrainingData, place};
pub use experiment::Experiment;
pub use keys::key_legend;
pub use label::{by_size, is_recipe_key};
pub use poison::Poison;
pub use record::{EpochRecord, Hits, NamedRun, ResultRow, RunRecord, Runs, Scores, key_columns, read_run, read_runs};
pub use seeds::{SeedSummary, Spread, by_experiment, over_seeds, rates};
