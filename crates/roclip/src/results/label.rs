//! How a report calls a run among others: by the settings that tell it from those of its name.

use crate::results::experiment::{ENCODER, Experiment, NAMED, ORDERED_BY, PROVENANCE, short, shown};
use crate::results::keys::{in_order, short_keys};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What follows the number of keys that a label does not name.
const MORE: &str = "more keys";

/// Passes over the data. A longer training is another one whatever else differs.
const EPOCHS: &str = "train.epochs";

/// How a report calls a run, and the settings that tell it from the other runs of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Keys are shortened.
    pub text: String,
    /// At most [`NAMED`] of them by their whole keys, and how many more there are.
    pub settings: BTreeMap<String, String>,
}

/// Labels of runs in `folders`: each one's `base`, and where experiments share one, the settings in which they differ; those of models that
/// were trained for different numbers of epochs have these.
pub fn labels(runs: &[(String, Experiment)], folders: &[&Path]) -> Vec<Label> {
    let epochs = EPOCHS.to_owned();
    let trained: Vec<&Experiment> = runs.iter().map(|(_, own)| own).filter(|own| is_training(own)).collect();
    let epochs_differ = differing_keys(&trained).contains(&&epochs);
    let looked: Vec<&Experiment> = runs.iter().map(|(_, own)| own).filter(|own| is_looked_at(own)).collect();
    // By what pairs were ordered is in the names of such rows, and what else the lists differ in says no name.
    let made_apart: Vec<&String> = telling_keys(&looked).into_iter().filter(|key| is_shown_of_lists(key)).collect();
    let told = |(base, own): &(String, Experiment)| {
        let rivals: Vec<&Experiment> = runs.iter().filter(|(other, _)| other == base).map(|(_, e)| e).collect();
        let mut differing = telling_keys(&rivals);
        let of_list = made_apart.iter().filter(|key| is_looked_at(own) && !differing.contains(key)).copied().collect();
        differing = [of_list, differing].concat();
        let named_anyway = epochs_differ && is_training(own);
        if named_anyway || differing.contains(&&epochs) {
            differing.retain(|key| **key != epochs);
            differing.insert(0, &epochs);
        }
        let named = differing.iter().take(NAMED).map(|key| {
            let value = own.settings.get(*key).map_or_else(|| "absent".to_owned(), |value| shown(value));
            ((*key).clone(), value)
        });
        let mut settings: BTreeMap<String, String> = named.collect();
        if differing.len() > NAMED {
            // Two experiments may agree on what is shown; their digests tell them apart.
            let digest = short(&own.digest());
            settings.insert(format!("{} {MORE}", differing.len() - NAMED), digest);
        }
        settings
    };
    let all: Vec<BTreeMap<String, String>> = runs.iter().map(told).collect();
    let short = short_keys(all.iter().flat_map(BTreeMap::keys));
    let keys = in_order(short.keys(), folders.iter().copied());
    let label = |((base, _), settings): (&(String, Experiment), BTreeMap<String, String>)| {
        let own = keys.iter().filter_map(|key| Some((key, settings.get(key)?)));
        let parts = own.map(|(key, value)| format!("{} = {value}", short.get(key).unwrap_or(key)));
        Label { text: std::iter::once(base.clone()).chain(parts).collect::<Vec<_>>().join(", "), settings }
    };
    runs.iter().zip(all).map(label).collect()
}

/// Whether a model was trained from the data, so that its epochs are comparable with those of others.
fn is_training(own: &Experiment) -> bool {
    let other = ["clean.", "prompt.", "caption."];
    let distilled = own.settings.get("objective.name").is_some_and(|name| name == "distil");
    !distilled && !own.settings.keys().any(|key| other.iter().any(|section| key.starts_with(section)))
}

/// Whether pairs were left out that a look at all of them found suspicious.
fn is_looked_at(own: &Experiment) -> bool {
    own.settings.contains_key(ENCODER)
}

