//! Small pictures for a report: targets, backdoored pairs and triggered tests. They are kept in the run when it ends, so that a report
//! needs no data.

use crate::error::Result;
use crate::run::picture_files::png;
use base64::Engine;
use image::RgbImage;
use roclip_data::artifact;
use roclip_data::pairs::Pairs;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Backdoor, Manifest, Role, Row};
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FILE: &str = "pictures.json";
/// Poisoned pairs kept of each attack, and test images of each trigger.
const PAIRS: usize = 8;
const TESTS: usize = 4;
/// Targeted images kept; the page shows no more.
const TARGETS: usize = 64;
/// Side of a kept picture, in pixels.
const SIDE: u32 = 64;
/// The beginning of every kept picture's address. A file of someone else may hold another address, which is not shown.
const PNG: &str = "data:image/png;base64,";

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Figure {
    /// `data:` URL of a PNG.
    pub picture: String,
    pub caption: String,
}

/// `pictures.json` of a run.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Gallery {
    /// Poisoned pairs of each attack, as training sees them.
    pub pairs: BTreeMap<String, Vec<Figure>>,
    /// Test images with and without each trigger.
    pub triggered: BTreeMap<String, Vec<Figure>>,
    /// Targeted images by id.
    pub targets: BTreeMap<String, Figure>,
}

/// Keeps in the folder `run` what its report will show of the poison: `pairs` with the poison laid over them, and `tests`, the evaluation's
/// images. A picture that cannot be read is left out.
pub fn keep_pictures(
    run: &Path,
    manifest: Option<&Manifest>,
    pairs: &Pairs,
    tests: &[Sample],
    limits: ImageLimits,
) -> Result<()> {
    let Some(manifest) = manifest else { return Ok(()) };
    artifact::write_json(&run.join(FILE), &gallery(manifest, pairs, tests, limits)?)?;
    Ok(())
}

/// The pictures that the run in `folder` kept; none of a run that kept none.
pub fn kept_pictures(folder: &Path) -> Result<Option<Gallery>> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let mut gallery: Gallery = artifact::read_json(&path)?;
    for figures in gallery.pairs.values_mut().chain(gallery.triggered.values_mut()) {
        figures.retain(Figure::is_picture);
    }
    gallery.targets.retain(|_, figure| figure.is_picture());
    Ok(Some(gallery))
}

impl Figure {
    fn is_picture(&self) -> bool {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        self.picture.strip_prefix(PNG).is_some_and(|rest| rest.bytes().all(allowed))
    }
}

fn gallery(manifest: &Manifest, pairs: &Pairs, tests: &[Sample], limits: ImageLimits) -> Result<Gallery> {
    let mut gallery = Gallery::default();
    let wanted = wanted(manifest);
    let found = pairs.places(wanted.iter().map(|row| row.id.as_str()));
    for row in wanted {
        let Some(pair) = found.get(row.id.as_str()).and_then(|at| pairs.get(*at)) else { continue };
        let Some(sample) = pairs.sample_of(&pair) else { continue };
        let shown = sample.picture(limits).and_then(|picture| match &pair.trigger {
            Some(trigger) => trigger.apply(&picture),
            None => Ok(picture),
        });
        let Ok(shown) = shown else { continue };
        let picture = picture_url(&shown, SIDE)?;
        if row.role == Role::Added && !gallery.targets.contains_key(&row.image) {
            let caption = format!("{} → {}", row.true_class.clone().unwrap_or_default(), row.target);
            gallery.targets.insert(row.image.clone(), Figure { picture: picture.clone(), caption });
        }
        let figures = gallery.pairs.entry(row.attack.clone()).or_default();
        if figures.len() < PAIRS {
            figures.push(Figure { picture, caption: pair.captions.first().cloned().unwrap_or_default() });
        }
    }
    for backdoor in manifest.backdoors() {
        let figures = triggered(&backdoor, tests, limits)?;
        gallery.triggered.insert(backdoor.attack, figures);
    }
    Ok(gallery)
}

/// The rows that are shown: the first of each attack, and the first of each target.
fn wanted(manifest: &Manifest) -> Vec<&Row> {
    let mut of_attack: BTreeMap<&str, usize> = BTreeMap::new();
    let mut targets: BTreeSet<&str> = BTreeSet::new();
    let mut chosen = Vec::new();
    for row in &manifest.rows {
        let count = of_attack.entry(&row.attack).or_default();
        let new_target = row.role == Role::Added && targets.len() < TARGETS && targets.insert(&row.image);
        if *count < PAIRS || new_target {
            *count += 1;
            chosen.push(row);
        }
    }
    chosen
}

fn triggered(backdoor: &Backdoor, tests: &[Sample], limits: ImageLimits) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let victims = tests.iter().filter(|sample| sample.class.as_deref() != Some(&backdoor.target));
    for sample in victims.take(TESTS) {
        let both = sample.picture(limits).and_then(|plain| Ok::<_, Skip>((backdoor.trigger.apply(&plain)?, plain)));
        let Ok((shown, plain)) = both else { continue };
        let class = sample.class.clone().unwrap_or_default();
        let caption = format!("{class}, to be read as {}", backdoor.target);
        figures.push(Figure { picture: picture_url(&plain, SIDE)?, caption: class });
        figures.push(Figure { picture: picture_url(&shown, SIDE)?, caption });
    }
    Ok(figures)
}

/// A `data:` URL of the picture, at most `side` pixels high and wide.
pub fn picture_url(picture: &RgbImage, side: u32) -> Result<String> {
    let small = image::imageops::thumbnail(picture, side, side);
    Ok(format!("{PNG}{}", base64::engine::general_purpose::STANDARD.encode(png(&small)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_within_the_file_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kept_pictures(folder.path()).unwrap(), None);
        let figure = |picture: &str| Figure { picture: picture.into(), caption: "c".into() };
        let good = figure(&picture_url(&RgbImage::new(4, 4), 4).unwrap());
        let bad =
            ["https://example.org/a.png", "data:image/svg+xml;base64,AA", "data:image/png;base64,A\" onerror=\"x"];
        let figures = bad.iter().map(|picture| figure(picture)).chain([good.clone()]).collect();
        let gallery = Gallery { pairs: BTreeMap::from([("a".to_owned(), figures)]), ..Gallery::default() };
        artifact::write_json(&folder.path().join(FILE), &gallery).unwrap();
        assert_eq!(kept_pictures(folder.path()).unwrap().unwrap().pairs["a"], [good]);
    }
}
