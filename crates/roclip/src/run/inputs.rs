//! Which labelled pictures of a recipe's evaluation would be taken for triggered ones: half of them are known to be clean, the others are
//! looked at as they are and with each trigger that the recipe knows of.

use crate::detect::figures::{Figures, figures};
use crate::detect::{Descriptions, InputFeatures, InputMethod, along_mixed_direction, input_scores};
use crate::error::{Error, Result};
use crate::eval::{Alter, Evaluator, text_features, unaltered};
use crate::model::{Clip, unit};
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::artifact;
use roclip_data::augment::gaussian_blur;
use roclip_data::picture::jpeg_round_trip;
use roclip_data::poison::Backdoor;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::Skip;
use roclip_data::tokenizer::Tokenizer;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Kind, Tensor};

/// Quality of the JPEG that pictures go through.
const QUALITY: u8 = 75;
/// Of a picture's shorter side: the blur's deviation.
const BLUR: f32 = 0.02;
/// Masks of growing size, from nothing to all.
const MASKS: u32 = 11;
/// Cells of a mask in each direction.
const CELLS: u32 = 8;

/// A score of one picture.
#[derive(Debug, Clone, Serialize)]
pub struct InputScore {
    pub id: String,
    /// The attack whose trigger it carries; none of a clean one.
    pub attack: Option<String>,
    pub scores: BTreeMap<&'static str, f64>,
    /// Of a clean picture, by attack: scores that differ from `scores` where it is looked at together with that attack's pictures.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, BTreeMap<&'static str, f64>>,
}

/// How well a method tells triggered pictures from clean ones.
#[derive(Debug, Clone, Serialize)]
pub struct InputJudged {
    pub method: &'static str,
    pub attack: String,
    #[serde(flatten)]
    pub figures: Figures,
}

/// Which texts about the classes were taken.
#[derive(Debug, Clone, Serialize)]
pub struct DescribedBy {
    pub name: String,
    pub provenance: String,
}

/// Pictures with their scores.
#[derive(Debug, Serialize)]
pub struct SuspectInputs {
    /// Pictures that are known to be clean.
    pub clean: usize,
    /// Pictures that were looked at without a trigger.
    pub looked_at: usize,
    /// Whose texts the method `descriptions` took.
    pub descriptions: Option<DescribedBy>,
    pub judged: Vec<InputJudged>,
    #[serde(skip)]
    pub inputs: Vec<InputScore>,
}

