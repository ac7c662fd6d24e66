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
            return Err(Error::file(run, "holds no model that answers questions", remedy));
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
