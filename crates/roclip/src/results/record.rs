//! A finished run as `results.json` and the report see it.

use crate::checkpoint::{run_of, runs_within};
use crate::error::{Error, Result};
use crate::eval::{BackdoorOutcome, Details, Evaluation, can_miss};
use crate::recipe::{ObjectiveName, Recipe};
use crate::results::data::{TrainingData, place};
use crate::results::experiment::Experiment;
use crate::results::keys::{in_order, short_keys};
use crate::results::poison::Poison;
use crate::results::title::{LeftOut, control, name, student};
use crate::run::{EpochLine, InheritanceFigures, Summary, read_details, read_epochs, read_measured};
use crate::train::{MatchSummary, PassMetrics, SimilarityHistogram, SplitSummary};
use roclip_data::escape::for_shell;
use roclip_data::plural;
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct Hits {
    pub hits: usize,
    pub n: usize,
}

impl Hits {
    /// None of nothing.
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }
}

impl From<Rate> for Hits {
    fn from(rate: Rate) -> Self {
        Hits { hits: rate.hits, n: rate.n }
    }
}

/// The numbers of one evaluation; rates are fractions.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Scores {
    pub epoch: u64,
    /// Test images that the accuracies are of; without such they are null.
    pub zero_shot_images: usize,
    pub zero_shot_top1: Option<f64>,
    /// Null of at most five classes, too.
    pub zero_shot_top5: Option<f64>,
    /// Of the zero-shot classifier.
    pub mean_per_class_recall: Option<f64>,
    pub psr: Option<Hits>,
    pub asr: BTreeMap<String, Hits>,
    /// The images of `asr` read as the target without the trigger, by attack: the part that is chance.
    pub asr_base_rate: BTreeMap<String, Hits>,
    /// Of those that are not, the ones that are with the trigger. Lacks the attacks of runs older than this count.
    pub asr_turned: BTreeMap<String, Hits>,
    /// Triggered images read as their true class, by attack.
    pub poisoned_accuracy: BTreeMap<String, f64>,
}

/// One object of `results.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ResultRow {
    /// The run's folder, as it was named.
    pub run: PathBuf,
    pub objective: String,
    /// For people: what was trained, and in a report of several experiments the settings in which they differ.
    pub label: String,
    /// `label` without the settings.
    pub name: String,
    /// The settings by which experiments of one name differ.
    pub settings: BTreeMap<String, String>,
    /// A digest of the recipe without the seed: runs with the same one are seeds of one experiment.
    pub experiment: String,
    /// A digest of what the run was measured on: only rows with the same one can be compared.
    pub data: String,
    /// `undefended`, `augmentation-only`, `clean-data`; null for a defence.
    pub control: Option<String>,
    pub seed: u64,
    /// That the run was trained on, without those that were left out before.
    pub pairs: usize,
    /// Those of `pairs` that are poison.
    pub poisoned_pairs: usize,
    /// The recipe's `data.pairs_per_picture`, a defence of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs_per_picture: Option<usize>,
    /// Of learned prompts: accuracy on the classes that they were not learned on. `zero_shot_top1` is then that on the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_unseen: Option<f64>,
    pub linear_probe: Option<f64>,
    pub linear_probe_mean_per_class_recall: Option<f64>,
    /// The last epoch.
    #[serde(flatten)]
    pub last: Scores,
    /// The last epoch of each kind, `clip` and `matching`.
    pub after: BTreeMap<String, Scores>,
    /// What a student has of each attack of its teacher's: a ratio, or null and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inheritance: BTreeMap<String, InheritanceFigures>,
    pub seconds: f64,
    pub peak_memory_bytes: u64,
}

impl ResultRow {
    /// Whether this is the control `name`, with all its pairs: a limit of pairs a picture defends.
    pub fn is_control(&self, name: &str) -> bool {
        self.control.as_deref() == Some(name) && self.pairs_per_picture.is_none()
    }

    /// Whether the run trained a classifier, whose accuracy no prompts have a part in.
    pub fn is_classifier(&self) -> bool {
        ObjectiveName::named(&self.objective).is_some_and(ObjectiveName::labelled)
    }

    /// Whether the run learned prompts, whose accuracies are those of seen and of unseen classes.
    pub fn is_prompts(&self) -> bool {
        self.accuracy_unseen.is_some()
    }

    /// Position in tables.
    pub(super) fn order(&self) -> usize {
        let known = ["undefended", "augmentation-only", "", "clean-data"];
        known.iter().position(|c| *c == self.control.as_deref().unwrap_or("")).unwrap_or(known.len())
    }
}

/// One line of the curves.
#[derive(Debug, Clone)]
pub struct EpochRecord {
    pub phase: String,
    pub loss: f64,
    pub passes: Vec<PassMetrics>,
    pub scores: Option<Scores>,
    pub matches: Option<MatchSummary>,
    pub split: Option<SplitSummary>,
    pub similarity: SimilarityHistogram,
}