/// Looks at the images of `evaluator` as they are, and with each of `backdoors`. `descriptions` say something of every class.
///
/// # Errors
/// Too few images, and descriptions that leave a class out.
pub fn suspect_inputs(
    evaluator: &Evaluator,
    model: &Clip,
    tokenizer: &Tokenizer,
    backdoors: &[Backdoor],
    descriptions: Option<&Descriptions>,
    seed: u64,
) -> Result<SuspectInputs> {
    let mut images: Vec<&Sample> = evaluator.samples.iter().collect();
    images.shuffle(&mut random::stream(seed, "detect-inputs", 0, ""));
    let (clean, looked_at) = images.split_at(images.len() / 2);
    if clean.len() < 2 {
        return Err(Error::setting(
            format!("there are {} labelled images, of which half must be known to be clean", images.len()),
            "give more with --val-data",
        ));
    }
    let said = descriptions.map(|file| said(file, evaluator, model, tokenizer)).transpose()?;
    let methods: Vec<InputMethod> = InputMethod::ALL.map(|known| known.method).into();
    let methods: Vec<InputMethod> =
        methods.into_iter().filter(|method| said.is_some() || *method != InputMethod::Descriptions).collect();
    let encoder = evaluator.encoder(model);
    let features =
        |images: &[&Sample], alter: &Alter| -> Result<Tensor> { Ok(unit(&encoder.encode(images, alter)?.features)) };
    let clean_features = features(clean, &unaltered)?;
    let task = Task::begin("looking at inputs", 1 + backdoors.len(), "kinds");
    let mut inputs = Vec::new();
    let mut untriggered: Option<Tensor> = None;
    for backdoor in std::iter::once(None).chain(backdoors.iter().map(Some)) {
        let plain: &Alter = &|image: &Sample, picture: RgbImage| match backdoor {
            None => Ok(picture),
            Some(backdoor) => backdoor.lay_on(image, &picture),
        };
        // Those that cannot be read, or are too small for the trigger, are left out.
        let seen_plain = encoder.encode(looked_at, plain)?;
        let as_they_are = unit(&seen_plain.features);
        let images: Vec<&Sample> = seen_plain.readable.iter().filter_map(|at| looked_at.get(*at).copied()).collect();
        let after = |change: &(dyn Fn(RgbImage) -> std::result::Result<RgbImage, Skip> + Sync)| {
            features(&images, &|image: &Sample, picture| change(plain(image, picture)?))
        };
        let under = |mask: u32| {
            features(&images, &|image: &Sample, picture| Ok(masked(plain(image, picture)?, mask, &image.id)))
        };
        let seen = InputFeatures {
            plain: as_they_are.shallow_clone(),
            clean: clean_features.shallow_clone(),
            jpeg: after(&|picture| jpeg_round_trip(&picture, QUALITY))?,
            blurred: after(&|picture| Ok(blurred(picture)))?,
            // The first mask covers nothing.
            masked: std::iter::once(Ok(as_they_are)).chain((1..MASKS).map(under)).collect::<Result<_>>()?,
            said: said.as_ref().map(|[a, b]| [a.shallow_clone(), b.shallow_clone()]),
        };
        let mut scores =
            methods.iter().map(|method| Ok((*method, input_scores(*method, &seen)?))).collect::<Result<Vec<_>>>()?;
        // Nobody says which inputs carry a trigger: those with and without it are looked at together.
        if let (Some(backdoor), Some(untriggered)) = (backdoor, &untriggered) {
            let [beside, own] = along_mixed_direction(untriggered, &seen.plain, &clean_features)?;
            mix(&mut inputs, (&backdoor.attack, beside), &mut scores, own);
        }
        for (at, image) in images.iter().enumerate() {
            let of = |(method, scores): &(InputMethod, Vec<f64>)| Some((method.name(), *scores.get(at)?));
            inputs.push(InputScore {
                id: image.id.clone(),
                attack: backdoor.map(|backdoor| backdoor.attack.clone()),
                scores: scores.iter().filter_map(of).collect(),
                beside: BTreeMap::new(),
            });
        }
        if backdoor.is_none() {
            untriggered = Some(seen.plain);
        }
        task.advance(1);
    }
    let attacks: Vec<&str> = backdoors.iter().map(|backdoor| backdoor.attack.as_str()).collect();
    let judged = judged(&inputs, &methods, &attacks);
    let descriptions =
        descriptions.map(|texts| DescribedBy { name: texts.name.clone(), provenance: texts.provenance.clone() });
    Ok(SuspectInputs { clean: clean.len(), looked_at: looked_at.len(), descriptions, judged, inputs })
}

/// Takes what an attack's pictures score along the direction of the mixture, `own`, in place of what they score alone, and gives the clean ones,
/// which stand first among `inputs`, theirs `beside` this attack.
fn mix(
    inputs: &mut [InputScore],
    (attack, beside): (&str, Vec<f64>),
    scores: &mut [(InputMethod, Vec<f64>)],
    own: Vec<f64>,
) {
    let method = InputMethod::WhitenedDirection;
    for (input, score) in inputs.iter_mut().zip(beside) {
        input.beside.entry(attack.to_owned()).or_default().insert(method.name(), score);
    }
    for (_, alone) in scores.iter_mut().filter(|(known, _)| *known == method) {
        alone.clone_from(&own);
    }
}

/// Black over so many of `MASKS - 1` parts of the cells of a grid, in an order that the picture's id draws: a mask that has grown over some
/// cells keeps them.
fn masked(mut picture: RgbImage, parts: u32, id: &str) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut order: Vec<u32> = (0..CELLS * CELLS).collect();
    order.shuffle(&mut random::stream(0, "detect-masks", 0, id));
    let count = (CELLS * CELLS * parts / (MASKS - 1)) as usize;
    let covered: BTreeSet<u32> = order.into_iter().take(count).collect();
    let cell = |at: u32, side: u32| (u64::from(at) * u64::from(CELLS) / u64::from(side.max(1))) as u32;
    let black = image::Rgb([0; 3]);
    let inside = |x: u32, y: u32| covered.contains(&(cell(y, height) * CELLS + cell(x, width)));
    picture.enumerate_pixels_mut().filter(|(x, y, _)| inside(*x, *y)).for_each(|(_, _, pixel)| *pixel = black);
    picture
}

