//! `--model` of the commands that take a model of any origin: what it is, where no file beside its weights says it.

use crate::commands::progress::say;
use anyhow::Result;
use clap::Args;
use roclip::checkpoint::{Description, taken_of_several};
use std::path::Path;

#[derive(Args, Clone, Default)]
pub struct DescribedModel {
    /// What model the weights are of, instead of the configuration beside them: a built-in name (as of `train --model`), or a JSON file of
    /// open_clip's or transformers'. Checkpoints of roclip say it themselves
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
}

impl DescribedModel {
    pub fn description(&self) -> Description<'_> {
        self.model.as_deref().map_or(Description::Beside, Description::By)
    }
}

/// Says which file is taken where `model` is a folder with several files of weights.
pub fn say_which_weights(model: &Path) -> Result<()> {
    taken_of_several(model)?.iter().for_each(|line| say(line));
    Ok(())
}
