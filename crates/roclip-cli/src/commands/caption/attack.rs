//! `roclip caption attack`

use crate::commands::again::{Without, again};
use crate::commands::caption::answer::answering;
use crate::commands::caption::attack_table::print;
use crate::commands::caption::{LossFlag, OwnData, ReferenceFlags, SearchFlags, StudyFlags};
use crate::commands::invocation;
use crate::commands::next_steps::{beside, say_next, shell_word};
use crate::commands::numbers::up_to;
use crate::commands::progress::say;
use crate::commands::run_flags::leave_if_stopped;
use crate::commands::signals;
use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use roclip::attack::aicattack::{Budget, Defence, Fitness, Goal, Places, Search, Strategy};
use roclip::captions::{Captions, ExternalCaptions, ModelCaptions};
use roclip::eval::foreign_references;
use roclip::model::captioner::SearchConfig;
use roclip::report::{NextStep, write_attack_page};
use roclip::run::{AttackResults, AttackSettings, CaptionAttack, InstructData, InstructSettings, captioner_recipe};
use roclip_data::caption_metrics::words;
use roclip_data::escape::for_terminal;
use roclip_data::instruction::Wordings;
use roclip_data::plural::count;
use roclip_data::source::{BUILT_IN, SourceConfig};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tch::Device;

/// Share of the pixels that is changed where nothing else is said: between those of the released scripts.
const CHANGED_SHARE: f64 = 0.0078;
/// Largest change of a colour that there can be.
const MOST_AMPLITUDE: i32 = 255;
/// Side of pictures for a program that takes any.
const ANY_SIDE: u32 = 224;

#[derive(Args)]
pub struct Arguments {
    /// What is attacked: a run of `roclip caption train`, one of its checkpoints, or a run of `roclip caption instruct`
    #[arg(value_name = "RUN", required_unless_present = "external")]
    victim: Option<PathBuf>,
    /// Attack a program instead: it gets the path of a PNG on each line of its standard input, and answers each at once with the caption on
    /// one line
    #[arg(long, value_name = "COMMAND", conflicts_with = "victim")]
    external: Option<String>,
    /// Seconds that the program has for up to 32 pictures
    #[arg(long, default_value_t = 120.0)]
    time_limit: f64,
    /// The question of which the answers of a run of `roclip caption instruct` are attacked [default: the plain one of the templates]
    #[arg(long)]
    question: Option<String>,
    /// Model with attention that says where to look: a run [default: the victim itself]
    #[arg(long, value_name = "RUN")]
    attention: Option<PathBuf>,
    /// PLACES or PLACES/SEARCH; several (with commas between them, or a flag each) are compared, and without any all are. Places: sentence, word,
    /// top-k, proportional, none, inverse; searches: proper, as-released (the public code, from before the paper), random, noise
    #[arg(long, value_name = "STRATEGY", value_delimiter = ',', value_parser = strategy)]
    strategy: Vec<Strategy>,
    /// Pictures that are attacked, drawn from the data by the seed
    #[arg(long, default_value_t = 100, value_parser = up_to::<usize>(1_000_000_000))]
    pictures: usize,
    /// Pixels that are changed [default: 0.78 % of the picture]
    #[arg(long, value_parser = up_to::<usize>(2048 * 2048))]
    pixels: Option<usize>,
    /// Captions of the victim that each attack may ask for, that of the clean picture included
    #[arg(long, default_value_t = 121, value_parser = up_to::<usize>(100_000_000))]
    queries: usize,
    /// Members of the population
    #[arg(long, default_value_t = 20, value_parser = up_to::<usize>(1_000_000))]
    population: usize,
    /// Largest change of a colour, of 255
    #[arg(long, default_value_t = 40)]
    amplitude: i32,
    /// Weight of the difference of two members in a mutant
    #[arg(long, default_value_t = 0.5)]
    factor: f64,
    /// Share of a mutant's pixels that a trial takes (proper evolution) [default: all]
    #[arg(long)]
    crossover: Option<f64>,
    /// What is lowered
    #[arg(long, default_value = "bleu4", value_parser = fitness())]
    fitness: Fitness,
    /// Attack towards this caption, instead of away from the references
    #[arg(long, value_name = "CAPTION")]
    target_caption: Option<String>,
    /// Side of the square pictures that are attacked [default: the victim's own, 224 for a program]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2048))]
    image_size: Option<u32>,
    /// Leave out what becomes of the attacks behind a median filter, JPEG and fewer colours
    #[arg(long)]
    no_defences: bool,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    references: ReferenceFlags,
    #[command(flatten)]
    losses: LossFlag,
    #[command(flatten)]
    study: StudyFlags,
}

