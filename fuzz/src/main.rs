//! `roclip-fuzz SECONDS [TARGET...]`: every target for so many seconds, each in a process of its own, and a table of what came of it.
//!
//! Inputs are mutations of small sound files. There is no feedback from coverage: the engines that have it want a nightly compiler, and random bytes
//! alone never form a tar. An input that ends a process or makes it panic is kept under `fuzz/crashes/`, and `roclip-fuzz --input FILE TARGET` runs
//! it again.

mod child;
mod mend;
mod mutate;
mod seeds;
mod targets;

use anyhow::{Context, Result, bail};
use child::{Outcome, run_child};
use std::path::Path;
use std::process::{Command, ExitCode};
use targets::TARGETS;

/// The folder of inputs that a target did not survive.
const CRASHES: &str = "fuzz/crashes";

fn main() -> ExitCode {
    let report = std::panic::take_hook();
    // A panic that becomes a skip is one of a library's, and no crash.
    std::panic::set_hook(Box::new(move |panic| {
        if !roclip_data::guard::panic_is_contained() {
            report(panic);
        }
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--child", target, seconds, seed] => run_child(target, seconds, seed).map(|()| true),
        ["--input", file, target] => once(Path::new(file), target).map(|()| true),
        [seconds, chosen @ ..] => run_all(seconds, chosen),
        [] => Err(anyhow::anyhow!("say for how many seconds each target runs: roclip-fuzz SECONDS [TARGET...]")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs an input that was kept.
fn once(file: &Path, name: &str) -> Result<()> {
    let target = targets::named(name)?;
    let place = tempfile::tempdir()?;
    (target.run)(&std::fs::read(file)?, place.path());
    Ok(())
}

/// Whether every target survived.
fn run_all(seconds: &str, chosen: &[&str]) -> Result<bool> {
    seconds.parse::<f64>().with_context(|| format!("`{seconds}` is no number of seconds"))?;
    for name in chosen {
        targets::named(name)?;
    }
    let program = std::env::current_exe()?;
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64;
    println!("{:<14} {:>12} {:>10} {:>8} {:>12}", "target", "executions", "accepted", "crashes", "slowest ms");
    let mut all_well = true;
    for target in TARGETS.iter().filter(|target| chosen.is_empty() || chosen.contains(&target.name)) {
        let output = Command::new(&program)
            .args(["--child", target.name, seconds, &seed.to_string()])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let outcome: Outcome = match serde_json::from_str(&last) {
            Ok(outcome) => outcome,
            Err(_) if output.status.success() => bail!("the child of {} said nothing: {last}", target.name),
            Err(_) => Outcome::default(),
        };
        let crashes = outcome.crashes + u64::from(!output.status.success());
        all_well &= crashes == 0;
        println!(
            "{:<14} {:>12} {:>10} {crashes:>8} {:>12.0}",
            target.name, outcome.executions, outcome.accepted, outcome.slowest_ms
        );
        if !output.status.success() {
            println!("  ended by {}; its input is {CRASHES}/{}-last", output.status, target.name);
        }
    }
    println!("seed {seed}");
    Ok(all_well)
}
