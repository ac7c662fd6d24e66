//! Evaluation of a model: what it can do, and whether it was fooled.

mod attack_success;
mod class_captions;
mod classes;
mod classifier;
mod config;
mod cost;
mod evaluator;
mod features;
mod linear_probe;
mod measured;
mod nearest_neighbours;
mod per_class;
mod probe_images;
mod prompts;
mod reading;
mod recognizer;
mod record;
mod retrieval;
mod softmax_regression;
mod warnings;

pub use classes::{Classes, Templates};
pub use classifier::{ClassPrompts, Classifier};
pub use config::EvalConfig;
pub use evaluator::{Evaluator, NO_IMAGES};
pub use features::{Alter, EncodedImages, FeatureKind, ImageEncoder, text_features, unaltered};
pub use linear_probe::{ProbeConfig, ProbeData, ProbeLabel, Solver, linear_probe};
pub use measured::Measured;
pub use per_class::Accuracy;
pub use prompts::Prompts;
pub use reading::Reading;
pub use recognizer::{GUESSES, Predictions, Recognizer};
pub use record::{BackdoorOutcome, Depth, Evaluation, TargetOutcome};
pub use retrieval::Retrieval;
pub use warnings::{foreign as foreign_evaluation, splits as unchosen_splits};
