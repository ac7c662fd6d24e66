//! Looking for a trigger in delivered prompts, with the model and unlabelled pictures.

use crate::checkpoint::{self, Description, Loaded, Provenance};
use crate::error::{Error, Result};
use crate::eval::ImageEncoder;
use crate::prompt::{ClassTokens, Detection, LearnerAbout, PromptLearner, StoredLearner, invert, read_learner};
use crate::recipe::Recipe;
use crate::run::device::machine;
use crate::run::numbers::read_measured;
use crate::run::prompt::prepare::{encoder, frozen_model, same_model, section, unlabelled};
use roclip_data::artifact;
use roclip_data::sample::Sample;
use roclip_data::source::list_samples;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What inversion said of a run's learner, in its folder.
const DETECTION: &str = "detection.json";

/// What inversion says of one learner.
#[derive(Debug, Clone, Serialize)]
pub struct Inspected {
    pub learner: PathBuf,
    pub about: LearnerAbout,
    pub counts_as: CountsAs,
    pub detection: Detection,
}

/// What a detector is judged by, as a learner says it of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountsAs {
    Clean,
    /// It came with a trigger.
    Attacked,
    /// It was repaired, or its model was attacked and cleaned: how much is left nobody knows, so that it stands in no false positives and no AUROC.
    Neither,
}

impl CountsAs {
    fn of(about: &LearnerAbout) -> CountsAs {
        match about.method == "repair" || about.provenance == Provenance::Cleaned {
            true => CountsAs::Neither,
            false if about.target.is_some() => CountsAs::Attacked,
            false => CountsAs::Clean,
        }
    }
}

impl Inspected {
    /// Keeps the detection in the folder of the run that the learner is of; where it was written.
    ///
    /// # Errors
    /// A folder that cannot be written in.
    pub fn keep(&self) -> Result<Option<PathBuf>> {
        // As it was named, where it was.
        let of_file = || read_learner(&self.learner).map(|stored| stored.path.parent().and_then(checkpoint::run_of));
        let Some(run) = checkpoint::run_of(&self.learner).map_or_else(of_file, |run| Ok(Some(run)))? else {
            return Ok(None);
        };
        let path = run.join(DETECTION);
        artifact::write_json(&path, &self.detection)?;
        Ok(Some(path))
    }

    /// Whether the class with the largest score is the attacker's.
    pub fn names_target(&self) -> bool {
        let first = self.detection.classes.first().map(|class| class.class.as_str());
        first.is_some() && first == self.about.target.as_deref()
    }
}

/// What was last said of the learner of the run in `folder`; none where it was not looked at since the run ended.
///
/// # Errors
/// A file that cannot be read.
pub fn kept_detection(folder: &Path) -> Result<Option<Detection>> {
    let changed = |name: &str| std::fs::metadata(folder.join(name)).and_then(|meta| meta.modified()).ok();
    let current = changed(DETECTION).zip(changed("summary.json")).is_some_and(|(found, ended)| found >= ended);
    Ok(if current { Some(read_measured(&folder.join(DETECTION))?) } else { None })
}

/// The learner and the frozen model that it was learned on.
fn open(recipe: &Recipe, description: Description, learner: &Path) -> Result<(StoredLearner, Loaded)> {
    recipe.check()?;
    let config = section(recipe)?;
    let stored = read_learner(learner)?;
    let loaded = frozen_model(&config.model, description, machine(recipe)?)?;
    same_model(&stored, &loaded, &config.model)?;
    Ok((stored, loaded))
}

/// Opens every learner of `all` once, each with the recipe that it is looked at with, so that none is found missing after the work on others.
///
/// # Errors
/// Those that [`inspect_prompts`] would begin with.
pub fn check_inspections(all: &[(Recipe, PathBuf)], description: Description) -> Result<()> {
    all.iter().try_for_each(|(recipe, learner)| open(recipe, description, learner).map(drop))
}

/// Inverts triggers for every class of `learner` on unlabelled pictures of `recipe`'s data: those of classes that the prompts were not
/// learned on, where the data says classes at all.
///
/// # Errors
/// No learner, a model that is not the learner's, and no pictures.
pub fn inspect_prompts(recipe: &Recipe, description: Description, learner: &Path) -> Result<Inspected> {
    let (stored, loaded) = open(recipe, description, learner)?;
    let config = section(recipe)?;
    let learned = PromptLearner::from_tensors(&loaded.model, &stored.tensors)?;
    let words: Vec<String> = stored.about.classes.iter().map(|class| class.1.clone()).collect();
    let names: Vec<String> = stored.about.classes.iter().map(|class| class.0.clone()).collect();
    let classes = ClassTokens::new(&loaded.model, &loaded.tokenizer, &words, &stored.about.ending, learned.contexts())?;
    let listing = list_samples(&recipe.data.source, recipe.data.limits)?;
    let of_no_seen_class = |sample: &&Sample| !sample.class.as_ref().is_some_and(|class| names.contains(class));
    let usable: Vec<&Sample> = listing.samples.iter().filter(of_no_seen_class).collect();
    if usable.is_empty() {
        return Err(Error::setting(
            format!("every picture of `{}` is of a class that the prompts were learned on", recipe.data.source.path),
            "name other pictures with --train-data; they need no labels",
        ));
    }
    let pictures: ImageEncoder = encoder(&loaded, recipe);
    let pictures = unlabelled(&usable, config.detector.pictures, recipe.seed, pictures)?;
    let (detection, _) =
        invert((&loaded.model, &learned, &classes), &names, None, &pictures, &config.detector, recipe.seed)?;
    let counts_as = CountsAs::of(&stored.about);
    Ok(Inspected { learner: learner.to_owned(), about: stored.about, counts_as, detection })
}
