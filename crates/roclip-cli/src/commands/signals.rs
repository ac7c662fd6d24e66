//! Ctrl-C, SIGTERM and SIGHUP: what is under way is saved and the process leaves, with 128 and the signal's number. A second one does not
//! wait. Where there is nothing to save, the first does not wait either.

use crate::commands::invocation;
use crate::commands::progress::{clear, say};
use anyhow::{Result, anyhow};
use roclip::captions::end_programs;
use roclip::checkpoint;
use roclip::run::{Asked, Saved, Stop, leave_at_once};
use roclip_data::artifact;
use roclip_data::error::too_many_files;
use roclip_data::plural::count;
use roclip_data::threads::refused;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

static STOP: LazyLock<Stop> = LazyLock::new(Stop::default);
/// What is done before the process leaves at once.
static LEAVING: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// The folder of several runs that this process has trained or trains, by itself or each in a process of its own.
static RUNS: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whether all that this process writes is written: it ends by itself at once.
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// What ends the work of this process early.
pub fn stop() -> &'static Stop {
    &STOP
}

/// The exit code of a process that a signal ended.
pub fn exit_code() -> i32 {
    match STOP.code() {
        0 => 128 + SIGTERM,
        code => code,
    }
}

/// Does `work` before the process leaves at once, until it is given nothing.
pub fn before_leaving(work: Option<Box<dyn Fn() + Send>>) {
    *LEAVING.lock().unwrap_or_else(PoisonError::into_inner) = work;
}

/// Does `work`, the last that the process has to do, and takes away what it has written of `places` where a signal ends the process before it
/// is done.
pub fn leaving_nothing<T>(places: Vec<PathBuf>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    before_leaving(Some(Box::new(move || places.iter().for_each(|place| artifact::abandon(place)))));
    let done = work();
    WRITTEN.store(done.is_ok(), Ordering::SeqCst);
    before_leaving(None);
    done
}

/// Several runs are trained in `folder`, and are what this process leaves behind.
pub fn runs_in(folder: &Path) {
    *RUNS.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}

/// What is kept of the runs in `folder`; none where there is nothing to keep.
fn kept_of(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let (finished, others): (Vec<_>, Vec<_>) =
        entries.filter(|path| path.is_dir()).partition(|run| run.join("summary.json").is_file());
    let begun = others.iter().filter(|run| checkpoint::newest_step(run).is_ok_and(|step| step.is_some())).count();
    let finished = (!finished.is_empty()).then(|| format!("{} finished", count(finished.len(), "run")));
    let begun = (begun > 0).then(|| format!("{} saved up to its newest checkpoint", count(begun, "run")));
    let kept: Vec<String> = finished.into_iter().chain(begun).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// Handles signals from now on.
pub fn handle() -> Result<()> {
    // Whoever started this with `nohup` means it to outlive the terminal.
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let mut signals =
        Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up)).map_err(|cause| match too_many_files(&cause) {
            Some(remedy) => anyhow!("cannot handle signals: {cause}; {remedy}"),
            None => anyhow!("cannot handle signals: {cause}"),
        })?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(received))
        .map_err(|cause| refused("handles signals", &cause))?;
    Ok(())
}

fn received(signal: i32) {
    match STOP.ask(128 + signal) {
        Asked::Ends => say("stopping after this step; once more to leave at once"),
        // What is left is to say what was done.
        Asked::NothingToSave if WRITTEN.load(Ordering::SeqCst) => {}
        Asked::NothingToSave | Asked::Again => leave(),
    }
}

/// Whoever started this process is gone: the same as a first signal, however often it comes.
pub fn parent_is_gone() {
    if STOP.ask(128 + SIGTERM) == Asked::NothingToSave {
        leave();
    }
}

/// What a run says that was stopped once `step` was saved in its folder `run`, with the command that goes on.
pub fn stopped(run: &Path, step: u64) -> String {
    format!("stopped after step {step}, which is saved; {} goes on (run `{}`)", resuming_command(), run.display())
}

/// The command that goes on with the run that this process was stopped in, in words.
fn resuming_command() -> &'static str {
    let several = RUNS.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    resuming_command_as(&invocation::typed(), several)
}

