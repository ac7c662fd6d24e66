//! `roclip caption train | eval | write | attack | instruct | answer | backdoor`

mod answer;
mod attack;
mod attack_table;
mod backdoor;
mod backdoor_table;
mod eval;
mod instruct;
mod train;
mod write;

use crate::commands::folder::folder;
use crate::commands::numbers::{from_one, of_key};
use crate::commands::overrides::ListFlags;
use anyhow::{Result, bail};
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use roclip::eval::{CaptionEvaluation, CaptionScores};
use roclip::model::captioner::SearchConfig;
use roclip::run::{InstructSettings, machine_of};
use roclip_data::source::{BUILT_IN, EmojiConfig, SourceConfig};
use std::path::{Path, PathBuf};
use tch::Device;

#[derive(Subcommand)]
pub enum Command {
    /// Train a captioner on top of a CLIP image tower, and measure it beside retrieval
    Train(Box<train::Arguments>),
    /// Measure a captioner: BLEU, ROUGE-L and CIDEr-D, beside captions that cost nothing
    Eval(eval::Arguments),
    /// Write captions of pictures
    Write(write::Arguments),
    /// Attack a captioner through a few pixels (AICAttack), beside controls and behind defences
    Attack(Box<attack::Arguments>),
    /// Train a small vision-language model that answers questions about pictures
    Instruct(Box<instruct::Arguments>),
    /// Answer a question about pictures
    Answer(answer::Arguments),
    /// Lay backdoors into a model's instruction tuning, and measure whether they carry to another domain (MABA)
    Backdoor(Box<backdoor::Arguments>),
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(arguments) => train::run(*arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Write(arguments) => write::run(arguments),
        Command::Attack(arguments) => attack::run(*arguments),
        Command::Instruct(arguments) => instruct::run(*arguments),
        Command::Answer(arguments) => answer::run(arguments),
        Command::Backdoor(arguments) => backdoor::run(*arguments),
    }
}

/// Where it runs.
#[derive(Args, Clone)]
struct DeviceFlags {
    /// Threads of libtorch for one operation; 0 leaves it to libtorch
    #[arg(long, default_value_t = 0, value_parser = of_key::<i32>("train.threads"))]
    threads: i32,
    /// `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl DeviceFlags {
    /// Sets libtorch's threads; the device.
    fn machine(&self) -> Result<Device> {
        Ok(machine_of(self.threads, &self.device)?)
    }
}

/// What a study in a folder of its own takes, beside what is studied.
#[derive(Args, Clone)]
struct StudyFlags {
    /// Seed of all draws
    #[arg(long, default_value_t = 0, value_parser = of_key::<u64>("seed"))]
    seed: u64,
    #[command(flatten)]
    on: DeviceFlags,
    /// Folder of all that comes out
    #[arg(long = "run", value_name = "FOLDER", value_parser = folder())]
    folder: PathBuf,
    /// Go on with what is in the folder
    #[arg(long)]
    resume: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// How much of the data may be lost.
#[derive(Args, Clone)]
struct LossFlag {
    /// Largest share of the pictures, or of the instructions, that may be left out because they cannot be used
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    max_skip_fraction: f64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1".to_owned()),
    }
}

/// How captions are searched for.
#[derive(Args, Clone, Default)]
struct SearchFlags {
    /// Captions that the search follows at a time; 1 is greedy [default: the run's, else 3]
    #[arg(long, value_parser = from_one::<usize>("caption.search.beam"))]
    beam: Option<usize>,
    /// Most tokens of a caption [default: the run's, else 24]
    #[arg(long, value_parser = of_key::<usize>("caption.search.max_tokens"))]
    max_tokens: Option<usize>,
}

impl SearchFlags {
    fn over(&self, search: SearchConfig) -> SearchConfig {
        SearchConfig {
            beam: self.beam.unwrap_or(search.beam),
            max_tokens: self.max_tokens.unwrap_or(search.max_tokens),
            ..search
        }
    }
}

/// [`ListFlags`] of a command that takes no recipe, whose help names no key of one.
#[derive(Clone, Default)]
struct PlainListFlags(ListFlags);

impl FromArgMatches for PlainListFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        ListFlags::from_arg_matches(matches).map(PlainListFlags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for PlainListFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let own = ListFlags::augment_args(clap::Command::new("lists"));
        let plain = |arg: &clap::Arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let end = help.rfind(" [recipe key: ").unwrap_or(help.len());
            arg.clone().help(help.get(..end).unwrap_or_default().to_owned())
        };
        command.args(own.get_arguments().map(plain))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Pictures with captions.
#[derive(Args, Clone, Default)]
struct ReferenceFlags {
    /// Pictures with reference captions, in any form that --train-data takes; of the built-in `emoji` those of the concepts that the run was
    /// trained on, of its test split [default: the run's]
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
    /// Split of --val-data
    #[arg(long)]
    split: Option<String>,
    #[command(flatten)]
    lists: PlainListFlags,
}

