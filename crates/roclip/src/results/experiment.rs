//! Which runs are one experiment: their recipes differ in nothing but the seed and what depends on it.

use crate::error::{Error, Result};
use crate::eval::NO_IMAGES;
use crate::recipe::Recipe;
use crate::results::began::began_with;
use crate::run::{Before, Looked};
use roclip_data::artifact;
use roclip_data::poison::PoisonConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Runs that a run was made from are followed so far.
const DEPTH: u32 = 4;
/// What stands before the digest of a run that another one was made from.
pub(super) const RUN: &str = "run:";
/// Letters of a digest that are shown.
const DIGEST: usize = 8;
/// Differing keys that are named.
pub(super) const NAMED: usize = 4;
/// The key of a list of pairs that are left out.
const DROP: &str = "data.drop";
/// What the captions of a captioner are measured by.
const REFERENCES: &str = "caption.references";
/// How a list of suspects was made: no keys of a recipe, and nothing that a sweep could vary.
pub(super) const PROVENANCE: [&str; 5] =
    [ENCODER, ORDERED_BY, "neighbours of the detector", "references of the detector", "left out"];
/// The methods that scored pairs, or the mean rank of several.
pub(super) const ORDERED_BY: &str = "detected by";
/// What encoded the pairs that were looked at.
pub(super) const ENCODER: &str = "encoder of the detector";

/// A recipe without its seed, its manifest's path and the settings that change no result, as `key -> value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    pub(super) settings: BTreeMap<String, String>,
    /// Digests of the files that settings name, as far as the run kept them: by the setting, and of a run that it was made from by the setting
    /// of that one. They tell apart what has the same settings, and only where they differ.
    pub(super) files: BTreeMap<(String, String), String>,
}

/// A value as it is shown: whole, but for the digest that stands for a run.
pub(super) fn shown(value: &str) -> String {
    match value.strip_prefix(RUN) {
        Some(digest) => format!("{RUN}{}", short(digest)),
        None => value.to_owned(),
    }
}

impl Experiment {
    pub fn of(recipe: &Recipe) -> Result<Experiment> {
        Self::at_depth(recipe, None, 0)
    }

    /// That of the run in `folder` by `recipe`, with the digests of files that it kept.
    pub(super) fn of_run(folder: &Path, recipe: &Recipe) -> Result<Experiment> {
        Self::at_depth(recipe, Some(folder), 0)
    }

    /// All that a run reads of its recipe, the seed, the paths and the machine too: recipes with one digest of it are the same run.
    pub fn exactly(recipe: &Recipe) -> Result<Experiment> {
        let recipe = without_unused_poison(recipe);
        Ok(Experiment { settings: settings_read(&recipe)?, files: BTreeMap::new() })
    }

    /// [`Experiment::exactly`] on any machine: what changes no result is as if nobody had said it.
    pub fn on_any_machine(recipe: &Recipe) -> Result<Experiment> {
        Self::exactly(&without_machine(recipe.clone()))
    }

    fn at_depth(recipe: &Recipe, folder: Option<&Path>, depth: u32) -> Result<Experiment> {
        let own = folder.map(|folder| began_with(folder, recipe)).unwrap_or_default();
        let behind = if folder.is_some() { files_behind(recipe, depth) } else { BTreeMap::new() };
        let mut recipe = without_machine(without_unused_poison(recipe));
        (recipe.seed, recipe.manifest) = (0, None);
        // Each seed has a victim, a start or a reference of its own: what counts is how that was made.
        let made = |path: &PathBuf| PathBuf::from(made_as(path, depth));
        recipe.model.weights = recipe.model.weights.as_ref().map(made);
        recipe.poison.reference = recipe.poison.reference.as_ref().map(made);
        if recipe.distillation().is_some() {
            recipe.objective.distil.teacher = made(&recipe.objective.distil.teacher);
        }
        if let Some(clean) = &mut recipe.clean {
            clean.victim = made(&clean.victim);
        }
        if let Some(prompt) = &mut recipe.prompt {
            prompt.model = made(&prompt.model);
            if let Some(repair) = &mut prompt.repair {
                repair.learner = made(&repair.learner);
            }
        }
        let mut settings = settings_read(&recipe)?;
        // Each seed has suspects of its own, too.
        if let Some(looked) = recipe.data.drop.as_deref().and_then(Looked::beside) {
            settings.remove(DROP);
            settings.extend(PROVENANCE.map(str::to_owned).into_iter().zip(provenance(looked, depth)));
        }
        // Each seed has a run of its own behind it, whose weights say nothing.
        let of_setting = |(key, digest): (String, String)| {
            let key = [key.clone(), format!("{key}.path")].into_iter().find(|key| settings.contains_key(key))?;
            let is_run = settings.get(&key).is_some_and(|value| value.starts_with(RUN));
            (!is_run).then_some(((key, String::new()), digest))
        };
        let files = own.into_iter().filter_map(of_setting).chain(behind).collect();
        Ok(Experiment { settings, files })
    }

