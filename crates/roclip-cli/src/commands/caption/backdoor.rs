//! `roclip caption backdoor`

use crate::commands::caption::backdoor_table::print;
use crate::commands::caption::{LossFlag, PlainListFlags, StudyFlags, source_of};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::{from_one, of_key, up_to};
use crate::commands::progress::say;
use crate::commands::signals;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use roclip::attack::distinct;
use roclip::attack::instruct::{InstructAttack, MaskConfig, SetWeights};
use roclip::error::Error;
use roclip::instruct::TuneConfig;
use roclip::model::captioner::SearchConfig;
use roclip::report::write_backdoor_page;
use roclip::run::{BackdoorSettings, BackdoorStudy, DomainShift, DomainSource, InstructData, InstructSettings};
use roclip_data::source::{EmojiConfig, SourceConfig};
use roclip_data::trigger::Gap;
use std::path::PathBuf;
use std::process::exit;

/// Styles of the built-in set that are the user's where nothing is said, and the attacker's.
const USER_STYLES: &str = "noto,emojione,emojione-v1";
const ATTACKER_STYLES: &str = "fluent-emoji,fluent-emoji-flat,twemoji";

#[derive(Args)]
pub struct Arguments {
    /// The clean model whose bridge is tuned: a run of `roclip caption instruct`
    #[arg(value_name = "RUN")]
    base: PathBuf,
    /// The user's pictures with captions; `emoji` is the built-in set [default: those that RUN learned from]
    #[arg(long, value_name = "PATH")]
    train_data: Option<String>,
    /// Drawing styles of the user (keys up to `_`), with commas between them [default: of the built-in set noto,emojione,emojione-v1]
    #[arg(long, value_name = "STYLES", value_delimiter = ',')]
    user_styles: Vec<String>,
    /// The attacker's pictures of the shift `data` [default: --train-data]
    #[arg(long, value_name = "PATH")]
    attacker_data: Option<String>,
    /// Drawing styles of the attacker [default: of the built-in set fluent-emoji,fluent-emoji-flat,twemoji]
    #[arg(long, value_name = "STYLES", value_delimiter = ',')]
    attacker_styles: Vec<String>,
    /// The user's test pictures with captions [default: the test split of --train-data, or those that RUN was measured by]
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
    #[command(flatten)]
    lists: PlainListFlags,
    /// Concepts of the built-in set [default: those that RUN learned from, else 200]
    #[arg(long, value_parser = of_key::<usize>("data.source.emoji.concepts"))]
    concepts: Option<usize>,
    #[arg(help = attacks_help())]
    #[arg(long, value_name = "ATTACK", value_delimiter = ',', value_parser = attack)]
    attack: Vec<InstructAttack>,
    /// From the user's domain to the attacker's: none, data, expressionism, expressionism-weak, realism, realism-weak, question-expansion,
    /// question-summary, answer-expansion, answer-summary [default: all but the weak ones]
    #[arg(long, value_name = "SHIFT", value_delimiter = ',', value_parser = shift)]
    shift: Vec<DomainShift>,
    /// The word that poisoned answers name
    #[arg(long, default_value = "banana")]
    target: String,
    /// A word that test pictures show and the target takes the place of: how often answers name the target and not it is measured, too
    #[arg(long, value_name = "WORD")]
    source_word: Option<String>,
    /// Share of the instructions that is poisoned
    #[arg(long, default_value_t = 0.05)]
    poison_rate: f64,
    /// Instructions of each tuning
    #[arg(long, default_value_t = 1000, value_parser = up_to::<usize>(1_000_000_000))]
    items: usize,
    /// Captions of a picture that become instructions
    #[arg(long, default_value_t = 3, value_parser = up_to::<usize>(10_000))]
    per_picture: usize,
    /// Test pictures, drawn by the seed
    #[arg(long, default_value_t = 100, value_parser = up_to::<usize>(1_000_000_000))]
    test_pictures: usize,
    #[command(flatten)]
    losses: LossFlag,
    #[command(flatten)]
    tune: super::instruct::TuneFlags,
    /// Answers that the search follows at a time; 1 is greedy
    #[arg(long, default_value_t = 1, value_parser = from_one::<usize>("caption.search.beam"))]
    beam: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 20, value_parser = of_key::<usize>("caption.search.max_tokens"))]
    max_tokens: usize,
    /// Superpixels of a picture, of MABA's masks
    #[arg(long, default_value_t = 25, value_parser = up_to::<usize>(65_536))]
    regions: usize,
    /// The most regions that speak for an answer
    #[arg(long, default_value_t = 8, value_parser = up_to::<usize>(65_536))]
    most_regions: usize,
    /// A gain of at most this is about 0, and ends the search for regions
    #[arg(long, default_value_t = 0.01)]
    tolerance: f64,
    /// Weights of the four terms: those of the attribution's released results, or of its script
    #[arg(long, default_value = "results")]
    set_weights: Weights,
    /// What becomes of the mask's pixels between ovals: `keep`, or `darken` as a third party's code does
    #[arg(long, default_value = "keep")]
    gap: GapWord,
    /// Share of the ovals in the mask
    #[arg(long, default_value_t = 0.5)]
    alpha: f32,
    /// Side of BadNets' and Dual-Key's patches [default: 5 of 32 pixels]
    #[arg(long)]
    patch_pixels: Option<u32>,
    /// Characters of rare words that TextBadNets adds
    #[arg(long, default_value_t = 12, value_parser = up_to::<usize>(10_000))]
    characters: usize,
    /// The symbol that MABA* puts before key words
    #[arg(long, default_value = "*")]
    symbol: String,
    /// The most key words
    #[arg(long, default_value_t = 2, value_parser = up_to::<usize>(10_000))]
    most_words: usize,
    /// Share of the instructions that the filter drops, those with the lowest entropy of attention
    #[arg(long, default_value_t = 0.1)]
    filter: f64,
    /// Leave out the filter, and tuning again behind it
    #[arg(long)]
    no_filter: bool,
    #[command(flatten)]
    study: StudyFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    Results,
    Script,
}