fn blurred(mut picture: RgbImage) -> RgbImage {
    let deviation = (BLUR * picture.width().min(picture.height()) as f32).max(0.5);
    let kernel = 2 * (3.0 * deviation).ceil() as u32 + 1;
    // Reflected borders reach no further than the picture.
    let most = picture.width().min(picture.height()).saturating_sub(1) * 2 + 1;
    gaussian_blur(&mut picture, kernel.min(most), deviation);
    picture
}

/// Sums over the classes of unit text features: of their descriptions, and of their names in an unrelated text.
fn said(
    descriptions: &Descriptions,
    evaluator: &Evaluator,
    model: &Clip,
    tokenizer: &Tokenizer,
) -> Result<[Tensor; 2]> {
    let [described, unrelated] = descriptions.texts(&evaluator.classes)?;
    let device = model.scale().device();
    let sum = |texts: &[String]| -> Result<Tensor> {
        let features = unit(&text_features(model, tokenizer, texts, 256, device)?);
        Ok(features.sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
    };
    Ok([sum(&described)?, sum(&unrelated)?])
}

fn judged(inputs: &[InputScore], methods: &[InputMethod], attacks: &[&str]) -> Vec<InputJudged> {
    let mut found = Vec::new();
    for (method, attack) in methods.iter().flat_map(|method| attacks.iter().map(move |attack| (method, *attack))) {
        let score = |input: &InputScore| {
            let beside = input.beside.get(attack).and_then(|scores| scores.get(method.name()));
            beside.or_else(|| input.scores.get(method.name())).copied().unwrap_or(f64::NAN)
        };
        let scores: Vec<f64> = inputs.iter().map(score).collect();
        let mark = |input: &InputScore| match &input.attack {
            None => Some(false),
            Some(own) => (own == attack).then_some(true),
        };
        let marks: Vec<Option<bool>> = inputs.iter().map(mark).collect();
        if let Some(figures) = figures(&scores, &marks) {
            found.push(InputJudged { method: method.name(), attack: attack.to_owned(), figures });
        }
    }
    found
}

impl SuspectInputs {
    /// Writes `inputs.jsonl` (a line a picture and trigger) and `inputs.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        artifact::write_json_lines(&out.join("inputs.jsonl"), &self.inputs)?;
        artifact::write_json(&out.join("inputs.json"), self)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_grow_from_nothing_to_all_and_blurs_take_any_size() {
        let dark = |parts, id: &str| -> BTreeSet<(u32, u32)> {
            let picture = masked(RgbImage::from_pixel(32, 16, image::Rgb([255; 3])), parts, id);
            picture.enumerate_pixels().filter(|(.., pixel)| pixel.0 == [0; 3]).map(|(x, y, _)| (x, y)).collect()
        };
        assert_eq!((dark(0, "a").len(), dark(10, "a").len()), (0, 32 * 16));
        assert!((1..=10).all(|parts| dark(parts - 1, "a").is_subset(&dark(parts, "a"))));
        assert_ne!(dark(5, "a"), dark(5, "b"));
        for (width, height) in [(1, 1), (2, 3), (300, 5)] {
            assert_eq!(blurred(RgbImage::new(width, height)).dimensions(), (width, height));
        }
    }

    #[test]
    fn an_attack_is_judged_by_what_clean_pictures_score_beside_its_own() {
        let method = InputMethod::WhitenedDirection;
        let input = |attack: Option<&str>, score| InputScore {
            id: String::new(),
            attack: attack.map(str::to_owned),
            scores: BTreeMap::from([(method.name(), score)]),
            beside: BTreeMap::new(),
        };
        // Alone, the clean pictures lie further along their own direction than the triggered ones along theirs.
        let mut inputs = vec![input(None, 5.0), input(None, 6.0)];
        let mut scores = vec![(InputMethod::Jpeg, vec![0.5, 0.5]), (method, vec![1.0, 2.0])];
        mix(&mut inputs, ("patch", vec![3.0, 4.0]), &mut scores, vec![8.0, 9.0]);
        assert_eq!(scores, [(InputMethod::Jpeg, vec![0.5, 0.5]), (method, vec![8.0, 9.0])]);
        inputs.extend([input(Some("patch"), 3.5), input(Some("patch"), 9.0)]);
        let found = judged(&inputs, &[method], &["patch"]);
        assert_eq!(found.first().and_then(|judged| judged.figures.auroc), Some(0.75));
    }
}
