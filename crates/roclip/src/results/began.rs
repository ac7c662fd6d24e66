//! What a run began with, beside what its recipe says: digests of the files that the recipe names.

use crate::checkpoint;
use crate::recipe::Recipe;
use roclip_data::artifact;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The labelled pictures and their classes: of these a run has a digest as a whole, which says in which table it stands.
const MEASURED_ON: [&str; 2] = ["eval.source", "eval.classes"];

/// What is read here of `summary.json`.
#[derive(Default, Deserialize)]
struct Kept {
    #[serde(default)]
    named: BTreeMap<String, String>,
}

/// Digests of what lay in the files that `recipe`, that of the run in `folder`, names when the run began, by the key that names each. Older
/// runs do not say; of weights their checkpoints do, which may be removed.
pub(super) fn began_with(folder: &Path, recipe: &Recipe) -> BTreeMap<String, String> {
    // What cannot be read tells nothing apart.
    let kept: Kept = artifact::read_json(&folder.join("summary.json")).unwrap_or_default();
    let key = |(said, digest): (String, String)| Some((said.split_once(" = ")?.0.to_owned(), digest));
    let mut found: BTreeMap<String, String> = kept.named.into_iter().filter_map(key).collect();
    found.retain(|key, _| !MEASURED_ON.contains(&key.as_str()));
    if let Some((key, sha256)) = key_of_weights(recipe).and_then(|key| Some((key, sha256_of_weights(folder)?))) {
        // Of a teacher the summary has what its file says.
        let digest = match found.get(key) {
            Some(described) => artifact::sha256_hex(format!("{described}\n{sha256}").as_bytes()),
            None => sha256,
        };
        found.insert(key.to_owned(), digest);
    }
    found
}

/// The key that names the weights which a run by `recipe` begins with.
fn key_of_weights(recipe: &Recipe) -> Option<&'static str> {
    match (&recipe.clean, recipe.distillation(), &recipe.model.weights) {
        (Some(_), ..) => Some("clean.victim"),
        (None, Some(_), _) => Some("objective.distil.teacher"),
        (None, None, weights) => weights.as_ref().map(|_| "model.weights"),
    }
}

/// Of those, as the newest checkpoint in `folder` has it.
fn sha256_of_weights(folder: &Path) -> Option<String> {
    let step = checkpoint::newest_step(folder).ok()??;
    let state = checkpoint::state_of(&checkpoint::at_step(folder, step).ok()?).ok()?;
    Some(state.trained_from?.sha256)
}
