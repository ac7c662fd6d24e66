//! Pictures of single tests that a study keeps in files, to be shown again: as they are, and attacked.

use crate::error::{Error, Result};
use image::{ImageFormat, RgbImage};
use roclip_data::artifact;
use roclip_data::picture::{ImageLimits, decode};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The folder of the pictures, in that of the study.
pub(super) const PICTURES: &str = "pictures";
/// In the name of a picture that nobody attacked.
const CLEAN: &str = "clean";

/// A file of a picture, whatever its id.
fn path(study: &Path, id: &str, of: &str) -> PathBuf {
    let digest = artifact::sha256_hex(id.as_bytes());
    study.join(PICTURES).join(format!("{}-{}.png", digest.get(..12).unwrap_or_default(), of.replace('/', "-")))
}

pub(super) fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| Error::internal(format!("PNG: {e}")))?;
    Ok(bytes.into_inner())
}

/// Keeps the `clean` picture of `id` in the folder `study`, and the `attacked` one under the name `of`.
pub(super) fn keep_both(study: &Path, id: &str, of: &str, clean: &RgbImage, attacked: &RgbImage) -> Result<()> {
    for (name, picture) in [(CLEAN, clean), (of, attacked)] {
        artifact::write(&path(study, id, name), &png(picture)?)?;
    }
    Ok(())
}

/// Both again; none where they were not kept.
pub(super) fn kept_both(study: &Path, id: &str, of: &str) -> Option<[RgbImage; 2]> {
    let read = |name: &str| decode(&artifact::read(&path(study, id, name)).ok()?, ImageLimits::default()).ok();
    Some([read(CLEAN)?, read(of)?])
}
