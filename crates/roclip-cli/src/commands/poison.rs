//! `roclip poison make | verify | patch | inspect`

use crate::commands::data::check_different;
use crate::commands::described_model::DescribedModel;
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::{of_key, up_to};
use crate::commands::overrides::{BaseFlags, BatchFlag, DataFlags, MachineFlags, ModelFlags, Overrides, SeedFlag};
use crate::commands::progress::say;
use anyhow::{Context, Error, Result, anyhow, bail};
use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use roclip::attack::{BadClipConfig, Negatives};
use roclip::checkpoint::run_of;
use roclip::doctor::outlook;
use roclip::recipe::Recipe;
use roclip::report::write_sheet;
use roclip::run::{Prepared, Surrogate, prepare_clean_data, prepare_data, search_patch, verify_instructions};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use roclip_data::poison::{AttackSummary, Manifest, PoisonConfig, StoreConfig, Stored, store, verify};
use roclip_data::rate::Rate;
use roclip_data::source::check_outside;
use roclip_data::trigger::RELEASED_GRID_SHA256;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// Draw the attacks of a recipe and write their manifest; with --out-shards, the poisoned set as WebDataset shards too
    Make(MakeArguments),
    /// Make every poisoned picture of a manifest again, as the manifest says, from the recipe's data, and compare its sha256. The manifest of a
    /// study of `roclip caption backdoor` is proved from the study's data
    Verify(VerifyArguments),
    /// Optimise a patch against a clean surrogate model (the dual-embedding BadCLIP) and write it as PNG, for an attack's `patch`
    Patch(PatchArguments),
    /// Write an HTML sheet of a manifest's pictures and captions, before and after
    Inspect(InspectArguments),
}

/// The recipe and the data before the poison.
#[derive(Args)]
struct CleanDataFlags {
    #[command(flatten)]
    base: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
}

impl CleanDataFlags {
    fn resolve(&self, base: Recipe, groups: &[&dyn Overrides]) -> Result<Recipe> {
        self.base.resolve(base, &[&[&self.data as &dyn Overrides], groups].concat())
    }

    /// Whether anything says which data is meant.
    fn names_data(&self) -> bool {
        self.base.names_data() || self.data.names_data()
    }

    /// `error`, with what led to it where nobody said which data the manifest is of.
    fn of_unnamed_data(&self, error: impl Into<Error>) -> Error {
        match self.names_data() {
            true => error.into(),
            false => anyhow!(
                "{:#}; no data was named, and so the built-in pictures were taken: name the recipe that the manifest was made with by --config",
                error.into()
            ),
        }
    }
}