/// Where there are `several` runs, the command goes on by itself.
fn resuming_command_as(typed: &[String], several: bool) -> &'static str {
    let from = |word: &String| word == "--resume-from" || word.starts_with("--resume-from=");
    match several {
        true => same_command_as(typed),
        false if typed.iter().any(from) => "the same command with --resume in place of --resume-from",
        false => "the same command with --resume",
    }
}

/// The command that goes on with what this one has saved, in words: with what trains anew it would remove that.
pub fn same_command() -> &'static str {
    same_command_as(&invocation::typed())
}

fn same_command_as(typed: &[String]) -> &'static str {
    match typed.iter().any(|word| ["--overwrite", "--fresh"].contains(&word.as_str())) {
        true => "the same command without --overwrite",
        false => "the same command",
    }
}

fn leave() -> ! {
    if let Some(work) = LEAVING.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        work();
    }
    clear();
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let kept = runs.as_deref().and_then(kept_of).map(|kept| format!("{kept}, and {}", same_command()));
    say(&left_behind(STOP.saved(), kept, WRITTEN.load(Ordering::SeqCst)));
    // Last: whoever waits for a program's answer would say that it failed.
    end_programs();
    leave_at_once(exit_code())
}

/// What a process leaves behind that ends before its work is done: the newest checkpoint of its run, what is `kept` of several with the
/// command that goes on with them, or all that it had to write.
fn left_behind(saved: Option<Saved>, kept: Option<String>, written: bool) -> String {
    // Where there are several runs, the newest checkpoint may be that of one that is finished.
    match (saved, kept) {
        (None, _) if written => "stopped; all was written before".to_owned(),
        (_, Some(kept)) => format!("stopped; {kept} goes on from there"),
        (Some(Saved { run, step }), None) => format!(
            "stopped; step {step} is saved, and {} goes on from there (run `{}`)",
            resuming_command(),
            run.display()
        ),
        (None, None) => "stopped; nothing was saved, and the same command starts again".to_owned(),
    }
}

/// Whether the process was started with `signal` ignored; false where the system does not tell.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_train_anew_what_is_kept() {
        let said = |words: &str| same_command_as(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(said("roclip demo --out rows"), "the same command");
        for flag in ["--overwrite", "--fresh"] {
            assert_eq!(said(&format!("roclip demo {flag} --out rows")), "the same command without --overwrite");
        }
    }

    #[test]
    fn a_command_is_named_that_goes_on() {
        let said = |words: &str, several| {
            resuming_command_as(&words.split(' ').map(str::to_owned).collect::<Vec<_>>(), several)
        };
        assert_eq!(said("roclip train --run r", false), "the same command with --resume");
        let from = "the same command with --resume in place of --resume-from";
        assert_eq!(said("roclip train --run r --resume-from=3", false), from);
        assert_eq!(said("roclip train --run r --resume-from step_3", false), from);
        // A sweep has no --resume beside --overwrite, and needs none without.
        let sweep = "roclip clean v --run s --sweep seed=0,1";
        assert_eq!(said(sweep, true), "the same command");
        assert_eq!(said(&format!("{sweep} --overwrite"), true), "the same command without --overwrite");
    }

    #[test]
    fn what_is_kept_of_several_runs_is_said() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(kept_of(out.path()), None);
        for (run, file) in [("a", "summary.json"), ("b", "checkpoints/step_3/state.json"), ("c", "recipe.toml")] {
            let file = out.path().join(run).join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "{}").unwrap();
        }
        let kept = kept_of(out.path()).unwrap();
        assert_eq!(kept, "1 run finished, 1 run saved up to its newest checkpoint");
        // The run whose checkpoint this process wrote last may be the finished one.
        let saved = Some(Saved { run: "a".into(), step: 6 });
        let said = left_behind(saved.clone(), Some(kept), false);
        assert!(said.contains("1 run finished") && !said.contains("step 6"), "{said}");
        assert!(left_behind(saved, None, false).contains("step 6 is saved"));
        assert!(left_behind(None, None, false).contains("nothing was saved"));
    }
}