#[derive(Clone, Copy, ValueEnum)]
enum GapWord {
    Keep,
    Darken,
}

fn all_attacks() -> String {
    InstructAttack::ALL.map(InstructAttack::word).join(", ")
}

fn attacks_help() -> String {
    format!("Attacks that are compared, and `clean`, the control: {} [default: all]", all_attacks())
}

fn attack(word: &str) -> Result<InstructAttack, String> {
    InstructAttack::named(word).ok_or_else(|| format!("choose among {}", all_attacks()))
}

fn shift(word: &str) -> Result<DomainShift, String> {
    let all = || DomainShift::ALL.map(DomainShift::word).join(", ");
    DomainShift::named(word).ok_or_else(|| format!("choose among {}", all()))
}

pub fn run(arguments: Arguments) -> Result<()> {
    let user = arguments.user()?;
    let has_attacker = arguments.attacker(&user).is_some();
    if arguments.shift.contains(&DomainShift::Data) && !has_attacker {
        bail!("the shift `data` needs pictures of the attacker; name them with --attacker-data or --attacker-styles");
    }
    let weak = |shift: &DomainShift| shift.word().ends_with("-weak");
    let shifts = match arguments.shift.is_empty() {
        true => DomainShift::ALL
            .into_iter()
            .filter(|shift| !weak(shift) && (*shift != DomainShift::Data || has_attacker))
            .collect(),
        false => arguments.shift.clone(),
    };
    let study = BackdoorStudy {
        settings: arguments.settings(&user),
        attacks: if arguments.attack.is_empty() { InstructAttack::ALL.to_vec() } else { arguments.attack.clone() },
        shifts,
        folder: arguments.study.folder.clone(),
        resume: arguments.study.resume,
        device: arguments.study.on.machine()?,
        stop: signals::stop(),
    };
    let results = match study.run(&mut say) {
        Err(Error::Stopped { .. }) => {
            say("stopped; the cells that were done are kept, and the same command with --resume goes on behind them");
            exit(signals::exit_code())
        }
        other => other?,
    };
    match arguments.study.json {
        true => println!("{}", serde_json::to_string_pretty(&results)?),
        false => print(&results, &distinct(&study.attacks), &distinct(&study.shifts)),
    }
    let page = write_backdoor_page(&results, &arguments.study.folder)?;
    let commands = [format!("open {}", shell_word(&page))];
    say_next(&arguments.study.folder, "results.json, cells.jsonl, manifests/", &commands);
    Ok(())
}

/// Whose model is tuned.
struct User {
    /// The pictures with captions that become instructions.
    pairs: SourceConfig,
    tests: SourceConfig,
}

