//! A small vision-language model that follows instructions: a frozen image tower, a bridge, and a causal decoder that reads a question and
//! writes the answer behind it. Tuning on instructions moves the bridge alone.

mod answers;
mod folder;
mod model;
#[cfg(test)]
pub(crate) mod testing;
mod tune;

pub use answers::ModelAnswers;
pub use folder::{Description, Stored, Training, describe, holds_weights, load, save};
pub use model::{Asked, Forced, Tuned, VisionLanguage, VisionLanguageConfig};
pub use tune::{Item, Progress, TuneConfig, Tuner};