/// Whether `key` says how a list of suspects was made, beyond what the name of the row says.
fn is_shown_of_lists(key: &str) -> bool {
    PROVENANCE.contains(&key) && key != ORDERED_BY
}

/// [`differing_keys`] without the detector's model where the settings of the runs say which it is: each cell of a sweep has one of its own.
fn telling_keys<'a>(rivals: &[&'a Experiment]) -> Vec<&'a String> {
    let differing = differing_keys(rivals);
    // How lists were made says nothing of the model.
    let settings: Vec<&String> = differing.iter().copied().filter(|key| is_recipe_key(key)).collect();
    let follows_settings = !settings.is_empty() && follows(ENCODER, &settings, rivals);
    differing.into_iter().filter(|key| !(follows_settings && *key == ENCODER)).collect()
}

/// Whether all of `rivals` that agree in `others` agree in `key`, too.
fn follows(key: &str, others: &[&String], rivals: &[&Experiment]) -> bool {
    let agree = |one: &Experiment, other: &Experiment, key: &str| one.settings.get(key) == other.settings.get(key);
    let twins = |one: &Experiment, other: &Experiment| others.iter().all(|known| agree(one, other, known));
    rivals.iter().all(|one| rivals.iter().all(|other| !twins(one, other) || agree(one, other, key)))
}

/// Whether `key` of a label is one that a recipe can set, rather than how a list was made or a number of further keys.
pub fn is_recipe_key(key: &str) -> bool {
    !PROVENANCE.contains(&key) && !key.ends_with(MORE)
}

/// Keys whose values are not the same in all of `rivals`.
fn differing_keys<'a>(rivals: &[&'a Experiment]) -> Vec<&'a String> {
    let keys: BTreeSet<&String> = rivals.iter().flat_map(|rival| rival.settings.keys()).collect();
    let value = |rival: &Experiment, key: &String| rival.settings.get(key).cloned();
    let differs =
        |key: &&String| rivals.windows(2).any(|pair| matches!(pair, [a, b] if value(a, key) != value(b, key)));
    keys.into_iter().filter(differs).collect()
}

/// The order of two values of a key: numbers by their size, and before everything else.
pub fn by_size(one: &str, other: &str) -> Ordering {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => one.cmp(other),
    }
}

