//! `roclip caption train`

use crate::commands::caption::{SearchFlags, print_scores};
use crate::commands::forecast_lines::print_forecast;
use crate::commands::next_steps::{beside, say_next, shell_word};
use crate::commands::overrides::{
    BaseFlags, MachineFlags, ManifestFlag, ModelFlags, Overrides, SeedFlag, SourceFlags, TrainingFlags,
};
use crate::commands::progress::say;
use crate::commands::run_flags::{RunFlags, not_this_kind, train};
use anyhow::{Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use roclip::eval::NO_IMAGES;
use roclip::model::captioner::{Architecture, Bridge};
use roclip::objective::{CaptionConfig, ImageTower};
use roclip::recipe::{ModelSettings, Recipe, flag_help};
use roclip::run::continued_by;
use roclip_data::picture::ImageLimits;
use roclip_data::source::{EmojiConfig, SourceConfig, list_samples};
use roclip_data::survey::{HELD_OUT, splits};
use std::path::{Path, PathBuf};

const HOLDS: &str = "checkpoints/, summary.json, captions.jsonl, metrics.jsonl, log.jsonl, tensorboard/";

#[derive(Args)]
pub struct Arguments {
    /// CLIP model whose image tower the captioner looks through, frozen: a run, a checkpoint, or a model of open_clip's or transformers' layout.
    /// Without one the tower of --model begins with random weights and is trained, too
    #[arg(value_name = "MODEL")]
    tower: Option<PathBuf>,
    #[arg(help = flag_help("caption.model.architecture"))]
    #[arg(long, value_parser = PossibleValuesParser::new(["show-attend-tell", "bridge"]))]
    architecture: Option<String>,
    #[arg(help = flag_help("caption.model.bridge"))]
    #[arg(long, value_parser = PossibleValuesParser::new(["prefix", "cross-attention"]))]
    bridge: Option<String>,
    #[command(flatten)]
    search: SearchFlags,
    /// Do everything that comes before the first step, take a few steps to say what the run would take, and write nothing but the index of large data
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    base: BaseFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    data: CaptionDataFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    manifest: ManifestFlag,
    #[command(flatten)]
    machine: MachineFlags,
    #[command(flatten)]
    run: RunFlags,
}

/// What is read.
#[derive(Args, Clone, Default)]
struct CaptionDataFlags {
    #[command(flatten)]
    pairs: SourceFlags,
    /// Pictures with reference captions that captions are measured by [recipe key: caption.references, default: the test split of the training
    /// data, else its validation split]
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
    #[arg(help = flag_help("data.drop"))]
    #[arg(long, value_name = "FILE")]
    drop: Option<PathBuf>,
}

impl Overrides for CaptionDataFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        self.pairs.apply(recipe)?;
        recipe.data.drop = self.drop.clone().or(recipe.data.drop.take());
        let references = &mut recipe.caption.get_or_insert_default().references;
        if let Some(path) = self.pairs.path() {
            *references = SourceConfig { path: path.to_owned(), split: Some("test".into()), ..SourceConfig::default() };
            if path == "emoji" {
                recipe.data.source.split = Some("train".into());
            }
        }
        if let Some(path) = &self.val_data {
            *references = SourceConfig { path: path.clone(), ..SourceConfig::default() };
        }
        self.pairs.describe_beside(references, &recipe.data.source);
        Ok(())
    }
}

/// The captioner and what it looks through.
struct Captioner<'a>(&'a Arguments);

impl Overrides for Captioner<'_> {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let arguments = self.0;
        if let Some(tower) = &arguments.tower {
            let saved = model_of(tower)?;
            recipe.model = ModelSettings { weights: Some(tower.clone()), ..saved.unwrap_or(recipe.model.clone()) };
        }
        let trained = recipe.model.weights.is_some();
        let caption = recipe.caption.get_or_insert_default();
        // Noise is nothing to look through.
        if !trained {
            caption.image_tower = ImageTower::Tuned;
        }
        arguments.choose(caption);
        if recipe.poison.attacks.is_empty() && recipe.manifest.is_none() {
            // A captioner is measured by its captions; only attacks need labelled images.
            recipe.eval.source = SourceConfig { path: NO_IMAGES.into(), ..SourceConfig::default() };
            recipe.eval.probe = None;
        }
        Ok(())
    }
}

/// What may be said again of a captioner that goes on: other than its search and its references, it has to be the same. The references that it
/// began with stand beside it: they were chosen by what was there then, and what names the data again does not choose others.
struct Again<'a>(&'a Arguments, SourceConfig);

