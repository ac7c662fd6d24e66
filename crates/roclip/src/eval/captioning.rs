//! How good captions are: scores of a captioner, beside what costs nothing to say.

use crate::captions::write_captions;
use crate::error::{Error, Result, TorchContext};
use crate::eval::features::{ImageEncoder, text_features, unaltered};
use crate::eval::{FeatureKind, Reading};
use crate::model::captioner::{Captioner, SearchConfig};
use crate::model::{Clip, extent, pictures_tensor, unit};
use image::RgbImage;
use roclip_data::artifact;
use roclip_data::caption_metrics::{
    Bleu, DocumentFrequencies, Rouge, Smoothing, cider_d, corpus_bleu, sentence_bleu, words,
};
use roclip_data::guard::contained;
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::SourceConfig;
use roclip_data::tokenizer::{Decoder, Tokenizer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// A score of a caption beside its references, both as words.
type Score<'a> = &'a dyn Fn(&[String], &[Vec<String>]) -> f64;

/// Pictures that are captioned or embedded at a time.
const AT_A_TIME: usize = 128;
/// Similarities of pictures to what is trained on that are held at a time: 64 MiB.
const SIMILARITIES_AT_A_TIME: i64 = 1 << 24;

/// Scores of captions. BLEU is the corpus's, the others are means over pictures.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct CaptionScores {
    pub bleu: Bleu,
    /// Mean BLEU-4 of single captions, with one added to matches and n-grams.
    pub bleu4_smoothed: f64,
    /// F of ROUGE-L, averaged over the references of a picture.
    pub rouge_l: f64,
    /// 0 to 10, with document frequencies of all references.
    pub cider_d: f64,
    /// Different captions among those of all pictures.
    pub distinct: usize,
    pub mean_words: f64,
}

impl CaptionScores {
    /// Of one caption for each picture, beside that picture's references, as words.
    pub fn of(captions: &[String], references: &[&[Vec<String>]], frequencies: &DocumentFrequencies) -> CaptionScores {
        let said: Vec<Vec<String>> = captions.iter().map(|caption| words(caption)).collect();
        let each: Vec<(&[String], &[Vec<String>])> =
            said.iter().map(Vec::as_slice).zip(references.iter().copied()).collect();
        let count = each.len().max(1) as f64;
        let mean =
            |score: Score| each.iter().map(|(caption, references)| score(caption, references)).sum::<f64>() / count;
        CaptionScores {
            bleu: corpus_bleu(each.iter().copied(), Smoothing::None),
            bleu4_smoothed: mean(&|caption, references| sentence_bleu(caption, references, Smoothing::AddOne).bleu4),
            rouge_l: mean(&|caption, references| Rouge::of(caption, references).rouge_l.f),
            cider_d: mean(&|caption, references| cider_d(caption, references, frequencies)),
            distinct: said.iter().collect::<BTreeSet<_>>().len(),
            mean_words: mean(&|caption, _| caption.len() as f64),
        }
    }
}

/// What was measured of a captioner.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct CaptionEvaluation {
    pub pictures: usize,
    /// Pictures that could not be used.
    pub skipped: usize,
    pub references: usize,
    pub search: SearchConfig,
    pub captioner: CaptionScores,
    /// By name.
    pub baselines: BTreeMap<String, CaptionScores>,
}

/// One picture's caption.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct CaptionLine {
    pub id: String,
    pub caption: String,
    pub references: Vec<String>,
    pub bleu4: f64,
    pub cider_d: f64,
}

/// Pictures with references.
pub struct CaptionEvaluator {
    pub samples: Vec<Sample>,
    references: Vec<Vec<Vec<String>>>,
    frequencies: DocumentFrequencies,
    reading: Reading,
    skips: SkipReport,
}

/// A captioner and what it takes to read it.
#[derive(Clone, Copy)]
pub struct Captioning<'a> {
    pub model: &'a Clip,
    pub captioner: &'a Captioner,
    pub tokenizer: &'a Tokenizer,
    pub search: SearchConfig,
    /// Whether the towers were trained together, so that captions can be found by their features.
    pub contrastive: bool,
}

