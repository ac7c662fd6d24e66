//! Which runs are one experiment: their recipes differ in nothing but the seed and what depends on it.

use crate::error::{Error, Result};
use crate::eval::NO_IMAGES;
use crate::recipe::Recipe;
use crate::run::{Before, Looked};
use roclip_data::artifact;
use roclip_data::poison::PoisonConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Runs that a run was made from are followed so far.
const DEPTH: u32 = 4;
/// What stands before the digest of a run that another one was made from.
const RUN: &str = "run:";
/// Letters shown of such a digest.
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
}

/// A value as it is shown: whole, but for the digest that stands for a run.
pub(super) fn shown(value: &str) -> String {
    match value.strip_prefix(RUN) {
        Some(digest) => format!("{RUN}{}", digest.chars().take(DIGEST).collect::<String>()),
        None => value.to_owned(),
    }
}

impl Experiment {
    pub fn of(recipe: &Recipe) -> Result<Experiment> {
        Self::at_depth(recipe, 0)
    }

    /// All that a run reads of its recipe, the seed, the paths and the machine too: recipes with one digest of it are the same run.
    pub fn exactly(recipe: &Recipe) -> Result<Experiment> {
        let recipe = without_unused_poison(recipe);
        Ok(Experiment { settings: settings_read(&recipe)? })
    }

    /// [`Experiment::exactly`] on any machine: what changes no result is as if nobody had said it.
    pub fn on_any_machine(recipe: &Recipe) -> Result<Experiment> {
        Self::exactly(&without_machine(recipe.clone()))
    }