fn strategy(text: &str) -> Result<Strategy, String> {
    let all = |names: Vec<&str>| names.join(", ");
    Strategy::named(text).ok_or_else(|| {
        format!(
            "give PLACES or PLACES/SEARCH, with places {} and searches {}",
            all(Places::ALL.map(Places::word).to_vec()),
            all(Search::ALL.map(Search::word).to_vec())
        )
    })
}

fn fitness() -> impl TypedValueParser<Value = Fitness> {
    let named = |word: String| Fitness::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, fitness)| fitness);
    PossibleValuesParser::new(Fitness::ALL.map(|(word, _)| word)).map(move |word| named(word).unwrap_or_default())
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.pictures == 0 {
        bail!("--pictures is 0: nothing would be attacked");
    }
    if !(arguments.time_limit > 0.0 && arguments.time_limit < 1e6) {
        bail!("--time-limit is {}: give the seconds that a program may take", arguments.time_limit);
    }
    if arguments.target_caption.as_ref().is_some_and(|caption| words(caption).is_empty()) {
        bail!("--target-caption has no word");
    }
    let device = arguments.study.on.machine()?;
    let runs = || [&arguments.victim, &arguments.attention].into_iter().flatten();
    if arguments.question.is_some() && !runs().any(|path| answers_questions(path)) {
        bail!("--question: no run of `roclip caption instruct` is named that could be asked");
    }
    if arguments.question.is_some() && arguments.external.is_some() {
        say(&format!(
            "warning: the program of --external does not get the --question, which {} alone is asked",
            arguments.attention.as_ref().map_or_else(String::new, |path| format!("`{}` (--attention)", path.display()))
        ));
    }
    let mut own = None;
    for found in runs().map(|path| Own::of(path)) {
        own = own.or(found?);
    }
    let search = arguments.search.over(own.as_ref().map(|own| own.search).unwrap_or_default());
    let data = own.map(|own| own.data);
    let Some(source) = arguments.references.source(data.as_ref()) else {
        bail!("nothing says which pictures to attack; name pictures with captions by --val-data");
    };
    arguments.say_pictures(&source, data.as_ref());
    let mut surrogate = arguments.attention.as_ref().map(|path| arguments.open(path, search, device)).transpose()?;
    let mut victim: Box<dyn Captions> = match (&arguments.victim, &arguments.external) {
        (Some(path), _) => arguments.open(path, search, device)?,
        (None, Some(command)) => {
            let folder = std::env::temp_dir().join(format!("roclip-captions-{}", std::process::id()));
            Box::new(ExternalCaptions::start(command, folder, Duration::from_secs_f64(arguments.time_limit))?)
        }
        (None, None) => bail!("name a captioner, or a program with --external"),
    };
    if let Some(caption) = &arguments.target_caption {
        check_target(caption, victim.as_ref())?;
    }
    let attack = arguments.attack(source, search, victim.as_ref());
    let surrogate = surrogate.as_mut().map(|surrogate| surrogate.as_mut() as &mut dyn Captions);
    let results = leave_if_stopped(attack.run(victim.as_mut(), surrogate, &mut say))?;
    if results.rows.iter().all(|row| row.attacked == 0) {
        bail!("{}", nothing_attacked(&results));
    }
    let next = next_step(&results, &invocation::typed(), &arguments.study.folder);
    let page = write_attack_page(&results, &arguments.study.folder, &next)?;
    match arguments.study.json {
        true => println!("{}", serde_json::to_string_pretty(&results)?),
        false => print(&results),
    }
    say(&next.reason());
    say_next(&arguments.study.folder, "results.json, outcomes.jsonl, pictures/", &next.commands);
    say(&format!("page:    {}", page.display()));
    Ok(())
}

