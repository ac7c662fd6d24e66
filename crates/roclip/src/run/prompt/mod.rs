//! Runs that learn prompts for a frozen model: from a recipe to data, the loop, what is measured of the learner, and what looks for a
//! trigger in a delivered one.

mod begin;
mod eval;
mod inspect;
mod prepare;
mod session;

pub use begin::check_unchanged;
pub use eval::{MeasuredPrompts, measure_prompts};
pub use inspect::{CountsAs, Inspected, check_inspections, inspect_prompts, kept_detection};
pub use session::train_prompts;