    fn at_depth(recipe: &Recipe, depth: u32) -> Result<Experiment> {
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
        Ok(Experiment { settings })
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
        Experiment { settings }
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
    let earlier = earlier.map(|digest| format!(" {}", digest.chars().take(DIGEST).collect::<String>()));
    let left_out = looked.drop + &earlier.unwrap_or_default();
    [encoder, by, looked.neighbours.to_string(), looked.references.to_string(), left_out]
}

/// `run:` and the digest of the run that `path` is or lies in; the path itself where its recipe cannot be read.
fn made_as(path: &Path, depth: u32) -> String {
    let run = crate::checkpoint::run_of(path);
    let recipe = run.filter(|_| depth < DEPTH).and_then(|run| Recipe::read(&run.join("run.toml")).ok());
    let experiment = recipe.and_then(|recipe| Experiment::at_depth(&recipe, depth + 1).ok());
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recipe::ObjectiveName;

    pub(in crate::results) fn experiment(change: impl Fn(&mut Recipe)) -> Experiment {
        let mut recipe = Recipe::default();
        change(&mut recipe);
        Experiment::of(&recipe).unwrap()
    }

    #[test]
    fn seeds_manifests_and_machines_are_one_experiment_and_settings_are_not() {
        let first = experiment(|_| {});
        let same = experiment(|recipe| {
            (recipe.seed, recipe.train.threads, recipe.data.workers) = (7, 3, 9);
            recipe.data.index = "always".into();
            recipe.manifest = Some("elsewhere.jsonl".into());
        });
        assert_eq!(first.digest(), same.digest());
        for other in [
            experiment(|recipe| recipe.objective.name = ObjectiveName::Roclip),
            experiment(|recipe| recipe.augment.text = Some(Default::default())),
            experiment(|recipe| (recipe.manifest, recipe.poison.measure_only) = (Some("m.jsonl".into()), true)),
            experiment(|recipe| recipe.clean = Some(Default::default())),
        ] {
            assert_ne!(first.digest(), other.digest());
        }
    }

    #[test]
    fn suspects_that_were_found_in_one_way_are_one_experiment() {
        let folder = tempfile::tempdir().unwrap();
        let list = |seed: u64, methods: &str| {
            let own = folder.path().join(format!("{methods}-{seed}"));
            std::fs::create_dir(&own).unwrap();
            let looked = format!(
                r#"{{"looked": {{"model": null, "methods": ["{methods}"], "neighbours": 16, "references": 1024, "drop": "fraction 0.05"}}, "pairs": {seed}}}"#
            );
            std::fs::write(own.join("detect.json"), looked).unwrap();
            own.join("drop.txt")
        };
        let without = |list: &Path| experiment(|recipe| recipe.data.drop = Some(list.to_owned()));
        let first = without(&list(0, "dao"));
        assert_eq!(first.digest(), without(&list(1, "dao")).digest());
        assert_ne!(first.digest(), without(&list(0, "lid")).digest());
        assert_eq!(first.settings["detected by"], "dao");
        // Which list they were found behind makes another one.
        let look = |method: &str, drop: &str| {
            serde_json::json!({
                "model": null, "methods": [method], "neighbours": 16, "references": 1024, "drop": drop
            })
        };
        let behind = |earlier: serde_json::Value| {
            let own = folder.path().join(artifact::sha256_hex(earlier.to_string().as_bytes()));
            std::fs::create_dir(&own).unwrap();
            let mut looked = look("dao", "fraction 0.05");
            looked["earlier"] = earlier;
            std::fs::write(own.join("detect.json"), serde_json::json!({"looked": looked}).to_string()).unwrap();
            without(&own.join("drop.txt"))
        };
        let found = ["0a", "0b"].map(|digest| behind(digest.into()).digest());
        let looks = ["fraction 0.1", "fraction 0.2"].map(|drop| behind(look("lid", drop)).digest());
        let all: BTreeSet<&String> = found.iter().chain(&looks).collect();
        assert!(all.len() == 4 && !all.contains(&first.digest()), "{all:?}");
        // Of a list that somebody else made, nothing is known but its name.
        let other = folder.path().join("ids.txt");
        assert_eq!(without(&other).settings["data.drop"], other.display().to_string());
        assert_ne!(without(&other).digest(), without(&folder.path().join("more.txt")).digest());
    }

    #[test]
    fn settings_of_an_objective_that_does_not_train_make_no_other_experiment() {
        let with = |name, period| {
            experiment(move |recipe| (recipe.objective.name, recipe.objective.roclip.period) = (name, period)).digest()
        };
        assert_eq!(with(ObjectiveName::Clip, 2), with(ObjectiveName::Clip, 5));
        assert_eq!(with(ObjectiveName::Safeclip, 2), with(ObjectiveName::Safeclip, 5));
        assert_ne!(with(ObjectiveName::Roclip, 2), with(ObjectiveName::Roclip, 5));
    }

    #[test]
    fn controls_are_of_the_same_attack_and_tables_of_the_same_pictures() {
        let plain = experiment(|_| {});
        let defended = experiment(|recipe| recipe.objective.name = ObjectiveName::Roclip);
        let elsewhere = experiment(|recipe| recipe.eval.source.path = "photos".into());
        let measured = |experiment: &Experiment| experiment.measured_digest(None);
        assert_eq!((measured(&plain), plain.attack_digest()), (measured(&defended), defended.attack_digest()));
        assert_ne!(measured(&plain), measured(&elsewhere));
        assert_eq!(elsewhere.data_apart_from(&[&plain, &elsewhere]), ["eval.source.path = photos"]);
        // The same pictures are the same wherever they lie.
        let [one, other] = [&plain, &elsewhere].map(|experiment| experiment.measured_digest(Some("pictures")));
        assert!(one == other && one != plain.measured_digest(Some("others")));
        let trained_elsewhere = experiment(|recipe| recipe.data.source.path = "photos".into());
        assert_eq!(measured(&plain), measured(&trained_elsewhere));
        assert_ne!(plain.training_digest(), trained_elsewhere.training_digest());
        assert_ne!(plain.attack_digest(), trained_elsewhere.attack_digest());
        let spelled = |path: &'static str, split: Option<&'static str>| {
            measured(&experiment(move |recipe| {
                (recipe.eval.source.path, recipe.eval.source.split) = (path.into(), split.map(str::to_owned));
            }))
        };
        let trained_at = |path: &'static str, split: Option<&'static str>| {
            let place = move |recipe: &mut Recipe| {
                (recipe.data.source.path, recipe.data.source.split) = (path.into(), split.map(str::to_owned));
            };
            (experiment(place).training_digest(), experiment(place).attack_digest())
        };
        assert_eq!(spelled("cifar10/test", None), spelled("cifar10", Some("test")));
        assert_eq!(trained_at("cifar10/train", None), trained_at("cifar10", Some("train")));
        assert_ne!(spelled("cifar10/test", None), spelled("cifar10", Some("val")));
    }

    #[test]
    fn captioners_without_labelled_pictures_are_measured_on_their_references() {
        let captioner = |labelled: &'static str, path: &'static str, split: Option<&'static str>| {
            experiment(move |recipe| {
                let references = &mut recipe.caption.get_or_insert_default().references;
                (references.path, references.split) = (path.into(), split.map(str::to_owned));
                recipe.eval.source.path = labelled.into();
            })
        };
        let measured = |experiment: &Experiment| experiment.measured_digest(None);
        let [photos, drawings] = ["photos", "drawings"].map(|path| captioner(NO_IMAGES, path, None));
        assert_ne!(measured(&photos), measured(&drawings));
        assert_eq!(photos.data_apart_from(&[&photos, &drawings]), ["caption.references.path = photos"]);
        assert_eq!(
            measured(&captioner(NO_IMAGES, "coco/test", None)),
            measured(&captioner(NO_IMAGES, "coco", Some("test")))
        );
        // Labelled pictures are what the rates of a table are of.
        assert_eq!(
            measured(&captioner("labelled", "photos", None)),
            measured(&captioner("labelled", "drawings", None))
        );
    }