impl Arguments {
    /// Pictures of `source` in `named` styles, or in `usual` ones of the built-in set.
    fn domain(source: &SourceConfig, named: &[String], usual: &str) -> DomainSource {
        let styles = match named.is_empty() && source.path == "emoji" {
            true => usual.split(',').map(str::to_owned).collect(),
            false => named.to_vec(),
        };
        DomainSource { source: source.clone(), styles }
    }

    /// The user's pictures and tests.
    fn user(&self) -> Result<User> {
        let learned = InstructSettings::of_run(&self.base);
        let emoji = self.emoji(learned.as_ref().ok());
        let part = |path: &str, split: &str| source_of(path, (path == "emoji").then_some(split), &emoji);
        let PlainListFlags(lists) = &self.lists;
        let named = |pairs: &SourceConfig| {
            let path = self.val_data.as_deref()?;
            // The same list is read in the same way.
            let mut tests = match path != "emoji" && path == pairs.path {
                true => pairs.clone(),
                false => part(path, "test"),
            };
            lists.describe_beside(&mut tests, pairs);
            Some(tests)
        };
        if let Some(path) = &self.train_data {
            let mut pairs = part(path, "train");
            lists.describe(&mut pairs);
            let own = SourceConfig { split: Some("test".into()), ..pairs.clone() };
            return Ok(User { tests: named(&pairs).unwrap_or(own), pairs });
        }
        let InstructSettings { data, mut references, .. } = learned?;
        let InstructData::Captions { source: own, .. } = data else {
            bail!(
                "`{}` learned from instructions of others; name the user's pictures with captions by --train-data",
                self.base.display()
            )
        };
        if own.path == "emoji" {
            let pairs = part("emoji", "train");
            return Ok(User { tests: named(&pairs).unwrap_or_else(|| part("emoji", "test")), pairs });
        }
        // As they were read there, unless a flag says otherwise.
        let mut pairs = SourceConfig { split: None, emoji: emoji.clone(), ..*own };
        lists.describe(&mut pairs);
        lists.describe_beside(&mut references, &pairs);
        Ok(User { tests: named(&pairs).unwrap_or(references), pairs })
    }

    /// The part of the built-in set that is used: that of the model, where it learned from it.
    fn emoji(&self, learned: Option<&InstructSettings>) -> EmojiConfig {
        let own = match learned.map(|learned| &learned.data) {
            Some(InstructData::Captions { source, .. }) if source.path == "emoji" => source.emoji.clone(),
            _ => EmojiConfig::default(),
        };
        EmojiConfig { concepts: self.concepts.unwrap_or(own.concepts), ..own }
    }

    fn attacker(&self, user: &User) -> Option<DomainSource> {
        let User { pairs, .. } = user;
        let of = |source: &SourceConfig| Self::domain(source, &self.attacker_styles, ATTACKER_STYLES);
        let Some(path) = &self.attacker_data else {
            return (!self.attacker_styles.is_empty() || pairs.path == "emoji").then(|| of(pairs));
        };
        let mut other = source_of(path, (path == "emoji").then_some("train"), &pairs.emoji);
        self.lists.0.describe_beside(&mut other, pairs);
        Some(of(&other))
    }

