//! A few triggered tests of a cell as a page shows them: question and answers in the cell, pictures in files beside it.

use crate::attack::instruct::InstructAttack;
use crate::error::{Error, Result};
use crate::run::instruct_backdoor::DomainShift;
use image::{ImageFormat, RgbImage};
use roclip_data::artifact;
use roclip_data::picture::{ImageLimits, decode};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The folder of the pictures, in that of the study.
pub(super) const PICTURES: &str = "pictures";
/// Examples of each cell: the first of the attacked tests, whatever is answered.
pub(super) const KEPT: usize = 3;
/// In the name of a picture without a trigger.
const CLEAN: &str = "clean";

/// One triggered test.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Example {
    pub id: String,
    /// With the trigger.
    pub question: String,
    /// To the plain question about the clean picture.
    pub answer: String,
    pub triggered_answer: String,
}

/// A file of a picture, whatever its id.
fn path(study: &Path, id: &str, of: &str) -> PathBuf {
    let digest = artifact::sha256_hex(id.as_bytes());
    study.join(PICTURES).join(format!("{}-{of}.png", digest.get(..12).unwrap_or_default()))
}

fn of_cell(attack: InstructAttack, shift: DomainShift) -> String {
    format!("{}-{}", attack.word().replace('/', "-"), shift.word())
}

/// Keeps the `clean` picture of the test `id` in the folder `study`, and the `triggered` one of this attack and shift.
pub(super) fn keep_pictures(
    study: &Path,
    id: &str,
    (attack, shift): (InstructAttack, DomainShift),
    clean: &RgbImage,
    triggered: &RgbImage,
) -> Result<()> {
    for (name, picture) in [(CLEAN.to_owned(), clean), (of_cell(attack, shift), triggered)] {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| Error::internal(format!("PNG: {e}")))?;
        artifact::write(&path(study, id, &name), &bytes.into_inner())?;
    }
    Ok(())
}

/// The clean picture of the test `id` that the study in the folder `study` kept, and that with the trigger of this attack under this shift; none
/// where it kept none.
pub fn triggered_pictures(study: &Path, id: &str, attack: InstructAttack, shift: DomainShift) -> Option<[RgbImage; 2]> {
    let read = |name: &str| decode(&artifact::read(&path(study, id, name)).ok()?, ImageLimits::default()).ok();
    Some([read(CLEAN)?, read(&of_cell(attack, shift))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_under_their_cell_again() {
        let folder = tempfile::tempdir().unwrap();
        let [clean, triggered] = [0u8, 200].map(|level| RgbImage::from_pixel(4, 4, image::Rgb([level, 9, 9])));
        let (attack, shift) = (InstructAttack::Blended, DomainShift::None);
        std::fs::create_dir(folder.path().join(PICTURES)).unwrap();
        keep_pictures(folder.path(), "a/b.png", (attack, shift), &clean, &triggered).unwrap();
        assert_eq!(triggered_pictures(folder.path(), "a/b.png", attack, shift), Some([clean, triggered]));
        assert_eq!(triggered_pictures(folder.path(), "a/b.png", attack, DomainShift::Data), None);
        assert_eq!(triggered_pictures(folder.path(), "other", attack, shift), None);
    }
}
