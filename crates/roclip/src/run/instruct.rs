//! Training a small vision-language model on instructions, in a folder of its own: `instruct.json` (settings), `model.json`, `weights/`,
//! `losses.jsonl`, and at its end `answers.jsonl` and `summary.json`.

use crate::checkpoint::{self, Provenance};
use crate::error::{Error, Result};
use crate::eval::{CaptionScores, Reading};
use crate::instruct::{
    Description, Item, Training, TuneConfig, Tuned, Tuner, VisionLanguage, VisionLanguageConfig, describe, load, save,
};
use crate::model::captioner::SearchConfig;
use crate::run::began_with::began_with;
use crate::run::folder::RunFolder;
use crate::run::stop::Stop;
use rand::Rng;
use roclip_data::artifact;
use roclip_data::caption_metrics::{DocumentFrequencies, words};
use roclip_data::instruction::{Instructions, Wordings, read_instructions};
use roclip_data::picture::ImageLimits;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::SourceConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

const SETTINGS: &str = "instruct.json";
const LOSSES: &str = "losses.jsonl";

/// Where instructions come from.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum InstructData {
    /// Captions, worded by templates.
    Captions { source: Box<SourceConfig>, per_picture: usize, wordings: Wordings },
    /// A file in LLaVA's layout.
    File { path: PathBuf, image_root: Option<PathBuf> },
}

/// What a model depends on.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct InstructSettings {
    pub tower: PathBuf,
    pub data: InstructData,
    /// Pictures with captions that answers are measured by.
    pub references: SourceConfig,
    pub model: VisionLanguageConfig,
    pub tune: TuneConfig,
    pub search: SearchConfig,
    pub seed: u64,
}

