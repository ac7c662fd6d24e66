//! `roclip clean`

use crate::commands::clean_advice::{Advice, warn, warn_of_cells};
use crate::commands::clean_sweep::{self, Point, clean_all};
use crate::commands::described_model::say_which_weights;
use crate::commands::grid::{sweep_axis, take};
use crate::commands::invocation;
use crate::commands::next_steps::{beside, say_next, shell_word};
use crate::commands::numbers::of_key;
use crate::commands::overrides::CleaningFlags;
use crate::commands::run_flags::{HOLDS, RunFlags, not_this_kind, train};
use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use roclip::checkpoint::{self, run_of};
use roclip::clean::{CleanConfig, CleanMethod, moved_percent};
use roclip::eval::Evaluation;
use roclip::recipe::{Cell, Recipe, Sweep};
use roclip::report::check_report_folder;
use roclip::run::{Start, Summary};
use roclip_data::poison::PoisonConfig;
use roclip_data::rate::Rate;
use std::path::{Path, PathBuf};

/// `--method`: the library's methods under their names.
fn methods() -> impl TypedValueParser<Value = CleanMethod> {
    let values = CleanMethod::ALL.map(|(_, known)| PossibleValue::new(known.name()).help(known.about()));
    PossibleValuesParser::new(values).try_map(|given| {
        let known = CleanMethod::ALL.into_iter().find(|(_, known)| known.name() == given);
        known.map(|(method, _)| method).ok_or("not a method")
    })
}

fn methods_default() -> &'static str {
    let default = CleanMethod::default();
    CleanMethod::ALL.into_iter().find(|(method, _)| *method == default).map_or("", |(_, known)| known.name())
}

/// A line a method.
fn methods_help() -> String {
    let lines = CleanMethod::ALL.map(|(_, known)| format!("{}: {}", known.name(), known.about()));
    format!("How to clean (default: {})\n{}", methods_default(), lines.join("\n"))
}

#[derive(Args)]
pub struct Arguments {
    /// The model to clean: a run, a checkpoint, or a folder or safetensors file in open_clip's or transformers' layout; a resumed run knows it,
    /// and --sweep clean.victim=A,B names several, of which the first says what data it is cleaned with
    #[arg(required_unless_present_any = ["resume", "resume_from", "sweep"])]
    victim: Option<PathBuf>,
    #[command(flatten)]
    recipe: CleaningFlags,
    #[arg(long, hide_possible_values = true, value_parser = methods(), help = methods_help())]
    method: Option<CleanMethod>,
    /// Trusted pairs, drawn among the victim's training data without its poison (or among --train-data); all when absent
    #[arg(long, value_parser = of_key::<usize>("clean.pairs"))]
    pairs: Option<usize>,
    /// Weight of CleanCLIP's in-modal losses (lambda 2)
    #[arg(long, value_name = "WEIGHT")]
    inmodal_weight: Option<f64>,
    /// Clean once with each value of a recipe's key, as in train.learning_rate=3e-4,1e-3,3e-3 or clean.cleanclip.inmodal_weight=0.5,1,2,4,8,
    /// each in a folder of its own in --run, and report accuracy beside the attacks' success; several make a grid. The same command goes on
    /// where it was stopped
    #[arg(long, value_name = "KEY=VALUE,VALUE", value_parser = sweep_axis)]
    sweep: Vec<String>,
    /// Clean cells of a sweep anew that are in the folder, finished ones too
    #[arg(long, requires = "sweep", conflicts_with_all = ["resume", "resume_from"])]
    overwrite: bool,
    /// Fine-tune the cleaned model on harmless pairs, and measure after 0, 10, 30, 100 and 300 steps whether the backdoors come back
    #[arg(long)]
    rebound: bool,
    /// Constant learning rate of the rebound test, which it turns on (default: the cleaning's own)
    #[arg(long, value_name = "RATE")]
    rebound_lr: Option<f64>,
    #[command(flatten)]
    run: RunFlags,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let sweep = Sweep::parse(&arguments.sweep)?;
    let points = arguments.points(&sweep);
    let Some(saved) = points.first().map(|point| point.run.join("run.toml")) else { bail!("nothing to clean with") };
    let resumes = arguments.run.resumes() && saved.is_file();
    let recipe = match &arguments.victim()? {
        Some(victim) if !resumes => begin(&arguments, victim)?,
        None if !arguments.run.resumes() => {
            bail!("nothing says which model to clean; name it, or several with --sweep clean.victim=A,B")
        }
        None if !saved.is_file() => {
            return Err(not_this_kind(&arguments.run.folder, "holds no cleaning run to resume"));
        }
        victim => go_on(&arguments, victim.as_deref(), Recipe::read(&saved)?)?,
    };
    if recipe.clean.is_none() {
        return Err(not_this_kind(&arguments.run.folder, "is not a cleaning run"));
    }
    // All before the first is trained: a value that cannot be should not cost the time of the others.
    let recipes: roclip::error::Result<Vec<Recipe>> =
        points.iter().map(|point| sweep.recipe(&recipe, &point.cell)).collect();
    let recipes = recipes?;
    let out = &arguments.run.folder;
    let _lock = match sweep.is_empty() {
        true => None,
        false => {
            check_report_folder(out, "--run")?;
            Some(take(out, "--run")?)
        }
    };
    let summaries = match sweep.is_empty() {
        false => clean_all(&points, &recipes, out, arguments.overwrite, arguments.run.start())?,
        true => {
            let start = if resumes { arguments.run.start() } else { Start::New };
            recipes.iter().map(|recipe| train(recipe, out, start)).collect::<Result<_>>()?
        }
    };
    show(&arguments, &sweep, &points, &recipes, &summaries)?;
    if !sweep.is_empty() {
        let page = clean_sweep::report(out)?;
        say_next(out, "report.html, results.json, results.csv, results.tex", &[format!("open {}", shell_word(&page))]);
    }
    for point in &points {
        let run = shell_word(&point.run);
        let exported = beside(&point.run, "open-clip");
        say_next(
            &point.run,
            HOLDS,
            &[
                format!("roclip eval {run}"),
                format!("roclip export {run} --format open-clip --out {}", shell_word(&exported)),
            ],
        );
    }
    Ok(())
}