/// Why no picture could be attacked, and what to do.
fn nothing_attacked(results: &AttackResults) -> String {
    let pictures = count(results.pictures, "picture");
    let AttackSettings { victim, fitness, .. } = &results.settings;
    if results.outcomes.iter().all(|outcome| words(&outcome.clean).is_empty()) {
        return format!(
            "none of {pictures} could be attacked: all captions of `{victim}` are empty; look at what it writes of one picture, or train it longer"
        );
    }
    let other = if *fitness == Fitness::Bleu4 { "attack with --fitness bleu4-smoothed, or " } else { "" };
    format!(
        "none of {pictures} could be attacked: {} cannot be used, and the captions of the others have nothing in common with a reference \
         that --fitness measures, so that there is nothing to lose; {other}train the captioner longer",
        results.skipped
    )
}

/// A stronger attack where none had a success, and else another seed; `typed` is the command that attacked.
fn next_step(results: &AttackResults, typed: &[String], folder: &Path) -> NextStep {
    let AttackSettings { budget, fitness, goal, .. } = &results.settings;
    let with = |flags: &[&str], more: &str, name: &str| {
        let valued = flags.iter().chain(&["--run"]).map(|flag| Without::Valued(flag));
        let without: Vec<Without> = valued.chain([Without::Flag("--resume"), Without::Flag("--json")]).collect();
        again(typed, &without, &format!("{more} --run {}", shell_word(&beside(folder, name))))
    };
    if results.rows.iter().any(|row| row.success.hits > 0) {
        let seed = budget.seed + 1;
        let command = with(&["--seed"], &format!("--seed {seed}"), &format!("seed{seed}"));
        return NextStep::new("Attack with another seed, which draws other pictures: one may be luck", command);
    }
    let (flag, larger) = match budget.amplitude < MOST_AMPLITUDE {
        true => ("--amplitude", format!("--amplitude {}", (2 * budget.amplitude).clamp(1, MOST_AMPLITUDE))),
        false => ("--pixels", format!("--pixels {}", 2 * budget.pixels)),
    };
    // A search towards a caption has a measure of its own.
    let flat = *goal == Goal::Untargeted && *fitness != Fitness::Mixed;
    let (flags, more, why) = match flat {
        true => (
            vec![flag, "--fitness"],
            format!("{larger} --fitness mixed"),
            "No strategy had a success: allow larger changes (--amplitude, --pixels), and search by a measure that is flat nowhere (--fitness mixed)",
        ),
        false => (
            vec![flag],
            larger,
            "No strategy had a success: allow larger changes (--amplitude, --pixels) or more --queries",
        ),
    };
    NextStep::new(why, with(&flags, &more, "stronger"))
}

/// Says which words of the caption that is attacked towards the victim can never write.
///
/// # Errors
/// All of them.
fn check_target(caption: &str, victim: &dyn Captions) -> Result<()> {
    let all: BTreeSet<String> = words(caption).into_iter().collect();
    let unknown: Vec<&str> = all.iter().filter(|word| victim.knows(word) == Some(false)).map(String::as_str).collect();
    let listed = for_terminal(&unknown.join(", ")).into_owned();
    if unknown.len() == all.len() {
        bail!(
            "--target-caption: the victim knows none of its words ({listed}), and can never write one; take words of the captions that it learned from"
        );
    }
    if !unknown.is_empty() {
        say(&format!(
            "warning: --target-caption: the victim does not know {listed}, so that the target cannot be reached whole"
        ));
    }
    Ok(())
}

