//! The `roclip` program: one file per command; each parses, resolves a plan and runs it. Results go to stdout, progress and
//! errors to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 128 and the signal's number where one ended it.
//!
//! It is a library of one function, so that the binary and the Python package are the same program.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod commands;

pub use commands::invocation::Invocation;
pub use roclip::world::Rendezvous;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use commands::progress::{say_always, say_error, set_up};
use commands::signals;
use commands::{
    caption, clean, data, demo, detect, distil, doctor, eval, export, init, invocation, layout, poison, prompt, recipe,
    report, run_flags, shell, train,
};
use roclip::world::Launch;
use roclip_data::escape::for_terminal;
use std::ffi::OsString;
use std::sync::LazyLock;

/// Train CLIP on image-caption pairs that nobody has vetted, and keep the poison out
#[derive(Parser)]
#[command(
    name = "roclip",
    version = VERSION.as_str(),
    after_help = "Start with `roclip demo --quick`, or with your own pairs: `roclip init --train-data DATA`.

Results go to stdout, progress and errors to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage; 130, 143 and 129: ended by Ctrl-C, SIGTERM or SIGHUP,
with everything saved that was worth it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Results and errors only: no progress, no warnings
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
    /// Colours in help and in errors of usage; NO_COLOR in the environment means never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto, help_heading = "Output")]
    color: ColorChoice,
}

/// `--color` as it was typed: help and errors of usage are shown before the flags are known. What it cannot be is refused by the parser.
fn color_of(typed: impl Iterator<Item = OsString>) -> ColorChoice {
    let mut typed = typed.map(|word| word.to_string_lossy().into_owned());
    let mut found = None;
    while let Some(word) = typed.next() {
        match word.strip_prefix("--color") {
            Some("") => found = typed.next(),
            Some(rest) => found = rest.strip_prefix('=').map(str::to_owned).or(found),
            None if word == "--" => break,
            None => {}
        }
    }
    found.and_then(|when| ColorChoice::from_str(&when, false).ok()).unwrap_or(ColorChoice::Auto)
}

/// The command line as its help shows it.
fn command_line() -> clap::Command {
    layout::laid_out(Arguments::command())
}

/// What a bug report should say.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), run_flags::COMMIT);
    format!("{version} (commit {commit}, libtorch {})", roclip::run::torch_version())
});

#[derive(Subcommand)]
enum Command {
    /// Train a model as a recipe says
    Train(train::Arguments),
    /// Fine-tune a poisoned model on trusted pairs, and show what is left of its backdoors
    Clean(clean::Arguments),
    /// Train a student classifier from a teacher on trusted pictures, and show which backdoors it inherits
    Distil(distil::Arguments),
    /// Train, measure and attack captioners on top of a CLIP image tower
    #[command(subcommand)]
    Caption(caption::Command),
    /// Look at data, check it, leave some of it out; classes for images that have captions only
    #[command(subcommand)]
    Data(data::Command),
    /// Make, verify and show a poisoning
    #[command(subcommand)]
    Poison(poison::Command),
    /// Learn prompts for a frozen model, cleanly or as an attacker does, measure them, and look for a trigger in them
    #[command(subcommand)]
    Prompt(prompt::Command),
    /// Measure a checkpoint: zero-shot, linear probe, attack success
    Eval(eval::Arguments),
    /// Say, with numbers, why an attack did not take or a defence looks good
    Doctor(doctor::Arguments),
    /// Say which pairs of your data are suspicious, and which to leave out
    #[command(subcommand)]
    Detect(detect::Command),
    /// Write a checkpoint in open_clip's or Hugging Face's layout
    Export(export::Arguments),
    /// Write report.html and results.json for finished runs
    Report(report::Arguments),
    /// Poison a data set, train with and without defence, and show who got fooled
    Demo(demo::Arguments),
    /// Look at your data and write a commented recipe that fits it
    Init(init::Arguments),
    /// Print a recipe with every key explained, its defaults or a preset's values
    Recipe(recipe::Arguments),
    /// Print what a shell needs to complete commands and flags
    Completions(shell::CompletionsArguments),
    /// Write manual pages
    Man(shell::ManArguments),
}

impl Command {
    /// Whether several processes that a launcher starts share the work.
    fn is_shared(&self) -> bool {
        match self {
            Command::Train(arguments) => arguments.is_shared(),
            Command::Distil(arguments) => arguments.is_shared(),
            _ => false,
        }
    }
}

