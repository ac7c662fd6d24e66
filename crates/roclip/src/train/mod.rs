//! The engine: the loop around a model, an objective and an optimizer that it is handed. It knows neither recipes nor run folders, and
//! what happens between steps is up to the [`Host`] that runs it.

mod batch_towers;
mod checkpointing;
mod config;
mod diagnostics;
mod engine;
mod epoch;
mod metrics;
mod optimizer;
mod optimizer_state;
mod precision;
mod sgd;
mod share;
mod shared_batch;
mod step;
mod tally;
mod watch;

pub use config::{BatchNormRows, TrainConfig};
pub use diagnostics::{MatchSummary, NeighbourShares, SimilarityHistogram, SplitSummary, split_lines};
pub use engine::{Host, Parts, Position, StepDone, Trainer};
pub use metrics::{MetricsLog, PassMetrics, Stamp, StepMetrics, read_metrics};
pub use optimizer::{Optimizer, WeightDecayGroups};
pub use precision::Precision;
pub use sgd::{Sgd, SgdConfig};
pub use shared_batch::SharedBatch;
pub use tally::EpochTally;
