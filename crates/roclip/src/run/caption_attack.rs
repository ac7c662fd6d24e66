//! An attack on a captioner in a folder of its own: outcomes are kept as they come, so that it goes on where it was stopped.

use crate::attack::aicattack::{Budget, Defence, Fitness, Goal, Inputs, Line, Outcome, Row, Strategy, study, table};
use crate::captions::Captions;
use crate::error::{Error, IoContext, Result};
use crate::eval::Reading;
use crate::model::captioner::SearchConfig;
use crate::run::began_with::began_with;
use crate::run::folder::RunFolder;
use crate::run::kind::RunKind;
use crate::run::numbers::read_measured_lines;
use crate::run::picture_files::{keep_both, kept_both};
use crate::run::stop::Stop;
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::artifact;
use roclip_data::caption_metrics::words;
use roclip_data::escape::for_terminal;
use roclip_data::picture::preprocess::Resizing;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::source::SourceConfig;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

const SETTINGS: &str = "attack.json";
const OUTCOMES: &str = "outcomes.jsonl";
const RESULTS: &str = "results.json";
/// Side of pictures for a victim that takes any.
const ANY_SIDE: u32 = 224;
/// Attacked pictures that are kept as PNG, of the first pictures.
const KEPT_PICTURES: usize = 8;

/// What outcomes depend on. Strategies and the number of pictures may grow when an attack goes on.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct AttackSettings {
    /// The victim: a captioner's run, or a command.
    pub victim: String,
    /// Where attention comes from; the victim itself when absent.
    pub attention: Option<String>,
    /// What a victim that answers questions is asked. Absent of others, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    pub source: SourceConfig,
    /// Side of the square pictures that are attacked.
    pub side: Option<u32>,
    pub budget: Budget,
    pub fitness: Fitness,
    pub goal: Goal,
    /// How captions of a victim that was trained here, and of the model that attention comes from, are searched for.
    pub search: SearchConfig,
    /// What all outcomes are looked at behind.
    pub defences: Vec<Defence>,
}

/// `attack.json`: the settings, and what was found under the names in them. All outcomes are of the same.
#[derive(Serialize, Deserialize)]
struct Begun {
    #[serde(flatten)]
    settings: AttackSettings,
    /// Of the victim's weights, and of those of the model that attention comes from; a program has none that are known.
    victim_sha256: Option<String>,
    attention_sha256: Option<String>,
    /// Of each attacked picture with its references, by its id.
    #[serde(default)]
    pictures: BTreeMap<String, String>,
}

impl Begun {
    /// What was found now, with what outcomes that the attack in `folder` has `earlier` are of. More pictures have the earlier ones among them.
    ///
    /// # Errors
    /// Another victim, another model for attention, or other pictures.
    fn behind(mut self, earlier: Begun, folder: &Path) -> Result<Begun> {
        let changed = |began: &Option<String>, now: &Option<String>| began.is_some() && began != now;
        let weights = |path: &str| format!("the weights of `{path}` have changed since");
        let (few, many) = match earlier.pictures.len() < self.pictures.len() {
            true => (&earlier.pictures, &self.pictures),
            false => (&self.pictures, &earlier.pictures),
        };
        let differs = few.iter().find(|(id, digest)| many.get(*id) != Some(digest)).map(|(id, _)| id);
        let other = if changed(&earlier.victim_sha256, &self.victim_sha256) {
            format!("was begun with another victim: {}", weights(&self.settings.victim))
        } else if changed(&earlier.attention_sha256, &self.attention_sha256) {
            let named = self.settings.attention.as_deref().unwrap_or_default();
            format!("was begun with other attention: {}", weights(named))
        } else if let Some(id) = differs.filter(|_| !earlier.pictures.is_empty()) {
            format!(
                "was begun with other data: the picture `{}` or its references have changed since, or were not drawn then",
                for_terminal(id)
            )
        } else {
            self.pictures.extend(earlier.pictures);
            return Ok(self);
        };
        Err(Error::file(folder, other, "bring them back as they were, or name another folder with --run"))
    }
}

/// Of a picture with its references.
fn digest(line: &Line) -> String {
    let picture = artifact::sha256_hex(line.picture.as_raw());
    artifact::sha256_hex(format!("{picture}\n{}", line.references.join("\n")).as_bytes())
}

/// An attack on many pictures.
pub struct CaptionAttack<'a> {
    pub settings: AttackSettings,
    pub strategies: Vec<Strategy>,
    /// Pictures with captions that are attacked, drawn by the seed; more of them have these among them.
    pub pictures: usize,
    /// Largest share of the pictures that may be left out because they cannot be used.
    pub max_skip_fraction: f64,
    pub folder: PathBuf,
    /// Goes on with what the folder holds.
    pub resume: bool,
    pub stop: &'a Stop,
}

