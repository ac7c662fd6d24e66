//! `roclip detect`

use crate::commands::described_model::DescribedModel;
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::overrides::{BaseFlags, DataFlags, MachineFlags, ManifestFlag, Overrides, SeedFlag};
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use roclip::checkpoint::{self, load_as, run_of};
use roclip::detect::{Config, Method};
use roclip::recipe::Recipe;
use roclip::report::write_suspects;
use roclip::run::{Drop, Suspects, device, encode_pairs, suspects};
use roclip_data::artifact;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum Command {
    /// Score every pair of the training data by how suspicious it is, and say which to leave out
    Pairs(PairsArguments),
}

#[derive(Args)]
pub struct PairsArguments {
    /// What encodes the pairs: a run, a checkpoint, or a folder or safetensors file in open_clip's or transformers' layout. It may have been
    /// trained on them or not. Of a run, the data is the run's own unless another is named
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    described: DescribedModel,
    /// Folder for scores.jsonl, detect.json, detect.html and, where pairs are to be left out, drop.txt
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Methods, by whose mean rank the pairs are ordered (default: all)
    #[arg(long, value_delimiter = ',', hide_possible_values = true, value_parser = methods(), help = methods_help())]
    methods: Vec<Method>,
    /// Neighbours of the methods that ask some
    #[arg(long, default_value_t = Config::default().neighbours)]
    neighbours: usize,
    /// Pairs, drawn at random, among which the methods of density seek neighbours
    #[arg(long, default_value_t = Config::default().references)]
    references: usize,
    /// Leave out this share of the pairs, the most suspicious
    #[arg(long, value_name = "SHARE", conflicts_with = "level")]
    drop_fraction: Option<f64>,
    /// Leave out pairs that are more suspicious than all but this share of the pairs of --trusted-data: about this share of the clean pairs
    /// goes with them
    #[arg(long, value_name = "SHARE", requires = "trusted_data")]
    level: Option<f64>,
    /// Pairs that are known to be clean, such as the data's own are, for --level
    #[arg(long, value_name = "PATH", requires = "level")]
    trusted_data: Option<String>,
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    machine: MachineFlags,
    /// Print detect.json on stdout
    #[arg(long)]
    json: bool,
}

fn methods() -> impl TypedValueParser<Value = Method> {
    let values = Method::ALL.map(|known| PossibleValue::new(known.name).help(known.about));
    PossibleValuesParser::new(values).try_map(|given| Method::named(&given).ok_or("not a method"))
}

/// A line a method.
fn methods_help() -> String {
    let lines = Method::ALL.map(|known| format!("{}: {}", known.name, known.about));
    format!("Methods, by whose mean rank the pairs are ordered (default: all)\n{}", lines.join("\n"))
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Pairs(arguments) => pairs(&arguments),
    }
}

fn pairs(arguments: &PairsArguments) -> Result<()> {
    let run = run_of(&arguments.model);
    let recipe = arguments.recipe(run.as_deref())?;
    artifact::check_writable(&arguments.out)?;
    if recipe.train.threads > 0 {
        tch::set_num_threads(recipe.train.threads);
    }
    let device = device(&recipe.train.device)?;
    let loaded = load_as(&arguments.model, arguments.described.description(), device)?;
    let (model, tokenizer) = (loaded.model, Arc::new(loaded.tokenizer));
    let drop = match (arguments.drop_fraction, arguments.level, &arguments.trusted_data) {
        (Some(share), ..) => Drop::Fraction(share),
        (None, Some(level), Some(path)) => Drop::Level { level, trusted: Box::new(trusted(&recipe, path)) },
        _ => Drop::Nothing,
    };
    let trusted = match &drop {
        Drop::Level { trusted, .. } => Some(encode_pairs(trusted, &model, &tokenizer)?.2),
        _ => None,
    };
    let encoded = encode_pairs(&recipe, &model, &tokenizer)?;
    let all = || Method::ALL.map(|known| known.method).to_vec();
    let methods = if arguments.methods.is_empty() { all() } else { arguments.methods.clone() };
    let config = Config {
        seed: recipe.seed,
        neighbours: arguments.neighbours,
        references: arguments.references,
        ..Config::default()
    };
    let found = suspects(&config, &methods, (&drop, trusted.as_ref()), encoded)?;
    found.write(&arguments.out)?;
    write_suspects(&found, recipe.data.limits, &arguments.out.join("detect.html"))?;
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print(&found),
    }
    let holds = match &found.dropped {
        Some(_) => "scores.jsonl, drop.txt, detect.json, detect.html",
        None => "scores.jsonl, detect.json, detect.html",
    };
    let page = format!("open {}", shell_word(&arguments.out.join("detect.html")));
    say_next(&arguments.out, holds, &[page]);
    Ok(())
}

