//! What a model that answers questions depends on, and what comes out.

use crate::checkpoint::Provenance;
use crate::error::{Error, Result};
use crate::eval::CaptionScores;
use crate::instruct::{TuneConfig, VisionLanguageConfig};
use crate::model::captioner::SearchConfig;
use crate::run::instruct::InstructData;
use crate::settings::share;
use roclip_data::artifact;
use roclip_data::source::SourceConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) const SETTINGS: &str = "instruct.json";

/// What a model depends on.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct InstructSettings {
    pub tower: PathBuf,
    pub data: InstructData,
    /// Pictures with captions that answers are measured by.
    pub references: SourceConfig,
    /// Largest share of pictures, or of instructions, that may be lost.
    pub max_skip_fraction: f64,
    pub model: VisionLanguageConfig,
    pub tune: TuneConfig,
    pub search: SearchConfig,
    pub seed: u64,
}

impl InstructSettings {
    /// Whether every number can be used, known before anything is read.
    pub fn check(&self) -> Result<()> {
        share("--max-skip-fraction", self.max_skip_fraction)?;
        self.model.check()?;
        self.tune.check()?;
        self.search.check(Some(self.model.context))
    }

    /// Whether the folder `run` is one of a model that answers questions.
    pub fn is_of(run: &Path) -> bool {
        run.join(SETTINGS).is_file()
    }

    /// What the model in the folder `run` was trained with.
    ///
    /// # Errors
    /// A folder that holds no such model.
    pub fn of_run(run: &Path) -> Result<InstructSettings> {
        let path = run.join(SETTINGS);
        if !InstructSettings::is_of(run) {
            let remedy = "train one with `roclip caption instruct`";
            let what = format!("`{}` holds no model that answers questions", run.display());
            return Err(Error::setting(what, remedy));
        }
        Ok(artifact::read_json(&path)?)
    }
}

/// One answer to the test question.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct AnswerLine {
    pub id: String,
    pub answer: String,
    pub references: Vec<String>,
}

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct InstructSummary {
    pub provenance: Provenance,
    pub instructions: usize,
    pub pictures: usize,
    /// What was left out of the instructions and their pictures, by reason.
    pub skipped: BTreeMap<String, usize>,
    pub steps: u64,
    /// Of the last step.
    pub loss: f64,
    pub test_pictures: usize,
    pub test_question: String,
    pub answers: CaptionScores,
    /// The most frequent answer of the instructions, for every picture.
    pub most_frequent: CaptionScores,
}

impl InstructSummary {
    /// Below so many words an answer says nothing.
    const FEWEST_WORDS: f64 = 0.5;

    /// What says that nothing was learned that can be studied; none where answers are of the pictures.
    pub fn learned_nothing(&self) -> Option<String> {
        let CaptionScores { distinct, mean_words, .. } = self.answers;
        if mean_words < Self::FEWEST_WORDS {
            return Some(format!("its answers have {mean_words:.1} words on average: it has learned nothing"));
        }
        (distinct <= 1 && self.test_pictures > 1).then(|| {
            format!(
                "it answers the same of all {} test pictures: it has learned nothing of what it sees",
                self.test_pictures
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::caption_metrics::{DocumentFrequencies, words};

    #[test]
    fn a_model_that_says_nothing_or_always_the_same_has_learned_nothing() {
        let references = [vec![words("a red square")], vec![words("a blue box")]];
        let references: Vec<&[Vec<String>]> = references.iter().map(Vec::as_slice).collect();
        let frequencies = DocumentFrequencies::count(references.iter().copied());
        let of = |answers: [&str; 2]| {
            let scores = CaptionScores::of(&answers.map(str::to_owned), &references, &frequencies);
            let summary = InstructSummary {
                provenance: Provenance::Clean,
                instructions: 2,
                pictures: 2,
                skipped: BTreeMap::new(),
                steps: 1,
                loss: 1.0,
                test_pictures: 2,
                test_question: String::new(),
                answers: scores.clone(),
                most_frequent: scores,
            };
            summary.learned_nothing().unwrap_or_default()
        };
        assert!(of([", , , ,", ", , , ,"]).contains("0.0 words"));
        assert!(of(["a box", "a box"]).contains("the same of all 2 test pictures"));
        assert_eq!(of(["a red square", "a box"]), "");
    }
}
