//! Runs that learned from the same poison were attacked alike, whatever wrote it: a manifest that a run was given says more than the
//! `[poison]` of its recipe, of which nothing is drawn then.

use crate::recipe::Recipe;
use crate::results::experiment::{Experiment, says_how_much_poison};
use roclip_data::artifact;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What poison is drawn by.
const DRAWN_BY: [&str; 3] = ["poison.attacks", "poison.reference", "poison.beyond_guesses"];

/// The poison of a run, or of the one that it cleans or distils.
#[derive(Debug, Clone)]
pub struct Poison {
    /// What was attacked: recipes that differ in the attack differ here.
    pub(super) attacked: Experiment,
    kept: Option<Arc<Kept>>,
    /// Whether a manifest was given, rather than drawn.
    pub(super) given: bool,
}

/// The manifest of a run, which is read when somebody asks for its rows, and once.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// A digest of them; none where the run kept no manifest.
    rows: OnceLock<Option<String>>,
}

impl Poison {
    /// Of the run in `folder` by `recipe`, whose experiment is `attacked`.
    pub(super) fn of(folder: Option<&Path>, recipe: &Recipe, attacked: Experiment) -> Poison {
        let kept = |folder: &Path| Arc::new(Kept { path: folder.join("manifest.jsonl"), rows: OnceLock::new() });
        Poison { attacked, kept: folder.map(kept), given: recipe.manifest.is_some() }
    }

    /// A manifest that several of `all` have, as those that clean one victim do, is read once.
    pub(super) fn share_manifests<'a>(all: impl Iterator<Item = &'a mut Poison>) {
        let mut known: BTreeMap<PathBuf, Arc<Kept>> = BTreeMap::new();
        for kept in all.filter_map(|poison| poison.kept.as_mut()) {
            let place = kept.path.canonicalize().unwrap_or_else(|_| kept.path.clone());
            *kept = Arc::clone(known.entry(place).or_insert_with(|| Arc::clone(kept)));
        }
    }

    /// A digest of the manifest's rows; none where the run kept no manifest.
    pub(super) fn rows(&self) -> Option<&String> {
        let kept = self.kept.as_ref()?;
        kept.rows.get_or_init(|| rows_of(&kept.path)).as_ref()
    }

    /// Whether both have the same pairs of poison; none where that is not known of one.
    pub fn is(&self, other: &Poison) -> Option<bool> {
        Some(self.rows()? == other.rows()?)
    }

    /// Whether the recipe says how the poison was drawn.
    pub fn is_told(&self) -> bool {
        self.attacked.settings.keys().any(|key| key.starts_with("poison.attacks"))
    }

    /// [`Experiment::attack_digest`] and [`Experiment::aim_digest`] of what was attacked.
    pub(super) fn digests(&self) -> (String, String) {
        (self.attacked.attack_digest(), self.attacked.aim_digest())
    }
}

/// A digest of the rows of the manifest at `path`. Its header says how and when it was made, and nothing of what was learned.
fn rows_of(path: &Path) -> Option<String> {
    let text = artifact::read_text(path).ok()?;
    text.split_once('\n').map(|(_, rows)| artifact::sha256_hex(rows.as_bytes()))
}

impl Experiment {
    /// This one with the poison of `other`.
    pub(super) fn with_poison_of(&self, other: &Experiment) -> Experiment {
        let drawn = |key: &str| DRAWN_BY.iter().any(|section| key.starts_with(section));
        let mut settings = self.settings.clone();
        settings.retain(|key, _| !drawn(key));
        // A run that is only measured against the poison trains on none, however much of it there is.
        let clean = settings.get("poison.measure_only").is_some_and(|only| only == "true");
        let others = other.settings.iter().filter(|(key, _)| drawn(key) && !(clean && says_how_much_poison(key)));
        settings.extend(others.map(|(key, value)| (key.clone(), value.clone())));
        Experiment { settings, files: self.files.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: &str = "poison.attacks=[{name='t',targeted={}},{name='b',target='x',badnets={},count=3}]";

    fn experiment(assignments: &[&str]) -> Experiment {
        let recipe = assignments.iter().fold(Recipe::default(), |recipe, set| recipe.assign(set).unwrap());
        Experiment::of(&recipe).unwrap()
    }

    #[test]
    fn a_run_that_was_given_its_poison_is_attacked_as_the_one_that_drew_it() {
        let drew = experiment(&[ATTACK, "poison.beyond_guesses=3", "train.epochs=3"]);
        let roclip = "objective.name='roclip'";
        let took = experiment(&["manifest='m.jsonl'", roclip]);
        assert_ne!(took.attack_digest(), drew.attack_digest());
        let alike = took.with_poison_of(&drew);
        assert_eq!(alike.attack_digest(), drew.attack_digest());
        // All but the poison stays its own.
        assert_eq!(alike.digest(), experiment(&[ATTACK, "poison.beyond_guesses=3", roclip]).digest());
        // A `[poison]` of which nothing was drawn says nothing.
        let other = experiment(&[ATTACK, "poison.attacks.1.target='y'", "manifest='m.jsonl'", roclip]);
        assert_eq!(other.with_poison_of(&drew).digest(), alike.digest());
        let clean = experiment(&["manifest='m.jsonl'", "poison.measure_only=true"]).with_poison_of(&drew);
        assert_eq!(clean.aim_digest(), drew.aim_digest());
        assert_eq!(
            clean.digest(),
            experiment(&[ATTACK, "poison.beyond_guesses=3", "poison.measure_only=true"]).digest()
        );
    }

    #[test]
    fn poison_is_the_same_by_its_rows_whatever_wrote_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let poison = |run: &str, manifest: Option<&str>| {
            let own = folder.path().join(run);
            std::fs::create_dir(&own).unwrap();
            manifest.iter().for_each(|text| std::fs::write(own.join("manifest.jsonl"), text).unwrap());
            Poison::of(Some(&own), &Recipe::default(), experiment(&[]))
        };
        let first = poison("first", Some("{\"made\": 1}\n{\"id\": \"a\"}\n"));
        assert_eq!(first.is(&poison("same", Some("{\"made\": 2}\n{\"id\": \"a\"}\n"))), Some(true));
        assert_eq!(first.is(&poison("other", Some("{\"made\": 1}\n{\"id\": \"b\"}\n"))), Some(false));
        assert_eq!(first.is(&poison("clean", None)), None);
        // Those of one folder have read it once: what became of the file since says nothing to them.
        let of_first = || Poison::of(Some(&folder.path().join("first")), &Recipe::default(), experiment(&[]));
        let (mut one, mut other) = (of_first(), of_first());
        Poison::share_manifests([&mut one, &mut other].into_iter());
        let rows = one.rows().cloned();
        std::fs::remove_file(folder.path().join("first/manifest.jsonl")).unwrap();
        assert!(rows.is_some() && other.rows().cloned() == rows && of_first().rows().is_none());
        assert!(!first.is_told() && Poison::of(None, &Recipe::default(), experiment(&[ATTACK])).is_told());
    }
}