impl Overrides for Again<'_> {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let Again(arguments, began) = self;
        recipe.model.weights = arguments.tower.clone().or(recipe.model.weights.take());
        let caption = recipe.caption.get_or_insert_default();
        if arguments.data.val_data.is_none() && !arguments.file_names_references()? {
            caption.references.clone_from(began);
        }
        arguments.choose(caption);
        Ok(())
    }
}

impl Arguments {
    /// Sets what flags say of the captioner itself.
    fn choose(&self, caption: &mut CaptionConfig) {
        match self.architecture.as_deref() {
            Some("bridge") => caption.model.architecture = Architecture::Bridge,
            Some(_) => caption.model.architecture = Architecture::ShowAttendTell,
            None => {}
        }
        match self.bridge.as_deref() {
            Some("prefix") => caption.model.bridge = Bridge::Prefix,
            Some(_) => caption.model.bridge = Bridge::CrossAttention,
            None => {}
        }
        caption.search = self.search.over(caption.search);
    }

    /// Whether somebody chose the references: by a flag, or in a recipe whose data are not replaced.
    fn chose_references(&self) -> Result<bool> {
        let Arguments { base, data, .. } = self;
        let set = base.sets("caption") || base.sets(REFERENCES) || base.sets_in(REFERENCES);
        Ok(set || data.val_data.is_some() || self.file_names_references()?)
    }

    /// Whether a recipe file names the references, and no flag replaces its data.
    fn file_names_references(&self) -> Result<bool> {
        Ok(self.data.pairs.path().is_none() && self.base.file_has(REFERENCES)?)
    }

    /// The recipe of the run that these flags continue, whose own is `saved`.
    fn resumed(&self, saved: Recipe) -> Result<Recipe> {
        let Arguments { seed, data, model, training, manifest, machine, .. } = self;
        let began = saved.caption.as_ref().map(|caption| caption.references.clone()).unwrap_or_default();
        let again = Again(self, began);
        let mut recipe = self.base.resolve(saved, &[seed, data, model, training, manifest, machine, &again])?;
        if self.chose_references()? {
            references_follow(self, &mut recipe)?;
        }
        Ok(recipe)
    }
}

/// The key of the references.
const REFERENCES: &str = "caption.references";

/// The references of a captioner for which nobody chose some: pictures of the data that is trained on, from a split that is not. Where there is
/// none, reading the split `test` says so.
fn held_out(own: &SourceConfig, limits: ImageLimits) -> Result<SourceConfig> {
    let all = SourceConfig { split: None, ..own.clone() };
    let there = splits(&list_samples(&all, limits)?.samples);
    let is_own = |split: &str| own.split.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(split));
    let is_there = |split: &str| there.keys().any(|known| known.eq_ignore_ascii_case(split));
    let split = HELD_OUT.into_iter().find(|split| is_there(split) && !is_own(split)).unwrap_or("test");
    Ok(SourceConfig { split: Some(split.to_owned()), ..all })
}

/// References are of the data that is trained on where nobody chose others, and those of the built-in pictures of the same concepts.
fn references_follow(arguments: &Arguments, recipe: &mut Recipe) -> Result<()> {
    let base = &arguments.base;
    let Recipe { data, caption: Some(caption), .. } = recipe else { return Ok(()) };
    let (own, references) = (&data.source, &mut caption.references);
    if own.path != "emoji" && !arguments.chose_references()? {
        *references = held_out(own, data.limits)?;
        let split = references.split.as_deref().unwrap_or_default();
        say(&format!(
            "captions are measured on the split `{split}` of `{}` (caption.references, --val-data)",
            own.path
        ));
        return Ok(());
    }
    let built_in = own.path == "emoji" && references.path == "emoji";
    let chosen = base.sets_in("caption.references.emoji") || references.emoji != EmojiConfig::default();
    let followed = references.emoji.clone().with_concepts_of(&own.emoji);
    if built_in && !chosen && followed != references.emoji {
        say(
            "captions are measured on the built-in concepts that are trained on (caption.references.emoji follows data.source.emoji)",
        );
        references.emoji = followed;
    }
    Ok(())
}

/// What the run that `model` belongs to says of its model.
fn model_of(model: &Path) -> Result<Option<ModelSettings>> {
    let keeps_end = ModelSettings::default().truncate;
    Ok(Recipe::of_path(model)?.map(|recipe| ModelSettings { truncate: keeps_end, ..recipe.model }))
}

