//! Runs: a recipe becomes data, a trainer and a run folder, and what the trainer learns is measured and written down there.

mod build;
mod caller;
mod clean;
mod clock;
mod context;
mod device;
mod folder;
mod forecast;
mod journal;
mod lines;
mod log;
mod pace;
mod patch;
mod pictures;
mod prepare;
mod resume;
mod session;
mod skips;
mod start;
mod stop;
mod summary;
mod tensorboard;
mod warnings;

pub use caller::Caller;
pub use device::device;
pub use forecast::{Forecast, check};
pub use lines::{EpochLine, read_epochs};
pub use patch::{Surrogate, search_patch};
pub use pictures::{Figure, Gallery, kept_pictures, picture_url};
pub use prepare::{Prepared, prepare_clean_data, prepare_data, prepare_training};
pub use resume::Start;
pub use session::train;
pub use stop::{Asked, Saved, Stop};
pub use summary::{PhaseEvaluation, ReboundPoint, Summary};
pub use torch_bridge::{leave_at_once, torch_version};
pub use warnings::warnings;