/// A finished run, read back.
#[derive(Debug, Clone)]
pub struct RunRecord {
    pub folder: PathBuf,
    pub recipe: Recipe,
    pub experiment: Experiment,
    /// Runs with the same one met the same attack on the same data with the same model.
    pub attack: String,
    /// Runs with the same one were measured against the same attack, however much of its poison they were trained on.
    pub aim: String,
    /// That of the run, or of the one that it cleans or distils.
    pub poison: Poison,
    pub trained_on: TrainingData,
    /// Where what it was measured on lies, in words, with a digest where other runs were measured on something else in that place.
    pub measured_on: String,
    pub row: ResultRow,
    pub summary: Summary,
    /// Absent of a run that kept none.
    pub details: Option<Details>,
    pub epochs: Vec<EpochRecord>,
}

impl RunRecord {
    /// The recipe with the poison that the run drew, not drawn again.
    pub fn recipe_as_run(&self) -> Recipe {
        let kept = self.folder.join("manifest.jsonl");
        Recipe { manifest: kept.is_file().then_some(kept), ..self.recipe.clone() }
    }
}

/// Of an evaluation over `classes` classes, where their number was kept. Older runs kept shares of nothing, and the five best of all guesses.
fn scores(epoch: u64, evaluation: &Evaluation, classes: Option<usize>) -> Scores {
    let top1 = evaluation.zero_shot_top1.share();
    let top5 = evaluation.zero_shot_top5.filter(|_| classes.is_none_or(|classes| can_miss(5, classes)));
    let hits = |rate: fn(&BackdoorOutcome) -> Option<Rate>| -> BTreeMap<String, Hits> {
        evaluation.asr.iter().filter_map(|(name, outcome)| Some((name.clone(), rate(outcome)?.into()))).collect()
    };
    Scores {
        epoch,
        zero_shot_images: evaluation.zero_shot_top1.n,
        zero_shot_top1: top1,
        zero_shot_top5: top5.and_then(Rate::share),
        mean_per_class_recall: evaluation.mean_per_class_recall.filter(|_| top1.is_some()),
        psr: evaluation.psr.map(Hits::from),
        asr: hits(|outcome| Some(outcome.success)),
        asr_base_rate: hits(|outcome| Some(outcome.base_rate)),
        asr_turned: hits(|outcome| outcome.turned),
        poisoned_accuracy: evaluation
            .asr
            .iter()
            .filter_map(|(name, outcome)| Some((name.clone(), outcome.true_class.share()?)))
            .collect(),
    }
}

/// Files that attacks on models which write leave in a folder, with the page that shows them.
const STUDIES: [(&str, &str, &str); 2] = [
    ("backdoor.json", "backdoor.html", "roclip caption backdoor"),
    ("outcomes.jsonl", "attack.html", "roclip caption attack"),
];

/// What `folder` is, where it is no finished run.
fn unfinished(folder: &Path) -> Error {
    if let Some((_, page, command)) = STUDIES.iter().find(|(file, ..)| folder.join(file).is_file()) {
        let page = folder.join(page);
        let remedy = match page.is_file() {
            true => format!("open {}", page.display()),
            false => format!("its own page comes with the command that began it, with --resume: `{command}`"),
        };
        return Error::file(
            folder,
            format!("is a study of `{command}`, whose rates are of answers and no row of this report"),
            remedy,
        );
    }
    let runs = runs_within(folder).count();
    match folder.join("run.toml").is_file() {
        true => Error::file(
            folder,
            "is a run that is not finished (no summary.json)",
            "go on with it: the command that began it, with --resume and --run",
        ),
        false if runs > 0 => Error::file(
            folder,
            format!("is no run; it holds {}", plural::count(runs, "run")),
            format!("name them: {}/*/", folder.display()),
        ),
        false => Error::file(
            folder,
            "is no run: it holds neither run.toml nor summary.json",
            "name the folder of a finished run",
        ),
    }
}

/// The keys by which rows of one name differ, each with what it is called, in the order of columns.
pub fn key_columns<'a>(rows: impl Iterator<Item = &'a ResultRow> + Clone) -> Vec<(String, String)> {
    let short = short_keys(rows.clone().flat_map(|row| row.settings.keys()));
    let keys = in_order(short.keys(), rows.map(|row| row.run.as_path()));
    keys.into_iter().filter_map(|key| Some((key.clone(), short.get(&key)?.clone()))).collect()
}

