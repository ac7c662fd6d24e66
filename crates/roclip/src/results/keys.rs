//! Keys of recipes as tables and labels call them.

use crate::recipe::{Recipe, telling_end};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each of `keys` with as many of its last words as tell it from the others; one word is enough for most.
pub fn short_keys<'a>(keys: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
    let keys: BTreeSet<&String> = keys.into_iter().collect();
    let all: Vec<String> = keys.into_iter().cloned().collect();
    all.iter().map(|key| (key.clone(), telling_end(key, &all))).collect()
}

/// `keys` in the order of the flags of a sweep, which the names of its `folders` keep, and behind them the others as the sections of a recipe
/// stand.
pub(super) fn in_order<'a, 'b>(
    keys: impl IntoIterator<Item = &'a String>,
    folders: impl Iterator<Item = &'b Path>,
) -> Vec<String> {
    let short = short_keys(keys);
    let places = |folder: &Path| -> BTreeMap<String, usize> {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        short.iter().filter_map(|(key, word)| Some((key.clone(), place_of(word, name)?))).collect()
    };
    let swept = folders.map(places).max_by_key(BTreeMap::len).unwrap_or_default();
    let whole = Recipe::default().to_toml().unwrap_or_default();
    let section = |key: &String| {
        let own = key.split('.').next().unwrap_or_default();
        let heads = |line: &str| {
            line.starts_with('[')
                && line.trim_start_matches('[').split(['.', ']']).next().is_some_and(|name| name == own)
        };
        whole.lines().position(heads).unwrap_or(usize::MAX)
    };
    let mut keys: Vec<String> = short.keys().cloned().collect();
    keys.sort_by_key(|key| (swept.get(key).copied().unwrap_or(usize::MAX), section(key), key.clone()));
    keys
}

/// Where the value of `word` stands in the name of a sweep's folder, as in `defended-period-2,rate-0.1-seed0`.
fn place_of(word: &str, name: &str) -> Option<usize> {
    let begins = |at: &usize| name.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with([',', '-']));
    name.match_indices(&format!("{word}-")).map(|(at, _)| at).find(begins)
}

/// What the shortened ones of `keys` in labels stand for, as `period is objective.roclip.period`; none where none is shortened.
pub fn key_legend<'a>(keys: impl IntoIterator<Item = &'a String>) -> Option<String> {
    let short = short_keys(keys);
    let shortened = short.iter().filter(|(key, short)| key != short);
    let said: Vec<String> = shortened.map(|(key, short)| format!("{short} is {key}")).collect();
    (!said.is_empty()).then(|| format!("Keys: {}", said.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_never_share_a_short_one() {
        let keys = [
            "data.source.path",
            "data.weights.0",
            "eval.source.path",
            "eval.templates",
            "objective.roclip.period",
            "seed",
        ];
        let keys = keys.map(str::to_owned);
        let short: Vec<String> = short_keys(&keys).into_values().collect();
        assert_eq!(short, ["data.source.path", "weights.0", "eval.source.path", "templates", "period", "seed"]);
    }

    #[test]
    fn keys_stand_as_the_flags_of_a_sweep_did_and_else_as_in_a_recipe() {
        let keys = ["objective.roclip.period", "poison.attacks.1.rate", "train.epochs"].map(str::to_owned);
        let order = |names: &[&str]| in_order(&keys, names.iter().map(Path::new));
        let [period, rate, epochs] = keys.clone();
        assert_eq!(order(&["runs/mine"]), [period.clone(), epochs.clone(), rate.clone()]);
        let swept = ["undefended-rate-0.1-seed0", "defended-rate-0.1,period-2-seed0"];
        assert_eq!(order(&swept), [rate.clone(), period.clone(), epochs.clone()]);
        assert_eq!(order(&["epochs-3,rate-0.1,period-2"]), [epochs, rate, period]);
    }
}
