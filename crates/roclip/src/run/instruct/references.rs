//! Test pictures with the captions that answers are measured by.

use crate::error::{Error, Result};
use crate::eval::CaptionScores;
use crate::instruct::VisionLanguage;
use crate::run::instruct::{SkipLimit, picture_for};
use image::RgbImage;
use roclip_data::caption_metrics::{DocumentFrequencies, words};
use roclip_data::pairs::{CaptionMode, Pairs};
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::SourceConfig;

/// Test pictures with their references.
pub(in crate::run) struct Tests {
    pub samples: Vec<Sample>,
    /// What was left out.
    pub skips: SkipReport,
    references: Vec<Vec<Vec<String>>>,
    frequencies: DocumentFrequencies,
}

/// `error`, which reading the test pictures of `source` met.
pub(in crate::run) fn no_tests(source: &SourceConfig, error: &Error) -> Error {
    let split = source.split.as_ref().map(|split| format!(", split `{split}`")).unwrap_or_default();
    Error::setting(
        format!("test pictures are read from `{}`{split}: {error}", source.path),
        "name pictures with captions that are not trained on by --val-data",
    )
}

impl Tests {
    /// # Errors
    /// Pictures without any reference.
    pub fn read(source: &SourceConfig, limit: SkipLimit) -> Result<Tests> {
        let (samples, skips) = limit.samples(source, "--val-data").map_err(|error| no_tests(source, &error))?;
        Tests::of(samples, skips, &source.path)
    }

    /// Of `samples`, which `path` names, those that have references; `skips` are those that `path` lost.
    pub fn of(mut samples: Vec<Sample>, skips: SkipReport, path: &str) -> Result<Tests> {
        samples.retain(|sample| sample.captions.iter().any(|caption| !words(caption).is_empty()));
        if samples.is_empty() {
            return Err(Error::setting(
                format!("`{path}` has no picture with a reference that has a word"),
                "name pictures with captions by --val-data",
            ));
        }
        let of = |sample: &Sample| -> Vec<Vec<String>> {
            sample.captions.iter().map(|caption| words(caption)).filter(|words| !words.is_empty()).collect()
        };
        let references: Vec<Vec<Vec<String>>> = samples.iter().map(of).collect();
        let frequencies = DocumentFrequencies::count(references.iter().map(Vec::as_slice));
        Ok(Tests { samples, skips, references, frequencies })
    }

    /// A digest of ids, references and pictures.
    pub fn fingerprint(&self) -> String {
        Pairs::new(self.samples.clone(), CaptionMode::Draw).fingerprint()
    }

    /// The first `most` pictures that can be read, at the model's size; no other tests are kept. Document frequencies stay those of all.
    ///
    /// # Errors
    /// Where too many cannot be read.
    pub fn pictures(&mut self, model: &VisionLanguage, most: usize, limit: SkipLimit) -> Result<Vec<RgbImage>> {
        let task = Task::part("reading test pictures", self.samples.len().min(most), "pictures");
        let (mut pictures, mut samples, mut references) = (Vec::new(), Vec::new(), Vec::new());
        let mut lost = 0;
        for (sample, own) in std::mem::take(&mut self.samples).into_iter().zip(std::mem::take(&mut self.references)) {
            if pictures.len() == most {
                break;
            }
            match picture_for(model, &sample) {
                Ok(picture) => {
                    pictures.push(picture);
                    samples.push(sample);
                    references.push(own);
                    task.advance(1);
                }
                Err(skip) => {
                    lost += 1;
                    self.skips.add(&sample.id, skip);
                }
            }
        }
        limit.check("--val-data", "test pictures", lost, lost + pictures.len(), &self.skips)?;
        if pictures.is_empty() {
            return Err(Error::setting(
                format!("no test picture can be read: {}", self.skips.summary()),
                "repair them, or name others by --val-data",
            ));
        }
        (self.samples, self.references) = (samples, references);
        Ok(pictures)
    }

    pub fn scores(&self, answers: &[String]) -> CaptionScores {
        let references: Vec<&[Vec<String>]> = self.references.iter().map(Vec::as_slice).collect();
        CaptionScores::of(answers, &references, &self.frequencies)
    }
}