pub fn run(arguments: Arguments) -> Result<()> {
    let folder = &arguments.run.folder;
    let saved = folder.join("run.toml");
    let recipe = match arguments.run.resumes() {
        true if continued_by(folder).is_some() && !saved.is_file() => {
            return Err(not_this_kind(folder, "trains no captioner"));
        }
        true if !saved.is_file() => bail!("`{}` holds no run to resume; start it without --resume", folder.display()),
        true => {
            let saved = Recipe::read(&saved)?;
            if saved.caption.is_none() {
                return Err(not_this_kind(folder, "trains no captioner"));
            }
            arguments.resumed(saved)?
        }
        false if !arguments.base.names_data() && arguments.data.pairs.path().is_none() => bail!(
            "nothing says what to train on; name your pairs with --train-data or a recipe with --config, or give --train-data emoji for the \
             built-in set"
        ),
        false => {
            let mut base = Recipe { caption: Some(CaptionConfig::default()), ..Recipe::default() };
            // Pairs for which that batch was too large are few here, too.
            if let Some(clip) = arguments.tower.as_deref().map(Recipe::of_path).transpose()?.flatten() {
                base.train.batch_size = clip.train.batch_size;
            }
            let Arguments { seed, data, model, training, manifest, machine, .. } = &arguments;
            let captioner = Captioner(&arguments);
            let mut recipe =
                arguments.base.resolve(base, &[seed, data, model, training, manifest, machine, &captioner])?;
            references_follow(&arguments, &mut recipe)?;
            recipe
        }
    };
    if arguments.dry_run {
        let forecast = roclip::run::check(&recipe, folder, arguments.run.start(), &mut say)?;
        match arguments.run.json {
            true => println!("{}", serde_json::to_string_pretty(&forecast)?),
            false => print_forecast(&forecast),
        }
        return Ok(());
    }
    let summary = train(&recipe, folder, arguments.run.start())?;
    let asked = recipe.caption.as_ref().map(|caption| caption.search);
    if summary.captions.as_ref().is_some_and(|captions| Some(captions.search) != asked) {
        bail!(
            "`{0}` is finished, and was measured with another search: --beam and --max-tokens do nothing here; measure it with `roclip caption eval {0}`",
            shell_word(folder)
        );
    }
    // A run that goes on writes down what it is measured by; one that is finished keeps what it was measured by.
    let measured = Recipe::read(&folder.join("run.toml"))?.caption.map(|caption| caption.references);
    if measured != recipe.caption.as_ref().map(|caption| caption.references.clone()) {
        bail!(
            "`{0}` is finished, and was measured by other references: --val-data does nothing here; measure it with `roclip caption eval {0}`",
            shell_word(folder)
        );
    }
    match (&summary.captions, arguments.run.json) {
        (_, true) => println!("{}", serde_json::to_string_pretty(&summary)?),
        (Some(captions), false) => print_scores(captions),
        (None, false) => {}
    }
    let run = shell_word(folder);
    let commands = [
        format!("roclip caption write {run} PICTURE"),
        format!("roclip caption attack {run} --run {}", shell_word(&beside(folder, "attack"))),
        format!("roclip caption eval {run} --beam 1"),
    ];
    say_next(folder, HOLDS, &commands);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    /// The references of the run that `flags` continue, of which `references` were chosen when it was trained on `path`.
    fn resumed(path: &str, references: &SourceConfig, flags: &[&str]) -> SourceConfig {
        let words = [&["train", "--run", "run", "--resume"], flags].concat();
        let matches = Arguments::augment_args(Command::new("train")).get_matches_from(words);
        let mut saved = Recipe { caption: Some(CaptionConfig::default()), ..Recipe::default() };
        saved.data.source.path = path.into();
        saved.data.source.emoji.concepts = 8;
        saved.caption.as_mut().unwrap().references = references.clone();
        Arguments::from_arg_matches(&matches).unwrap().resumed(saved).unwrap().caption.unwrap().references
    }

    #[test]
    fn what_names_the_data_again_leaves_the_references_of_a_run_alone() {
        let source = |path: &str, split: &str| SourceConfig {
            path: path.into(),
            split: Some(split.into()),
            ..SourceConfig::default()
        };
        // No split `test` was there when the run began.
        let val = source("own.csv", "val");
        assert_eq!(resumed("own.csv", &val, &["--train-data", "own.csv"]), val);
        let mut concepts = source("emoji", "test");
        concepts.emoji.concepts = 8;
        let again = ["--train-data", "emoji", "--set", "data.source.emoji.concepts=8"];
        assert_eq!(resumed("emoji", &concepts, &again), concepts);
        // Those that are named are taken, on the concepts that are trained on where they are built in, too.
        let named = resumed("own.csv", &val, &["--train-data", "own.csv", "--val-data", "others.csv"]);
        assert_eq!((named.path.as_str(), named.split), ("others.csv", None));
        assert_eq!(resumed("own.csv", &val, &["--set", "caption.references.split=dev"]), source("own.csv", "dev"));
        let named = resumed("emoji", &val, &[&again[..], &["--val-data", "emoji"]].concat());
        assert_eq!((named.path.as_str(), named.emoji.concepts), ("emoji", 8));
    }
}
