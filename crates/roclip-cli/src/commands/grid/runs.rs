//! Each run is a process of its own, so that its memory and its threads are its own. None outlives the command that started it, and a
//! signal lets each save what it has.

use crate::commands::progress::{self, Message, Row, duration, say};
use crate::commands::warned::Warned;
use crate::commands::{invocation, parent, signals};
use anyhow::{Context, Result, bail};
use roclip::report::read_run;
use roclip::results::Hits;
use roclip_data::escape::for_terminal;
use roclip_data::threads::refused;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus, exit};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at the runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two lines about how far the runs have come, where nothing moves.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// What a shell reports of programs that signals ended.
const SIGNALLED: std::ops::RangeInclusive<i32> = 129..=143;

/// A run that is to be trained.
pub struct Job {
    pub name: String,
    pub run: PathBuf,
    /// The flags that a run goes on with; none where it begins.
    pub resume: Option<Vec<String>>,
}

/// A run under way. It ends with its handle: no error leaves one behind.
struct Running {
    job: Job,
    child: Child,
    /// The last that it told of its training.
    latest: Arc<Mutex<Option<Message>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Shared = Arc<Mutex<Vec<Running>>>;

fn locked(running: &Shared) -> MutexGuard<'_, Vec<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trains all of `waiting`, `jobs` at a time. A signal ends the process, once every run has saved.
pub fn run_all(waiting: Vec<Job>, jobs: usize) -> Result<()> {
    let running = Shared::default();
    let at_once = Arc::clone(&running);
    signals::before_leaving(Some(Box::new(move || locked(&at_once).clear())));
    signals::stop().set_unsaved(true);
    let outcome = supervise(waiting, jobs, &running);
    signals::stop().set_unsaved(false);
    signals::before_leaving(None);
    // Those that are left where one has failed save what they have, too.
    end_all(&running);
    if signals::stop().wanted() {
        say(&format!("stopped; every run is saved, and {} goes on where they stand", signals::same_command()));
        exit(signals::exit_code())
    }
    outcome
}

fn supervise(waiting: Vec<Job>, jobs: usize, running: &Shared) -> Result<()> {
    let started = Instant::now();
    let mut told = started;
    let mut waiting = waiting.into_iter();
    let mut warned = Warned::default();
    while !signals::stop().wanted() {
        while locked(running).len() < jobs {
            let Some(job) = waiting.next() else { break };
            let how = if job.resume.is_some() { "go on with" } else { "start" };
            say(&format!("[{:4.0}s] {how} {}", started.elapsed().as_secs_f64(), job.name));
            let one = start(job)?;
            locked(running).push(one);
        }
        if locked(running).is_empty() {
            warned.say_all();
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
        for (one, status) in ended(running)? {
            if status.success() {
                let measured = figures(&one.job.run);
                say(&format!("[{:4.0}s] done  {}{measured}", started.elapsed().as_secs_f64(), one.job.name));
                for warning in warnings(&one.job.run) {
                    warned.note(&one.job.name, &warning);
                }
            } else if status.code().is_some_and(|code| SIGNALLED.contains(&code)) {
                // A terminal's Ctrl-C reaches the runs and this process at about the same time.
                std::thread::sleep(LOOK_EVERY);
                if !signals::stop().wanted() {
                    let again = signals::same_command();
                    bail!("{} was stopped by a signal; {again} goes on where it stands", one.job.name);
                }
            } else {
                let said = last_line(&one.job.run).unwrap_or_else(|| "no output".to_owned());
                let again = signals::same_command();
                bail!("{} failed ({status}): {said}; {again} goes on with what is finished", one.job.name);
            }
        }
        if told.elapsed() >= LINE_EVERY && !roclip_data::progress::moves() {
            told = Instant::now();
            let standings: Vec<String> = locked(running).iter().filter_map(standing).collect();
            if !standings.is_empty() {
                say(&format!("[{:4.0}s] {}", started.elapsed().as_secs_f64(), standings.join("; ")));
            }
        }
    }
    Ok(())
}

/// How far a run has come, in words.
fn standing(one: &Running) -> Option<String> {
    let latest = one.latest.lock().ok()?;
    let Message { done, total, note, .. } = latest.as_ref()?;
    let left = note.as_ref().and_then(|(_, left)| *left);
    let left = left.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
    Some(format!("{} {} %{left}", one.job.name, 100 * done / (*total).max(1)))
}

/// Takes out the runs that have ended.
fn ended(running: &Shared) -> Result<Vec<(Running, ExitStatus)>> {
    let mut running = locked(running);
    let mut found = Vec::new();
    for mut one in std::mem::take(&mut *running) {
        match one.child.try_wait()? {
            Some(status) => found.push((one, status)),
            None => running.push(one),
        }
    }
    Ok(found)
}

/// Lets every run save and end.
fn end_all(running: &Shared) {
    for one in locked(running).iter_mut() {
        // The end of its stdin is what it leaves at.
        drop(one.child.stdin.take());
    }
    while ended(running).is_ok() && !locked(running).is_empty() {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a finished run measured, in a few words.
fn figures(run: &Path) -> String {
    let Ok(record) = read_run(run) else { return String::new() };
    let last = &record.row.last;
    let percent = |rate: f64| format!("{:.1} %", 100.0 * rate);
    let word = if record.row.is_classifier() { "accuracy" } else { "zero-shot" };
    let mut said: Vec<String> =
        last.zero_shot_top1.map(|rate| format!("{word} {}", percent(rate))).into_iter().collect();
    said.extend(last.psr.map(|hits| format!("{} of {} targeted pictures fooled", hits.hits, hits.n)));
    let success = |hits: Hits| hits.rate().map_or_else(|| "not measured".to_owned(), percent);
    said.extend(last.asr.iter().map(|(attack, hits)| format!("ASR {} {}", for_terminal(attack), success(*hits))));
    if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) }
}

/// The warnings of a run, each once: only its log has shown them.
fn warnings(run: &Path) -> BTreeSet<String> {
    let log = std::fs::read_to_string(run.join("train.log")).unwrap_or_default();
    log.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect()
}

/// The last that a run said.
fn last_line(run: &Path) -> Option<String> {
    let log = std::fs::read_to_string(run.join("train.log")).ok()?;
    log.lines().last().map(str::to_owned)
}

fn start(job: Job) -> Result<Running> {
    let log = OpenOptions::new().create(true).append(true).open(job.run.join("train.log"));
    let log = log.with_context(|| format!("cannot write in `{}`", job.run.display()))?;
    let mut command = invocation::program()?;
    command.arg("train").arg("--run").arg(&job.run).stderr(log);
    match &job.resume {
        Some(flags) => command.arg("--resume").args(flags),
        None => command.arg("--config").arg(job.run.join("recipe.toml")),
    };
    let mut child =
        parent::spawn(&mut command).with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let latest = Arc::default();
    if let Some(messages) = child.stdout.take() {
        let (row, latest) = (progress::row(&job.name), Arc::clone(&latest));
        let listening = std::thread::Builder::new().spawn(move || listen(messages, &row, &latest));
        listening.map_err(|cause| refused("listens to a run", &cause))?;
    }
    Ok(Running { job, child, latest })
}

/// Shows what a run tells, until it ends.
fn listen(messages: ChildStdout, row: &Row, latest: &Mutex<Option<Message>>) {
    for line in BufReader::new(messages).lines().map_while(std::io::Result::ok) {
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        row.show(&message);
        if let (true, Ok(mut latest)) = (message.note.is_some(), latest.lock()) {
            *latest = Some(message);
        }
    }
}