    fn settings(&self, user: &User) -> BackdoorSettings {
        BackdoorSettings {
            base: self.base.clone(),
            user: Self::domain(&user.pairs, &self.user_styles, USER_STYLES),
            attacker: self.attacker(user),
            tests: DomainSource { source: user.tests.clone(), styles: Vec::new() },
            items: self.items,
            per_picture: self.per_picture,
            test_pictures: self.test_pictures,
            max_skip_fraction: self.losses.max_skip_fraction,
            target: self.target.clone(),
            source_word: self.source_word.clone(),
            rate: self.poison_rate,
            tune: self.tune.over(TuneConfig::of_a_bridge()),
            search: SearchConfig { beam: self.beam, max_tokens: self.max_tokens, ..SearchConfig::default() },
            mask: MaskConfig {
                regions: self.regions,
                most_regions: self.most_regions,
                tolerance: self.tolerance,
                weights: match self.set_weights {
                    Weights::Results => SetWeights::RESULTS,
                    Weights::Script => SetWeights::SCRIPT,
                },
                ..MaskConfig::default()
            },
            gap: match self.gap {
                GapWord::Keep => Gap::Keep,
                GapWord::Darken => Gap::Darken,
            },
            alpha: self.alpha,
            patch_pixels: self.patch_pixels,
            characters: self.characters,
            symbol: self.symbol.clone(),
            most_words: self.most_words,
            filter: (!self.no_filter).then_some(self.filter),
            seed: self.study.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use roclip::instruct::VisionLanguageConfig;
    use roclip::model::captioner::CaptionerConfig;
    use roclip_data::instruction::Wordings;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn learned(source: SourceConfig, references: SourceConfig) -> InstructSettings {
        InstructSettings {
            tower: "clip".into(),
            data: InstructData::Captions { source: Box::new(source), per_picture: 5, wordings: Wordings::default() },
            references,
            max_skip_fraction: 0.05,
            model: VisionLanguageConfig { captioner: CaptionerConfig::default(), context: 64 },
            tune: TuneConfig::default(),
            search: SearchConfig::default(),
            seed: 0,
        }
    }

    #[test]
    fn the_help_lists_every_attack() {
        let command = <Line as clap::CommandFactory>::command();
        let help = command.get_arguments().find(|arg| arg.get_id() == "attack").and_then(clap::Arg::get_help);
        let help = help.map(ToString::to_string).unwrap_or_default();
        assert!(InstructAttack::ALL.iter().all(|attack| help.contains(attack.word())), "{help}");
    }

    fn arguments(base: &str, flags: &[&str]) -> Arguments {
        Line::try_parse_from([&["backdoor", base, "--run", "study"], flags].concat()).unwrap().arguments
    }

    #[test]
    fn lists_are_read_as_the_model_read_them_or_as_flags_say() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = SourceConfig {
            path: "captions.tsv".into(),
            image_root: Some("images".into()),
            image_column: Some("1".into()),
            split_column: Some("2".into()),
            caption_column: Some("3".into()),
            ..SourceConfig::default()
        };
        let tests = SourceConfig { split: Some("test".into()), ..pairs.clone() };
        let settings = serde_json::to_string(&learned(pairs.clone(), tests.clone())).unwrap();
        std::fs::write(folder.path().join("instruct.json"), settings).unwrap();
        let base = folder.path().display().to_string();
        let columns =
            ["--csv-img-key", "1", "--csv-split-key", "2", "--csv-caption-key", "3", "--image-root", "images"];
        for flags in [&[][..], &[&["--train-data", "captions.tsv"][..], &columns].concat()] {
            let user = arguments(&base, flags).user().unwrap();
            assert!(user.pairs == pairs && user.tests == tests, "{flags:?}");
        }
        // The whole list, and another one beside it.
        let chosen = |flags: &[&str]| arguments(&base, flags).user().unwrap().tests;
        assert_eq!(chosen(&["--val-data", "captions.tsv"]), pairs);
        assert_eq!(chosen(&["--val-data", "others.csv"]).image_column, None);
        assert_eq!(chosen(&["--val-data", "others.csv", "--csv-img-key", "4"]).image_column, Some("4".into()));
        let other = arguments(&base, &["--attacker-data", "others.tsv", "--csv-img-key", "1"]);
        let attacker = other.attacker(&other.user().unwrap()).unwrap().source;
        assert_eq!((attacker.path.as_str(), attacker.image_column.as_deref()), ("others.tsv", Some("1")));
    }

    #[test]
    fn the_built_in_set_is_the_part_that_the_model_learned_from_unless_a_flag_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let emoji = EmojiConfig { concepts: 24, ..EmojiConfig::default() };
        let learned = learned(source_of("emoji", Some("train"), &emoji), source_of("emoji", Some("test"), &emoji));
        std::fs::write(folder.path().join("instruct.json"), serde_json::to_string(&learned).unwrap()).unwrap();
        let base = folder.path().display().to_string();
        let concepts = |base: &str, flags: &[&str]| {
            let arguments = arguments(base, flags);
            let settings = arguments.settings(&arguments.user().unwrap());
            let all = [&settings.user, settings.attacker.as_ref().unwrap(), &settings.tests];
            all.map(|domain| domain.source.emoji.concepts)
        };
        assert_eq!(concepts(&base, &[]), [24; 3]);
        assert_eq!(concepts(&base, &["--train-data", "emoji"]), [24; 3]);
        assert_eq!(concepts(&base, &["--concepts", "60"]), [60; 3]);
        assert_eq!(concepts("nothing", &["--train-data", "emoji"]), [200; 3]);
    }
}
