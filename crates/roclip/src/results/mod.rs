//! Finished runs, read back from their folders: what each measured, which of them are one experiment, and means over seeds.

mod began;
mod data;
mod experiment;
mod files;
mod keys;
mod label;
mod poison;
mod record;
mod runs;
mod seeds;
mod title;

pub use data::{TrainingData, place};
pub use experiment::Experiment;
pub use keys::key_legend;
pub use label::{by_size, is_recipe_key};
pub use poison::Poison;
pub use record::{EpochRecord, Hits, ResultRow, RunRecord, Scores, key_columns, read_run};
pub use runs::{NamedRun, Runs, read_runs};
pub use seeds::{SeedSummary, Spread, by_experiment, over_seeds, rates};
