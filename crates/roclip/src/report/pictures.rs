//! Small pictures for the report: targets, backdoored pairs and triggered tests, made again from recipe and manifest.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run::prepare_data;
use base64::Engine;
use image::RgbImage;
use roclip_data::pairs::Pair;
use roclip_data::poison::{Backdoor, Role};
use roclip_data::sample::Sample;
use std::io::Cursor;

pub struct Figure {
    /// `data:` URL of a PNG.
    pub picture: String,
    pub caption: String,
}

#[derive(Default)]
pub struct Gallery {
    /// Poisoned pairs of each attack, as training sees them.
    pub pairs: Vec<(String, Vec<Figure>)>,
    /// Test images with and without each trigger.
    pub triggered: Vec<(String, Vec<Figure>)>,
    /// Targeted images by id, for the matches table.
    pub targets: Vec<(String, Figure)>,
}

const PER_ATTACK: usize = 8;

/// The pictures of a run, read from its data.
pub fn gallery(recipe: &Recipe) -> Result<Gallery> {
    let prepared = prepare_data(recipe)?;
    let Some(manifest) = &prepared.manifest else { return Ok(Gallery::default()) };
    let mut gallery = Gallery::default();
    let side = 64;
    for row in &manifest.rows {
        let place = match gallery.pairs.iter().position(|(attack, _)| *attack == row.attack) {
            Some(at) => at,
            None => {
                gallery.pairs.push((row.attack.clone(), Vec::new()));
                gallery.pairs.len() - 1
            }
        };
        let Some((_, figures)) = gallery.pairs.get_mut(place) else { continue };
        let pair = prepared.pairs.pairs.iter().find(|pair| pair.id == row.id);
        let new_target = row.role == Role::Added && !gallery.targets.iter().any(|(id, _)| *id == row.image);
        let wanted = if row.role == Role::Added { new_target } else { figures.len() < PER_ATTACK };
        let Some(pair) = pair.filter(|_| wanted) else { continue };
        let Some(sample) = prepared.pairs.sample_of(pair) else { continue };
        let url = picture(recipe, pair, sample, side)?;
        if new_target {
            let caption = format!("{} → {}", row.true_class.clone().unwrap_or_default(), row.target);
            gallery.targets.push((row.image.clone(), Figure { picture: url.clone(), caption }));
        }
        if figures.len() < PER_ATTACK {
            figures.push(Figure { picture: url, caption: pair.captions.first().cloned().unwrap_or_default() });
        }
    }
    for Backdoor { attack, target, trigger } in manifest.backdoors() {
        let tests = prepared.evaluator.samples.iter().filter(|s| s.class.as_deref() != Some(&target)).take(4);
        let mut figures = Vec::new();
        for sample in tests {
            let plain = decoded(recipe, sample)?;
            let class = sample.class.clone().unwrap_or_default();
            figures.push(Figure { picture: url(&plain, side)?, caption: class.clone() });
            let shown = trigger.apply(&plain).map_err(|skip| skip.into_error(&sample.id))?;
            figures.push(Figure { picture: url(&shown, side)?, caption: format!("{class}, to be read as {target}") });
        }
        gallery.triggered.push((attack, figures));
    }
    Ok(gallery)
}

fn decoded(recipe: &Recipe, sample: &Sample) -> Result<RgbImage> {
    Ok(sample.picture(recipe.data.limits).map_err(|skip| skip.into_error(&sample.id))?)
}

fn picture(recipe: &Recipe, pair: &Pair, sample: &Sample, side: u32) -> Result<String> {
    let picture = decoded(recipe, sample)?;
    let shown = match &pair.trigger {
        Some(trigger) => trigger.apply(&picture).map_err(|skip| skip.into_error(&sample.id))?,
        None => picture,
    };
    url(&shown, side)
}

pub fn url(picture: &RgbImage, side: u32) -> Result<String> {
    let small = image::imageops::thumbnail(picture, side, side);
    let mut bytes = Cursor::new(Vec::new());
    small.write_to(&mut bytes, image::ImageFormat::Png).map_err(|e| Error::internal(format!("PNG: {e}")))?;
    Ok(format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())))
}
