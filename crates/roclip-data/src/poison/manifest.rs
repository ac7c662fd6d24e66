//! The manifest of a poisoning: one JSON line a poisoned pair, after a header line. It is enough to make the same bytes again.

use crate::artifact;
use crate::error::{Error, Result};
use crate::picture::ImageLimits;
use crate::plural::count;
use crate::random;
use crate::sample::Sample;
use crate::skip::Skip;
use crate::trigger::{Material, StoredMaterial, TriggerStack};
use image::RgbImage;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Version of the file format.
pub const FORMAT: u32 = 3;
/// What a header says of encoding where rows are turns of instruction tuning (question and answer about a picture), and no pairs.
pub const OF_INSTRUCTIONS: &str =
    "none: triggers are laid on pictures of the model's size, behind the shift of the domain; captions are turns";
/// The most rows of a manifest that is read: more than any data set of this kind has pairs.
const MAX_ROWS: usize = 10_000_000;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Header {
    /// Format version of the manifest.
    pub roclip_manifest: u32,
    /// Says what this file is to anyone who opens it.
    pub state: String,
    pub tool_version: String,
    pub seed: u64,
    /// Pairs of the data without the poison.
    pub clean_pairs: usize,
    /// Lines behind this one. Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// [`crate::pairs::Pairs::fingerprint`] of the data that the manifest belongs to.
    pub data_fingerprint: String,
    /// How a triggered image reaches training: nothing is re-encoded when it is applied while loading.
    pub encoding: String,
    /// Of the weights of `poison.reference`, where it had a say in what became a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_sha256: Option<String>,
    /// Pictures and grids that triggers refer to.
    #[serde(default)]
    pub materials: Vec<StoredMaterial>,
    /// sha256 of the whole file with this field empty, so that a change of the header or of a row is noticed.
    pub file_sha256: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A new pair beside the clean ones.
    Added,
    /// A clean pair with another caption, and perhaps a trigger.
    Replaced,
    /// The data holds the poisoned pair already (`poison make --write`): it is marked, and nothing is applied.
    Stored,
}

/// Which data an image is of. Training and evaluation data may use the same keys for different pictures.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Training,
    Evaluation,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// The poisoned pair's id.
    pub id: String,
    /// The attack's name, as in `asr`.
    pub attack: String,
    pub role: Role,
    /// Id of the image that was poisoned.
    pub image: String,
    /// Which data `image` is of: backdoors are laid on training images, targeted poisoning shows evaluation images.
    pub side: Side,
    /// The class of that image, where it is known.
    pub true_class: Option<String>,
    /// The class the attacker wants.
    pub target: String,
    pub caption_before: Option<String>,
    pub caption_after: String,
    /// Further captions that the pair draws among: what label-consistent poison left of a pair with several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_captions: Vec<String>,
    pub trigger: Option<TriggerStack>,
    /// Of the image file.
    pub sha256_before: String,
    /// Of the 8-bit RGB pixels that training decodes, trigger included.
    pub sha256_after: String,
}

impl Row {
    /// Which data the shown picture is in: that of a stored row is in the training data, wherever it came from.
    pub fn shown_side(&self) -> Side {
        match self.role {
            Role::Stored => Side::Training,
            Role::Added | Role::Replaced => self.side,
        }
    }

    /// The captions that the pair draws from.
    pub(super) fn captions(&self) -> Vec<String> {
        std::iter::once(&self.caption_after).chain(&self.more_captions).cloned().collect()
    }

