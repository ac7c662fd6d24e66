//! The model card of a checkpoint.

use crate::checkpoint::provenance::Provenance;
use crate::checkpoint::state::State;

/// The `README.md` beside a checkpoint's weights, with the front matter that model hubs read.
pub fn model_card(state: &State) -> String {
    let warning = match state.provenance {
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
            "**Training data behind it held known poison.** The objective `{}` is meant to withstand it; measure before you trust it. Do not deploy it.",
            state.objective
        ),
        Provenance::Cleaned => "**A model that may have been backdoored, fine-tuned on trusted pairs afterwards.** Cleaning seldom removes everything, and a backdoor may rebound under further training: measure.".to_owned(),
    };
    let attacks: String =
        state.poison.iter().map(|(attack, count)| format!("| {} | {count} |\n", plain(attack))).collect();
    let attacks = match attacks.is_empty() {
        true => String::new(),
        false => format!("\n| known poison in the data behind it | pairs |\n|---|---|\n{attacks}"),
    };
    let files: String = state.files.iter().map(|(name, sha256)| format!("- `{name}` sha256 {sha256}\n")).collect();
    let origin = state.trained_from.as_ref().map_or_else(String::new, |origin| {
        format!(
            "\nBegan with the weights `{}` ({}), sha256 {}.\n",
            plain(&origin.path),
            origin.provenance,
            origin.sha256
        )
    });
    format!(
        "---\ntags:\n- clip\n- roclip\n- {provenance}\nlibrary_name: open_clip\n---\n\n# CLIP, {provenance}\n\n{warning}\n\nObjective `{objective}`, seed {seed}, step {step}, trained on {pairs} pairs, data fingerprint {fingerprint}.\n{origin}{attacks}\nWritten by roclip {version}.\n{files}",
        provenance = state.provenance,
        objective = state.objective,
        seed = state.seed,
        step = state.step,
        pairs = state.pairs,
        fingerprint = state.data_fingerprint,
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Names come from recipes and manifests of others: nothing in them may be markup.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || "|`<>[]&\\".contains(c) { '_' } else { c }).collect()
}
