//! Several runs side by side: which learned from and were measured on the same, and what tells their rows apart.

use crate::error::Result;
use crate::results::experiment::{Experiment, short};
use crate::results::files::tell_files_apart;
use crate::results::label::{Label, by_settings, labels};
use crate::results::poison::Poison;
use crate::results::record::{RunRecord, key_columns, read_run};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A run, and how a report is to call it.
#[derive(Debug, Clone)]
pub struct NamedRun {
    /// What was trained, where it is absent.
    pub name: Option<String>,
    pub folder: PathBuf,
}

impl From<&PathBuf> for NamedRun {
    fn from(folder: &PathBuf) -> Self {
        NamedRun { name: None, folder: folder.clone() }
    }
}

/// Several runs in the order of a table.
pub struct Runs {
    pub records: Vec<RunRecord>,
    /// Runs with the recipe and the seed of one of `records`, measured on the same pictures: the same figures once more would pass for another
    /// seed.
    pub repeated: Vec<PathBuf>,
}

/// Reads several runs, each labelled by what tells its experiment from the others on the same data.
pub fn read_runs(runs: &[NamedRun]) -> Result<Runs> {
    let mut read = Vec::new();
    for run in runs {
        let mut record = read_run(&run.folder)?;
        if let Some(name) = &run.name {
            record.row.name.clone_from(name);
        }
        read.push(record);
    }
    Poison::share_manifests(read.iter_mut().map(|run| &mut run.poison));
    tell_files_apart(&mut read);
    same_pictures(&mut read);
    tell_apart(&mut read);
    attacked_alike(&mut read);
    let (mut records, mut repeated) = (Vec::<RunRecord>::new(), Vec::new());
    for record in read {
        let key = |record: &RunRecord| {
            let row = &record.row;
            (row.name.clone(), row.experiment.clone(), row.data.clone(), row.seed)
        };
        match records.iter().any(|known| key(known) == key(&record)) {
            true => repeated.push(record.folder),
            false => records.push(record),
        }
    }
    // Runs that were measured on other data stand in a table of their own, where nothing has to tell them from these.
    let data: BTreeSet<String> = records.iter().map(|run| run.row.data.clone()).collect();
    for data in data {
        let mut members: Vec<&mut RunRecord> = records.iter_mut().filter(|run| run.row.data == data).collect();
        let named: Vec<_> = members.iter().map(|run| (run.row.name.clone(), run.experiment.clone())).collect();
        let folders: Vec<PathBuf> = members.iter().map(|run| run.folder.clone()).collect();
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        for (record, Label { text, settings }) in members.iter_mut().zip(labels(&named, &folders)) {
            (record.row.label, record.row.settings) = (text, settings);
        }
    }
    let place = |data: &str| records.iter().position(|run| run.row.data == data);
    let places: Vec<_> = records.iter().map(|run| place(&run.row.data)).collect();
    let mut placed: Vec<_> = places.into_iter().zip(records).collect();
    let keys: Vec<String> =
        key_columns(placed.iter().map(|(_, run)| &run.row)).into_iter().map(|(key, _)| key).collect();
    let names = |(place, run): &(Option<usize>, RunRecord)| {
        // What was cleaned stands behind what was trained.
        (*place, run.row.order(), run.recipe.clean.is_some(), run.row.name.clone())
    };
    placed.sort_by(|one, other| {
        let (a, b) = (&one.1.row, &other.1.row);
        let cells = names(one).cmp(&names(other)).then_with(|| by_settings(&keys, &a.settings, &b.settings));
        cells.then_with(|| (&a.experiment, a.seed).cmp(&(&b.experiment, b.seed)))
    });
    Ok(Runs { records: placed.into_iter().map(|(_, run)| run).collect(), repeated })
}

/// Runs that kept no digest of the pictures that they were measured on are in the table of one that names the same pictures and did.
fn same_pictures(records: &mut [RunRecord]) {
    let named = |run: &RunRecord| run.experiment.measured_digest(None);
    let kept = records.iter().filter(|run| run.summary.measured_on.is_some());
    let known: BTreeMap<String, String> = kept.map(|run| (named(run), run.row.data.clone())).collect();
    for run in records.iter_mut().filter(|run| run.summary.measured_on.is_none()) {
        if let Some(data) = known.get(&named(run)) {
            run.row.data.clone_from(data);
        }
    }
}

/// Adds a digest where different data have the same words: what lies in one place may be other pictures, or have other classes, for each run.
fn tell_apart(records: &mut [RunRecord]) {
    let seen: Vec<(String, &str)> =
        records.iter().map(|run| (run.measured_on.clone(), run.row.data.as_str())).collect();
    let told: Vec<String> = seen.iter().map(|(words, data)| words_apart(words, data, &seen)).collect();
    for (run, words) in records.iter_mut().zip(told) {
        run.measured_on = words;
    }
}

/// `words` of the data with this digest, among `all`.
fn words_apart(words: &str, data: &str, all: &[(String, &str)]) -> String {
    let digests: BTreeSet<&str> = all.iter().filter(|(other, _)| other == words).map(|(_, data)| *data).collect();
    match digests.len() {
        0 | 1 => words.to_owned(),
        _ => format!("{words}, digest {}", short(data)),
    }
}

