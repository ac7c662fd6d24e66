//! Keys of recipes as tables and labels call them.

use crate::recipe::telling_end;
use std::collections::{BTreeMap, BTreeSet};

/// Each of `keys` with as many of its last words as tell it from the others; one word is enough for most.
pub fn short_keys<'a>(keys: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
    let keys: BTreeSet<&String> = keys.into_iter().collect();
    let all: Vec<String> = keys.into_iter().cloned().collect();
    all.iter().map(|key| (key.clone(), telling_end(key, &all))).collect()
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
}
