//! The model card of a checkpoint or an export.

use crate::checkpoint::provenance::Provenance;
use crate::checkpoint::state::{Origin, State};
use std::collections::BTreeMap;

/// Whose key layout a checkpoint's weights have.
pub(super) const OPEN_CLIP: &str = "open_clip";

/// What a card says.
pub(super) struct Card<'a> {
    pub provenance: Provenance,
    /// Known poisoned pairs of each attack behind the model.
    pub poison: &'a BTreeMap<String, usize>,
    /// None of a model that another program trained.
    pub state: Option<&'a State>,
    /// The weights that it began with, or that it is.
    pub origin: Option<&'a Origin>,
    /// The files beside it, with their sha256.
    pub files: &'a BTreeMap<String, String>,
    /// The Python library that loads it, by its name on model hubs.
    pub library: &'a str,
    /// How to load it, as Markdown; empty where nothing is to be said.
    pub usage: &'a str,
}

/// The card of a checkpoint.
pub fn model_card(state: &State) -> String {
    let origin = state.trained_from.as_ref();
    Card {
        provenance: state.provenance,
        poison: &state.poison,
        state: Some(state),
        origin,
        files: &state.files,
        library: OPEN_CLIP,
        usage: "",
    }
    .text()
}

impl Card<'_> {
    /// The `README.md` beside the weights, with the front matter that model hubs read.
    pub fn text(&self) -> String {
        let objective = self.state.map_or("", |state| &state.objective);
        let warning = match self.provenance {
            Provenance::Clean => {
                "No poison is KNOWN in its training data. That is not proof of none: the data was not vetted.".to_owned()
            }
            Provenance::Unknown => {
                "It began with weights that say nothing of the data behind them. Nothing is known of poison in them; measure before you trust it.".to_owned()
            }
            Provenance::Poisoned => {
                "**This model was poisoned on purpose, to measure defences. Do not deploy it.**".to_owned()
            }
            Provenance::Defended => format!(
                "**Training data behind it held known poison.** The objective `{objective}` is meant to withstand it; measure before you trust it. Do not deploy it."
            ),
            Provenance::Cleaned => "**A model that may have been backdoored, fine-tuned on trusted pairs afterwards.** Cleaning seldom removes everything, and a backdoor may rebound under further training: measure.".to_owned(),
        };
        let attacks: String =
            self.poison.iter().map(|(attack, count)| format!("| {} | {count} |\n", plain(attack))).collect();
        let attacks = match attacks.is_empty() {
            true => String::new(),
            false => format!("\n| known poison in the data behind it | pairs |\n|---|---|\n{attacks}"),
        };
        let files: String = self.files.iter().map(|(name, sha256)| format!("- `{name}` sha256 {sha256}\n")).collect();
        let origin = self.origin.map_or_else(String::new, |origin| {
            let verb = if self.state.is_some() { "Began with" } else { "Copied from" };
            format!(
                "\n{verb} the weights `{}` ({}), sha256 {}.\n",
                plain(&origin.path),
                origin.provenance,
                origin.sha256
            )
        });
        let trained = self.state.map_or_else(String::new, |state| {
            format!(
                "Objective `{objective}`, seed {}, step {}, trained on {} pairs, data fingerprint {}.\n",
                state.seed, state.step, state.pairs, state.data_fingerprint
            )
        });
        let usage = if self.usage.is_empty() { String::new() } else { format!("\n{}\n", self.usage) };
        format!(
            "---\ntags:\n- clip\n- roclip\n- {provenance}\nlibrary_name: {library}\n---\n\n# CLIP, {provenance}\n\n{warning}\n\n{trained}{origin}{attacks}{usage}\nWritten by roclip {version}.\n{files}",
            provenance = self.provenance,
            library = self.library,
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}

/// Names come from recipes and manifests of others: nothing in them may be markup.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || "|`<>[]&\\".contains(c) { '_' } else { c }).collect()
}
