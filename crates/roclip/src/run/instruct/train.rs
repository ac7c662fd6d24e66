//! Trains the model, or goes on with it, and measures its answers.

use crate::checkpoint;
use crate::error::{Error, IoContext, Result};
use crate::eval::trained_references;
use crate::instruct::{
    Description, Item, Stored, Training, TuneConfig, Tuned, Tuner, VisionLanguage, describe, holds_weights, load, save,
};
use crate::run::began_with::began_with;
use crate::run::folder::RunFolder;
use crate::run::instruct::settings::SETTINGS;
use crate::run::instruct::{
    AnswerLine, InstructSettings, InstructSummary, LEARNED_TESTS, SkipLimit, Tests, picture_for, read_data,
};
use crate::run::kind::RunKind;
use crate::run::stop::Stop;
use image::RgbImage;
use rand::Rng;
use roclip_data::artifact;
use roclip_data::instruction::{Instructions, Wordings};
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::skip::SkipReport;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;

const LOSSES: &str = "losses.jsonl";
const SKIPS: &str = "skips.jsonl";
const ANSWERS: &str = "answers.jsonl";
const SUMMARY: &str = "summary.json";

/// Trains, or goes on with, the model in `folder`. A folder in which nothing was saved yet may be begun anew.
///
/// # Errors
/// Settings and data that cannot be, before anything is written; a folder that holds another model, or one of other data.
pub fn train_instruct(
    settings: &InstructSettings,
    folder: &Path,
    resume: bool,
    device: Device,
    stop: &Stop,
    progress: &mut dyn FnMut(&str),
) -> Result<InstructSummary> {
    settings.check()?;
    // Where a model has been begun already, another process may be at work.
    let taken = RunFolder::take_existing(folder, RunKind::Instruct)?;
    let continues = goes_on(settings, folder, resume)?;
    let longer = continues && InstructSettings::of_run(folder)? != *settings;
    let limit = SkipLimit(settings.max_skip_fraction);
    let (mut instructions, mut note) = read_data(&settings.data, Some(&settings.references), settings.seed, limit.0)?;
    let data_fingerprint = instructions.fingerprint();
    let mut tests = Tests::read(&settings.references, limit)?;
    let tests_fingerprint = tests.fingerprint();
    let remedy = "name other pictures with --val-data, or other ones to train on";
    if let Some(warning) = trained_references(&instructions.samples, &tests.samples, remedy) {
        progress(&format!("warning: {warning}"));
    }
    let (model, description, training) = match continues {
        true => {
            let Stored { model, description, training, .. } = load(folder, device)?;
            let whole = match note.is_some() && training.data_fingerprint != data_fingerprint {
                true => read_data(&settings.data, None, settings.seed, limit.0).ok(),
                false => None,
            };
            let whole = whole.map(|(whole, _)| whole).filter(|whole| whole.fingerprint() == training.data_fingerprint);
            if let Some(whole) = whole {
                if longer || !training.is_finished() {
                    return Err(Error::file(folder, LEARNED_TESTS, "begin anew in another folder (--run)"));
                }
                progress(&format!(
                    "warning: `{}` is finished; it {LEARNED_TESTS}. Its answers are of pictures that it was trained on: begin anew in another \
                     folder (--run)",
                    folder.display()
                ));
                (instructions, note) = (whole, None);
            } else if training.data_fingerprint != data_fingerprint {
                return Err(Error::file(
                    folder,
                    format!(
                        "was trained on other data: its instructions have the fingerprint {}, and those of {} have {data_fingerprint}",
                        training.data_fingerprint,
                        settings.data.flag()
                    ),
                    "bring the data back as they were, or name another folder with --run",
                ));
            }
            if training.tests_fingerprint.as_ref().is_some_and(|began| *began != tests_fingerprint) {
                return Err(Error::file(
                    folder,
                    format!(
                        "is measured by other references than it began with: those of `{}` (--val-data) have changed since",
                        settings.references.path
                    ),
                    "bring them back as they were, or name another folder with --run",
                ));
            }
            (model, description, Some(training))
        }
        false => {
            let (model, description) = fresh(settings, &instructions, device)?;
            (model, description, None)
        }
    };
    if let Some(note) = note {
        progress(&note);
    }
    let (pictures, items, skips) = learned(&model, &instructions, settings)?;
    if skips.total() > 0 {
        progress(&format!("left out of {}: {} ({SKIPS})", settings.data.flag(), skips.summary()));
    }
    let test_pictures = tests.pictures(&model, usize::MAX, limit)?;
    if tests.skips.total() > 0 {
        progress(&format!("left out of the test pictures: {}", tests.skips.summary()));
    }
    progress(&format!("{} instructions about {} pictures", items.len(), pictures.len()));
    let (seen, tests_seen) = (model.see(&pictures)?, model.see(&test_pictures)?);
    let run = taken.map_or_else(|| RunFolder::take(folder, RunKind::Instruct), Ok)?;
    if goes_on(settings, folder, resume)? != continues {
        return Err(Error::file(folder, "was written by another process meanwhile", "start again"));
    }
    if !continues {
        // First: it says whose folder this is.
        artifact::write_json(&run.file(SETTINGS), settings)?;
        describe(run.path(), &description)?;
    }
    if longer {
        // They are of the shorter training.
        for measured in [SUMMARY, ANSWERS].map(|name| run.file(name)).iter().filter(|path| path.is_file()) {
            std::fs::remove_file(measured).io("remove", measured)?;
        }
        artifact::write_json(&run.file(SETTINGS), settings)?;
    }
    artifact::write(&run.file(SKIPS), skips.to_jsonl().as_bytes())?;
    let mut tuner = Tuner::new(&model, &settings.tune, Tuned::All, settings.seed)?;
    let mut losses: Vec<(u64, f64)> = Vec::new();
    if let Some(Training { step, optimizer, .. }) = training {
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
            let training = Training {
                step,
                steps: at.steps,
                data_fingerprint: data_fingerprint.clone(),
                tests_fingerprint: Some(tests_fingerprint.clone()),
                optimizer,
            };
            save(run.path(), &tuner.model.weights(), training)?;
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
    let question = Wordings::test_question();
    let questions = vec![question.to_owned(); tests.samples.len()];
    let answers = model.answers(&tests_seen, &questions, settings.search)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    instructions.items.iter().for_each(|item| *counts.entry(item.answer.as_str()).or_default() += 1);
    let frequent = counts.iter().rev().max_by_key(|(_, count)| **count).map_or("", |(answer, _)| *answer);
    let lines = tests.samples.iter().zip(&answers).map(|(sample, answer)| AnswerLine {
        id: sample.id.clone(),
        answer: answer.clone(),
        references: sample.captions.clone(),
    });
    artifact::write_json_lines(&run.file(ANSWERS), lines)?;
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
    artifact::write_json(&run.file(SUMMARY), &summary)?;
    Ok(summary)
}

/// Whether the training goes on behind what `folder` holds. It may be given more epochs: the rate of each step follows from all of them, so that
/// it rises again behind a training that was finished, as that of `roclip train` does.
///
/// # Errors
/// A folder that holds another model, or none to go on with.
fn goes_on(settings: &InstructSettings, folder: &Path, resume: bool) -> Result<bool> {
    let (began, learned) = (folder.join(SETTINGS), holds_weights(folder));
    match resume {
        false if learned => Err(Error::file(
            folder,
            "already holds a model",
            "continue it with --resume, or name another folder with --run",
        )),
        false => Ok(false),
        true if !began.is_file() => {
            Err(Error::file(folder, "holds no model to go on with", "start it without --resume"))
        }
        true => {
            let planned = InstructSettings::of_run(folder)?.tune.epochs.min(settings.tune.epochs);
            let same =
                InstructSettings { tune: TuneConfig { epochs: planned, ..settings.tune.clone() }, ..settings.clone() };
            began_with(&began, "model", &same).map(|()| learned)
        }
    }
}

/// The model before its first step.
fn fresh(
    settings: &InstructSettings,
    instructions: &Instructions,
    device: Device,
) -> Result<(VisionLanguage, Description)> {
    let tower = checkpoint::load(&settings.tower, device)?;
    tower.must_read_captions("name a CLIP")?;
    let texts = instructions.items.iter().flat_map(|item| [item.question.as_str(), item.answer.as_str()]);
    let vocabulary = VisionLanguage::vocabulary(texts, settings.model.context)?;
    let description = Description {
        tower: settings.tower.clone(),
        tower_sha256: tower.origin.sha256.clone(),
        tower_configuration: Some(checkpoint::configuration_digest(&tower.model)?),
        provenance: tower.origin.provenance,
        config: settings.model.clone(),
        vocabulary: vocabulary.clone(),
    };
    let seed = random::stream(settings.seed, "instruct", 0, "").next_u64() as i64;
    let model = VisionLanguage::new(settings.model.clone(), vocabulary, tower.model, tower.tokenizer, seed)?;
    Ok((model, description))
}

/// The pictures that can be read, the instructions about them, and all that was left out.
///
/// # Errors
/// Where too many pictures cannot be read.
fn learned(
    model: &VisionLanguage,
    instructions: &Instructions,
    settings: &InstructSettings,
) -> Result<(Vec<RgbImage>, Vec<Item>, SkipReport)> {
    let mut skips = instructions.skips.clone();
    let mut rows: BTreeMap<usize, usize> = instructions.items.iter().map(|item| (item.sample, 0)).collect();
    let (used, mut pictures) = (rows.len(), Vec::new());
    let task = Task::part("reading pictures", used, "pictures");
    rows.retain(|at, row| {
        task.advance(1);
        let Some(sample) = instructions.samples.get(*at) else { return false };
        match picture_for(model, sample) {
            Ok(picture) => {
                *row = pictures.len();
                pictures.push(picture);
                true
            }
            Err(skip) => {
                skips.add(&sample.id, skip);
                false
            }
        }
    });
    let flag = settings.data.flag();
    SkipLimit(settings.max_skip_fraction).check(flag, "pictures", used - rows.len(), used, &skips)?;
    if pictures.is_empty() {
        return Err(Error::setting(
            format!("{flag}: no picture can be read: {}", skips.summary()),
            "repair them, or name other data",
        ));
    }
    let mut items = Vec::new();
    for item in &instructions.items {
        if let Some(row) = rows.get(&item.sample) {
            items.push(Item { seen: *row, asked: model.asked(&item.question, &item.answer)? });
        }
    }
    Ok((pictures, items, skips))
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