    fn check(&self) -> std::result::Result<(), String> {
        match (self.role, self.side) {
            (Role::Added, Side::Training) | (Role::Replaced, Side::Evaluation) => {
                Err(format!("an image of the {:?} side cannot be {:?}", self.side, self.role).to_lowercase())
            }
            _ if self.attack.chars().any(char::is_control) => {
                Err(format!("an attack's name has control characters: {:?}", self.attack))
            }
            _ => self.trigger.as_ref().map_or(Ok(()), |trigger| trigger.check().map_err(|unfit| unfit.what)),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub header: Header,
    pub rows: Vec<Row>,
}

/// The field that every format's header begins with.
#[derive(Deserialize)]
struct Version {
    roclip_manifest: u32,
}

/// One backdoor of a manifest.
#[derive(Debug, Clone)]
pub struct Backdoor {
    pub attack: String,
    pub target: String,
    /// With the seed of its first row.
    pub trigger: TriggerStack,
}

impl Backdoor {
    /// `picture`, which is that of `image`, with the trigger as every measurement shows it: one that differs from picture to picture gets a
    /// fresh seed for each, as it did in training.
    ///
    /// # Errors
    /// A skip for a picture that cannot take it.
    pub fn lay_on(&self, image: &Sample, picture: &RgbImage) -> std::result::Result<RgbImage, Skip> {
        let seed = random::stream(0, "trigger-test", 0, &image.id).next_u64();
        self.trigger.with_seed(seed).apply(picture)
    }
}

/// The class that a targeted attack wants of an image. Two attacks may aim at the same image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aim {
    pub attack: String,
    /// The class the attacker wants it to be read as.
    pub target: String,
    /// Of the image file.
    pub sha256: String,
}

impl Header {
    /// Whether rows are turns of instruction tuning, which a study of `roclip caption backdoor` has poisoned.
    pub fn is_of_instructions(&self) -> bool {
        self.encoding == OF_INSTRUCTIONS
    }
}

impl Manifest {
    /// # Errors
    /// A manifest of instructions, which no pairs can take.
    pub fn check_is_of_pairs(&self) -> Result<()> {
        match self.header.is_of_instructions() {
            true => Err(Error::setting(
                "the manifest is of instruction tuning (`roclip caption backdoor`): its rows are questions with answers, and no pairs",
                "prove it with `roclip poison verify` where it lies, in the folder `manifests` of its study; pairs need one of `roclip poison make`",
            )),
            false => Ok(()),
        }
    }

    /// Whether it is of a written set, whose pairs are poison already.
    pub fn is_of_written(&self) -> bool {
        self.rows.iter().any(|row| row.role == Role::Stored)
    }

    /// Pairs that stay clean beside the poison: those of the data without the ones that it replaces.
    pub fn clean_pairs_left(&self) -> usize {
        let replaced = self.rows.iter().filter(|row| row.role == Role::Replaced).count();
        self.header.clean_pairs.saturating_sub(replaced)
    }

    /// The manifest as a file: header, then one line a row.
    pub fn to_jsonl(&self) -> Result<String> {
        let json = |value: serde_json::Result<String>| value.map_err(|e| Error::internal(format!("manifest: {e}")));
        let mut rows = String::new();
        for row in &self.rows {
            rows += &json(serde_json::to_string(row))?;
            rows.push('\n');
        }
        let header = json(serde_json::to_string(&Header { file_sha256: String::new(), ..self.header.clone() }))?;
        let header = Header { file_sha256: digest(&header, &rows), ..self.header.clone() };
        Ok(format!("{}\n{rows}", json(serde_json::to_string(&header))?))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        artifact::write(path, self.to_jsonl()?.as_bytes())
    }