impl CaptionEvaluator {
    /// Reads `source`, which the recipe names at `caption.references`.
    ///
    /// # Errors
    /// Pictures that cannot be used, and those without any caption.
    pub fn new(source: &SourceConfig, reading: Reading) -> Result<CaptionEvaluator> {
        let (mut samples, skips) = reading.samples(source, "caption.references").map_err(|error| {
            let split = source.split.as_ref().map(|split| format!(" in the split `{split}`")).unwrap_or_default();
            Error::setting(
                format!("reference captions are read from `{}`{split}: {error}", source.path),
                "name pictures with captions that are not trained on by --val-data (caption.references)",
            )
        })?;
        samples.retain(|sample| sample.captions.iter().any(|caption| !words(caption).is_empty()));
        if samples.len() < 2 {
            return Err(Error::setting(
                format!("`{}` has {} pictures with references, and at least 2 are needed", source.path, samples.len()),
                "name pictures with captions (caption.references, --val-data)",
            ));
        }
        let of = |sample: &Sample| -> Vec<Vec<String>> {
            sample.captions.iter().map(|caption| words(caption)).filter(|words| !words.is_empty()).collect()
        };
        let references: Vec<Vec<Vec<String>>> = samples.iter().map(of).collect();
        let frequencies = DocumentFrequencies::count(references.iter().map(Vec::as_slice));
        Ok(CaptionEvaluator { samples, references, frequencies, reading, skips })
    }

    /// A digest of the pictures, each with its references: wherever they lie, what has the same one is measured on the same.
    pub fn digest(&self) -> String {
        let line = |sample: &Sample| format!("{:02x?} {:?}\n", sample.digest, sample.captions);
        let mut lines: Vec<String> = self.samples.iter().map(line).collect();
        lines.sort_unstable();
        artifact::sha256_hex(lines.concat().as_bytes())
    }

    /// Scores of one caption for each of the pictures at `places`.
    fn scores(&self, places: &[usize], captions: &[String]) -> CaptionScores {
        let none: &[Vec<String>] = &[];
        let references = |at: &usize| self.references.get(*at).map_or(none, Vec::as_slice);
        let references: Vec<&[Vec<String>]> = places.iter().map(references).collect();
        CaptionScores::of(captions, &references, &self.frequencies)
    }

    /// The pictures that can be read, at the model's size, with their places among the samples.
    fn pictures(&self, model: &Clip) -> (Vec<usize>, Vec<RgbImage>, SkipReport) {
        let (side, resizing) = (model.config().image_size(), model.preprocess().resizing);
        let (mut places, mut pictures, mut skips) = (Vec::new(), Vec::new(), self.skips.clone());
        for (at, sample) in self.samples.iter().enumerate() {
            match contained(|| resizing.apply(&sample.picture(self.reading.limits)?, side)) {
                Ok(picture) => {
                    places.push(at);
                    pictures.push(picture);
                }
                Err(skip) => skips.add(&sample.id, skip),
            }
        }
        (places, pictures, skips)
    }

    /// Captions of all pictures, their scores, and those of the baselines: the most frequent of the `training` captions, that of the training
    /// picture whose features are the nearest, and, of contrastive towers, the training caption whose features are the nearest.
    ///
    /// # Errors
    /// No picture that can be read.
    pub fn measure(&self, of: Captioning, training: &[Sample]) -> Result<(CaptionEvaluation, Vec<CaptionLine>)> {
        let Captioning { model, captioner, tokenizer, search, .. } = of;
        let (places, pictures, skips) = self.pictures(model);
        if places.is_empty() {
            return Err(Error::setting(
                format!("no picture with references can be read: {}", skips.summary()),
                "repair them, or name others in caption.references",
            ));
        }
        let decoder = Decoder::new(tokenizer)?;
        let mut captions = Vec::with_capacity(pictures.len());
        let task = Task::part("captioning", pictures.len(), "pictures");
        for pictures in pictures.chunks(AT_A_TIME) {
            let images = pictures_tensor(model, pictures)?;
            let written = write_captions(model, captioner, &decoder, &images, search)?;
            captions.extend(written.iter().map(|written| decoder.text(&written.ids)));
            task.advance(pictures.len());
        }
        let mut baselines = BTreeMap::new();
        for (name, said) in self.baselines(of, training, &places)? {
            baselines.insert(name.to_owned(), self.scores(&places, &said));
        }
        let line = |(at, caption): (&usize, &String)| {
            let (sample, references) = (self.samples.get(*at)?, self.references.get(*at)?);
            let said = words(caption);
            Some(CaptionLine {
                id: sample.id.clone(),
                caption: caption.clone(),
                references: sample.captions.clone(),
                bleu4: sentence_bleu(&said, references, Smoothing::None).bleu4,
                cider_d: cider_d(&said, references, &self.frequencies),
            })
        };
        let lines = places.iter().zip(&captions).filter_map(line).collect();
        let evaluation = CaptionEvaluation {
            pictures: places.len(),
            skipped: skips.total(),
            references: places.iter().filter_map(|at| self.references.get(*at)).map(Vec::len).sum(),
            search,
            captioner: self.scores(&places, &captions),
            baselines,
        };
        Ok((evaluation, lines))
    }

