//! Pairs that say themselves that they are poison: shards that `roclip poison make --out-shards` wrote, with or without the manifest that it
//! wrote beside them.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use roclip_data::escape::{for_terminal, path_for_shell};
use roclip_data::pairs::Pairs;
use roclip_data::poison::Manifest;
use roclip_data::source::SourceConfig;
use std::collections::BTreeMap;
use std::path::Path;

/// What a person should know where `found` of `pairs` pairs of `source`, by attack, are poison by their own word, and no manifest speaks of them.
pub fn unspoken_poison(source: &SourceConfig, found: &BTreeMap<String, usize>, pairs: usize) -> Option<String> {
    let remedy = match manifest_beside(source) {
        Some(manifest) => format!("add --manifest {manifest}"),
        None => "name the shards as they were written, with --manifest and the manifest.jsonl beside them, and leave out with --drop \
                 what is not wanted of them"
            .to_owned(),
    };
    (!found.is_empty()).then(|| {
        format!(
            "{} of the {pairs} pairs were written by `roclip poison make` as poison ({}), and no manifest speaks of them: they count as \
             poisoned, and whether the attack succeeds is not measured; to have it measured, {remedy}",
            found.values().sum::<usize>(),
            by_attack(found)
        )
    })
}

/// The manifest that was written beside the shards of `source`, as a word of a command.
fn manifest_beside(source: &SourceConfig) -> Option<String> {
    let beside = Path::new(&source.path).join("manifest.jsonl");
    beside.is_file().then(|| path_for_shell(&beside))
}

/// The same where `manifest` may speak of them.
pub(super) fn unspoken_beside(
    recipe: &Recipe,
    found: &BTreeMap<String, usize>,
    pairs: usize,
    manifest: Option<&Manifest>,
) -> Option<String> {
    let spoken_of = manifest.is_some_and(Manifest::is_of_written);
    if spoken_of { None } else { unspoken_poison(&recipe.data.source, found, pairs) }
}

/// # Errors
/// Attacks that would be drawn for pairs of which some are poison already.
pub(super) fn check_not_twice(recipe: &Recipe, found: &BTreeMap<String, usize>) -> Result<()> {
    if found.is_empty() || recipe.poison.measure_only {
        return Ok(());
    }
    let manifest = manifest_beside(&recipe.data.source)
        .unwrap_or_else(|| "manifest.jsonl (it lies beside the shards as they were written)".to_owned());
    Err(Error::setting(
        format!(
            "{} pairs of `{}` were written by `roclip poison make` as poison ({}), and the recipe's [poison] would poison the data a second time",
            found.values().sum::<usize>(),
            for_terminal(&recipe.data.source.path),
            by_attack(found)
        ),
        format!("take the manifest of these data, --manifest {manifest}, or no attacks of your own, --set poison="),
    ))
}

/// Takes pairs that are poison out of those that are trusted; how many there were.
pub(super) fn leave_out(pairs: &mut Pairs) -> usize {
    let before = pairs.len();
    if pairs.poisoned().next().is_some() {
        pairs.retain(|pair, _| pair.poison.is_none());
    }
    before - pairs.len()
}

fn by_attack(found: &BTreeMap<String, usize>) -> String {
    let attacks: Vec<String> =
        found.iter().map(|(attack, pairs)| format!("{} {pairs}", for_terminal(attack))).collect();
    attacks.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_beside_written_shards_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = SourceConfig { path: folder.path().display().to_string(), ..SourceConfig::default() };
        let found = BTreeMap::from([("patch".to_owned(), 15), ("targets".to_owned(), 42)]);
        let said = |source: &SourceConfig| unspoken_poison(source, &found, 1542).unwrap();
        assert!(said(&source).starts_with("57 of the 1542 pairs") && said(&source).contains("(patch 15, targets 42)"));
        assert!(said(&source).contains("--drop"), "{}", said(&source));
        std::fs::write(folder.path().join("manifest.jsonl"), "").unwrap();
        let ending = format!("add --manifest {}/manifest.jsonl", folder.path().display());
        assert!(said(&source).ends_with(&ending), "{}", said(&source));
        assert_eq!(unspoken_poison(&source, &BTreeMap::new(), 9), None);
        let mut recipe = Recipe::default();
        recipe.data.source = source;
        let refused = check_not_twice(&recipe, &found).unwrap_err().to_string();
        assert!(refused.contains("a second time") && refused.contains("--set poison="), "{refused}");
        recipe.poison.measure_only = true;
        check_not_twice(&recipe, &found).unwrap();
    }
}