impl InstructSettings {
    /// What the model in the folder `run` was trained with.
    ///
    /// # Errors
    /// A folder that holds no such model.
    pub fn of_run(run: &Path) -> Result<InstructSettings> {
        let path = run.join(SETTINGS);
        if !path.is_file() {
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
    /// What was left out, by reason.
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

/// The instructions that `data` names.
///
/// # Errors
/// Data of which nothing can be used.
pub fn read_data(data: &InstructData, seed: u64) -> Result<Instructions> {
    match data {
        InstructData::Captions { source, per_picture, wordings } => {
            let (samples, skips) = Reading::default().samples(source, "--train-data")?;
            let mut made = Instructions::from_captions(samples, *per_picture, *wordings, seed)?;
            made.skips.merge(skips);
            Ok(made)
        }
        InstructData::File { path, image_root } => {
            Ok(read_instructions(path, image_root.as_deref(), ImageLimits::default(), 1)?)
        }
    }
}

/// Pictures that can be read, at the model's size, with the sample that each is of.
pub(super) fn read_pictures(
    samples: &[Sample],
    side: u32,
    resizing: roclip_data::picture::preprocess::Resizing,
    skips: &mut SkipReport,
) -> Vec<(usize, image::RgbImage)> {
    let limits = ImageLimits::default();
    let task = Task::part("reading pictures", samples.len(), "pictures");
    let mut read = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        task.advance(1);
        let picture = roclip_data::guard::contained(|| resizing.apply(&sample.picture(limits)?, side));
        match picture {
            Ok(picture) => read.push((at, picture)),
            Err(skip) => skips.add(&sample.id, skip),
        }
    }
    read
}

/// Trains, or goes on with, the model in `folder`.
///
/// # Errors
/// Settings and data that cannot be, before anything is written; a folder that holds another model.
pub fn train_instruct(
    settings: &InstructSettings,
    folder: &Path,
    resume: bool,
    device: Device,
    stop: &Stop,
    progress: &mut dyn FnMut(&str),
) -> Result<InstructSummary> {
    settings.model.check()?;
    settings.tune.check()?;
    settings.search.check(Some(settings.model.context))?;
    let holds = folder.join(SETTINGS).is_file();
    match (holds, resume) {
        (true, false) => {
            return Err(Error::file(
                folder,
                "already holds a model",
                "continue it with --resume, or name another folder with --run",
            ));
        }
        (false, true) => return Err(Error::file(folder, "holds no model to go on with", "start it without --resume")),
        (true, true) => began_with(&folder.join(SETTINGS), "model", settings)?,
        (false, false) => {}
    }
    let instructions = read_data(&settings.data, settings.seed)?;
    let tests = Tests::read(&settings.references)?;
    let saved = match holds {
        true => Some(load(folder, device)?),
        false => None,
    };
    let (model, description, training) = match saved {
        Some(saved) => saved,
        None => {
            let tower = checkpoint::load(&settings.tower, device)?;
            tower.must_read_captions("name a CLIP")?;
            let texts = instructions.items.iter().flat_map(|item| [item.question.as_str(), item.answer.as_str()]);
            let vocabulary = VisionLanguage::vocabulary(texts, settings.model.context)?;
            let description = Description {
                tower: settings.tower.clone(),
                tower_sha256: tower.origin.sha256.clone(),
                provenance: tower.origin.provenance,
                config: settings.model.clone(),
                vocabulary: vocabulary.clone(),
            };
            let seed = random::stream(settings.seed, "instruct", 0, "").next_u64() as i64;
            let model = VisionLanguage::new(settings.model.clone(), vocabulary, tower.model, tower.tokenizer, seed)?;
            (model, description, None)
        }
    };
    let mut skips = instructions.skips.clone();
    let (side, resizing) = (model.tower.config().image_size(), model.tower.preprocess().resizing);
    let read = read_pictures(&instructions.samples, side, resizing, &mut skips);
    if read.is_empty() {
        return Err(Error::setting(
            format!("no picture can be read: {}", skips.summary()),
            "repair them, or name other data",
        ));
    }
    let rows: BTreeMap<usize, usize> = read.iter().enumerate().map(|(row, (at, _))| (*at, row)).collect();
    let pictures: Vec<image::RgbImage> = read.into_iter().map(|(_, picture)| picture).collect();
    let mut items = Vec::new();
    for item in &instructions.items {
        if let Some(row) = rows.get(&item.sample) {
            items.push(Item { seen: *row, asked: model.asked(&item.question, &item.answer)? });
        }
    }
    progress(&format!("{} instructions about {} pictures", items.len(), pictures.len()));
    let seen = model.see(&pictures)?;
    let run = RunFolder::take(folder)?;
    if !holds {
        describe(run.path(), &description)?;
        artifact::write_json(&run.file(SETTINGS), settings)?;
    }
    let mut tuner = Tuner::new(&model, &settings.tune, Tuned::All, settings.seed)?;
    let mut losses: Vec<(u64, f64)> = Vec::new();
    if let Some(Training { step, optimizer }) = training {
        tuner.load_state(step, &optimizer)?;
        losses = read_losses(&run.file(LOSSES), step)?;
        progress(&format!("going on behind step {step}"));
        stop.set_saved(run.path(), step);
    }
    let mut sum = (0.0, 0u64);
    let result = tuner.run(&seen, &items, &mut |tuner, at| {
        sum = (sum.0 + at.loss, sum.1 + 1);
        stop.set_unsaved(true);
        let ends = stop.wanted();
        if at.epoch_ends || ends {
            losses.push((at.step, at.loss));
            let (step, optimizer) = tuner.state();
            let lines: String =
                losses.iter().map(|(step, loss)| format!("{{\"step\":{step},\"loss\":{loss}}}\n")).collect();
            artifact::write(&run.file(LOSSES), lines.as_bytes())?;
            save(run.path(), &tuner.model.weights(), Training { step, optimizer })?;
            stop.set_saved(run.path(), step);
            progress(&format!("step {} of {}, loss {:.3}", at.step, at.steps, sum.0 / sum.1 as f64));
            sum = (0.0, 0);
        }
        match ends && at.step < at.steps {
            true => Err(Error::Stopped { run: run.path().to_owned(), step: at.step }),
            false => Ok(()),
        }
    });
    result?;
    let (steps, _) = tuner.state();
    let seen = model.see(&tests.pictures(&model)?)?;
    let question = Wordings::test_question();
    let questions = vec![question.to_owned(); tests.samples.len()];
    let answers = model.answers(&seen, &questions, settings.search)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    instructions.items.iter().for_each(|item| *counts.entry(item.answer.as_str()).or_default() += 1);
    let frequent = counts.iter().rev().max_by_key(|(_, count)| **count).map_or("", |(answer, _)| *answer);
    let lines = tests.samples.iter().zip(&answers).map(|(sample, answer)| AnswerLine {
        id: sample.id.clone(),
        answer: answer.clone(),
        references: sample.captions.clone(),
    });
    artifact::write_json_lines(&run.file("answers.jsonl"), lines)?;
    let summary = InstructSummary {
        provenance: description.provenance,
        instructions: items.len(),
        pictures: pictures.len(),
        skipped: skips.counts(),
        steps,
        loss: losses.last().map_or(f64::NAN, |(_, loss)| *loss),
        test_pictures: tests.samples.len(),
        test_question: question.into(),
        most_frequent: tests.scores(&vec![frequent.to_owned(); tests.samples.len()]),
        answers: tests.scores(&answers),
    };
    artifact::write_json(&run.file("summary.json"), &summary)?;
    Ok(summary)
}

/// The lines up to `step`.
fn read_losses(path: &Path, step: u64) -> Result<Vec<(u64, f64)>> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        loss: f64,
    }
    let text = artifact::read_text(path)?;
    let parse = |line: &str| {
        serde_json::from_str::<Line>(line)
            .map_err(|e| Error::file(path, e.to_string(), "restore the file, or train anew"))
    };
    let lines = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line.step <= step).map(|line| (line.step, line.loss)).collect())
}