/// The results on stdout.
fn show(
    arguments: &Arguments,
    sweep: &Sweep,
    points: &[Point],
    recipes: &[Recipe],
    summaries: &[Summary],
) -> Result<()> {
    match (!sweep.is_empty(), summaries) {
        (true, all) if arguments.run.json => println!("{}", serde_json::to_string_pretty(all)?),
        (true, all) => clean_sweep::print(sweep, points, recipes, all),
        (false, [only]) if arguments.run.json => println!("{}", serde_json::to_string_pretty(only)?),
        (false, all) => {
            for summary in all {
                if let Some(before) = &summary.before {
                    print(before, &summary.evaluation);
                    print_rebound(summary);
                }
                if let Some(moved) = summary.weights_moved {
                    println!("weights moved by {} (length of the change by the victim's)", moved_percent(moved));
                }
            }
        }
    }
    let advised = points
        .iter()
        .zip(recipes)
        .zip(summaries)
        .filter_map(|((point, recipe), summary)| Some((point.name(), Advice::of(summary, recipe)?)));
    let advised: Vec<(String, Advice)> = advised.collect();
    let typed = arguments.typed(&advised, points);
    match (sweep.is_empty(), advised.as_slice()) {
        (true, all) => all.iter().for_each(|(_, advice)| warn(advice, &typed, &arguments.run.folder)),
        (false, some) => warn_of_cells(some, points.len(), &typed, &arguments.run.folder),
    }
    Ok(())
}

/// The key of a sweep over models.
const VICTIM: &str = "clean.victim";

impl Arguments {
    /// The model that the data are taken of: the one that is named, or the first of those that a sweep cleans.
    fn victim(&self) -> Result<Option<PathBuf>> {
        let is_victims = |axis: &&String| axis.strip_prefix(VICTIM).is_some_and(|rest| rest.starts_with('='));
        let (None, Some(axis)) = (&self.victim, self.sweep.iter().find(is_victims)) else {
            return Ok(self.victim.clone());
        };
        let victims = Sweep::parse(&[axis])?;
        let base = Recipe { clean: Some(CleanConfig::default()), ..Recipe::default() };
        let first = victims.cells().first().map(|cell| victims.recipe(&base, cell)).transpose()?;
        Ok(first.and_then(|recipe| recipe.clean).map(|clean| clean.victim))
    }

    fn points(&self, sweep: &Sweep) -> Vec<Point> {
        let point = |cell: Cell| Point {
            values: cell.values().map(str::to_owned).collect(),
            run: match sweep.is_empty() {
                true => self.run.folder.clone(),
                false => self.run.folder.join(sweep.name(&cell, |_| true)),
            },
            cell,
        };
        sweep.cells().into_iter().map(point).collect()
    }

