//! The flags of every command that trains in a run folder.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct RunFlags {
    /// Folder of the run: run.toml, metrics.jsonl, checkpoints/, summary.json
    #[arg(long = "run", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Go on from the newest checkpoint in the folder, with the recipe saved there
    #[arg(long)]
    pub resume: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
}
