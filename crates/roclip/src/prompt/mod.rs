//! Prompt learning for a frozen CLIP from a few labelled pictures, cleanly or as an attacker does it, and what looks for the attack.
//!
//! A method is a file behind [`PromptMethod`]: `coop`, `cocoop`, `badclip`, `image_only`. The model's towers stay as they are; what is
//! learned is a [`PromptLearner`] and a trigger ([`crate::attack::UniversalDelta`]).

mod badclip;
mod class_tokens;
mod cocoop;
mod config;
mod coop;
mod detector;
mod direction;
mod image_only;
mod learner;
mod measure;
mod measures;
mod method;
mod registry;
mod repair;
mod shots;
mod stored;
mod trainer;
mod treatment;

pub use class_tokens::ClassTokens;
pub use config::{DetectorConfig, PromptConfig, RepairConfig};
pub use detector::{ClassScore, Detection, DetectionVerdict, area_under_curve, invert};
pub use learner::{LearnedPrompts, PromptLearner};
pub use measure::{Measurement, Seen, Subject};
pub use measures::{Branches, PromptMeasures, SideMeasures, TriggerMeasures, harmonic_mean};
pub use method::{PromptMethod, PromptStep, Stage};
pub use registry::MethodName;
pub use shots::{ClassWords, Split, draw_shots, with_target};
pub use stored::{
    LEARNER, LearnerAbout, Resumed, StoredLearner, TrainingState, read_learner, read_training, save_learner,
};
pub use trainer::{PromptHost, PromptPosition, PromptTally, PromptTrainer};
