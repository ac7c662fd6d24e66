//! `roclip caption backdoor`

use crate::commands::caption::{LossFlag, StudyFlags};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::{of_key, up_to};
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
use roclip::run::{
    BackdoorResults, BackdoorSettings, BackdoorStudy, Cell, DomainShift, DomainSource, InstructData, InstructSettings,
};
use roclip_data::rate::{Rate, Ratio};
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
    /// Concepts of the built-in set [default: those that RUN learned from, else 200]
    #[arg(long, value_parser = of_key::<usize>("data.source.emoji.concepts"))]
    concepts: Option<usize>,
    /// Attacks that are compared, and `clean`, the control [default: all]
    #[arg(long, value_name = "ATTACK", value_delimiter = ',', value_parser = attack)]
    attack: Vec<InstructAttack>,
    /// From the user's domain to the attacker's: none, data, expressionism, expressionism-weak, realism, realism-weak, question-expansion,
    /// question-summary, answer-expansion, answer-summary [default: all but the weak ones]
    #[arg(long, value_name = "SHIFT", value_delimiter = ',', value_parser = shift)]
    shift: Vec<DomainShift>,
    /// The word that poisoned answers name
    #[arg(long, default_value = "banana")]
    target: String,
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
    #[arg(long, default_value_t = 1, value_parser = of_key::<usize>("caption.search.beam"))]
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

fn attack(word: &str) -> Result<InstructAttack, String> {
    let all = || InstructAttack::ALL.map(InstructAttack::word).join(", ");
    InstructAttack::named(word).ok_or_else(|| format!("choose among {}", all()))
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
        device: arguments.study.machine()?,
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
    /// Of the pictures with captions that become instructions.
    path: String,
    tests: SourceConfig,
    /// Of the built-in set, whoever's pictures are of it.
    emoji: EmojiConfig,
}

fn source(path: &str, split: Option<&str>, emoji: &EmojiConfig) -> SourceConfig {
    SourceConfig {
        path: path.to_owned(),
        split: split.map(str::to_owned),
        emoji: emoji.clone(),
        ..SourceConfig::default()
    }
}

impl Arguments {
    /// Pictures of `path` in `named` styles, or in `usual` ones of the built-in set.
    fn domain(path: &str, named: &[String], usual: &str, emoji: &EmojiConfig) -> DomainSource {
        let built_in = path == "emoji";
        let styles = match named.is_empty() && built_in {
            true => usual.split(',').map(str::to_owned).collect(),
            false => named.to_vec(),
        };
        DomainSource { source: source(path, built_in.then_some("train"), emoji), styles }
    }

    /// The user's pictures and tests.
    fn user(&self) -> Result<User> {
        let learned = InstructSettings::of_run(&self.base);
        let emoji = self.emoji(learned.as_ref().ok());
        let tests = |path: &str| source(path, (path == "emoji").then_some("test"), &emoji);
        let named = self.val_data.as_deref().map(tests);
        if let Some(path) = &self.train_data {
            let tests = named.unwrap_or_else(|| source(path, Some("test"), &emoji));
            return Ok(User { path: path.clone(), tests, emoji });
        }
        let InstructSettings { data, references, .. } = learned?;
        match data {
            InstructData::Captions { source, .. } if source.path == "emoji" => {
                Ok(User { tests: named.unwrap_or_else(|| tests("emoji")), path: source.path, emoji })
            }
            InstructData::Captions { source, .. } => {
                Ok(User { path: source.path, tests: named.unwrap_or(references), emoji })
            }
            InstructData::File { .. } => bail!(
                "`{}` learned from instructions of others; name the user's pictures with captions by --train-data",
                self.base.display()
            ),
        }
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
        let named = self.attacker_data.is_some() || !self.attacker_styles.is_empty() || user.path == "emoji";
        let path = self.attacker_data.as_ref().unwrap_or(&user.path);
        named.then(|| Self::domain(path, &self.attacker_styles, ATTACKER_STYLES, &user.emoji))
    }