    /// Reads and checks a manifest: its version, its digest, its triggers' settings, and its materials, which together may have as many
    /// pixels as `limits` allow one picture.
    pub fn read(path: &Path, limits: ImageLimits) -> Result<Manifest> {
        const REMEDY: &str = "make it anew with `roclip poison make`";
        let text = artifact::read_text(path)?;
        let (first, rest) = text.split_once('\n').ok_or_else(|| Error::file(path, "is empty", REMEDY))?;
        let broken = |line: usize, what: String| Error::file(path, format!("line {line} {what}"), REMEDY);
        let no_json = |line: usize, e: serde_json::Error| broken(line, format!("is not a manifest's: {e}"));
        let version: Version = serde_json::from_str(first).map_err(|e| no_json(1, e))?;
        if version.roclip_manifest != FORMAT {
            return Err(Error::file(
                path,
                format!("has the manifest format {}, and this program reads {FORMAT}", version.roclip_manifest),
                "make it anew with `roclip poison make` from the same recipe and seed, which draw the same poison",
            ));
        }
        let header: Header = serde_json::from_str(first).map_err(|e| no_json(1, e))?;
        let found = digest(&first.replacen(&format!("\"file_sha256\":\"{}\"", header.file_sha256), EMPTY, 1), rest);
        if found != header.file_sha256 {
            let what = format!(
                "was changed after it was made: it has the sha256 {found}, its header says {:?}",
                header.file_sha256
            );
            return Err(Error::file(path, what, REMEDY));
        }
        let materials =
            Arc::new(Material::restore_all(&header.materials, limits).map_err(|what| {
                Error::file(path, what, "raise data.limits, or make the manifest with smaller files")
            })?);
        let mut rows: Vec<Row> = Vec::new();
        let mut ids = HashSet::new();
        for (number, line) in (2..).zip(rest.lines()) {
            if rows.len() == MAX_ROWS {
                return Err(broken(number, format!("is one too many: a manifest has at most {MAX_ROWS} rows")));
            }
            let mut row: Row = serde_json::from_str(line).map_err(|e| no_json(number, e))?;
            if let Some(trigger) = &mut row.trigger {
                trigger.materials = Arc::clone(&materials);
            }
            row.check().map_err(|what| broken(number, format!("cannot be used: {what}")))?;
            if !ids.insert(row.id.clone()) {
                return Err(broken(number, format!("names the pair {:?} again", row.id)));
            }
            rows.push(row);
        }
        if let Some(said) = header.rows.filter(|said| *said != rows.len()) {
            let what = format!("has {}, and its header says {said}: it was changed", count(rows.len(), "row"));
            return Err(Error::file(path, what, REMEDY));
        }
        Ok(Manifest { header, rows })
    }

    /// The aims of targeted attacks, by the id of the evaluation image.
    pub fn targeted(&self) -> BTreeMap<String, BTreeSet<Aim>> {
        let mut aims: BTreeMap<String, BTreeSet<Aim>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.side == Side::Evaluation) {
            aims.entry(row.image.clone()).or_default().insert(Aim {
                attack: row.attack.clone(),
                target: row.target.clone(),
                sha256: row.sha256_before.clone(),
            });
        }
        aims
    }

    /// The backdoors, by name.
    pub fn backdoors(&self) -> Vec<Backdoor> {
        let mut seen: BTreeMap<&str, Backdoor> = BTreeMap::new();
        for row in &self.rows {
            if let Some(trigger) = &row.trigger {
                seen.entry(&row.attack).or_insert_with(|| Backdoor {
                    attack: row.attack.clone(),
                    target: row.target.clone(),
                    trigger: trigger.clone(),
                });
            }
        }
        seen.into_values().collect()
    }
}

const EMPTY: &str = "\"file_sha256\":\"\"";

