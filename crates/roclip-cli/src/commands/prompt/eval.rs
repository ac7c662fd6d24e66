//! `roclip prompt eval`

use crate::commands::progress::say;
use crate::commands::prompt::DeliveredFlags;
use crate::commands::prompt_lines::print_measures;
use anyhow::{Result, bail};
use clap::Args;
use roclip::checkpoint::run_of;
use roclip::prompt::read_learner;
use roclip::run::measure_prompts;
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A run of learned prompts, or one of its checkpoints
    #[arg(value_name = "RUN")]
    learner: PathBuf,
    /// Measure on these labelled images under this name, too, with the target among their classes; may be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = named_data)]
    on: Vec<(String, String)>,
    /// Lay on the trigger of this learner instead of its own
    #[arg(long, value_name = "RUN")]
    trigger: Option<PathBuf>,
    #[command(flatten)]
    delivered: DeliveredFlags,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

fn named_data(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.to_owned())),
        _ => Err("give NAME=PATH, as in caltech=data/caltech101".into()),
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    let names: Vec<&String> = arguments.on.iter().map(|(name, _)| name).collect();
    if let Some((_, name)) =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
    {
        bail!("--on names `{}` twice; give each data set a name of its own", for_terminal(name));
    }
    let mut recipe = arguments.delivered.recipe(&arguments.learner)?;
    // A repaired learner is measured as any other.
    if let Some(prompt) = &mut recipe.prompt {
        prompt.repair = None;
    }
    let description = arguments.delivered.described.description();
    let found = measure_prompts(&recipe, description, &arguments.learner, &arguments.on, arguments.trigger.as_deref())?;
    for warning in &found.warnings {
        say(&format!("warning: {warning}"));
    }
    let folder = read_learner(&arguments.learner)?.path;
    if let Some(run) = folder.parent().and_then(run_of) {
        let lent = if arguments.trigger.is_some() { "-lent-trigger" } else { "" };
        artifact::write_json(&run.join(format!("eval/step_{}{lent}.json", found.about.step)), &found.measures)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found.measures)?);
        return Ok(());
    }
    println!(
        "{} prompts of step {}; their provenance: {}",
        found.about.method, found.about.step, found.about.provenance
    );
    if let (Some(lender), Some(path)) = (&found.lender, &arguments.trigger) {
        println!(
            "the trigger is that of `{}`: {}, target `{}`{}",
            for_terminal(&path.display().to_string()),
            for_terminal(lender.attack().unwrap_or(&lender.method)),
            for_terminal(&found.measures.target),
            lender.eps.map(|eps| format!(", within {eps}/255")).unwrap_or_default()
        );
    }
    print_measures(&found.measures);
    Ok(())
}