/// A run that took its poison from a manifest.
struct Taker {
    /// Digests of what was attacked and of what was measured on: seeds of one experiment have the same.
    seeds: (String, String),
    /// Its own experiment and seed.
    run: (String, u64),
    /// What was attacked, by the settings of the run that drew the same rows.
    drawn: Option<Experiment>,
    /// The same, where another one that took them says how they were drawn.
    told: Option<Experiment>,
}

impl Taker {
    /// What was attacked, by the settings that its poison was drawn by, as far as `all` that took theirs know them. How poison is drawn does not
    /// depend on the seed: where one seed's is known, so is that of the others, which would else be rows of their own.
    fn attacked(&self, all: &[Taker]) -> Option<Experiment> {
        let seeds = || all.iter().filter(|other| other.seeds == self.seeds && other.drawn.is_some());
        let first = seeds().find_map(|other| other.drawn.clone());
        // The same seed with other rows has other poison.
        let is_of_seeds = seeds().all(|other| other.run != self.run && other.drawn == first);
        self.drawn.clone().or(first.filter(|_| is_of_seeds)).or_else(|| self.told.clone())
    }
}

/// Gives runs that took their poison from a manifest the settings that the same rows were drawn by in another of `records`, so that their
/// rows are named by what else differs, and each is the other's control.
fn attacked_alike(records: &mut [RunRecord]) {
    if records.iter().all(|run| !run.poison.given) {
        return;
    }
    let mut drawn: BTreeMap<String, ((bool, bool), Experiment)> = BTreeMap::new();
    for run in records.iter().filter(|run| run.poison.is_told()) {
        let Some(rows) = run.poison.rows() else { continue };
        // Who drew it knows best; who trained on it, how much there is.
        let rank = (run.recipe.poison.measure_only, run.poison.given);
        if drawn.get(rows).is_none_or(|(known, _)| rank < *known) {
            drawn.insert(rows.clone(), (rank, run.poison.attacked.clone()));
        }
    }
    let taker = |run: &RunRecord| {
        let found = run.poison.rows().and_then(|rows| drawn.get(rows));
        let by = |given: bool| {
            let source = found.filter(|((_, taken), _)| *taken == given);
            source.map(|(_, source)| run.poison.attacked.with_poison_of(source))
        };
        Taker {
            seeds: (run.poison.attacked.digest(), run.row.data.clone()),
            run: (run.row.experiment.clone(), run.row.seed),
            drawn: by(false),
            told: by(true),
        }
    };
    let takers: Vec<Taker> = records.iter().filter(|run| run.poison.given).map(taker).collect();
    let attacked: Vec<Option<Experiment>> = takers.iter().map(|own| own.attacked(&takers)).collect();
    for (run, attacked) in records.iter_mut().filter(|run| run.poison.given).zip(attacked) {
        let Some(attacked) = attacked else { continue };
        let own = run.experiment == run.poison.attacked;
        run.poison.attacked = attacked;
        (run.attack, run.aim) = run.poison.digests();
        // What was cleaned or distilled is another run's experiment.
        if own {
            run.experiment = run.poison.attacked.clone();
            run.row.experiment = run.experiment.digest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_one_experiment_were_attacked_alike_where_one_of_them_finds_who_drew_its_poison() {
        let by = |rate: &str| {
            let recipe = crate::recipe::Recipe::default().assign(&format!("train.learning_rate={rate}")).unwrap();
            Experiment::of(&recipe).unwrap()
        };
        let taker = |run: &str, seed: u64, drawn: Option<&str>, told: Option<&str>| Taker {
            seeds: (run.to_owned(), "pictures".to_owned()),
            run: (run.to_owned(), seed),
            drawn: drawn.map(by),
            told: told.map(by),
        };
        let attacked = |all: &[Taker]| all.iter().map(|own| own.attacked(all)).collect::<Vec<_>>();
        let clip =
            [taker("clip", 0, Some("0.1"), None), taker("clip", 1, None, None), taker("clip", 2, None, Some("0.3"))];
        assert_eq!(attacked(&clip), [Some(by("0.1")), Some(by("0.1")), Some(by("0.1"))]);
        // Another experiment, one that is told by itself alone, and another poison of the same seed.
        let apart =
            [taker("clip", 0, Some("0.1"), None), taker("other", 1, None, None), taker("told", 1, None, Some("0.3"))];
        assert_eq!(attacked(&apart), [Some(by("0.1")), None, Some(by("0.3"))]);
        let same_seed = [taker("clip", 0, Some("0.1"), None), taker("clip", 0, None, None)];
        assert_eq!(attacked(&same_seed), [Some(by("0.1")), None]);
        // Nobody knows which of two it is.
        let two =
            [taker("clip", 0, Some("0.1"), None), taker("clip", 1, Some("0.2"), None), taker("clip", 2, None, None)];
        assert_eq!(attacked(&two), [Some(by("0.1")), Some(by("0.2")), None]);
    }

    #[test]
    fn different_data_in_one_place_are_told_apart_by_their_digests() {
        let all = [("a (test)", "0123456789"), ("a (test)", "9876543210"), ("b", "0123456789"), ("b", "0123456789")];
        let all = all.map(|(words, data)| (words.to_owned(), data));
        let told: Vec<String> = all.iter().map(|(words, data)| words_apart(words, data, &all)).collect();
        assert_eq!(told, ["a (test), digest 01234567", "a (test), digest 98765432", "b", "b"]);
    }
}