    /// Says whether two runs are one experiment.
    pub fn digest(&self) -> String {
        self.digest_of(|_| true)
    }

    /// Says whether two runs were measured on the same data, so that their figures may stand in one table: by the digest of the `pictures`
    /// and classes where a run kept one, and else by where they lie.
    pub fn measured_digest(&self, pictures: Option<&str>) -> String {
        let own = self.with_split_in_path("eval.source").with_split_in_path(REFERENCES);
        match pictures {
            None => own.digest_of(|key| self.is_measured_by(key)),
            // The prompts that classes are told apart by are no pictures.
            Some(pictures) => {
                let prompts = own.digest_of(|key| key.starts_with("eval.class_captions"));
                artifact::sha256_hex(format!("{pictures} {prompts}").as_bytes())
            }
        }
    }

    /// Says whether two runs read the same to learn from.
    pub fn training_digest(&self) -> String {
        self.with_split_in_path("data.source").digest_of(|key| key.starts_with("data.source"))
    }

    /// The split `test` of the folder `a` is the folder `a/test`.
    fn with_split_in_path(&self, source: &str) -> Experiment {
        let mut settings = self.settings.clone();
        if let Some(split) = settings.remove(&format!("{source}.split"))
            && let Some(path) = settings.get_mut(&format!("{source}.path"))
        {
            *path = Path::new(path.as_str()).join(split).display().to_string();
        }
        Experiment { settings, files: BTreeMap::new() }
    }

    /// Whether `key` says what this experiment was measured on: that of a captioner without labelled pictures are its references.
    fn is_measured_by(&self, key: &str) -> bool {
        let by_captions_alone = self.settings.get("eval.source.path").is_some_and(|path| path == NO_IMAGES);
        about_measuring(key) || by_captions_alone && key.starts_with(REFERENCES)
    }

    /// What tells the data that this experiment was measured on from that of `others`, as `key = value`, paths first.
    pub fn data_apart_from(&self, others: &[&Experiment]) -> Vec<String> {
        let differs = |key: &str, value: &str| {
            others.iter().any(|other| other.settings.get(key).map(String::as_str) != Some(value))
        };
        let own = self.settings.iter().filter(|(key, value)| self.is_measured_by(key) && differs(key, value));
        let (paths, rest): (Vec<_>, Vec<_>) = own.partition(|(key, _)| key.ends_with(".path"));
        paths.into_iter().chain(rest).take(NAMED).map(|(key, value)| format!("{key} = {}", shown(value))).collect()
    }

    /// Says whether two runs met the same attack on the same data with the same model, so that one may be the other's control.
    pub fn attack_digest(&self) -> String {
        self.with_split_in_path("data.source").with_split_in_path("eval.source").digest_of(about_attack)
    }

    /// Says whether two runs were measured against the same attack, however much of its poison each was trained on: what a model on clean
    /// data makes of it is then the other's base rate.
    pub fn aim_digest(&self) -> String {
        let own = self.with_split_in_path("data.source").with_split_in_path("eval.source");
        own.digest_of(|key| about_attack(key) && !says_how_much_poison(key))
    }

