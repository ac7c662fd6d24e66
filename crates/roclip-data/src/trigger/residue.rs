//! A change of its own for each picture, which a generator made (Input-Aware, arXiv 2010.08138): the manifest keeps what it added.

use crate::error::Result;
use crate::skip::Skip;
use crate::trigger::{Context, Files, Trigger, Unfit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a generator added to this picture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Residue {
    /// One signed byte for each colour of each pixel of the frame, row by row, as Base64.
    pub values: String,
}

impl Residue {
    /// Of changes between -127 and 127.
    pub fn of(changes: &[i8]) -> Residue {
        Residue { values: STANDARD.encode(changes.iter().map(|change| change.cast_unsigned()).collect::<Vec<u8>>()) }
    }

    fn changes(&self, frame: u32) -> std::result::Result<Vec<i8>, Unfit> {
        let bytes = STANDARD.decode(&self.values).unwrap_or_default();
        let expected = 3 * frame as usize * frame as usize;
        match bytes.len() == expected {
            true => Ok(bytes.into_iter().map(u8::cast_signed).collect()),
            false => Err(Unfit::new(
                format!("a residue of {} values for a frame of {frame} pixels", bytes.len()),
                "use the manifest as it was made",
            )),
        }
    }
}

impl Trigger for Residue {
    type Settings = Residue;

    fn new(settings: &Residue, _: &mut Files) -> Result<Self> {
        Ok(settings.clone())
    }

    fn check(&self, context: &Context) -> std::result::Result<(), Unfit> {
        self.changes(context.frame_pixels).map(|_| ())
    }

    fn apply(&self, mut picture: RgbImage, context: &Context) -> std::result::Result<RgbImage, Skip> {
        for (value, change) in picture.iter_mut().zip(self.changes(context.frame_pixels)?) {
            *value = value.saturating_add_signed(change);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_added_again_and_colours_stay_colours() {
        let residue = Residue::of(&[10, -10, 0, 127, -127, 5, 1, 2, 3, 4, 5, 6]);
        let context = Context { frame_pixels: 2, image_seed: 0, materials: &[] };
        let laid = residue.apply(RgbImage::from_pixel(2, 2, image::Rgb([200, 5, 30])), &context).unwrap();
        assert_eq!(laid.as_raw()[..6], [210, 0, 30, 255, 0, 35]);
        assert!(residue.check(&Context { frame_pixels: 3, ..context }).is_err());
    }
}