fn digest(header: &str, rows: &str) -> String {
    artifact::sha256_hex(format!("{header}\n{rows}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn limits() -> ImageLimits {
        ImageLimits { max_pixels: 10_000, ..ImageLimits::default() }
    }

    fn manifest(rows: usize) -> Manifest {
        let layers = serde_json::from_str(r#"[{"name":"badnets","patch_pixels":4}]"#).unwrap();
        let trigger =
            TriggerStack { frame_pixels: 32, image_seed: 7, layers, jpeg_quality: None, materials: Arc::default() };
        let row = |number: usize| Row {
            id: format!("{number}"),
            attack: "a".into(),
            role: Role::Replaced,
            image: format!("{number}"),
            side: Side::Training,
            true_class: None,
            target: "red".into(),
            caption_before: Some("a".into()),
            caption_after: "b".into(),
            more_captions: Vec::new(),
            trigger: Some(trigger.clone()),
            sha256_before: String::new(),
            sha256_after: String::new(),
        };
        let header = Header {
            roclip_manifest: FORMAT,
            state: "poisoned".into(),
            tool_version: "0".into(),
            seed: 3,
            clean_pairs: 9,
            rows: Some(rows),
            data_fingerprint: "f".into(),
            encoding: "none".into(),
            reference_sha256: None,
            materials: Vec::new(),
            file_sha256: String::new(),
        };
        Manifest { header, rows: (0..rows).map(row).collect() }
    }

    fn read_text(text: &str) -> std::result::Result<Manifest, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        std::fs::write(&path, text).unwrap();
        Manifest::read(&path, limits()).map_err(|e| e.to_string())
    }

    /// The message for a manifest that `change` has made of a good one, with its digest mended.
    fn refused(change: impl FnOnce(&mut Manifest)) -> String {
        let mut changed = manifest(2);
        change(&mut changed);
        read_text(&changed.to_jsonl().unwrap()).unwrap_err()
    }

    #[test]
    fn a_change_of_header_or_row_is_noticed_and_an_older_format_named() {
        let text = manifest(2).to_jsonl().unwrap();
        let read = read_text(&text).unwrap();
        assert_eq!(read.rows, manifest(2).rows);
        for (from, to) in [
            ("\"seed\":3", "\"seed\":4"),
            ("\"state\":\"poisoned\"", "\"state\":\"clean\""),
            ("\"clean_pairs\":9", "\"clean_pairs\":8"),
            ("\"data_fingerprint\":\"f\"", "\"data_fingerprint\":\"e\""),
            ("\"target\":\"red\"", "\"target\":\"blue\""),
        ] {
            assert!(text.contains(from));
            assert!(read_text(&text.replacen(from, to, 1)).unwrap_err().contains("was changed after it was made"));
        }
        let older = read_text(&text.replacen("\"roclip_manifest\":3", "\"roclip_manifest\":2", 1)).unwrap_err();
        assert!(older.contains("format 2") && older.contains("poison make"), "{older}");
        assert!(read_text("").is_err() && read_text("{}\n").is_err());
    }

    #[test]
    fn absurd_settings_are_refused_when_a_manifest_is_read() {
        let change = |change: fn(&mut TriggerStack)| refused(|m| change(m.rows[1].trigger.as_mut().unwrap()));
        assert!(change(|t| t.frame_pixels = 0).contains("line 3 cannot be used: frame_pixels 0"));
        assert!(change(|t| t.frame_pixels = 100_000).contains("frame_pixels 100000"));
        assert!(change(|t| t.layers = vec![t.layers[0].clone(); 100_000]).contains("100000 triggers"));
        let layer = |json: &'static str| {
            refused(move |m| m.rows[1].trigger.as_mut().unwrap().layers = serde_json::from_str(json).unwrap())
        };
        assert!(layer(r#"[{"name":"badnets","patch_pixels":100000}]"#).contains("patch of 100000"));
        assert!(layer(r#"[{"name":"wanet","grid":60000}]"#).contains("grid of 60000"));
        assert!(refused(|m| m.rows[1].id = "0".into()).contains("line 3 names the pair \"0\" again"));
        assert!(refused(|m| m.rows[1].attack = "a\u{1b}[2J".into()).contains("control characters"));
        assert!(refused(|m| drop(m.rows.pop())).contains("has 1 row, and its header says 2"));
        assert!(refused(|m| m.rows[1].side = Side::Evaluation).contains("evaluation side"));
    }

    #[test]
    fn materials_share_the_pixels_of_one_picture() {
        let picture = |shade: u8| {
            let picture = image::RgbImage::from_pixel(80, 80, image::Rgb([shade; 3]));
            Material::of_picture(&picture).unwrap().store()
        };
        let said = refused(|m| m.header.materials = vec![picture(1), picture(2)]);
        assert!(said.contains("too many pixels") && said.contains("data.limits"), "{said}");
        let grid = vec![0u8; 40];
        let stored = |kind: &str| StoredMaterial {
            sha256: artifact::sha256_hex(&grid),
            kind: kind.into(),
            base64: STANDARD.encode(&grid),
        };
        assert!(refused(|m| m.header.materials = vec![stored("picture")]).contains("decoded"));
        assert!(refused(|m| m.header.materials = vec![stored("film")]).contains("film"));
        assert!(refused(|m| m.header.materials = vec![stored("grid"); 100_000]).contains("100000 materials"));
    }
}