    fn digest_of(&self, wanted: impl Fn(&str) -> bool) -> String {
        let settings = self.settings.iter().filter(|(key, _)| wanted(key));
        let text: String = settings.map(|(key, value)| format!("{key}\u{0}{value}\n")).collect();
        artifact::sha256_hex(text.as_bytes())
    }
}

/// The recipe without settings of a poison that it does not have.
fn without_unused_poison(recipe: &Recipe) -> Recipe {
    let mut recipe = recipe.clone();
    if recipe.poison.attacks.is_empty() && recipe.manifest.is_none() {
        recipe.poison = PoisonConfig::default();
    }
    recipe
}

/// The settings that a run by `recipe` reads, as `key -> value`.
fn settings_read(recipe: &Recipe) -> Result<BTreeMap<String, String>> {
    let table = toml::Value::try_from(recipe).map_err(|e| Error::internal(format!("recipe: {e}")))?;
    let mut settings = BTreeMap::new();
    flatten("", &table, &mut settings);
    without_unused_emoji(&mut settings);
    without_captions_of_backdoors(&mut settings);
    // A run reads the settings of its own objective only.
    if let (None, Some(own)) = (&recipe.clean, settings.get("objective.name").cloned()) {
        let own = format!("objective.{own}.");
        settings.retain(|key, _| !key.starts_with("objective.") || key == "objective.name" || key.starts_with(&own));
    }
    // A run that is only measured against the poison trains on none, however much of it there is.
    if recipe.poison.measure_only {
        settings.retain(|key, _| !says_how_much_poison(key));
    }
    Ok(settings)
}

/// Whether `key` says how many pairs an attack poisons and what their captions are, and nothing of what is measured.
pub(super) fn says_how_much_poison(key: &str) -> bool {
    of_attack(key)
        .is_some_and(|(_, setting)| ["count", "rate", "captions", "targeted.captions_per_target"].contains(&setting))
}

/// Of a setting of an attack: which attack, and its key there.
fn of_attack(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("poison.attacks.")?.split_once('.')
}

/// Takes the captions of backdoors out of attacks that are targeted poisoning, which has a setting of its own for them.
fn without_captions_of_backdoors(settings: &mut BTreeMap<String, String>) {
    let targeted = settings.keys().filter_map(|key| of_attack(key).filter(|(_, key)| key.starts_with("targeted")));
    let targeted: BTreeSet<String> = targeted.map(|(attack, _)| attack.to_owned()).collect();
    settings.retain(|key, _| of_attack(key).is_none_or(|(at, key)| key != "captions" || !targeted.contains(at)));
}

/// Takes the settings of the built-in pictures out of sources that are none of them.
fn without_unused_emoji(settings: &mut BTreeMap<String, String>) {
    let used = |source: &str| {
        let path = settings.get(&format!("{source}.path"));
        path.is_none_or(|path| path.split("::").any(|part| part == "emoji"))
    };
    let sources = settings.keys().filter_map(|key| key.split_once(".emoji.").map(|(source, _)| source.to_owned()));
    let unused: BTreeSet<String> = sources.filter(|source| !used(source)).collect();
    settings.retain(|key, _| key.split_once(".emoji.").is_none_or(|(source, _)| !unused.contains(source)));
}

/// How suspects were found, in the order of [`PROVENANCE`].
fn provenance(looked: Looked, depth: u32) -> [String; PROVENANCE.len()] {
    let encoder = looked.model.as_deref().map_or_else(|| "features".to_owned(), |model| made_as(model, depth));
    let by = looked.ordered_by();
    // Which earlier list it was, by the first letters of its digest.
    let earlier = looked.earlier.map(|earlier| match earlier {
        Before::List(digest) => digest,
        Before::Look(look) => artifact::sha256_hex(provenance(*look, depth).join("\n").as_bytes()),
    });
    let earlier = earlier.map(|digest| format!(" {}", short(&digest)));
    let left_out = looked.drop + &earlier.unwrap_or_default();
    [encoder, by, looked.neighbours.to_string(), looked.references.to_string(), left_out]
}

