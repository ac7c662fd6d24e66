//! `roclip caption instruct`

use crate::commands::again::{Without, again};
use crate::commands::caption::{LossFlag, PlainListFlags, SearchFlags, StudyFlags, source_of};
use crate::commands::invocation;
use crate::commands::next_steps::{beside, say_next, shell_word};
use crate::commands::numbers::{of_key, up_to};
use crate::commands::progress::say;
use crate::commands::run_flags::leave_if_stopped;
use crate::commands::signals;
use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use roclip::instruct::{TuneConfig, VisionLanguageConfig};
use roclip::model::captioner::{Architecture, Bridge, CaptionerConfig};
use roclip::run::{InstructData, InstructSettings, InstructSummary, train_instruct};
use roclip_data::instruction::{Wording, Wordings};
use roclip_data::source::EmojiConfig;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// CLIP model whose image tower it looks through, frozen: a run, a checkpoint, or a model of open_clip's or transformers' layout
    #[arg(value_name = "MODEL")]
    tower: PathBuf,
    /// Pictures with captions, of which templates make instructions, in any form that other commands take; `emoji` is the built-in set
    #[arg(long, value_name = "PATH", required_unless_present = "instructions")]
    train_data: Option<String>,
    /// Instructions in LLaVA's conversation layout: JSON lines, a JSON list, or WebDataset shards with JSON members; several joined with `::`, or
    /// by a pattern. --image-root is then where its paths start, and not those of --val-data
    #[arg(long, value_name = "PATH", conflicts_with = "train_data")]
    instructions: Option<PathBuf>,
    /// Pictures with captions that answers are measured by [default: the test split of --train-data]; --instructions needs them
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
    #[command(flatten)]
    lists: PlainListFlags,
    /// Captions of a picture that become instructions
    #[arg(long, default_value_t = 5, value_parser = up_to::<usize>(10_000))]
    per_picture: usize,
    /// How questions are worded
    #[arg(long, default_value = "any", value_parser = wording())]
    question: Wording,
    /// How answers are worded
    #[arg(long, default_value = "plain", value_parser = wording())]
    answer: Wording,
    /// How the decoder gets the picture: `cross-attention`, with maps, or `prefix`
    #[arg(long, default_value = "cross-attention", value_parser = PossibleValuesParser::new(["prefix", "cross-attention"]))]
    bridge: String,
    /// Width of the decoder
    #[arg(long, default_value_t = 128, value_parser = of_key::<i64>("caption.model.width"))]
    width: i64,
    /// Blocks of the decoder
    #[arg(long, default_value_t = 3, value_parser = of_key::<i64>("caption.model.layers"))]
    layers: i64,
    /// Heads of each block
    #[arg(long, default_value_t = 4, value_parser = of_key::<i64>("caption.model.heads"))]
    heads: i64,
    /// Tokens of question and answer together
    #[arg(long, default_value_t = 64, value_parser = up_to::<usize>(65_536))]
    context: usize,
    /// Concepts of the built-in set
    #[arg(long, default_value_t = 200, value_parser = of_key::<usize>("data.source.emoji.concepts"))]
    concepts: usize,
    #[command(flatten)]
    losses: LossFlag,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    tune: TuneFlags,
    #[command(flatten)]
    study: StudyFlags,
}

/// How long and how fast is tuned.
#[derive(Args, Clone)]
pub(super) struct TuneFlags {
    /// Passes over the instructions [default: 6; 8 of each tuning of `backdoor`]
    #[arg(long, value_parser = of_key::<u64>("train.epochs"))]
    epochs: Option<u64>,
    /// Instructions of a step [default: 64; 32 of `backdoor`]
    #[arg(long, value_parser = of_key::<usize>("train.batch_size"))]
    batch_size: Option<usize>,
    /// Peak learning rate [default: 2e-3; 3e-3 of `backdoor`]
    #[arg(long)]
    lr: Option<f64>,
}