/// Does what `invocation` asks for, and returns the exit code. A process does it once; signals and usage may end the process in here.
pub fn run(invocation: Invocation) -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        if roclip_data::guard::panic_is_contained() {
            return; // The sample is skipped, and the skip says why.
        }
        let what = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        match output_failure(what) {
            // The reader of stdout has had enough.
            Some(OutputFailure::NobodyReads) => {}
            Some(OutputFailure::Other) => say_error(&format!("{what}; check the disk")),
            None => match scarce(what) {
                Some(remedy) => say_error(&format!("{what}; {remedy}")),
                // A panic is a bug in roclip, and must look like one instead of like a backtrace.
                None => say_error(&format!("internal: {panic}; please report this")),
            },
        }
    }));
    commands::parent::leave_with_parent();
    invocation.begin();
    let typed = invocation::typed_words();
    if let Some(word) = typed.iter().find(|word| word.to_str().is_none()) {
        // Recipes, summaries and manifests name paths in UTF-8, and would name another one.
        let word = for_terminal(&word.to_string_lossy()).into_owned();
        say_error(&format!(
            "the argument `{word}` is not UTF-8, and no file of a run could name it; rename what it names"
        ));
        return 2;
    }
    let matches = command_line().color(color_of(typed.iter().skip(1).cloned())).get_matches_from(typed);
    let Arguments { command, quiet, .. } = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // What else is wrong with a launcher's variables matters to those commands only that several processes share.
    let rank = Launch::from_environment().ok().flatten().map_or(0, |launch| launch.rank);
    let observer = set_up(quiet, commands::parent::is_tied(), rank);
    if let Err(error) = roclip::run::check_torch_version() {
        say_error(&format!("{error}"));
        return 1;
    }
    if let Err(error) = Launch::check_rank() {
        say_error(&format!("{error:#}"));
        return 1;
    }
    if rank > 0 && !command.is_shared() {
        say_always("this command works in one process: process 0 does it");
        return 0;
    }
    if let Err(error) = signals::handle() {
        say_error(&format!("{error:#}"));
        return 1;
    }
    let work = move || match observer {
        Some(observer) => roclip_data::progress::observe(observer, || perform(command)),
        None => perform(command),
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            say_error(&format!("{error:#}"));
            1
        }
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
            match output_failure(what) {
                Some(OutputFailure::NobodyReads) => 0,
                _ => 1,
            }
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Clean(arguments) => clean::run(arguments),
        Command::Distil(arguments) => distil::run(arguments),
        Command::Caption(command) => caption::run(command),
        Command::Data(command) => data::run(command),
        Command::Poison(command) => poison::run(command),
        Command::Prompt(command) => prompt::run(command),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Detect(command) => detect::run(command),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Recipe(arguments) => recipe::run(arguments),
        Command::Completions(arguments) => shell::completions(arguments, command_line()),
        Command::Man(arguments) => shell::man(arguments, command_line()),
    }
}

/// What to do about a panic of `std` or of libtorch that tells of a machine which gives no more; none of others.
fn scarce(panic: &str) -> Option<&'static str> {
    let remedies = [
        (
            &["failed to spawn thread", "Resource temporarily unavailable"][..],
            "lower --workers (data.workers) and --threads, or raise `ulimit -u` and `ulimit -v`",
        ),
        (&["Too many open files"][..], "raise the files that may be open at once (`ulimit -n`)"),
        (
            &[
                "bad_alloc",
                "not enough memory",
                "out of memory",
                "Cannot allocate memory",
                "memory allocation",
                "could not create a primitive",
            ][..],
            "lower --batch-size, free some memory, or raise what this shell may use (`ulimit -v`)",
        ),
    ];
    let (_, remedy) = remedies.into_iter().find(|(signs, _)| signs.iter().any(|sign| panic.contains(sign)))?;
    Some(remedy)
}

/// Why a line could not be written to stdout.
enum OutputFailure {
    NobodyReads,
    Other,
}

/// `println!` panics where it cannot write; this tells its panics from those of bugs.
fn output_failure(panic: &str) -> Option<OutputFailure> {
    let cause = panic.strip_prefix("failed printing to std")?;
    Some(if cause.contains("Broken pipe") { OutputFailure::NobodyReads } else { OutputFailure::Other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_a_machine_that_gives_no_more_say_what_to_raise() {
        let threads =
            "failed to spawn thread: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }";
        assert!(scarce(threads).unwrap().contains("ulimit -u"));
        assert!(scarce("Torch(\"std::bad_alloc\")").unwrap().contains("ulimit -v"));
        assert!(scarce("Os { code: 24, message: \"Too many open files\" }").unwrap().contains("ulimit -n"));
        assert_eq!(scarce("index out of bounds"), None);
    }
}
