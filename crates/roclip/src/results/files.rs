//! One path may have held other files for each run: then its name is not enough to tell experiments apart.

use crate::results::experiment::{Experiment, RUN, short};
use crate::results::record::RunRecord;
use roclip_data::artifact;
use std::collections::{BTreeMap, BTreeSet};

/// Gives runs that began with different files under one name a digest beside that name, so that they are experiments of their own and no seeds
/// of each other. Where one content is known, older runs, which kept no digest, are taken to have had it.
pub(super) fn tell_files_apart(records: &mut [RunRecord]) {
    let told: BTreeSet<usize> = {
        let experiments = records.iter_mut().flat_map(|run| [&mut run.experiment, &mut run.poison.attacked]);
        // Two of each run.
        tell_apart(experiments.collect()).into_iter().map(|place| place / 2).collect()
    };
    for (_, run) in records.iter_mut().enumerate().filter(|(place, _)| told.contains(place)) {
        run.row.experiment = run.experiment.digest();
        run.row.data = run.experiment.measured_digest(run.summary.measured_on.as_deref());
        (run.attack, run.aim) = run.poison.digests();
    }
}

/// The places of those of `all` that were given a digest. What they were told apart by is forgotten.
fn tell_apart(all: Vec<&mut Experiment>) -> BTreeSet<usize> {
    // By the setting, what lay behind it, and its value.
    let mut known: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    for own in &all {
        for ((setting, file), digest) in &own.files {
            if let Some(value) = own.settings.get(setting) {
                let key = (setting.clone(), file.clone(), value.clone());
                known.entry(key).or_default().insert(digest.clone());
            }
        }
    }
    known.retain(|_, digests| digests.len() > 1);
    let mut told = BTreeSet::new();
    for (place, own) in all.into_iter().enumerate() {
        let mut by_setting: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((setting, file), digest) in std::mem::take(&mut own.files) {
            let Some(value) = own.settings.get(&setting) else { continue };
            if known.contains_key(&(setting.clone(), file, value.clone())) {
                by_setting.entry(setting).or_default().push(digest);
            }
        }
        for (setting, digests) in by_setting {
            if let Some(value) = own.settings.get_mut(&setting) {
                *value = with_digest(value, &digests);
                told.insert(place);
            }
        }
    }
    told
}

/// The value of a setting with what tells it from others that are called so.
fn with_digest(value: &str, digests: &[String]) -> String {
    let digest = match digests {
        [one] => one.clone(),
        several => artifact::sha256_hex(several.join("\n").as_bytes()),
    };
    match value.strip_prefix(RUN) {
        Some(run) => format!("{RUN}{}", artifact::sha256_hex(format!("{run}\n{digest}").as_bytes())),
        None => format!("{value}, digest {}", short(&digest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::experiment::tests::experiment;

    /// An experiment by the file `model.json`, with the digest that its run kept of it.
    fn by(digest: Option<&str>) -> Experiment {
        let mut own = experiment(|recipe| recipe.model.name = "model.json".into());
        let file = ("model.name".to_owned(), String::new());
        own.files.extend(digest.map(|digest| (file, digest.to_owned())));
        own
    }

    fn names(mut all: Vec<Experiment>) -> Vec<String> {
        tell_apart(all.iter_mut().collect());
        assert!(all.iter().all(|own| own.files.is_empty()));
        all.iter().map(|own| own.settings["model.name"].clone()).collect()
    }

    #[test]
    fn different_files_of_one_name_are_different_experiments() {
        let (first, other) = ("0123456789", "9876543210");
        assert_eq!(
            names(vec![by(Some(first)), by(Some(other))]),
            ["model.json, digest 01234567", "model.json, digest 98765432"]
        );
        // One content, and one beside runs that do not say.
        assert_eq!(names(vec![by(Some(first)), by(Some(first))]), ["model.json", "model.json"]);
        assert_eq!(names(vec![by(Some(first)), by(None)]), ["model.json", "model.json"]);
        // Nobody knows which of two it was.
        assert_eq!(names(vec![by(Some(first)), by(None), by(Some(other))])[1], "model.json");
        let mut apart = [by(Some(first)), by(Some(other)), by(Some(first))];
        assert_eq!(tell_apart(apart.iter_mut().collect()), BTreeSet::from([0, 1, 2]));
        assert!(apart[0].digest() == apart[2].digest() && apart[0].digest() != apart[1].digest());
        assert_ne!(apart[0].attack_digest(), apart[1].attack_digest(), "no control of another model");
    }

    #[test]
    fn what_a_run_was_made_from_may_have_been_another_model_of_the_same_name() {
        let cleaned = |digest: &str| {
            let mut own = experiment(|recipe| recipe.clean = Some(Default::default()));
            own.settings.insert("clean.victim".into(), format!("{RUN}aa"));
            own.files.insert(("clean.victim".into(), "model.name".into()), digest.into());
            own
        };
        let mut both = [cleaned("1"), cleaned("2")];
        tell_apart(both.iter_mut().collect());
        let [one, other] = both.map(|own| own.settings["clean.victim"].clone());
        assert!(one != other && one.starts_with(RUN), "{one} {other}");
    }
}
