//! `roclip train`

use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::overrides::RecipeFlags;
use crate::commands::progress::say;
use crate::commands::run_flags::{HOLDS, RunFlags, train};
use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::Recipe;
use roclip::run::Forecast;
use roclip_data::plural::count;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    run: RunFlags,
    /// Check the recipe, the data and the folder as a run would, take a few steps to say what the run would take (time, memory, disk),
    /// and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let folder = &arguments.run.folder;
    let saved = folder.join("run.toml");
    let base = match arguments.run.resumes() {
        true if !saved.is_file() => {
            bail!("`{}` holds no run to resume; start it without --resume", folder.display())
        }
        true => Recipe::read(&saved)?,
        false if !arguments.recipe.names_data() => bail!(
            "nothing says what to train on; name your pairs with --train-data or a recipe with --config (`roclip init --train-data DATA` \
             writes one), or give --train-data emoji for the built-in set"
        ),
        false => Recipe::default(),
    };
    let recipe = arguments.recipe.resolve(base)?;
    if arguments.dry_run {
        let forecast = roclip::run::check(&recipe, folder, arguments.run.start(), &mut say)?;
        match arguments.run.json {
            true => println!("{}", serde_json::to_string_pretty(&forecast)?),
            false => print(&forecast),
        }
        return Ok(());
    }
    let summary = train(&recipe, folder, arguments.run.start())?;
    if arguments.run.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    let run = shell_word(folder);
    let commands = ["doctor", "eval", "report"].map(|verb| format!("roclip {verb} {run}"));
    say_next(folder, HOLDS, &commands);
    Ok(())
}

fn print(forecast: &Forecast) {
    let Forecast { steps, steps_left, epochs, warmup_steps, measured_steps, evaluations, .. } = forecast;
    println!("{}", forecast.banner);
    let left = if steps_left < steps { format!(", {steps_left} left") } else { String::new() };
    println!("steps   {steps} in {}{left}, the first {warmup_steps} warm up", count(epochs, "epoch"));
    match (forecast.step_seconds, forecast.seconds()) {
        (Some(step), Some(all)) => {
            let training = step * *steps_left as f64;
            let evaluating = *evaluations as f64 * forecast.evaluation_seconds;
            println!(
                "time    about {}: {} {} ({step:.3} s each, the mean of {measured_steps} after the first), {} {}",
                duration(all),
                count(steps_left, "step"),
                duration(training),
                count(evaluations, "evaluation"),
                duration(evaluating)
            );
        }
        _ => println!("time    not measured: an epoch has a single step"),
    }
    println!(
        "memory  {} at its peak in these steps; decoded pictures may take up to {} more (data.cache_mib)",
        size(forecast.peak_memory_bytes),
        size(forecast.cache_bytes)
    );
    let (kept, each) = (forecast.kept_checkpoints as u64, forecast.checkpoint_bytes);
    println!(
        "disk    {}: {} of {} kept, and one more while it is written",
        size((kept + 1) * each),
        count(kept, "checkpoint"),
        size(each)
    );
    println!("        not in these figures: {}", forecast.without.join("; "));
}

/// Seconds for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 2.0 * 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units_that_people_read() {
        let times = [1.4, 150.0, 3.0 * 3600.0, 3.0 * 86_400.0].map(duration);
        assert_eq!(times, ["1 s", "2 min", "3.0 h", "3.0 days"]);
        assert_eq!([1 << 20, 3 << 30].map(size), ["1.0 MiB", "3.0 GiB"]);
    }
}
