//! `roclip detect`

use crate::commands::again::{Without, again};
use crate::commands::detect_common::{Common, say_also_looked_at, say_left_out};
use crate::commands::detect_inputs::{self, InputsArguments};
use crate::commands::detect_print::print;
use crate::commands::invocation;
use crate::commands::next_steps::{beside, say_next, shell_word};
use crate::commands::numbers::of_key;
use crate::commands::progress::say;
use crate::commands::signals::leaving_nothing;
use anyhow::{Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use roclip::checkpoint::{load_as, run_of};
use roclip::detect::{Config, Method};
use roclip::recipe::{DataConfig, Recipe};
use roclip::report::{check_suspects_folder, write_suspects};
use roclip::run::{
    COMBINED, Drop, EarlierList, Looked, LookedAt, Methods, PairFeatures, TrustedPairs, also_looked_at, machine,
    suspects, unspoken_poison,
};
use roclip_data::artifact;
use roclip_data::plural::count;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum Command {
    /// Score every pair of the training data by how suspicious it is, and say which to leave out
    Pairs(PairsArguments),
    /// Score pictures by how much they look as if they carried a trigger, beside clean ones, as they are and with each trigger that is known
    Inputs(InputsArguments),
}

#[derive(Args)]
pub struct PairsArguments {
    /// What encodes the pairs: a run, a checkpoint, or a folder or safetensors file in open_clip's or transformers' layout. Best one that was
    /// trained on them with augmentation, or that never saw them: a model that has learned the poison finds it plausible. Of a run, the data
    /// is the run's own unless another is named
    #[arg(value_name = "MODEL", required_unless_present = "features")]
    model: Option<PathBuf>,
    /// Folder for scores.jsonl, detect.json, detect.html and, where pairs are to be left out, drop.txt
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Methods (default: all)
    #[arg(long, value_delimiter = ',', hide_possible_values = true, value_parser = methods([]).try_map(|given| Method::named(&given).ok_or("not a method")), help = methods_help())]
    methods: Vec<Method>,
    /// What orders the pairs, for --drop-fraction, --level and the page: one of the methods, or `combined` for their mean rank, in which those
    /// that see nothing of an attack outvote the others [default: plausibility where it is among several methods, else combined]
    #[arg(long, value_name = "METHOD", hide_possible_values = true, value_parser = methods([COMBINED]))]
    order_by: Option<String>,
    /// Neighbours of the methods that ask some: k-dist, slof, dao and plausibility (lid has 64, or as many as there are references)
    #[arg(long, default_value_t = Config::default().neighbours, value_parser = of_key::<usize>("objective.safeclip.plausibility.neighbours"))]
    neighbours: usize,
    /// Pairs, drawn at random, among which k-dist, slof, lid and dao seek neighbours (plausibility has 16384, whatever is given here)
    #[arg(long, default_value_t = Config::default().references, value_parser = of_key::<usize>("objective.safeclip.plausibility.references"))]
    references: usize,
    /// Leave out this share of the pairs, the most suspicious
    #[arg(long, value_name = "SHARE", conflicts_with = "level")]
    drop_fraction: Option<f64>,
    /// Leave out pairs that are more suspicious than all but this share of the pairs of --trusted-data: about this share of the clean pairs
    /// goes with them
    #[arg(long, value_name = "SHARE", requires = "trusted_data")]
    level: Option<f64>,
    /// Pairs that are known to be clean, such as the data's own are, and none of these, for --level. Where MODEL was trained on the pairs
    /// that are looked at and not on these, poison that it has learned looks better than they do, and nothing is found: take a model that
    /// never saw either
    #[arg(long, value_name = "PATH", requires = "level")]
    trusted_data: Option<String>,
    /// Features of the pairs instead of a model: a folder with image.npy and text.npy ([pairs, dim]) and pairs.jsonl ({"id": ...} a row).
    /// With it, MODEL encodes --trusted-data alone
    #[arg(long, value_name = "FOLDER", conflicts_with = "write_features")]
    features: Option<PathBuf>,
    /// Keep the features of the pairs, for another look with --features
    #[arg(long, value_name = "FOLDER")]
    write_features: Option<PathBuf>,
    /// Replace the drop.txt of an earlier look in --out, which a run may have been trained without; one that names the same pairs is replaced
    /// unasked
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    common: Common,
}

/// Names of methods, and `others`.
pub fn methods<const OTHERS: usize>(others: [&'static str; OTHERS]) -> PossibleValuesParser {
    let values = Method::ALL.map(|known| PossibleValue::new(known.name).help(known.about));
    PossibleValuesParser::new(values.into_iter().chain(others.map(PossibleValue::new)))
}

/// A line a method.
fn methods_help() -> String {
    let lines = Method::ALL.map(|known| format!("{}: {}", known.name, known.about));
    format!(
        "Methods (default: all); where plausibility is among them, it orders the pairs, see --order-by\n{}",
        lines.join("\n")
    )
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Pairs(arguments) => pairs(&arguments),
        Command::Inputs(arguments) => detect_inputs::run(&arguments),
    }
}

fn pairs(arguments: &PairsArguments) -> Result<()> {
    let drop = match (arguments.drop_fraction, arguments.level) {
        (Some(share), _) => Drop::Fraction(share),
        (None, Some(level)) => Drop::Level(level),
        (None, None) => Drop::Nothing,
    };
    drop.check()?;
    let model = arguments.model.as_deref();
    let run = model.and_then(run_of);
    let recipe = arguments.common.recipe(model, run.as_deref(), "detect pairs")?;
    check_suspects_folder(&arguments.out, "--out")?;
    artifact::check_writable(&arguments.out)?;
    let all = || Method::ALL.map(|known| known.method).to_vec();
    let asked = if arguments.methods.is_empty() { all() } else { arguments.methods.clone() };
    let methods = Methods::new(asked, arguments.order_by.as_deref())?;
    let config = Config {
        seed: recipe.seed,
        neighbours: arguments.neighbours,
        references: arguments.references,
        ..Config::default()
    };
    let list = arguments.out.join("drop.txt");
    let encoded_by = model.filter(|_| arguments.features.is_none()).map(Path::to_owned);
    // Read now: with --overwrite the new list may take its place.
    let earlier = recipe.data.drop.as_deref().map(EarlierList::read).transpose()?;
    let look = Looked { model: encoded_by.clone(), ..Looked::by(&config, &methods, &drop).after(earlier.as_ref()) };
    // Before the pairs are encoded, which takes the time.
    if list.is_file() && Looked::beside(&list).is_some_and(|earlier| earlier != look) {
        arguments.check_replaces(&list)?;
    }
    if let Some(folder) = &arguments.write_features {
        if folder.symlink_metadata().is_ok() {
            bail!(
                "--write-features `{0}` exists already; score what it holds with --features {0}, or name another place",
                folder.display()
            );
        }
        artifact::check_file_writable(folder)?;
    }
    if let (Some(model), Some(_), None) = (model, &arguments.features, &arguments.trusted_data) {
        bail!(
            "--features stands for what `{}` would encode; leave MODEL out (it is needed for --trusted-data only)",
            model.display()
        );
    }
    let device = machine(&recipe)?;
    let encoder = match model {
        None => None,
        Some(model) => {
            let loaded = load_as(model, arguments.common.described.description(), device)?;
            loaded.must_read_captions("name a CLIP; it may be one that never saw these pairs")?;
            Some((loaded.model, Arc::new(loaded.tokenizer)))
        }
    };
    let encode = |recipe: &Recipe| match &encoder {
        Some((model, tokenizer)) => Ok(PairFeatures::encode(recipe, model, tokenizer)?),
        None => bail!("--trusted-data needs a MODEL that encodes it, the one that --features came from"),
    };
    // Before the trusted pairs are encoded: what is wrong with a file is found at once.
    let kept = arguments.features.as_ref().map(|folder| PairFeatures::read(folder, &recipe)).transpose()?;
    if let (Some(kept), Some((model, _)), Some(folder)) = (&kept, &encoder, &arguments.features) {
        let (width, made) = (kept.width(), model.config().embed_dim);
        if width != made {
            bail!(
                "--features `{}`: a pair has {width} values there, and the MODEL that would encode --trusted-data makes {made}; name the one \
                 that they came from",
                folder.display()
            );
        }
    }
    let trusted = match &arguments.trusted_data {
        Some(path) => {
            let PairFeatures { features, skips, data, .. } = encode(&trusted(&recipe, path))?;
            say_left_out("--trusted-data: ", &skips);
            let poison = data.poisoned().count();
            if poison > 0 {
                bail!(
                    "--trusted-data `{path}`: {} of them were written by `roclip poison make` as poison; name pairs that are clean",
                    count(poison, "pair")
                );
            }
            drop.check_reached(features.len())?;
            Some((path, features, data))
        }
        None => None,
    };
    let encoded = match kept {
        Some(kept) => kept,
        None => encode(&recipe)?,
    };
    say_left_out("", &encoded.skips);
    if recipe.manifest.is_none() {
        // Without a manifest and attacks only the data themselves know of poison.
        let written = encoded.data.poison_by_attack();
        let unspoken = unspoken_poison(&recipe.data.source, &written, encoded.data.len());
        unspoken.filter(|_| recipe.poison.attacks.is_empty()).iter().for_each(|line| say(&format!("warning: {line}")));
    }
    if let Some(folder) = &arguments.write_features {
        encoded.write(folder)?;
    }
    let mut looked_at = LookedAt::of(&recipe);
    if let Some((path, features, data)) = &trusted {
        let both = also_looked_at(&encoded.data, data);
        say_also_looked_at(both);
        looked_at.trusted = Some(TrustedPairs { path: (*path).clone(), pairs: features.len(), also_looked_at: both });
    }
    let features = trusted.as_ref().map(|(_, features, _)| features);
    let mut found = suspects(&config, &methods, (&drop, features), encoded)?.after(earlier);
    (found.looked.model, found.looked_at) = (encoded_by, Some(looked_at));
    if list.is_file() && !std::fs::read_to_string(&list).is_ok_and(|earlier| earlier == found.list()) {
        arguments.check_replaces(&list)?;
    }
    let page = arguments.out.join("detect.html");
    let written = ["scores.jsonl", "drop.txt", "detect.json", "detect.html"].map(|name| arguments.out.join(name));
    leaving_nothing(written.into(), || {
        found.write(&arguments.out)?;
        Ok(write_suspects(&found, recipe.data.limits, &page)?)
    })?;
    match arguments.common.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print(&found, &|method| arguments.look_alone(method)),
    }
    // The data of a run are those that it was trained on, unless others are named.
    let was_trained_on = run.is_some() && !arguments.common.pairs.names_pairs();
    let held_out = |trusted: &TrustedPairs| 2 * trusted.also_looked_at < trusted.pairs;
    let beside_held_out = found.looked_at.as_ref().and_then(|at| at.trusted.as_ref()).is_some_and(held_out);
    if beside_held_out && was_trained_on && found.dropped.as_ref().is_some_and(|dropped| dropped.pairs == 0) {
        say(
            "nothing is left out, which says little here: the model was trained on these pairs and not on the trusted ones, and what it has \
             learned, poison included, fits better than what it never saw; look with a model that never saw either",
        );
    }
    let holds = match &found.dropped {
        Some(dropped) if dropped.pairs > 0 => "scores.jsonl, drop.txt, detect.json, detect.html",
        _ => "scores.jsonl, detect.json, detect.html",
    };
    if let Some(folder) = &arguments.write_features {
        say_next(folder, "image.npy, text.npy, pairs.jsonl", &[]);
    }
    let mut next = vec![format!("open {}", shell_word(&page))];
    if found.dropped.as_ref().is_some_and(|dropped| dropped.pairs > 0) {
        next.extend(arguments.common.pairs.train_without(run.as_deref(), &list));
    }
    say_next(&arguments.out, holds, &next);
    Ok(())
}