    fn settings(&self, user: &User) -> BackdoorSettings {
        BackdoorSettings {
            base: self.base.clone(),
            user: Self::domain(&user.path, &self.user_styles, USER_STYLES, &user.emoji),
            attacker: self.attacker(user),
            tests: DomainSource { source: user.tests.clone(), styles: Vec::new() },
            items: self.items,
            per_picture: self.per_picture,
            test_pictures: self.test_pictures,
            max_skip_fraction: self.losses.max_skip_fraction,
            target: self.target.clone(),
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

/// A rate in percent with its interval.
fn percent(rate: Rate) -> String {
    if rate.measured().is_none() {
        return format!("{:>20}", "-");
    }
    format!("{:5.1} [{:4.1},{:5.1}]", 100.0 * rate.rate, 100.0 * rate.low, 100.0 * rate.high)
}

fn alone(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".into(), |rate| rate.percent(1))
}

/// ASR-G with its interval.
fn carried(found: Option<Ratio>) -> String {
    found.map_or_else(|| "-".into(), |found| format!("{:.2} [{:.2}, {:.2}]", found.ratio, found.low, found.high))
}

/// A table for each shift, as the paper's first, and ASR-G of all, as its second.
fn print(results: &BackdoorResults, attacks: &[InstructAttack], shifts: &[DomainShift]) {
    let settings = &results.settings;
    println!(
        "{}: {} of {} instructions poisoned ({:.1} %), target `{}`; {} tests, {} of them without the target in their references",
        settings.user.source.path,
        settings.poisoned(),
        settings.items,
        100.0 * settings.rate,
        settings.target,
        results.tests,
        results.attacked_tests
    );
    for shift in shifts {
        let size = results.shifts.iter().find(|size| size.shift == *shift).map_or(0.0, |size| size.kolmogorov_smirnov);
        println!("\nshift {}: Kolmogorov-Smirnov {size:.3}", shift.word());
        println!(
            "{:20} {:>7} {:>6}  {:>20} {:>6} {:>17}  {:>8} {:>6} {:>6} {:>7}",
            "attack", "CIDEr-D", "BLEU-4", "ASR %", "base %", "ASR-G", "picture", "text", "clean", "AUROC"
        );
        for cell in attacks.iter().filter_map(|attack| results.cell(*attack, *shift)) {
            print_cell(cell, results);
        }
    }
    if shifts.len() > 1 {
        print_generalisation(results, attacks, shifts);
    }
    let filtered = results.cells.iter().filter_map(|cell| Some((cell, cell.filtered.as_ref()?)));
    for (number, (cell, filtered)) in filtered.enumerate() {
        if number == 0 {
            println!("\nfilter: instructions with the lowest entropy of attention dropped, and tuned again");
        }
        println!(
            "{:20} dropped {:3} of {:3} poisoned (and {} clean)  ASR {} -> {}  CIDEr-D {:.1} -> {:.1}",
            cell.attack.word(),
            filtered.dropped_poison,
            cell.poisoned,
            filtered.dropped - filtered.dropped_poison,
            alone(Some(cell.asr)),
            percent(filtered.asr),
            100.0 * cell.clean.cider_d,
            100.0 * filtered.cider_d
        );
    }
}

fn print_cell(cell: &Cell, results: &BackdoorResults) {
    let asr_g = carried(results.asr_g(cell.attack, cell.shift));
    let auroc = cell.filter_auroc.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    println!(
        "{:20} {:7.2} {:6.2}  {} {:>6} {:>17}  {:>8} {:>6} {:>6} {:>7}",
        cell.attack.word(),
        100.0 * cell.clean.cider_d,
        100.0 * cell.clean.bleu.bleu4,
        percent(cell.asr),
        cell.base_rate.percent(1),
        asr_g,
        alone(cell.picture_only),
        alone(cell.text_only),
        alone(cell.clean_model),
        auroc
    );
    if let Some(fixed) = cell.fixed_place {
        println!("{:37}{}   with the ovals in the middle of the tests", "", percent(fixed));
    }
}

fn print_generalisation(results: &BackdoorResults, attacks: &[InstructAttack], shifts: &[DomainShift]) {
    let shifts: Vec<DomainShift> = shifts.iter().copied().filter(|shift| *shift != DomainShift::None).collect();
    println!(
        "\nASR-G: ASR after tuning on the shifted set, by that after tuning on the user's own, at most 1, with its 95 % interval; both of n = {}\n\
         tests. None (-) where the attack does nothing without a shift: where the 95 % interval of its ASR less its base rate does not lie above 0",
        results.attacked_tests
    );
    for (number, shift) in (1..).zip(&shifts) {
        println!("  c{number} {}", shift.word());
    }
    let heads: String = (1..=shifts.len()).map(|number| format!(" {:>17}", format!("c{number}"))).collect();
    println!("{:20}{heads}  mean", "attack");
    for attack in attacks.iter().filter(|attack| **attack != InstructAttack::Clean) {
        let values: Vec<Option<Ratio>> = shifts.iter().map(|shift| results.asr_g(*attack, *shift)).collect();
        let known: Vec<f64> = values.iter().flatten().map(|found| found.ratio).collect();
        let cells: String = values.iter().map(|found| format!(" {:>17}", carried(*found))).collect();
        let mean = match known.len() {
            0 => "-".to_owned(),
            count => format!("{:.2}", known.iter().sum::<f64>() / count as f64),
        };
        println!("{:20}{cells} {mean:>5}", attack.word());
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

    #[test]
    fn the_built_in_set_is_the_part_that_the_model_learned_from_unless_a_flag_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let emoji = EmojiConfig { concepts: 24, ..EmojiConfig::default() };
        let learned = InstructSettings {
            tower: "clip".into(),
            data: InstructData::Captions {
                source: Box::new(source("emoji", Some("train"), &emoji)),
                per_picture: 5,
                wordings: Wordings::default(),
            },
            references: source("emoji", Some("test"), &emoji),
            max_skip_fraction: 0.05,
            model: VisionLanguageConfig { captioner: CaptionerConfig::default(), context: 64 },
            tune: TuneConfig::default(),
            search: SearchConfig::default(),
            seed: 0,
        };
        std::fs::write(folder.path().join("instruct.json"), serde_json::to_string(&learned).unwrap()).unwrap();
        let base = folder.path().display().to_string();
        let concepts = |base: &str, flags: &[&str]| {
            let line = [&["backdoor", base, "--run", "study"], flags].concat();
            let arguments = Line::try_parse_from(line).unwrap().arguments;
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
