//! Pictures: from encoded bytes to pixels, and from pixels to what a model sees.

mod decode;
mod jpeg;
mod jpeg_entropy;
mod jpeg_fault;
mod jpeg_whole;
pub mod preprocess;

pub use decode::{ImageLimits, decode};
pub use jpeg::{jpeg, jpeg_round_trip};