/// Whether a run answers questions.
fn answers_questions(run: &Path) -> bool {
    InstructSettings::is_of(run)
}

/// What a run is of, and how it writes.
struct Own {
    data: OwnData,
    search: SearchConfig,
}

impl Own {
    fn of(run: &Path) -> Result<Option<Own>> {
        if answers_questions(run) {
            let InstructSettings { data, references, search, .. } = InstructSettings::of_run(run)?;
            let training = match data {
                InstructData::Captions { source, .. } => Some(*source),
                InstructData::File { .. } => None,
            };
            return Ok(Some(Own { data: OwnData { training, references }, search }));
        }
        let found = captioner_recipe(run)?;
        Ok(found.map(|(recipe, caption)| Own {
            data: OwnData { training: Some(recipe.data.source), references: caption.references },
            search: caption.search,
        }))
    }
}

impl Arguments {
    /// Says which of the built-in pictures are attacked where they were named, or that the model was trained on others.
    fn say_pictures(&self, source: &SourceConfig, own: Option<&OwnData>) {
        if self.references.val_data.as_deref() != Some(BUILT_IN) {
            return;
        }
        let split =
            source.split.as_ref().map_or_else(|| "all splits".to_owned(), |split| format!("the split `{split}`"));
        let concepts = match source.emoji.concepts {
            0 => "all concepts".to_owned(),
            some => format!("{some} concepts"),
        };
        match own.and_then(|own| own.training.as_ref()) {
            Some(training) => match foreign_references(training, source) {
                Some(_) => say(&format!(
                    "warning: pictures of the built-in set are attacked ({concepts}, {split}), and the model was trained on `{}`; name \
                     pictures like those with --val-data",
                    training.path
                )),
                None => say(&format!(
                    "pictures of the built-in set are attacked: {split}, of the {concepts} that the model was trained on"
                )),
            },
            None => say(&format!(
                "warning: pictures of the built-in set are attacked ({concepts}, {split}), of which nobody knows whether the victim was \
                 trained on such; --split names another split"
            )),
        }
    }

    fn question(&self) -> &str {
        self.question.as_deref().unwrap_or(Wordings::test_question())
    }

    fn open(&self, run: &Path, search: SearchConfig, device: Device) -> Result<Box<dyn Captions>> {
        Ok(match answers_questions(run) {
            true => Box::new(answering(run, self.question(), search, device)?),
            false => Box::new(ModelCaptions::load(run, search, device)?),
        })
    }

    fn attack(&self, source: SourceConfig, search: SearchConfig, victim: &dyn Captions) -> CaptionAttack<'static> {
        let side = self.image_size.or(victim.image_size()).unwrap_or(ANY_SIDE);
        let usual = (CHANGED_SHARE * f64::from(side) * f64::from(side)).round().max(1.0) as usize;
        let path = |path: &PathBuf| path.display().to_string();
        let mut runs = [&self.victim, &self.attention].into_iter().flatten();
        CaptionAttack {
            settings: AttackSettings {
                victim: victim.name(),
                attention: self.attention.as_ref().map(path),
                question: runs.any(|path| answers_questions(path)).then(|| self.question().to_owned()),
                source,
                side: Some(side),
                budget: Budget {
                    pixels: self.pixels.unwrap_or(usual),
                    queries: self.queries,
                    population: self.population,
                    amplitude: self.amplitude,
                    factor: self.factor,
                    crossover: self.crossover,
                    seed: self.study.seed,
                },
                fitness: self.fitness,
                goal: self.target_caption.clone().map_or(Goal::Untargeted, Goal::Targeted),
                search,
                defences: if self.no_defences { Vec::new() } else { Defence::ALL.to_vec() },
            },
            strategies: if self.strategy.is_empty() { Strategy::ALL.to_vec() } else { self.strategy.clone() },
            pictures: self.pictures,
            max_skip_fraction: self.losses.max_skip_fraction,
            folder: self.study.folder.clone(),
            resume: self.study.resume,
            stop: signals::stop(),
        }
    }
}
