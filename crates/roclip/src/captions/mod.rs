//! Whatever answers a picture with a text: a captioner or a model that answers questions of ours, or a program that somebody runs.

mod external;
mod model;
mod program;

pub use external::ExternalCaptions;
pub(crate) use model::attended;
pub use model::{ModelCaptions, write_captions};
pub use program::end_programs;

use crate::error::Result;
use image::RgbImage;

/// A word of a caption, and where in the picture it was looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AttendedWord {
    pub word: String,
    /// Weights of the places of a square grid, row by row; they add up to 1.
    pub map: Vec<f32>,
}

/// Writes captions.
pub trait Captions {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Of its weights; none of what has none that are known.
    fn sha256(&self) -> Option<&str> {
        None
    }

    /// Side of the pictures that it looks at; none where any size will do.
    fn image_size(&self) -> Option<u32>;

    /// Whether it can write `word` at all; none where its vocabulary is not known.
    fn knows(&self, _word: &str) -> Option<bool> {
        None
    }

    /// One caption for each picture, in their order.
    fn captions(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>>;

    /// Behind the last picture: whether all that it wrote were captions.
    ///
    /// # Errors
    /// Of a program that wrote more, so that its captions may be those of other pictures.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// The words of each picture's caption with their maps; none from what has no attention or does not show it.
    fn attention(&mut self, _pictures: &[RgbImage]) -> Result<Option<Vec<Vec<AttendedWord>>>> {
        Ok(None)
    }
}