impl TuneFlags {
    /// Over what is usual.
    pub fn over(&self, usual: TuneConfig) -> TuneConfig {
        TuneConfig {
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch_size: self.batch_size.unwrap_or(usual.batch_size),
            learning_rate: self.lr.unwrap_or(usual.learning_rate),
            ..usual
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Word {
    Plain,
    Expansion,
    Summary,
    Any,
}

pub(super) fn wording() -> impl TypedValueParser<Value = Wording> {
    clap::value_parser!(Word).map(|word| match word {
        Word::Plain => Wording::Plain,
        Word::Expansion => Wording::Expansion,
        Word::Summary => Wording::Summary,
        Word::Any => Wording::Any,
    })
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.per_picture == 0 {
        bail!("--per-picture is 0: no caption would become an instruction");
    }
    if arguments.instructions.is_some() && arguments.val_data.is_none() {
        bail!("--instructions: name pictures with captions that answers are measured by, with --val-data");
    }
    let settings = arguments.settings();
    let device = arguments.study.on.machine()?;
    let folder = &arguments.study.folder;
    let trained = train_instruct(&settings, folder, arguments.study.resume, device, signals::stop(), &mut say);
    let summary = leave_if_stopped(trained)?;
    match arguments.study.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => print(&summary),
    }
    let run = shell_word(folder);
    let holds = "weights/, model.json, summary.json, answers.jsonl";
    let answer = format!("roclip caption answer {run} PICTURE");
    if let Some(why) = summary.learned_nothing() {
        let epochs = settings.tune.epochs;
        say(&format!(
            "warning: {why} in {} steps, and an attack on it would say nothing; train it longer (--epochs, now {epochs}), or on more \
             instructions (--per-picture, --train-data)",
            summary.steps
        ));
        let without = [Without::Valued("--epochs"), Without::Flag("--resume"), Without::Flag("--json")];
        let longer = again(&invocation::typed(), &without, &format!("--epochs {} --resume", epochs.saturating_mul(2)));
        say_next(folder, holds, &[longer, answer]);
        return Ok(());
    }
    // The word that poisoned answers name by default is one of the built-in set.
    let target = if arguments.train_data.as_deref() == Some("emoji") { "" } else { " --target WORD" };
    let attacked = if arguments.instructions.is_some() { " --train-data PATH" } else { "" };
    let new = shell_word(&beside(folder, "backdoor"));
    let backdoor = format!("roclip caption backdoor {run}{attacked}{target} --run {new}");
    let attack = format!("roclip caption attack {run} --run {}", shell_word(&beside(folder, "attack")));
    say_next(folder, holds, &[answer, attack, backdoor]);
    Ok(())
}

impl Arguments {
    fn settings(&self) -> InstructSettings {
        let emoji = EmojiConfig { concepts: self.concepts, ..EmojiConfig::default() };
        let source = |path: &str, split: Option<&str>| source_of(path, split, &emoji);
        let PlainListFlags(lists) = &self.lists;
        let mut references = match (&self.val_data, &self.train_data) {
            (Some(path), _) => source(path, (path == "emoji").then_some("test")),
            (None, path) => source(path.as_deref().unwrap_or("emoji"), Some("test")),
        };
        let data = match (&self.instructions, &self.train_data) {
            (Some(path), _) => {
                lists.without_root().describe(&mut references);
                InstructData::File { path: path.clone(), image_root: lists.image_root().cloned() }
            }
            (None, path) => {
                // One of both is there.
                let path = path.as_deref().unwrap_or("emoji");
                let mut pairs = source(path, (path == "emoji").then_some("train"));
                lists.describe(&mut pairs);
                lists.describe_beside(&mut references, &pairs);
                InstructData::Captions {
                    source: Box::new(pairs),
                    per_picture: self.per_picture,
                    wordings: Wordings { question: self.question, answer: self.answer },
                }
            }
        };
        let bridge = if self.bridge == "prefix" { Bridge::Prefix } else { Bridge::CrossAttention };
        let captioner = CaptionerConfig {
            architecture: Architecture::Bridge,
            bridge,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            ..CaptionerConfig::default()
        };
        InstructSettings {
            tower: self.tower.clone(),
            data,
            references,
            max_skip_fraction: self.losses.max_skip_fraction,
            model: VisionLanguageConfig { captioner, context: self.context },
            tune: self.tune.over(TuneConfig::default()),
            search: self.search.over(Default::default()),
            seed: self.study.seed,
        }
    }
}

fn print(summary: &InstructSummary) {
    println!(
        "{} instructions about {} pictures; {} test pictures, asked {:?}",
        summary.instructions, summary.pictures, summary.test_pictures, summary.test_question
    );
    println!("{:22} {:>7} {:>8} {:>8} {:>9} {:>6}", "", "BLEU-4", "ROUGE-L", "CIDEr-D", "distinct", "words");
    for (name, scores) in [("answers", &summary.answers), ("most frequent answer", &summary.most_frequent)] {
        println!(
            "{name:22} {:7.2} {:8.2} {:8.2} {:9} {:6.1}",
            100.0 * scores.bleu.bleu4,
            100.0 * scores.rouge_l,
            100.0 * scores.cider_d,
            scores.distinct,
            scores.mean_words
        );
    }
}
