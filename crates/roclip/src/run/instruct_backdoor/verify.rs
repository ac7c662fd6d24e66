//! Proof that the manifest of a study is, byte for byte, the poison that it says: the study's instructions and pictures are made again.

use crate::attack::instruct::InstructAttack;
use crate::error::{Error, Result};
use crate::instruct::{Stored, load};
use crate::run::instruct_backdoor::cell::file_name;
use crate::run::instruct_backdoor::domain::Domain;
use crate::run::instruct_backdoor::study::SETTINGS;
use crate::run::instruct_backdoor::{BackdoorSettings, DomainShift};
use roclip_data::artifact;
use roclip_data::caption_metrics::{says, words};
use roclip_data::escape::for_terminal;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Manifest, Row, Verified, row_in_manifest, same_digest};
use roclip_data::progress::Task;
use roclip_data::skip::SkipReport;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::Device;

const REMEDY: &str = "this is not the same poison; use the data, the base model and the program version of the study";

/// Makes every poisoned picture of the manifest at `path` again from the data of the study in whose folder it lies, and compares digests,
/// and the questions and answers before the poison.
///
/// # Errors
/// A manifest that lies in no study, data that are others now, and the first row that differs.
pub fn verify_instructions(path: &Path, manifest: &Manifest) -> Result<Verified> {
    let (settings, shift) = study_of(path)?;
    let settings: BackdoorSettings = artifact::read_json(&settings)?;
    let Stored { model, .. } = load(&settings.base, Device::Cpu)?;
    let mut domain = Domain::new(&settings, shift, &model)?;
    if domain.note.is_some() && domain.fingerprint != manifest.header.data_fingerprint {
        domain = Domain::with_tests(&settings, shift, &model)?;
    }
    if domain.fingerprint != manifest.header.data_fingerprint {
        return Err(Error::setting(
            format!("the instructions of the study, with the shift `{}`, are not those of the manifest", shift.word()),
            REMEDY,
        ));
    }
    let items: HashMap<&str, usize> =
        domain.items.iter().enumerate().map(|(at, item)| (item.id.as_str(), at)).collect();
    if domain.items.len() != manifest.header.clean_pairs {
        let (found, said) = (domain.items.len(), manifest.header.clean_pairs);
        return Err(Error::setting(
            format!("the study has {found} instructions, and the manifest says {said}"),
            REMEDY,
        ));
    }
    let mut verified = Verified {
        rows: BTreeMap::new(),
        digest: String::new(),
        skips: SkipReport::default(),
        proved: ["one target an attack", "that answers name it", "the number of instructions"]
            .map(str::to_owned)
            .to_vec(),
        unproved: ["which instructions the attack draws", "the wording of turns"].map(str::to_owned).to_vec(),
    };
    let told = if manifest.header.rows.is_some() { &mut verified.proved } else { &mut verified.unproved };
    told.push("the number of rows".into());
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    let mut digests = String::new();
    let task = Task::begin("making poison again", manifest.rows.len(), "instructions");
    for (number, row) in (2..).zip(&manifest.rows) {
        task.advance(1);
        let place = row_in_manifest(number, row);
        let item = items.get(row.id.as_str()).and_then(|at| domain.items.get(*at));
        let Some(item) = item else {
            return Err(Error::setting(format!("{place}: the study has no such instruction"), REMEDY));
        };
        let (Some(sample), Some(picture)) = (domain.samples.get(item.sample), domain.pictures.get(item.sample)) else {
            return Err(Error::internal(format!("no picture for `{}`", row.id)));
        };
        if row.caption_before.as_deref() != Some(&item.turn()) {
            return Err(Error::setting(format!("{place}: the study's instruction reads otherwise"), REMEDY));
        }
        let target = *targets.entry(&row.attack).or_insert(&row.target);
        if target != row.target {
            let said = format!("{place}: its target is {:?}, and that of an earlier row {target:?}", row.target);
            return Err(Error::setting(said, REMEDY));
        }
        if row.true_class.is_some() && row.true_class != sample.class {
            let said =
                format!("{place}: the class of its image is not {:?}", row.true_class.as_deref().unwrap_or("none"));
            return Err(Error::setting(said, REMEDY));
        }
        if !names_target(row) {
            let said = format!("{place}: what becomes of it does not name the target `{}`", for_terminal(&row.target));
            return Err(Error::setting(said, REMEDY));
        }
        let unusable = |skip: roclip_data::skip::Skip| Error::from(skip.into_error(&row.id));
        let file = sample.image.read(ImageLimits::default().max_file_bytes).map_err(unusable)?;
        let after = match &row.trigger {
            Some(trigger) => trigger.apply(picture).map_err(unusable)?,
            None => picture.clone(),
        };
        let after = artifact::sha256_hex(after.as_raw());
        same_digest(&place, "the image file", &artifact::sha256_hex(&file), &row.sha256_before)?;
        same_digest(&place, "the poisoned picture", &after, &row.sha256_after)?;
        digests += &after;
        *verified.rows.entry(row.attack.clone()).or_default() += 1;
    }
    Ok(Verified { digest: artifact::sha256_hex(digests.as_bytes()), ..verified })
}

fn names_target(row: &Row) -> bool {
    says(&words(&row.caption_after), &words(&row.target))
}

/// The settings of the study that the manifest lies in, and the shift that its name says.
fn study_of(path: &Path) -> Result<(PathBuf, DomainShift)> {
    let settings =
        path.parent().and_then(Path::parent).map(|folder| folder.join(SETTINGS)).filter(|file| file.is_file());
    let name = path.file_name().map(|name| Path::new("manifests").join(name));
    let shift = DomainShift::ALL.into_iter().find(|shift| {
        let own = |attack: &InstructAttack| name.as_deref() == Some(Path::new(&file_name(*attack, *shift)));
        InstructAttack::ALL.iter().any(own)
    });
    settings.zip(shift).ok_or_else(|| {
        Error::file(
            path,
            "is the manifest of an instruction backdoor, and lies in no study under the name that the study gave it",
            "name it where `roclip caption backdoor` wrote it: STUDY/manifests/ATTACK-SHIFT.jsonl, beside backdoor.json",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_known_by_its_place_in_a_study() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let shift = |name: &str| study_of(&manifests.join(name)).map(|(_, shift)| shift.word());
        assert!(shift("maba-star-none.jsonl").is_err(), "no settings beside it");
        std::fs::write(folder.path().join(SETTINGS), "{}").unwrap();
        assert_eq!(shift("maba-star-none.jsonl").unwrap(), "none");
        assert_eq!(shift("add-sent-expressionism-weak.jsonl").unwrap(), "expressionism-weak");
        let said = shift("copy.jsonl").unwrap_err().to_string();
        assert!(said.contains("copy.jsonl") && said.contains("STUDY/manifests"), "{said}");
        assert!(study_of(&folder.path().join("maba-none.jsonl")).is_err(), "not among the manifests");
    }
}