impl PairsArguments {
    /// The command that was typed, with `method` alone, and the list that it writes.
    fn look_alone(&self, method: &str) -> (String, PathBuf) {
        let without = ["--methods", "--order-by", "--out", "--write-features"].map(Without::Valued);
        let flags = ["--json", "--overwrite"].map(Without::Flag);
        let out = beside(&self.out, method);
        let more = format!("--methods {method} --out {}", shell_word(&out));
        (again(&invocation::typed(), &[&without[..], &flags].concat(), &more), out.join("drop.txt"))
    }

    /// # Errors
    /// Where nobody said that the list of an earlier look may go.
    fn check_replaces(&self, list: &Path) -> Result<()> {
        if !self.overwrite {
            bail!(
                "`{}` is of an earlier look, and runs may have been trained without what it names; name another folder with --out, or add \
                 --overwrite",
                list.display()
            );
        }
        Ok(())
    }
}

/// Pairs that are known to be clean, read as those of `recipe` are.
fn trusted(recipe: &Recipe, path: &str) -> Recipe {
    let mut trusted = recipe.clone();
    trusted.manifest = None;
    trusted.poison = Default::default();
    trusted.data.source.image_root = recipe.data.source.root_for(path).cloned();
    trusted.data.source.path = path.to_owned();
    // What is named is trusted whole, and the rest is of the data that are suspected.
    trusted.data.source.split = None;
    trusted.data.source.labels = None;
    trusted.data.drop = None;
    trusted.data.weights = None;
    trusted.data.index = DataConfig::default().index;
    trusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_pairs_have_no_folders_of_the_parts_of_others() {
        let mut recipe = Recipe::default();
        recipe.data.source.path = "a.csv::b.csv".into();
        for (root, theirs) in [("x::y", None), ("x", Some(Path::new("x")))] {
            recipe.data.source.image_root = Some(root.into());
            assert_eq!(trusted(&recipe, "t.csv").data.source.image_root.as_deref(), theirs);
        }
    }
}