    #[test]
    fn settings_of_the_built_in_pictures_tell_nothing_of_other_data() {
        let list = |concepts| {
            experiment(move |recipe| {
                let source = &mut recipe.data.source;
                (source.path, source.emoji.concepts) = ("pairs.csv".into(), concepts);
                source.split = Some("val".into());
            })
        };
        let built_in = |path: &'static str, concepts| {
            experiment(move |recipe| {
                (recipe.data.source.path, recipe.data.source.emoji.concepts) = (path.into(), concepts);
            })
        };
        assert_eq!(list(64).digest(), list(200).digest());
        assert_ne!(built_in("emoji", 64).digest(), built_in("emoji", 200).digest());
        assert_ne!(built_in("pairs.csv::emoji", 64).digest(), built_in("pairs.csv::emoji", 200).digest());
        assert_eq!(list(64).training_digest(), list(200).training_digest());
    }

    #[test]
    fn what_a_run_does_not_read_makes_no_other_run_and_everything_else_does() {
        let exactly = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            Experiment::exactly(&recipe).unwrap().digest()
        };
        let plain = exactly(&|_| {});
        assert_eq!(plain, exactly(&|recipe| recipe.objective.roclip.period = 7));
        assert_eq!(plain, exactly(&|recipe| recipe.poison.measure_only = true));
        assert_eq!(plain, exactly(&|recipe| recipe.poison.beyond_guesses = Some(3)));
        for change in [
            &(|recipe: &mut Recipe| recipe.seed = 1) as &dyn Fn(&mut Recipe),
            &|recipe| recipe.manifest = Some("m.jsonl".into()),
            &|recipe| recipe.train.threads = 3,
            &|recipe| recipe.data.workers = 9,
        ] {
            assert_ne!(plain, exactly(change));
        }
    }

    #[test]
    fn a_run_on_clean_data_is_one_however_much_poison_it_is_measured_against() {
        let attack = "poison.attacks=[{name='t',targeted={}},{name='b',target='x',badnets={},count=3}]";
        let with = |assignments: &[&str]| {
            let recipe = Recipe::default().assign(attack).unwrap();
            let recipe = assignments.iter().fold(recipe, |recipe, set| recipe.assign(set).unwrap());
            Experiment::of(&recipe).unwrap()
        };
        let (clean, more) = ("poison.measure_only=true", "poison.attacks.0.targeted.captions_per_target=7");
        assert_ne!(with(&[]).digest(), with(&[more]).digest());
        assert_ne!(with(&[]).attack_digest(), with(&[more]).attack_digest());
        let base = with(&[clean]);
        for same in [more, "poison.attacks.1.count=9", "poison.attacks.1.captions='real'"] {
            assert_eq!(base.digest(), with(&[clean, same]).digest(), "{same}");
            assert_eq!(base.aim_digest(), with(&[same]).aim_digest(), "{same}");
        }
        for other in ["poison.attacks.0.targeted.targets=2", "poison.attacks.1.target='y'", "poison.attacks.1.sig={}"] {
            assert_ne!(base.digest(), with(&[clean, other]).digest(), "{other}");
            assert_ne!(base.aim_digest(), with(&[other]).aim_digest(), "{other}");
        }
    }
}