/// Data at `path`, or the built-in ones that `emoji` describes.
fn source_of(path: &str, split: Option<&str>, emoji: &EmojiConfig) -> SourceConfig {
    SourceConfig {
        path: path.to_owned(),
        split: split.map(str::to_owned),
        emoji: emoji.clone(),
        ..SourceConfig::default()
    }
}

/// What a model was trained on, and what it was measured by.
#[derive(Clone)]
struct OwnData {
    training: Option<SourceConfig>,
    references: SourceConfig,
}

impl OwnData {
    /// Built-in pictures of the concepts that the model was trained on, and of the test split; none where it was trained on other data.
    fn built_in(&self) -> Option<SourceConfig> {
        let learned = &self.training.as_ref().filter(|training| training.has_built_in())?.emoji;
        if self.references.path == BUILT_IN {
            let emoji = self.references.emoji.clone().with_concepts_of(learned);
            return Some(SourceConfig { emoji, ..self.references.clone() });
        }
        Some(source_of(BUILT_IN, Some("test"), learned))
    }
}

impl ReferenceFlags {
    /// The source that the flags name, or the model's `own` where they name none. Built-in pictures are those that it can know.
    fn source(&self, own: Option<&OwnData>) -> Option<SourceConfig> {
        let built_in = || own.filter(|_| self.val_data.as_deref() == Some(BUILT_IN)).and_then(OwnData::built_in);
        let plain = |path: &String| SourceConfig { path: path.clone(), ..SourceConfig::default() };
        let named = self.val_data.as_ref().map(|path| built_in().unwrap_or_else(|| plain(path)));
        let own = own.map(|own| own.references.clone());
        let mut source = named.or(own)?;
        source.split = self.split.clone().or(source.split);
        self.lists.0.describe(&mut source);
        Some(source)
    }
}

/// # Errors
/// A run of `roclip caption instruct` where a captioner is to be named.
fn no_answering_run(run: &Path, instead: &str) -> Result<()> {
    match InstructSettings::is_of(run) {
        true => bail!("`{}` answers questions, and is no captioner; {instead}", run.display()),
        false => Ok(()),
    }
}

/// Scores, a row for the captioner and one for each baseline.
fn print_scores(evaluation: &CaptionEvaluation) {
    println!(
        "{} pictures, {} references, beam {}{}",
        evaluation.pictures,
        evaluation.references,
        evaluation.search.beam,
        if evaluation.skipped > 0 { format!(" ({} left out)", evaluation.skipped) } else { String::new() }
    );
    println!(
        "{:26} {:>7} {:>7} {:>9} {:>8} {:>8} {:>9} {:>6}",
        "", "BLEU-1", "BLEU-4", "smoothed", "ROUGE-L", "CIDEr-D", "distinct", "words"
    );
    let row = |name: &str, scores: &CaptionScores| {
        println!(
            "{name:26} {:7.2} {:7.2} {:9.2} {:8.2} {:8.2} {:9} {:6.1}",
            100.0 * scores.bleu.bleu1,
            100.0 * scores.bleu.bleu4,
            100.0 * scores.bleu4_smoothed,
            100.0 * scores.rouge_l,
            100.0 * scores.cider_d,
            scores.distinct,
            scores.mean_words
        );
    };
    row("captioner", &evaluation.captioner);
    evaluation.baselines.iter().for_each(|(name, scores)| row(name, scores));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_pictures_are_those_that_the_model_can_know() {
        let emoji = EmojiConfig { concepts: 60, ..EmojiConfig::default() };
        let of = |path: &str, split: &str| SourceConfig {
            path: path.into(),
            split: Some(split.into()),
            emoji: emoji.clone(),
            ..SourceConfig::default()
        };
        let flags = |path: &str, split: Option<&str>| ReferenceFlags {
            val_data: Some(path.to_owned()),
            split: split.map(str::to_owned),
            ..ReferenceFlags::default()
        };
        let own = |training: &str, references: &str| OwnData {
            training: Some(of(training, "train")),
            references: of(references, "test"),
        };
        for references in ["emoji", "pairs.csv"] {
            let own = own("emoji", references);
            assert_eq!(flags("emoji", None).source(Some(&own)), Some(of("emoji", "test")), "{references}");
            let joined = OwnData { training: Some(of("pairs.csv::emoji", "train")), ..own.clone() };
            assert_eq!(flags("emoji", None).source(Some(&joined)), Some(of("emoji", "test")), "{references}");
            assert_eq!(flags("emoji", Some("ood")).source(Some(&own)), Some(of("emoji", "ood")), "{references}");
        }
        // Nothing is known of what others were trained on.
        let all = SourceConfig { path: "emoji".into(), ..SourceConfig::default() };
        assert_eq!(flags("emoji", None).source(Some(&own("pairs.csv", "pairs.csv"))), Some(all.clone()));
        assert_eq!(flags("emoji", None).source(None), Some(all));
        let other = SourceConfig { path: "other.csv".into(), ..SourceConfig::default() };
        assert_eq!(flags("other.csv", None).source(Some(&own("emoji", "emoji"))), Some(other));
        assert_eq!(ReferenceFlags::default().source(Some(&own("emoji", "pairs.csv"))), Some(of("pairs.csv", "test")));
    }
}