    /// The command that advice begins with.
    fn typed(&self, advised: &[(String, Advice)], points: &[Point]) -> Vec<String> {
        let clean = advised.first().and_then(|(_, advice)| advice.recipe.clean.as_ref());
        let (true, Some(clean), Some(point)) = (self.run.resumes(), clean, points.first()) else {
            return invocation::typed();
        };
        // A command that went on with a run names neither its victim nor its settings.
        let [victim, config] =
            [clean.victim.clone(), point.run.join("run.toml")].map(|path| path.display().to_string());
        let words = ["roclip", "clean", &victim, "--config", &config, "--method", clean.method.method().name()];
        let swept = self.sweep.iter().flat_map(|axis| ["--sweep", axis]);
        words.into_iter().chain(swept).map(str::to_owned).collect()
    }

    /// What the flags say of the cleaning itself.
    fn set(&self, clean: &mut CleanConfig) {
        clean.method = self.method.unwrap_or(clean.method);
        clean.pairs = self.pairs.or(clean.pairs);
        clean.cleanclip.inmodal_weight = self.inmodal_weight.unwrap_or(clean.cleanclip.inmodal_weight);
        if self.rebound || self.rebound_lr.is_some() {
            let rebound = clean.rebound.get_or_insert_default();
            rebound.learning_rate = self.rebound_lr.or(rebound.learning_rate);
        }
    }
}

/// The recipe that a cleaning began with, and what the flags say; the run refuses what does not go with it.
fn go_on(arguments: &Arguments, victim: Option<&Path>, saved: Recipe) -> Result<Recipe> {
    let began_with = saved.clean.clone();
    let mut recipe = arguments.recipe.resolve(saved)?;
    if arguments.recipe.base.config.is_some() {
        // A recipe for cleaning names no victim, and `begin` has left its attacks out.
        recipe.poison = PoisonConfig::default();
        let (clean, began_with) = (recipe.clean.get_or_insert_default(), began_with.unwrap_or_default());
        clean.victim = began_with.victim;
        clean.method = began_with.method;
    }
    if let Some(clean) = &mut recipe.clean {
        clean.victim = victim.map_or_else(|| clean.victim.clone(), Path::to_owned);
        arguments.set(clean);
    }
    Ok(recipe)
}

/// The recipe of a new cleaning run: the victim's data and evaluation, the method's training settings, and the flags.
fn begin(arguments: &Arguments, victim: &Path) -> Result<Recipe> {
    checkpoint::is_checkpoint(victim)?;
    say_which_weights(victim)?;
    let run = run_of(victim);
    if arguments.recipe.base.config.is_none() && run.is_none() && !arguments.recipe.data.names_training_data() {
        bail!(
            "`{}` is of no run; say what to clean it with: --train-data (trusted pairs) and --val-data (labelled images), or a recipe with --config",
            victim.display()
        );
    }
    let mut base = run.as_ref().map_or_else(|| Ok(Recipe::default()), |run| Recipe::of_run(run))?;
    let method = arguments.method.unwrap_or_default();
    base.train = method.training(&base.train);
    if run.is_none() {
        base.data.source.split = None;
        base.model.name = model_name(victim, arguments.recipe.model.name())?;
    }
    let mut recipe = arguments.recipe.resolve(base)?;
    recipe.poison = PoisonConfig::default();
    let mut clean = recipe.clean.take().unwrap_or_default();
    clean.victim = victim.to_owned();
    clean.victim_model = arguments.recipe.model.name().filter(|_| run.is_none()).map(str::to_owned);
    clean.method = method;
    arguments.set(&mut clean);
    recipe.clean = Some(clean);
    Ok(recipe)
}

/// What `run.toml` calls the model of a victim that belongs to no run: as it was named, by a built-in name, or by the configuration beside it.
fn model_name(victim: &Path, named: Option<&str>) -> Result<String> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let loaded = checkpoint::load(victim, tch::Device::Cpu)?;
    let config = loaded.model.config();
    if let Some(name) = config.built_in_name() {
        return Ok(name.to_owned());
    }
    let folder = if loaded.folder.is_dir() { Some(loaded.folder.as_path()) } else { loaded.folder.parent() };
    let beside = ["open_clip_config.json", "config.json"].map(|name| folder.unwrap_or(Path::new(".")).join(name));
    let described = beside.iter().find(|path| path.is_file());
    described
        .map(|path| path.display().to_string())
        .with_context(|| format!("`{}` has no configuration beside it", victim.display()))
}