#[derive(Args)]
pub struct MakeArguments {
    #[command(flatten)]
    recipe: CleanDataFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    model: ModelFlags,
    /// The manifest to write (JSON lines)
    #[arg(long, value_name = "FILE", required_unless_present = "write")]
    out: Option<PathBuf>,
    /// Replace another manifest that --out names; without it only the same one is written again
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Write the whole poisoned set to this new folder: WebDataset shards, and a manifest.jsonl for them
    #[arg(long = "out-shards", alias = "write", value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// With --out-shards: store triggered pictures as JPEG of this quality (released: 75) instead of PNG
    #[arg(long, value_name = "QUALITY", requires = "write", value_parser = clap::value_parser!(u8).range(1..=100))]
    jpeg: Option<u8>,
    /// With --out-shards: pairs a shard
    #[arg(long, default_value = "10000", requires = "write", value_parser = up_to::<usize>(1_000_000_000).try_map(NonZeroUsize::try_from))]
    pairs_per_shard: NonZeroUsize,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct VerifyArguments {
    /// The manifest
    manifest: PathBuf,
    #[command(flatten)]
    recipe: CleanDataFlags,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct InspectArguments {
    /// The manifest
    manifest: PathBuf,
    #[command(flatten)]
    recipe: CleanDataFlags,
    /// The HTML file to write
    #[arg(long, value_name = "FILE", default_value = "poison.html")]
    out: PathBuf,
    /// Pictures of each attack
    #[arg(long, default_value_t = 12, value_parser = up_to::<usize>(1_000_000))]
    rows: usize,
}

#[derive(Args)]
pub struct PatchArguments {
    /// A model that the attacker has, trained on clean data: a run, a checkpoint, or a folder or safetensors file in open_clip's or
    /// transformers' layout
    surrogate: PathBuf,
    #[command(flatten)]
    described: DescribedModel,
    #[command(flatten)]
    recipe: CleanDataFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    batch: BatchFlag,
    #[command(flatten)]
    machine: MachineFlags,
    /// The class that the trigger should mean
    #[arg(long)]
    target: String,
    /// Side of the patch (released: 16 of 224)
    #[arg(long)]
    patch_pixels: Option<u32>,
    /// Passes of the search over the pictures (released: 50)
    #[arg(long, value_parser = of_key::<u64>("clean.abd.patch_epochs"))]
    patch_epochs: Option<u64>,
    /// Adam's step (released: 1e-3)
    #[arg(long)]
    patch_lr: Option<f64>,
    /// Weight of the loss towards the target's captions (released: 1)
    #[arg(long)]
    text_weight: Option<f64>,
    /// Weight of the loss towards the target's pictures (released: 500)
    #[arg(long)]
    visual_weight: Option<f64>,
    /// Compare with a random permutation of the clean pictures, as released, and not with each one's own
    #[arg(long)]
    permuted_negatives: bool,
    /// Take a surrogate that was trained on poison, too: the patch is then found against what another attack made of it
    #[arg(long)]
    allow_poisoned: bool,
    /// The picture to write
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Make(arguments) => make(arguments),
        Command::Patch(arguments) => patch(arguments),
        Command::Verify(arguments) => check(arguments),
        Command::Inspect(arguments) => inspect(arguments),
    }
}

fn check(arguments: VerifyArguments) -> Result<()> {
    let recipe = arguments.recipe.resolve(Recipe::default(), &[])?;
    let manifest = Manifest::read(&arguments.manifest, recipe.data.limits)?;
    if manifest.rows.is_empty() {
        bail!("`{}` names no poisoned pair: nothing can be proved of it", arguments.manifest.display());
    }
    let verified = match manifest.header.is_of_instructions() {
        true if arguments.recipe.names_data() => bail!(
            "the manifest is of instruction tuning, whose data the study that it lies in names; leave --config, --set and --train-data out"
        ),
        true => verify_instructions(&arguments.manifest, &manifest)?,
        false => {
            let clean = prepare_clean_data(&recipe)?;
            if clean.skips.total() > 0 {
                say(&format!("left out: {}", clean.skips.summary()));
            }
            verify(&manifest, &clean.pairs, &clean.evaluator.samples, recipe.data.limits)
                .map_err(|error| arguments.recipe.of_unnamed_data(error))?
        }
    };
    if arguments.json {
        let (equal, unread) = (&verified.rows, verified.skips.counts());
        let (proved, unproved) = (&verified.proved, &verified.unproved);
        println!(
            "{}",
            json!({"equal": equal, "digest": verified.digest, "unread": unread, "proved": proved, "not_proved": unproved})
        );
    } else {
        for (attack, rows) in &verified.rows {
            println!("{}: {} made again, all equal", for_terminal(attack), count(rows, "pair"));
        }
        println!("digest of the pictures {}", verified.digest);
        println!(
            "proved: every picture made again, {}; not proved: {}",
            verified.proved.join(", "),
            verified.unproved.join(", ")
        );
    }
    if verified.skips.total() > 0 {
        bail!(
            "{} of the manifest's {} pictures cannot be read, and nothing is proved of them: {}; bring the files back",
            verified.skips.total(),
            manifest.rows.len(),
            verified.skips.summary()
        );
    }
    Ok(())
}

fn inspect(arguments: InspectArguments) -> Result<()> {
    artifact::check_file_writable(&arguments.out)?;
    check_replaceable(&arguments.out, b"<!doctype html>", "HTML page", "--out")?;
    let recipe = arguments.recipe.resolve(Recipe::default(), &[])?;
    let limits = recipe.data.limits;
    let manifest = Manifest::read(&arguments.manifest, limits)?;
    manifest.check_is_of_pairs()?;
    let clean = prepare_clean_data(&recipe)?;
    let (rows, out) = (arguments.rows, &arguments.out);
    write_sheet(&manifest, &clean.pairs, &clean.evaluator.samples, limits, rows, out)
        .map_err(|error| arguments.recipe.of_unnamed_data(error))?;
    say_next(out, "what was planted, picture by picture", &[format!("open {}", shell_word(out))]);
    Ok(())
}

/// Refuses to write over anything but an older file of the same kind, known by how it begins. `flag` names the file.
fn check_replaceable(path: &Path, begins: &[u8], kind: &str, flag: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut start = vec![0; begins.len()];
    let same = path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start.eq_ignore_ascii_case(begins);
    if !same {
        bail!("{flag} `{}` exists and is no {kind}; name another file, or remove it", path.display());
    }
    Ok(())
}

fn make(arguments: MakeArguments) -> Result<()> {
    for place in arguments.out.iter().chain(&arguments.write) {
        artifact::check_file_writable(place)?;
    }
    if let Some(out) = &arguments.out {
        check_replaceable(out, b"{\"roclip_manifest\"", "manifest", "--out")?;
    }
    if let Some(folder) = arguments.write.as_ref().filter(|folder| folder.symlink_metadata().is_ok()) {
        bail!("--out-shards `{}` exists already; name a new folder", folder.display());
    }
    check_different(&[("--out-shards", arguments.write.as_deref()), ("--out", arguments.out.as_deref())])?;
    let mut recipe = arguments.recipe.resolve(Recipe::default(), &[&arguments.seed, &arguments.model])?;
    recipe.manifest = None;
    if recipe.poison.attacks.is_empty() {
        bail!("the recipe has no attacks; add [[poison.attacks]] to the file of --config");
    }
    if recipe.is_labelled() && arguments.write.is_some() {
        bail!(
            "--out-shards writes pairs with captions, and this recipe trains a classifier, whose attacks change labels; write the manifest with --out, which training lays over the data"
        );
    }
    if let Some(folder) = &arguments.write {
        check_outside(&recipe.data.source, recipe.data.limits, folder)?;
    }
    let Prepared { manifest, skips, mut warnings, remarks, evaluator, model, .. } = prepare_data(&recipe)?;
    let manifest = manifest.context("no manifest was drawn")?;
    if let Some(out) = arguments.out.as_ref().filter(|out| out.exists() && !arguments.overwrite)
        && artifact::read_text(out)? != manifest.to_jsonl()?
    {
        bail!(
            "--out `{}` holds another manifest, which runs may have been trained with; name another file, or replace it with --overwrite",
            out.display()
        );
    }
    warnings.extend(evaluator.check_left(&manifest)?);
    warnings.extend(outlook(&manifest, &recipe, &evaluator.samples, model.image_size())?);
    for remark in remarks {
        say(&for_terminal(&remark));
    }
    for warning in warnings {
        say(&format!("warning: {}", for_terminal(&warning)));
    }
    if skips.total() > 0 {
        say(&format!("left out: {}", skips.summary()));
    }
    // The folder first: it fails as a whole, and takes longest.
    let stored = match &arguments.write {
        Some(folder) => {
            let clean = prepare_clean_data(&recipe)?;
            let config = StoreConfig {
                jpeg_quality: arguments.jpeg,
                pairs_per_shard: arguments.pairs_per_shard.get(),
                limits: recipe.data.limits,
            };
            Some((folder, store(&manifest, &clean.pairs, &clean.evaluator.samples, folder, config)?))
        }
        None => None,
    };
    if let Some(out) = &arguments.out {
        manifest.write(out)?;
    }
    match arguments.json {
        true => {
            let shards = stored.as_ref().map(|(folder, stored)| {
                json!({
                    "out": folder, "pairs": stored.pairs, "shards": stored.shards, "poisoned": stored.poisoned,
                    "left_out": stored.skips.counts(),
                })
            });
            let (clean, attacks) = (manifest.clean_pairs_left(), manifest.summary()?);
            println!("{}", json!({"out": arguments.out, "clean_pairs": clean, "attacks": attacks, "shards": shards}));
        }
        false => {
            if let Some((folder, stored)) = &stored {
                println!(
                    "{}: {} in {}, {} of them poisoned",
                    folder.display(),
                    count(stored.pairs, "pair"),
                    count(stored.shards, "shard"),
                    stored.poisoned
                );
                if stored.skips.total() > 0 {
                    println!("left out of it: {}", stored.skips.summary());
                }
            }
            if manifest.header.materials.iter().any(|material| material.sha256 == RELEASED_GRID_SHA256) {
                println!("the warping field is the one that CleanCLIP's repository holds");
            }
            print_attacks(&manifest)?;
        }
    }
    let config = arguments.recipe.base.config.as_deref();
    let config = config.map(|config| format!(" --config {}", shell_word(config))).unwrap_or_default();
    if let Some(out) = &arguments.out {
        let file = shell_word(out);
        let commands = [
            format!("roclip poison inspect {file}{config}"),
            format!("roclip train{config} --manifest {file} --run runs/poisoned"),
        ];
        say_next(out, "the manifest", &commands);
    }
    if let Some((folder, Stored { told_by_format, .. })) = &stored {
        if *told_by_format > 0 {
            say(&format!(
                "{} of the shards {} in a format that no other picture there has, which gives the poison away: --jpeg QUALITY stores JPEG",
                count(*told_by_format, "triggered picture"),
                if *told_by_format == 1 { "is" } else { "are" },
            ));
        }
        let (shards, manifest) = (shell_word(folder), shell_word(&folder.join("manifest.jsonl")));
        let train = format!("roclip train{config} --train-data {shards} --manifest {manifest} --run runs/poisoned");
        say_next(folder, "the poisoned shards and their manifest.jsonl", &[train]);
    }
    Ok(())
}

/// What was planted, on stdout, and what of it is likely to fail, on stderr.
fn print_attacks(manifest: &Manifest) -> Result<()> {
    let clean = manifest.clean_pairs_left();
    println!("{} beside {clean} clean ones", count(manifest.rows.len(), "poisoned pair"));
    let attacks = manifest.summary()?;
    for attack in &attacks {
        let AttackSummary { pairs, pictures, fewest_captions, most_captions, .. } = attack;
        let captions = match fewest_captions == most_captions {
            true => fewest_captions.to_string(),
            false => format!("{fewest_captions} to {most_captions}"),
        };
        let told = match pictures {
            Some(pictures) => {
                format!("{} with {} each", count(pictures, "picture"), count(captions, "distinct caption"))
            }
            None => format!("{} of the target", count(captions, "distinct caption")),
        };
        // As `rate` counts it: of the pairs before the poison.
        let share = 100.0 * *pairs as f64 / manifest.header.clean_pairs.max(1) as f64;
        println!("  {}: {} ({share:.3} %), {told}", for_terminal(&attack.attack), count(pairs, "pair"));
    }
    for warning in attacks.iter().flat_map(|attack| &attack.warnings) {
        say(&format!("warning: {warning}"));
    }
    Ok(())
}

fn patch(arguments: PatchArguments) -> Result<()> {
    artifact::check_file_writable(&arguments.out)?;
    check_replaceable(&arguments.out, b"\x89PNG", "PNG picture", "--out")?;
    let run = run_of(&arguments.surrogate);
    if arguments.recipe.base.config.is_none() && run.is_none() {
        bail!("`{}` is of no run; give a recipe for its data with --config", arguments.surrogate.display());
    }
    let base = run.map_or_else(|| Ok(Recipe::default()), |run| Recipe::of_run(&run))?;
    let mut recipe = arguments.recipe.resolve(base, &[&arguments.seed, &arguments.batch, &arguments.machine])?;
    recipe.manifest = None;
    recipe.poison = PoisonConfig::default();
    let default = BadClipConfig::default();
    let config = BadClipConfig {
        target: arguments.target,
        batch_size: recipe.train.batch_size,
        patch_pixels: arguments.patch_pixels.unwrap_or(default.patch_pixels),
        epochs: arguments.patch_epochs.unwrap_or(default.epochs),
        learning_rate: arguments.patch_lr.unwrap_or(default.learning_rate),
        text_weight: arguments.text_weight.unwrap_or(default.text_weight),
        visual_weight: arguments.visual_weight.unwrap_or(default.visual_weight),
        negatives: if arguments.permuted_negatives { Negatives::Permuted } else { Negatives::IndexMatched },
        ..default
    };
    let surrogate = Surrogate {
        path: &arguments.surrogate,
        description: arguments.described.description(),
        may_be_poisoned: arguments.allow_poisoned,
    };
    let found = search_patch(&recipe, surrogate, &config, &arguments.out, &mut say)?;
    println!("{}", arguments.out.display());
    let percent = |rate: &Rate| format!("{} % ({}/{})", rate.percent(1), rate.hits, rate.n);
    println!(
        "test pictures with the patch that the surrogate reads as `{}`: {}",
        config.target,
        percent(&found.success)
    );
    println!("without it: {}", percent(&found.base_rate));
    Ok(())
}
