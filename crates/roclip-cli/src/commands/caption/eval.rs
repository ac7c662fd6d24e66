//! `roclip caption eval`

use crate::commands::caption::{
    DeviceFlags, OwnData, ReferenceFlags, SearchFlags, no_answering_run, print_scores, share,
};
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::Args;
use roclip::eval::foreign_references;
use roclip::run::{CaptionEval, captioner_recipe, evaluate_captions};
use roclip_data::artifact;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A run of `roclip caption train`, or one of its checkpoints
    #[arg(value_name = "RUN")]
    captioner: PathBuf,
    #[command(flatten)]
    search: SearchFlags,
    /// Write the captions, one JSON object a line with id, caption, references, bleu4 and cider_d
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file that is there
    #[arg(long, requires = "out")]
    overwrite: bool,
    #[command(flatten)]
    references: ReferenceFlags,
    /// Largest share of the pictures that may be left out because they cannot be used [default: the run's, else 0.05]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_skip_fraction: Option<f64>,
    #[command(flatten)]
    on: DeviceFlags,
    /// Print the scores as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if let Some(out) = &arguments.out {
        if out.exists() && !arguments.overwrite {
            bail!("--out `{}` exists already; name another file, or add --overwrite", out.display());
        }
        artifact::check_file_writable(out)?;
    }
    no_answering_run(
        &arguments.captioner,
        "its answers were measured when it was trained (summary.json in its folder)",
    )?;
    let device = arguments.on.machine()?;
    let saved = captioner_recipe(&arguments.captioner)?;
    let search = arguments.search.over(saved.as_ref().map(|(_, caption)| caption.search).unwrap_or_default());
    let own =
        saved.map(|(recipe, caption)| OwnData { training: Some(recipe.data.source), references: caption.references });
    let references = arguments.references.source(own.as_ref());
    let training = own.as_ref().and_then(|own| own.training.as_ref());
    let warning = training.zip(references.as_ref()).and_then(|(own, references)| foreign_references(own, references));
    if let Some(warning) = warning {
        say(&format!("warning: {warning}"));
    }
    let eval = CaptionEval { references, search: Some(search), max_skip_fraction: arguments.max_skip_fraction };
    let (evaluation, lines) = evaluate_captions(&arguments.captioner, &eval, device)?;
    if let Some(out) = &arguments.out {
        artifact::write_json_lines(out, &lines)?;
    }
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&evaluation)?),
        false => print_scores(&evaluation),
    }
    Ok(())
}