/// The run that `path` is or lies in, with its recipe; none where that cannot be read.
fn run_behind(path: &Path, depth: u32) -> Option<(PathBuf, Recipe)> {
    let run = crate::checkpoint::run_of(path).filter(|_| depth < DEPTH)?;
    let recipe = Recipe::read(&run.join("run.toml")).ok()?;
    Some((run, recipe))
}

/// Digests of the files that runs were made by which `recipe` names, by the setting that names the run and that of the run. Those that such
/// a run was only measured by made it no other.
fn files_behind(recipe: &Recipe, depth: u32) -> BTreeMap<(String, String), String> {
    let prompt = recipe.prompt.as_ref();
    let runs = [
        ("model.weights", recipe.model.weights.as_ref()),
        ("poison.reference", recipe.poison.reference.as_ref()),
        ("objective.distil.teacher", recipe.distillation().map(|_| &recipe.objective.distil.teacher)),
        ("clean.victim", recipe.clean.as_ref().map(|clean| &clean.victim)),
        ("prompt.model", prompt.map(|prompt| &prompt.model)),
        ("prompt.repair.learner", prompt.and_then(|prompt| prompt.repair.as_ref()).map(|repair| &repair.learner)),
    ];
    let mut found = BTreeMap::new();
    for (setting, path) in runs {
        let Some((run, recipe)) = path.and_then(|path| run_behind(path, depth)) else { continue };
        let Ok(experiment) = Experiment::at_depth(&recipe, Some(&run), depth + 1) else { continue };
        let made_by = experiment.files.into_iter().filter(|((key, _), _)| !key.starts_with("eval."));
        found.extend(made_by.map(|((key, file), digest)| ((setting.to_owned(), format!("{key} {file}")), digest)));
    }
    found
}

/// `run:` and the digest of the run that `path` is or lies in; the path itself where its recipe cannot be read.
fn made_as(path: &Path, depth: u32) -> String {
    let behind = run_behind(path, depth);
    let experiment = behind.and_then(|(_, recipe)| Experiment::at_depth(&recipe, None, depth + 1).ok());
    experiment.map_or_else(|| path.display().to_string(), |experiment| format!("{RUN}{}", experiment.digest()))
}

/// The recipe with the defaults of all that changes no result: the machine, and what is saved and said when.
fn without_machine(mut recipe: Recipe) -> Recipe {
    let default = Recipe::default();
    (recipe.train.device, recipe.train.threads) = (default.train.device, default.train.threads);
    recipe.train.save_every_steps = default.train.save_every_steps;
    recipe.train.keep_checkpoints = default.train.keep_checkpoints;
    recipe.train.log_every_steps = default.train.log_every_steps;
    // However pairs are found and processes wait, they train the same.
    recipe.data.index = default.data.index;
    recipe.train.collective_timeout_seconds = default.train.collective_timeout_seconds;
    (recipe.data.workers, recipe.data.cache_mib) = (default.data.workers, default.data.cache_mib);
    recipe
}

fn about_data(key: &str) -> bool {
    key.starts_with("data.source") || about_measuring(key)
}

fn about_attack(key: &str) -> bool {
    // Standardised pictures are a defence, and not another victim.
    let victim = key.starts_with("model.") && key != "model.standardise";
    about_data(key) || key.starts_with("poison.attacks") || victim
}

fn about_measuring(key: &str) -> bool {
    ["eval.source", "eval.classes", "eval.class_captions"].iter().any(|about| key.starts_with(about))
}

fn flatten(key: &str, value: &toml::Value, settings: &mut BTreeMap<String, String>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        toml::Value::Table(table) => {
            // An empty section is on where an absent one is off.
            if table.is_empty() {
                settings.insert(key.to_owned(), "on".to_owned());
            }
            table.iter().for_each(|(name, value)| flatten(&below(name), value, settings));
        }
        toml::Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(at, entry)| flatten(&below(&at.to_string()), entry, settings));
        }
        toml::Value::String(text) => {
            settings.insert(key.to_owned(), text.clone());
        }
        other => {
            settings.insert(key.to_owned(), other.to_string());
        }
    }
}

/// A digest as it is shown.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(DIGEST).collect()
}

#[cfg(test)]
pub(super) mod tests;
