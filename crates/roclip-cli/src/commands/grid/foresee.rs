//! What several runs would take, by one of each kind.

use crate::commands::forecast_lines::{print_forecast, roughly};
use crate::commands::grid::{Planned, Standing, check};
use crate::commands::warned::Warned;
use anyhow::Result;
use roclip::recipe::Recipe;
use roclip::run::{Forecast, Start};
use roclip_data::plural::count;

/// Stands for the folder of a run that is made anew; nothing is written there.
const NOT_YET: &str = ".not-yet";

/// Runs whose steps do the same work.
struct Kind<'a> {
    recipe: &'a Recipe,
    forecast: Forecast,
}

impl Kind<'_> {
    /// Whether `other` differs in nothing that makes a step longer, as far as rows of a demo or cells of a sweep commonly differ.
    fn is_of(&self, other: &Recipe) -> bool {
        let of = |recipe: &Recipe| (recipe.objective.name, recipe.train.batch_size);
        of(self.recipe) == of(other) && self.recipe.augment == other.augment && self.recipe.model == other.model
    }

    /// What as many epochs take as `recipe` has.
    fn seconds(&self, recipe: &Recipe) -> Option<f64> {
        Some(self.forecast.seconds()? / self.recipe.train.epochs.max(1) as f64 * recipe.train.epochs as f64)
    }
}

/// Looks at all of `runs`, which lie in a folder that the flag `named_by` names and of which `jobs` train at a time, and measures the first of
/// each kind. With `overwrite` all begin anew.
///
/// # Errors
/// What any of them could not begin with.
pub fn foresee(runs: &[Planned], named_by: &'static str, jobs: usize, json: bool, overwrite: bool) -> Result<()> {
    let standings: Vec<Standing> = runs
        .iter()
        .map(|planned| Standing::of(&planned.folder, &planned.recipe, overwrite, named_by))
        .collect::<Result<_>>()?;
    check(runs, named_by)?;
    let Some(first) = runs.first() else { return Ok(()) };
    let mut kinds: Vec<Kind> = Vec::new();
    let mut warned = Warned::default();
    let mut seconds = Some(0.0);
    for (Planned { recipe, folder, name }, standing) in runs.iter().zip(standings) {
        let of_run = match kinds.iter().find(|kind| kind.is_of(recipe)) {
            Some(kind) => kind.seconds(recipe),
            None => {
                // What is there is removed before one begins.
                let anew = folder.with_file_name(NOT_YET);
                let (start, folder) = match standing {
                    Standing::Absent => (Start::New, &anew),
                    Standing::Unfinished | Standing::Finished => (Start::Resume, folder),
                };
                let forecast = roclip::run::check(recipe, folder, start, &mut |line| warned.say(name, line))?;
                let of_run = forecast.seconds();
                kinds.push(Kind { recipe, forecast });
                of_run
            }
        };
        seconds = seconds.zip(of_run).map(|(all, one)| all + one);
    }
    warned.say_partial(kinds.len());
    let Some(Kind { forecast, .. }) = kinds.first() else { return Ok(()) };
    // The last of them may train alone.
    let seconds = seconds.map(|all| all / runs.len() as f64 * runs.len().div_ceil(jobs) as f64);
    if json {
        let all = serde_json::json!({"runs": runs.len(), "jobs": jobs, "seconds": seconds, "first": forecast});
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("{}, {jobs} at a time; the first, {}:", count(runs.len(), "run"), first.name);
    print_forecast(forecast);
    if let Some(seconds) = seconds {
        let measured = if kinds.len() == 1 { "this one" } else { "one of each kind" };
        println!(
            "all     about {}, by the steps of {measured}; what the line above leaves out comes on top",
            roughly(seconds)
        );
    }
    Ok(())
}