/// Pairs that are known to be clean, read as those of `recipe` are.
fn trusted(recipe: &Recipe, path: &str) -> Recipe {
    let mut trusted = recipe.clone();
    trusted.manifest = None;
    trusted.poison = Default::default();
    trusted.data.source.path = path.to_owned();
    // What is named is trusted whole.
    trusted.data.source.split = None;
    trusted
}

impl PairsArguments {
    /// The recipe of the run that the model belongs to, or the one given, with the flags.
    fn recipe(&self, run: Option<&Path>) -> Result<Recipe> {
        const OBEYED: [&str; 7] = ["seed", "manifest", "data", "eval", "poison", "train.threads", "train.device"];
        self.recipe.check_keys("detect pairs", &OBEYED)?;
        // What is no model at all is said first.
        checkpoint::is_checkpoint(&self.model)?;
        let base = match run {
            Some(run) => {
                let kept = run.join("manifest.jsonl");
                let mut base = Recipe::read(&run.join("run.toml"))?;
                base.manifest = Some(kept).filter(|kept| kept.is_file()).or(base.manifest);
                if self.data.names_training_data() {
                    // Other data knows nothing of the run's poison.
                    base.manifest = None;
                    base.poison = Default::default();
                    base.data.source.split = None;
                }
                base
            }
            None if self.recipe.config.is_some() || self.data.names_training_data() => Recipe::default(),
            None => bail!(
                "`{}` belongs to no run; say which pairs to look at with --train-data or --config (a recipe with its data)",
                self.model.display()
            ),
        };
        let groups: [&dyn Overrides; 4] = [&self.seed, &self.data, &self.manifest, &self.machine];
        let mut recipe = self.recipe.resolve(base, &groups)?;
        if recipe.clean.take().is_some() {
            say("the run cleaned a model; the pairs are those that it cleaned with");
        }
        Ok(recipe)
    }
}

/// A line a method, and what is left out.
fn print(found: &Suspects) {
    let unread = if found.unreadable > 0 { format!(", {} cannot be read", found.unreadable) } else { String::new() };
    println!("{} pairs{unread}", found.pairs);
    let judged = found.methods.first().map(|method| method.attacks.len()).unwrap_or(0);
    if judged > 0 {
        println!("{:16} {:>20} {:>8} {:>10} {:>10}", "method", "attack", "AUROC", "FPR at 95", "at 100 %");
    }
    for method in &found.methods {
        for judged in &method.attacks {
            let figures = &judged.figures;
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            println!(
                "{:16} {:>20} {:8.3} {:>10} {:>10}",
                method.method,
                judged.attack,
                figures.auroc,
                percent(figures.false_positives_at_95),
                percent(figures.false_positives_at_100)
            );
        }
    }
    let Some(dropped) = &found.dropped else { return };
    println!("{} pairs to leave out (drop.txt)", dropped.pairs);
    for (attack, (all, left)) in &dropped.left {
        println!("  {attack}: {left} of {all} poisoned pairs stay");
    }
    if !dropped.left.is_empty() {
        println!("  clean: {} are left out", dropped.clean);
    }
    if let Some((above, all)) = dropped.trusted_above {
        println!("  trusted: {above} of {all} are as suspicious");
    }
}
