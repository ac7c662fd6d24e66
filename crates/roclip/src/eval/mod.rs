//! Evaluation of a model: what it can do, and whether it was fooled.

mod attack_success;
mod captioning;
mod class_captions;
mod classes;
mod classifier;
mod config;
mod cost;
mod data_set;
mod details;
mod evaluator;
mod features;
mod linear_probe;
mod measure;
mod measured;
mod nearest_neighbours;
mod npy;
mod per_class;
mod picture_reading;
mod principal_components;
mod probe_images;
mod prompts;
mod reading;
mod recognizer;
mod record;
mod retrieval;
mod softmax_regression;
mod trigger_measures;
mod warnings;

pub use captioning::{CaptionEvaluation, CaptionEvaluator, CaptionLine, CaptionScores, Captioning};
pub use classes::{Classes, Templates};
pub use classifier::{ClassPrompts, Classifier};
pub use config::EvalConfig;
pub use data_set::data_set_name;
pub use details::{ClassRecall, Details, ProjectedImage, Projection, details};
pub use evaluator::{Evaluator, NO_IMAGES};
pub use features::{Alter, EncodedImages, FeatureKind, ImageEncoder, text_features, unaltered};
pub use linear_probe::{ProbeConfig, ProbeData, ProbeLabel, Solver, linear_probe};
pub use measured::{Measured, file_word};
pub use npy::write_npy;
pub use per_class::{Accuracy, mean_per_class_recall};
pub use picture_reading::{Guess, PictureReading, Pictures, write_predictions};
pub use prompts::Prompts;
pub use reading::Reading;
pub(crate) use reading::{Labelled, is_for_training};
pub use recognizer::{GUESSES, Predictions, Recognizer};
pub use record::{BackdoorOutcome, Depth, Evaluation, TargetOutcome, can_miss};
pub use retrieval::Retrieval;
pub use trigger_measures::{Dose, NaturalTail, TriggerMeasures, VarianceTrigger, trigger_measures, variance_triggers};
pub use warnings::{
    foreign as foreign_evaluation, foreign_references, splits as unchosen_splits, trained_references,
    unseen as unseen_classes,
};
