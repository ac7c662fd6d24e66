//! Pictures: from encoded bytes to pixels, and from pixels to what a model sees.

mod decode;
mod jpeg;
mod jpeg_entropy;
mod jpeg_fault;
mod jpeg_whole;
mod likeness;
pub mod preprocess;

pub use decode::{ImageLimits, decode};
pub use jpeg::{jpeg, jpeg_round_trip};
pub use likeness::{psnr, ssim};