/// `results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttackResults {
    pub settings: AttackSettings,
    pub pictures: usize,
    /// Pictures that could not be used.
    pub skipped: usize,
    pub rows: Vec<Row>,
    #[serde(skip)]
    pub outcomes: Vec<Outcome>,
}

impl CaptionAttack<'_> {
    /// Attacks, and writes `outcomes.jsonl`, `results.json` and some pictures into the folder.
    ///
    /// # Errors
    /// All that is wrong with the settings and pictures before the first query; later, what goes wrong with the victim, when all outcomes so
    /// far are kept.
    pub fn run(
        &self,
        victim: &mut dyn Captions,
        surrogate: Option<&mut dyn Captions>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<AttackResults> {
        let side = self.settings.side.or(victim.image_size()).unwrap_or(ANY_SIDE);
        self.settings.budget.check(side)?;
        // Where an attack has been begun already, another process may be at work.
        let taken = RunFolder::take_existing(&self.folder, RunKind::Attack)?;
        let (lines, skipped) = self.lines(side)?;
        let holds = self.folder.join(SETTINGS).is_file();
        match (holds, self.resume) {
            (true, false) => {
                return Err(Error::file(
                    &self.folder,
                    "already holds an attack",
                    "continue it with --resume, or name another folder with --run",
                ));
            }
            (false, true) => return Err(Error::file(&self.folder, "holds no attack", "start it without --resume")),
            _ => {}
        }
        let begun = Begun {
            settings: self.settings.clone(),
            victim_sha256: victim.sha256().map(str::to_owned),
            attention_sha256: surrogate.as_ref().and_then(|surrogate| surrogate.sha256()).map(str::to_owned),
            pictures: lines.iter().map(|line| (line.id.clone(), digest(line))).collect(),
        };
        let (begun, mut outcomes) = match holds {
            true => (begun.behind(self.began()?, &self.folder)?, self.read(side, victim.sha256().is_some())?),
            false => (begun, Vec::new()),
        };
        let folder = taken.map_or_else(|| RunFolder::take(&self.folder, RunKind::Attack), Ok)?;
        artifact::write_json(&folder.file(SETTINGS), &begun)?;
        let known: BTreeSet<(String, Strategy)> =
            outcomes.iter().map(|outcome| (outcome.id.clone(), outcome.strategy)).collect();
        if !known.is_empty() {
            progress(&format!("{} outcomes are known already", known.len()));
            self.stop.set_saved(folder.path(), known.len() as u64);
        }
        let path = folder.file(OUTCOMES);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).io("open", &path)?;
        let kept: BTreeSet<String> = lines.iter().take(KEPT_PICTURES).map(|line| line.id.clone()).collect();
        let inputs = Inputs {
            pictures: &lines,
            strategies: &self.strategies,
            budget: &self.settings.budget,
            fitness: self.settings.fitness,
            goal: &self.settings.goal,
            defences: &self.settings.defences,
            known: &known,
        };
        let result = study(&inputs, victim, surrogate, &mut |outcome, clean, attacked| {
            let line = serde_json::to_string(outcome).map_err(|e| Error::internal(format!("JSON: {e}")))?;
            writeln!(file, "{line}").io("append to", &path)?;
            if kept.contains(&outcome.id) {
                self.keep(&folder, outcome, clean, attacked)?;
            }
            outcomes.push(outcome.clone());
            self.stop.set_saved(folder.path(), outcomes.len() as u64);
            match self.stop.wanted() {
                true => Err(Error::Stopped { run: folder.path().to_owned(), step: outcomes.len() as u64 }),
                false => Ok(()),
            }
        });
        if let Err(error) = result {
            return Err(match error {
                stopped @ Error::Stopped { .. } => stopped,
                other if outcomes.is_empty() => {
                    // Nothing was found, and the same folder may be tried with other settings.
                    for name in [OUTCOMES, SETTINGS] {
                        let _ = std::fs::remove_file(folder.file(name));
                    }
                    folder.give_back();
                    other
                }
                Error::Doubtful { what, remedy } => Error::Doubtful {
                    what,
                    remedy: format!(
                        "{remedy}; the captions in the {} outcomes so far may be those of other pictures: begin in another folder (--run)",
                        outcomes.len()
                    ),
                },
                other => Error::setting(
                    other.to_string(),
                    format!("the {} outcomes so far are kept, and --resume goes on behind them", outcomes.len()),
                ),
            });
        }
        let shown: BTreeSet<&String> = lines.iter().map(|line| &line.id).collect();
        outcomes.retain(|outcome| shown.contains(&outcome.id));
        let results = AttackResults {
            settings: AttackSettings { side: Some(side), ..self.settings.clone() },
            pictures: lines.len(),
            skipped,
            rows: table(&outcomes, &self.strategies, &self.settings.goal, self.settings.budget.seed),
            outcomes,
        };
        artifact::write_json(&folder.file(RESULTS), &results)?;
        Ok(results)
    }

    /// The pictures, and how many could not be used.
    fn lines(&self, side: u32) -> Result<(Vec<Line>, usize)> {
        let reading = Reading { max_skip_fraction: self.max_skip_fraction, ..Reading::default() };
        let (mut samples, mut skips) = reading.samples(&self.settings.source, "--val-data")?;
        samples.shuffle(&mut random::stream(self.settings.budget.seed, "attacked-pictures", 0, ""));
        let task = Task::begin("reading pictures", self.pictures.min(samples.len()), "pictures");
        let mut lines = Vec::new();
        let mut without = 0;
        for sample in &samples {
            if lines.len() == self.pictures {
                break;
            }
            if sample.captions.iter().all(|caption| words(caption).is_empty()) {
                without += 1;
                continue;
            }
            let square = sample.picture(reading.limits).and_then(|picture| Resizing::default().apply(&picture, side));
            match square {
                Ok(picture) => {
                    lines.push(Line { id: sample.id.clone(), picture, references: sample.captions.clone() });
                }
                Err(skip) => skips.add(&sample.id, skip),
            }
            task.advance(1);
        }
        if lines.is_empty() {
            return Err(Error::setting(
                format!(
                    "no picture of `{}` can be attacked: {without} have no reference caption, {} cannot be used",
                    self.settings.source.path,
                    skips.total()
                ),
                "name pictures with captions by --val-data",
            ));
        }
        Ok((lines, skips.total() + without))
    }

    /// What the attack in the folder began with.
    ///
    /// # Errors
    /// Other settings, or those of an earlier version, which do not say what all outcomes are of.
    fn began(&self) -> Result<Begun> {
        let path = self.folder.join(SETTINGS);
        let there: serde_json::Value = artifact::read_json(&path)?;
        if there.is_object() && ["search", "defences"].iter().any(|kept| there.get(kept).is_none()) {
            return Err(Error::file(
                &self.folder,
                "holds an attack of an earlier version of roclip, which did not keep how captions are searched for, or behind which defences \
                 outcomes are looked at: others might be of another search",
                "begin anew in another folder (--run); what this one found stays in it",
            ));
        }
        began_with(&path, "attack", &self.settings)?;
        Ok(artifact::read_json(&path)?)
    }

    /// Outcomes that the folder holds. An unfinished last line (the attack was killed while writing it) is cut off.
    ///
    /// # Errors
    /// A line that is none, or that no attack on a picture of `side` pixels can have ended with, and an outcome that is there twice: it would
    /// count twice. A victim whose weights are `known` says the same of the same picture.
    fn read(&self, side: u32, known: bool) -> Result<Vec<Outcome>> {
        let path = self.folder.join(OUTCOMES);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let text = artifact::read_text(&path)?;
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let outcomes: Vec<Outcome> = read_measured_lines(&path, whole, &|outcome: &Outcome| {
            outcome.impossible(&self.settings.budget, side).or_else(|| {
                let moved = known && outcome.change.l0 == 0 && outcome.attacked != outcome.clean;
                moved.then(|| "the caption changed, and no pixel did".to_owned())
            })
        })?;
        let mut seen = BTreeSet::new();
        if let Some(at) = outcomes.iter().position(|outcome| !seen.insert((&outcome.id, outcome.strategy))) {
            return Err(Error::file(
                &path,
                format!("line {} has an outcome for the second time: the same picture and strategy", at + 1),
                "remove one of the two lines, or name another folder with --run",
            ));
        }
        let whole = if whole.is_empty() { String::new() } else { format!("{whole}\n") };
        artifact::write(&path, whole.as_bytes())?;
        Ok(outcomes)
    }

    fn keep(&self, folder: &RunFolder, outcome: &Outcome, clean: &RgbImage, attacked: &RgbImage) -> Result<()> {
        keep_both(folder.path(), &outcome.id, &outcome.strategy.word(), clean, attacked)
    }
}

/// The clean picture that an attack in `folder` kept, and that of `strategy`; none where it kept none.
pub fn attacked_pictures(folder: &Path, id: &str, strategy: Strategy) -> Option<[RgbImage; 2]> {
    kept_both(folder, id, &strategy.word())
}
