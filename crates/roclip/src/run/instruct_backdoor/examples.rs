//! A few triggered tests of a cell as a page shows them: question and answers in the cell, pictures in files beside it.

use crate::attack::instruct::InstructAttack;
use crate::error::Result;
use crate::run::instruct_backdoor::DomainShift;
use crate::run::picture_files::{keep_both, kept_both};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Examples of each cell: the first of the attacked tests, whatever is answered.
pub(super) const KEPT: usize = 3;

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

fn of_cell(attack: InstructAttack, shift: DomainShift) -> String {
    format!("{}-{}", attack.word(), shift.word())
}

/// Keeps the `clean` picture of the test `id` in the folder `study`, and the `triggered` one of this attack and shift.
pub(super) fn keep_pictures(
    study: &Path,
    id: &str,
    (attack, shift): (InstructAttack, DomainShift),
    clean: &RgbImage,
    triggered: &RgbImage,
) -> Result<()> {
    keep_both(study, id, &of_cell(attack, shift), clean, triggered)
}

/// The clean picture of the test `id` that the study in the folder `study` kept, and that with the trigger of this attack under this shift; none
/// where it kept none.
pub fn triggered_pictures(study: &Path, id: &str, attack: InstructAttack, shift: DomainShift) -> Option<[RgbImage; 2]> {
    kept_both(study, id, &of_cell(attack, shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::picture_files::PICTURES;

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