/// The order of rows of one name, by the values of `keys` in turn; a row that lacks one goes first.
pub(super) fn by_settings(
    keys: &[String],
    one: &BTreeMap<String, String>,
    other: &BTreeMap<String, String>,
) -> Ordering {
    let of_key = |key: &String| match (one.get(key), other.get(key)) {
        (Some(one), Some(other)) => by_size(one, other),
        (one, other) => one.is_some().cmp(&other.is_some()),
    };
    keys.iter().map(of_key).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ObjectiveName;
    use crate::results::experiment::tests::experiment;

    #[test]
    fn labels_name_what_differs_and_nothing_else() {
        let with = |period| {
            experiment(move |recipe| {
                (recipe.objective.name, recipe.objective.roclip.period) = (ObjectiveName::Roclip, period);
            })
        };
        let runs = [("RoCLIP".to_owned(), with(2)), ("RoCLIP".to_owned(), with(5)), ("CLIP".to_owned(), with(2))];
        let texts = |runs: &[_]| labels(runs, &[]).into_iter().map(|label| label.text).collect::<Vec<_>>();
        assert_eq!(texts(&runs), ["RoCLIP, period = 2", "RoCLIP, period = 5", "CLIP"]);
        let seeds = [("RoCLIP".to_owned(), with(2)), ("RoCLIP".to_owned(), with(2))];
        assert_eq!(texts(&seeds), ["RoCLIP", "RoCLIP"]);
        assert_eq!(labels(&runs, &[])[1].settings["objective.roclip.period"], "5");
        // Another number of epochs is named in all rows, and before what there is no room for.
        let long = |epochs, learning_rate| {
            experiment(move |recipe| {
                (recipe.train.epochs, recipe.train.learning_rate) = (epochs, learning_rate);
                (recipe.train.batch_size, recipe.train.beta1) = (epochs as usize, learning_rate);
                (recipe.train.beta2, recipe.train.epsilon) = (learning_rate, learning_rate);
            })
        };
        let runs = [("RoCLIP".to_owned(), long(2, 0.1)), ("CLIP".to_owned(), long(3, 0.1))];
        assert_eq!(texts(&runs), ["RoCLIP, epochs = 2", "CLIP, epochs = 3"]);
        let mut cleaned = experiment(|recipe| recipe.clean = Some(Default::default()));
        cleaned.settings.insert(EPOCHS.into(), "9".into());
        assert_eq!(texts(&[runs[0].clone(), ("CleanCLIP".to_owned(), cleaned)]), ["RoCLIP", "CleanCLIP"]);
        let many = texts(&[("RoCLIP".to_owned(), long(2, 0.1)), ("RoCLIP".to_owned(), long(3, 0.2))]);
        assert!(many[0].contains("epochs = 2") && many[0].contains("more keys"), "{many:?}");
        // No value is cut, and what a cell's own model made says nothing beside the cell's values.
        let detected = |count: &str, encoder: &str| {
            let mut own = experiment(|_| {});
            own.settings.insert("poison.count".into(), count.into());
            own.settings.insert(ENCODER.into(), format!("run:{encoder}"));
            ("detected".to_owned(), own)
        };
        let long = "3 and then some more words than forty letters hold";
        let cells = [detected(long, "0123456789abcdef"), detected("10", "fedcba9876543210")];
        assert_eq!(texts(&cells), [format!("detected, count = {long}"), "detected, count = 10".to_owned()]);
        let encoders = [detected("3", "0123456789abcdef"), detected("3", "fedcba9876543210")];
        let expected = ["01234567", "fedcba98"].map(|digest| format!("detected, {ENCODER} = run:{digest}"));
        assert_eq!(texts(&encoders), expected);
        // Lists of different methods differ in more than their names say.
        let list = |method: &str, share: &str, encoder: &str| {
            let (_, mut own) = detected("3", encoder);
            own.settings.extend([(ORDERED_BY.into(), method.into()), (PROVENANCE[4].into(), share.into())]);
            (format!("detected ({method})"), own)
        };
        let lists =
            [list("dao", "0.1", "01234567"), list("lid", "0.3", "fedcba98"), ("CLIP".into(), experiment(|_| {}))];
        let shown = |method: &str, encoder: &str, share: &str| {
            format!("detected ({method}), {ENCODER} = run:{encoder}, {} = {share}", PROVENANCE[4])
        };
        assert_eq!(
            texts(&lists),
            [shown("dao", "01234567", "0.1"), shown("lid", "fedcba98", "0.3"), "CLIP".to_owned()]
        );
        let alike = [list("dao", "0.1", "01234567"), list("lid", "0.1", "01234567")];
        assert_eq!(texts(&alike), ["detected (dao)", "detected (lid)"]);
        assert!(is_recipe_key("poison.count") && !is_recipe_key(ENCODER) && !is_recipe_key("2 more keys"));
    }

    #[test]
    fn values_are_in_the_order_of_their_size() {
        let mut values = ["10", "absent", "1e-3", "3", "2", "1a"];
        values.sort_by(|one, other| by_size(one, other));
        assert_eq!(values, ["1e-3", "2", "3", "10", "1a", "absent"]);
        let row = |period: &str| BTreeMap::from([("period".to_owned(), period.to_owned())]);
        let keys = ["period".to_owned()];
        assert_eq!(by_settings(&keys, &row("10"), &row("3")), Ordering::Greater);
        assert_eq!(by_settings(&keys, &BTreeMap::new(), &row("3")), Ordering::Less);
    }
}
