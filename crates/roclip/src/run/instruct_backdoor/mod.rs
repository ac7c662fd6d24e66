//! Whether backdoors of instruction tuning carry from the attacker's domain to the user's: each attack is laid into the instructions of each
//! domain, the bridge of one clean model is tuned on them, and the user's tests are asked. A cell that is done is kept, so that a study goes on
//! where it was stopped.

mod cell;
mod domain;
mod examples;
mod settings;
mod shift;
mod study;
mod verify;

pub use examples::{Example, triggered_pictures};
pub use settings::{BackdoorResults, BackdoorSettings, Cell, DomainSource, Filtered, Generalisation, ShiftSize};
pub use shift::{DomainShift, auroc, kolmogorov_smirnov};
pub use study::BackdoorStudy;
pub use verify::verify_instructions;