/// Reads the finished run in `folder`.
pub fn read_run(folder: &Path) -> Result<RunRecord> {
    let path = folder.join("summary.json");
    if !path.is_file() {
        return Err(match run_of(folder).filter(|run| run != folder) {
            Some(run) => Error::file(
                folder,
                format!("is a checkpoint of the run `{}`", run.display()),
                "name the run: its results are those of its last epoch (`roclip eval` measures a checkpoint)",
            ),
            None if !folder.exists() => Error::file(folder, "is not there", "name the folder of a finished run"),
            None => unfinished(folder),
        });
    }
    if folder.join("instruct.json").is_file() {
        return Err(Error::file(
            folder,
            "trained a model that answers questions (`roclip caption instruct`), whose figures are of answers and no row of this report",
            format!(
                "read them in summary.json and answers.jsonl there; `roclip caption answer {0} PICTURE` asks the model, and `roclip caption backdoor {0} --run FOLDER` attacks its tuning",
                for_shell(&folder.display().to_string())
            ),
        ));
    }
    let mut summary: Summary = read_measured(&path)?;
    let recipe = Recipe::read(&folder.join("run.toml"))?;
    let experiment = Experiment::of_run(folder, &recipe)?;
    let details = read_details(folder)?;
    let classes = details.as_ref().map(|details| details.classes);
    let epoch = |line: EpochLine| EpochRecord {
        scores: line.evaluation.as_ref().map(|e| scores(line.epoch, e, classes)),
        phase: line.phase,
        loss: line.loss,
        passes: line.passes,
        matches: line.matches,
        split: line.split,
        similarity: line.similarity,
    };
    let lines = read_epochs(folder)?;
    let last = lines.last().map_or(0, |line| line.epoch);
    if last != summary.epoch {
        return Err(Error::file(
            &folder.join("metrics.jsonl"),
            format!("ends with epoch {last}, and the run with epoch {}: lines of it are lost", summary.epoch),
            "put back a whole copy of it, or train again; nothing is judged by what is left",
        ));
    }
    let epochs = lines.into_iter().map(epoch).collect();
    let poisoned = summary.poisoned_pairs > 0;
    let left_out = LeftOut::by(&recipe, &summary);
    let control = control(&recipe, poisoned, left_out.as_ref());
    // What a run cleans or distils was trained and attacked elsewhere.
    let victim = recipe.clean.as_ref().map(|clean| &clean.victim);
    let victim = victim.or(recipe.distillation().map(|distil| &distil.teacher)).and_then(|victim| run_of(victim));
    let attacked_in = victim.clone().unwrap_or_else(|| folder.to_owned());
    let victim = victim.and_then(|run| Recipe::read(&run.join("run.toml")).ok());
    if recipe.distillation().is_some() {
        summary.teacher_attacked = summary.teacher_attacked.or(victim.as_ref().map(|teacher| !teacher.is_unattacked()));
    }
    let summary = summary.with_inheritance();
    let taught = recipe.distillation().map(|_| student(victim.as_ref(), &summary));
    let label = name(&recipe, control.as_deref(), poisoned, taught, left_out.as_ref());
    let origin = victim.as_ref().map(|victim| Experiment::of_run(&attacked_in, victim)).transpose()?;
    let origin = origin.as_ref().unwrap_or(&experiment);
    let poison = Poison::of(Some(&attacked_in), victim.as_ref().unwrap_or(&recipe), origin.clone());
    // A cleaned model learned what it knows where its victim did; a student learns from pictures of its own.
    let trained_on = match (&recipe.clean, victim) {
        (Some(_), Some(victim)) => TrainingData::of(&victim, origin),
        _ => TrainingData::of(&recipe, &experiment),
    };
    let row = ResultRow {
        run: folder.to_owned(),
        objective: summary.objective.clone(),
        label: label.clone(),
        name: label,
        settings: BTreeMap::new(),
        experiment: experiment.digest(),
        data: experiment.measured_digest(summary.measured_on.as_deref()),
        control,
        seed: summary.seed,
        pairs: summary.pairs,
        poisoned_pairs: summary.poisoned_pairs,
        pairs_per_picture: recipe.data.pairs_per_picture,
        accuracy_unseen: summary.prompt.as_ref().and_then(|prompt| prompt.unseen.accuracy.share()),
        linear_probe: summary.linear_probe.map(|p| p.top1.rate),
        linear_probe_mean_per_class_recall: summary.linear_probe.and_then(|p| p.mean_per_class_recall),
        last: scores(summary.epoch, &summary.evaluation, classes),
        after: summary
            .after
            .iter()
            .map(|(phase, at)| (phase.clone(), scores(at.epoch, &at.evaluation, classes)))
            .collect(),
        inheritance: summary.inheritance.clone(),
        seconds: summary.seconds,
        peak_memory_bytes: summary.peak_memory_bytes,
    };
    let (attack, aim) = poison.digests();
    let folder = folder.to_owned();
    let measured_on = place(recipe.measured_source());
    Ok(RunRecord {
        folder,
        recipe,
        experiment,
        attack,
        aim,
        poison,
        trained_on,
        measured_on,
        row,
        summary,
        details,
        epochs,
    })
}