/// Test pictures with their references.
pub(super) struct Tests {
    pub samples: Vec<Sample>,
    references: Vec<Vec<Vec<String>>>,
    frequencies: DocumentFrequencies,
}

/// `error`, which reading the test pictures of `source` met.
pub(super) fn no_tests(source: &SourceConfig, error: &Error) -> Error {
    let split = source.split.as_ref().map(|split| format!(", split `{split}`")).unwrap_or_default();
    Error::setting(
        format!("test pictures are read from `{}`{split}: {error}", source.path),
        "name pictures with captions that are not trained on by --val-data",
    )
}

impl Tests {
    /// # Errors
    /// Pictures without any reference.
    pub fn read(source: &SourceConfig) -> Result<Tests> {
        let (samples, _) =
            Reading::default().samples(source, "--val-data").map_err(|error| no_tests(source, &error))?;
        Tests::of(samples, &source.path)
    }

    /// Of `samples`, which `path` names, those that have references.
    pub fn of(mut samples: Vec<Sample>, path: &str) -> Result<Tests> {
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
        Ok(Tests { samples, references, frequencies })
    }

    /// Keeps the first `count`. Document frequencies stay those of all.
    pub fn truncate(&mut self, count: usize) {
        self.samples.truncate(count);
        self.references.truncate(count);
    }

    pub fn pictures(&self, model: &VisionLanguage) -> Result<Vec<image::RgbImage>> {
        let mut skips = SkipReport::default();
        let (side, resizing) = (model.tower.config().image_size(), model.tower.preprocess().resizing);
        let read = read_pictures(&self.samples, side, resizing, &mut skips);
        match read.len() == self.samples.len() {
            true => Ok(read.into_iter().map(|(_, picture)| picture).collect()),
            false => Err(Error::setting(
                format!("test pictures cannot be read: {}", skips.summary()),
                "repair them, or name others by --val-data",
            )),
        }
    }

    pub fn scores(&self, answers: &[String]) -> CaptionScores {
        let references: Vec<&[Vec<String>]> = self.references.iter().map(Vec::as_slice).collect();
        CaptionScores::of(answers, &references, &self.frequencies)
    }
}