    /// What each baseline says about the pictures at `places`.
    fn baselines(
        &self,
        of: Captioning,
        training: &[Sample],
        places: &[usize],
    ) -> Result<Vec<(&'static str, Vec<String>)>> {
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for caption in training.iter().flat_map(|sample| &sample.captions) {
            *counts.entry(caption).or_default() += 1;
        }
        // Of captions that are equally frequent the first one in the alphabet counts.
        let frequent = counts.iter().rev().max_by_key(|(_, count)| **count).map(|(caption, _)| (*caption).clone());
        let Some(frequent) = frequent else { return Ok(Vec::new()) };
        let mut said = vec![("most frequent caption", vec![frequent; places.len()])];
        let reading = self.reading;
        let encoder = ImageEncoder {
            model: of.model,
            limits: reading.limits,
            batch_size: AT_A_TIME,
            workers: reading.workers,
            kind: FeatureKind::Projected,
            world: None,
        };
        let asked: Vec<&Sample> = places.iter().filter_map(|at| self.samples.get(*at)).collect();
        let captioned: Vec<&Sample> = training.iter().filter(|sample| !sample.captions.is_empty()).collect();
        let (asked, known) = (encoder.encode(&asked, &unaltered)?, encoder.encode(&captioned, &unaltered)?);
        if asked.readable.len() != places.len() || known.readable.is_empty() {
            return Ok(said);
        }
        let pictures = unit(&asked.features);
        let nearest = |others: &Tensor| nearest(&pictures, &unit(others), SIMILARITIES_AT_A_TIME);
        let own = |at: &i64| {
            let sample = known.readable.get(*at as usize).and_then(|at| captioned.get(*at));
            sample.and_then(|sample| sample.captions.first()).cloned().unwrap_or_default()
        };
        said.push(("nearest picture's caption", nearest(&known.features)?.iter().map(own).collect()));
        if of.contrastive {
            let texts: Vec<String> = counts.keys().map(|caption| (*caption).clone()).collect();
            let features = text_features(of.model, of.tokenizer, &texts, AT_A_TIME, pictures.device())?;
            let text = |at: &i64| texts.get(*at as usize).cloned().unwrap_or_default();
            said.push(("caption retrieval", nearest(&features)?.iter().map(text).collect()));
        }
        Ok(said)
    }
}

/// The place of the row of `others` that is nearest to each of `pictures`, all of length 1. No more than `at_a_time` similarities are held, but
/// those of a picture.
fn nearest(pictures: &Tensor, others: &Tensor, at_a_time: i64) -> Result<Vec<i64>> {
    let (asked, columns) = (extent(pictures, 0), others.transpose(0, 1));
    let rows = (at_a_time / extent(others, 0).max(1)).max(1);
    let mut places = Vec::new();
    for from in (0..asked).step_by(rows as usize) {
        let near = pictures.narrow(0, from, rows.min(asked - from)).matmul(&columns).argmax(1, false);
        places.extend(Vec::<i64>::try_from(near).torch("reading the nearest captions")?);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_nearest_are_the_same_however_many_similarities_are_held() {
        tch::manual_seed(5);
        let rows = |count| unit(&Tensor::randn([count, 16], (Kind::Float, Device::Cpu)));
        let (pictures, others) = (rows(23), rows(40));
        let whole = pictures.matmul(&others.transpose(0, 1)).argmax(1, false);
        let whole = Vec::<i64>::try_from(whole).unwrap();
        for at_a_time in [1, 40, 200, 919, 1 << 24] {
            assert_eq!(nearest(&pictures, &others, at_a_time).unwrap(), whole, "{at_a_time}");
        }
    }
}
