//! What several runs would take, by the first of them.

use crate::commands::forecast_lines::{print_forecast, roughly};
use crate::commands::grid::{Planned, check};
use crate::commands::progress::say;
use anyhow::Result;
use roclip::run::Start;
use roclip_data::plural::count;

/// Looks at all of `runs`, of which `jobs` train at a time, and measures the first.
///
/// # Errors
/// What any of them could not begin with.
pub fn foresee(runs: &[Planned], jobs: usize, json: bool) -> Result<()> {
    check(runs)?;
    let Some(first) = runs.first() else { return Ok(()) };
    let start = if first.folder.join("run.toml").is_file() { Start::Resume } else { Start::New };
    let forecast = roclip::run::check(&first.recipe, &first.folder, start, &mut say)?;
    if json {
        let all = serde_json::json!({"runs": runs.len(), "jobs": jobs, "first": forecast});
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("{}, {jobs} at a time; the first, {}:", count(runs.len(), "run"), first.name);
    print_forecast(&forecast);
    if let Some(seconds) = forecast.seconds() {
        let rounds = runs.len().div_ceil(jobs) as f64;
        println!("all     about {}, where each takes as long as the first", roughly(rounds * seconds));
    }
    Ok(())
}