fn print(before: &Evaluation, after: &Evaluation) {
    let line = |name: &str, before: &Rate, after: &Rate| {
        let show = |r: &Rate| format!("{:>6} % ({}/{})", r.percent(2), r.hits, r.n);
        println!("{name:34} {:>24} {:>24}", show(before), show(after));
    };
    println!("{:34} {:>24} {:>24}", "", "before", "after");
    line("zero-shot top-1", &before.zero_shot_top1, &after.zero_shot_top1);
    if let (Some(before), Some(after)) = (&before.zero_shot_top5, &after.zero_shot_top5) {
        line("zero-shot top-5", before, after);
    }
    let recall = |evaluation: &Evaluation| match evaluation.mean_per_class_recall {
        Some(recall) => format!("{:6.2} %", 100.0 * recall),
        None => "-".to_owned(),
    };
    println!("{:34} {:>24} {:>24}", "zero-shot, mean over classes", recall(before), recall(after));
    if let (Some(before), Some(after)) = (&before.psr, &after.psr) {
        line("targeted poisoning (PSR)", before, after);
    }
    for (attack, after) in &after.asr {
        if let Some(before) = before.asr.get(attack) {
            line(&format!("{attack}: ASR"), &before.success, &after.success);
            line(&format!("{attack}: base rate"), &before.base_rate, &after.base_rate);
            if let (Some(before), Some(after)) = (&before.turned, &after.turned) {
                line(&format!("{attack}: turned by the trigger"), before, after);
            }
            if let (Some(before), Some(after)) = (&before.success_top10, &after.success_top10) {
                line(&format!("{attack}: target in top 10"), before, after);
            }
            line(&format!("{attack}: true class kept"), &before.true_class, &after.true_class);
        }
    }
}

/// How far a rate rose above that of the cleaned model itself at the worst of all steps, and which that is: it may have fallen again by the
/// last.
fn rebound_in_words(found: &[(u64, Rate)]) -> String {
    let first = found.first().map_or(0.0, |(_, rate)| rate.rate);
    let worst = found.iter().max_by(|(_, one), (_, other)| one.rate.total_cmp(&other.rate));
    match worst.filter(|(_, worst)| worst.rate > first) {
        Some((step, worst)) => format!("rebound {:+.2} (after {step})", 100.0 * (worst.rate - first)),
        None => "rebound +0.00".to_owned(),
    }
}

/// Accuracy and the attacks on the way through harmless fine-tuning, and how far these came back. What is read as the target without the
/// trigger, too, is no success of it.
fn print_rebound(summary: &Summary) {
    let Some(points) = &summary.rebound else { return };
    let cell = |rate: &Rate| format!("{:>9}", rate.percent(2));
    let row = |name: &str, rate: &dyn Fn(&Evaluation) -> Option<Rate>| {
        let found: Vec<(u64, Rate)> =
            points.iter().filter_map(|point| Some((point.step, rate(&point.evaluation)?))).collect();
        let cells: String = found.iter().map(|(_, rate)| cell(rate)).collect();
        if found.is_empty() {
            return;
        }
        match found.iter().all(|(_, rate)| rate.n > 0) {
            true => println!("{name:34} {cells}   {}", rebound_in_words(&found)),
            false => println!("{name:34} {cells}   not measured"),
        }
    };
    let steps: String = points.iter().map(|point| format!("{:9}", point.step)).collect();
    println!("{:34} {steps}", "% after harmless steps");
    let accuracy: String = points.iter().map(|point| cell(&point.evaluation.zero_shot_top1)).collect();
    println!("{:34} {accuracy}", "zero-shot top-1");
    for attack in summary.evaluation.asr.keys() {
        let outcome = |evaluation: &Evaluation| evaluation.asr.get(attack).cloned();
        row(&format!("{attack}: ASR"), &|evaluation| Some(outcome(evaluation)?.success));
        let chance = points.iter().filter_map(|point| outcome(&point.evaluation)).map(|outcome| outcome.base_rate);
        println!("{:34} {}", format!("{attack}: base rate"), chance.map(|rate| cell(&rate)).collect::<String>());
        row(&format!("{attack}: turned by the trigger"), &|evaluation| outcome(evaluation)?.turned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_says_after_which_step_it_was_highest() {
        let points = |hits: [usize; 4]| {
            [0, 10, 30, 100].into_iter().zip(hits.map(|hits| Rate::new(hits, 100))).collect::<Vec<(u64, Rate)>>()
        };
        assert_eq!(rebound_in_words(&points([39, 73, 26, 34])), "rebound +34.00 (after 10)");
        assert_eq!(rebound_in_words(&points([39, 33, 26, 34])), "rebound +0.00");
        assert_eq!(rebound_in_words(&[]), "rebound +0.00");
    }
}
