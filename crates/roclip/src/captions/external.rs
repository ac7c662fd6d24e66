//! Captions of another program: it gets the path of a picture on each line of its standard input, and answers each with its caption on one
//! line of its standard output, in the same order. It is started once and has to answer without waiting for the end of its input. A line that
//! nobody asked for would shift all captions behind it to other pictures, and is an error.

use crate::captions::Captions;
use crate::captions::program::Program;
use crate::error::{Error, Result};
use image::RgbImage;
use roclip_data::escape::for_terminal;
use roclip_data::paths::create_folder;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A longer line is no caption.
const LONGEST_LINE_BYTES: usize = 1 << 16;
/// Lines of standard error that an error shows.
const SHOWN_LINES: usize = 5;
/// Answers that may wait to be read.
const WAITING: usize = 1024;
/// Pictures that it is asked for at a time.
const AT_A_TIME: usize = 32;
/// Batches behind which a line that nobody asked for is waited for: one that prints more than it is asked does so from the start.
const WATCHED: usize = 3;
/// How long a line that nobody asked for is waited for, beside what the slowest of the last captions took.
const GRACE: Duration = Duration::from_millis(50);
/// The same behind the last caption.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// How long a program that has closed its input or output may take to end, before it is ended.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);
/// Characters of a line that an error shows.
const SHOWN_CHARACTERS: usize = 100;

/// A program under way. It is ended when this is dropped.
pub struct ExternalCaptions {
    command: String,
    program: Program,
    input: Option<ChildStdin>,
    answers: Receiver<Line>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// For the answers to [`AT_A_TIME`] pictures.
    limit: Duration,
    /// Where pictures lie while the program looks at them.
    folder: PathBuf,
    /// How often it has answered.
    answered: usize,
    /// The longest time between two of the captions that were asked for last.
    slowest: Duration,
}

/// What was read up to the end of a line, or of the longest part of one.
struct Line {
    text: String,
    /// Whether the line goes on behind it.
    goes_on: bool,
}

/// The next line; none at the end.
fn line(reader: &mut impl BufRead) -> Option<Line> {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(LONGEST_LINE_BYTES as u64 + 1).read_until(b'\n', &mut bytes).ok()?;
    let goes_on = read > LONGEST_LINE_BYTES && bytes.last() != Some(&b'\n');
    (read > 0).then(|| Line { text: String::from_utf8_lossy(&bytes).trim().to_owned(), goes_on })
}

impl ExternalCaptions {
    /// Starts `command` in a shell. Pictures are written into `folder`, and the answers to [`AT_A_TIME`] of them have to come within `limit`.
    ///
    /// # Errors
    /// A command that cannot be started.
    pub fn start(command: &str, folder: PathBuf, limit: Duration) -> Result<ExternalCaptions> {
        let what = |cause: &dyn std::fmt::Display| {
            Error::setting(
                format!("the captioner `{command}` cannot be started: {cause}"),
                "check the command (--external)",
            )
        };
        create_folder(&folder)?;
        let mut program = Program::start(command).map_err(|cause| what(&cause))?;
        let child = &mut program.child;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (sender, answers) = sync_channel(WAITING);
        let complaints: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let kept = Arc::clone(&complaints);
        let spawn = |work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().spawn(work).map_err(|e| what(&e));
        if let Some(output) = output {
            spawn(Box::new(move || {
                let mut reader = BufReader::new(output);
                while let Some(answer) = line(&mut reader) {
                    let goes_on = answer.goes_on;
                    if sender.send(answer).is_err() || goes_on {
                        return;
                    }
                }
            }))?;
        }
        if let Some(errors) = errors {
            spawn(Box::new(move || {
                let mut reader = BufReader::new(errors);
                while let Some(complaint) = line(&mut reader) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(complaint.text);
                    if kept.len() > SHOWN_LINES {
                        kept.pop_front();
                    }
                }
            }))?;
        }
        Ok(ExternalCaptions {
            command: command.to_owned(),
            program,
            input,
            answers,
            complaints,
            limit,
            folder,
            answered: 0,
            slowest: Duration::ZERO,
        })
    }

    /// What the program did wrong, with what it said last.
    fn failed(&mut self, what: &str, remedy: &str) -> Error {
        Error::setting(self.told(what), remedy)
    }

    fn told(&self, what: &str) -> String {
        // The last words may still be on their way.
        std::thread::sleep(Duration::from_millis(50));
        let said: Vec<String> = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|line| for_terminal(line).into_owned())
            .collect();
        let said = if said.is_empty() { String::new() } else { format!("; it said: {}", said.join(" | ")) };
        format!("the captioner `{}` {what}{said}", self.command)
    }

    /// Why there are no more answers, where it has closed its `end`: its input or its output.
    fn ended(&mut self, end: &str, answered: usize, asked: usize) -> Error {
        let status = self.program.status_within(LEAVES_WITHIN);
        self.program.end();
        let status = match status {
            Ok(Some(status)) if status.success() => "ended".to_owned(),
            Ok(Some(status)) => format!("failed ({status})"),
            Ok(None) => format!("closed its {end} and ran on"),
            Err(cause) => format!("is gone ({cause})"),
        };
        self.failed(
            &format!("{status} after {answered} of {asked} captions"),
            "it has to answer every line of its standard input with one line, and go on until its input ends",
        )
    }

    /// Waits for a line that nobody asked for. A caption that takes its time may be such a one, where a line before it was none.
    ///
    /// # Errors
    /// Such a line.
    fn nothing_more(&mut self, wait: Duration) -> Result<()> {
        let Ok(line) = self.answers.recv_timeout(wait.min(self.limit)) else { return Ok(()) };
        let text: String = line.text.chars().take(SHOWN_CHARACTERS).collect();
        Err(Error::Doubtful {
            what: self.told(&format!("gave more lines than it got pictures; the last is `{}`", for_terminal(&text))),
            remedy: "let it print one line a picture on standard output, without line breaks in a caption, and whatever else it says on \
                     standard error (in Python: print(..., file=sys.stderr))"
                .to_owned(),
        })
    }
}

impl Captions for ExternalCaptions {
    fn name(&self) -> String {
        self.command.clone()
    }

    fn image_size(&self) -> Option<u32> {
        None
    }

    fn captions(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
        let mut all = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(AT_A_TIME) {
            all.extend(self.answers(pictures)?);
        }
        Ok(all)
    }

    fn finish(&mut self) -> Result<()> {
        // One that reads its input to the end says the rest there.
        drop(self.input.take());
        self.nothing_more(LAST_GRACE + self.slowest.mul_f64(1.5))
    }
}

impl ExternalCaptions {
    /// Answers to a few pictures.
    fn answers(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
        self.nothing_more(Duration::ZERO)?;
        let mut paths = String::new();
        for (number, picture) in pictures.iter().enumerate() {
            let path = self.folder.join(format!("{number:04}.png"));
            picture.save(&path).map_err(|cause| {
                Error::file(&path, format!("cannot be written: {cause}"), "make room, or name another folder")
            })?;
            paths += &format!("{}\n", path.display());
        }
        let sent = self.input.as_mut().map(|input| input.write_all(paths.as_bytes()).and_then(|()| input.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.ended("input", 0, pictures.len()));
        }
        let begun = Instant::now();
        let mut last = begun;
        self.slowest = Duration::ZERO;
        let mut captions = Vec::with_capacity(pictures.len());
        while captions.len() < pictures.len() {
            match self.answers.recv_timeout(self.limit.saturating_sub(begun.elapsed())) {
                Ok(Line { goes_on: true, .. }) => {
                    return Err(self.failed(
                        &format!("answered with a line of more than {LONGEST_LINE_BYTES} bytes"),
                        "let it print the caption of each picture, and nothing else, as one line on standard output",
                    ));
                }
                Ok(Line { text, .. }) => {
                    // The first caption of all may have waited for weights.
                    if self.answered > 0 || !captions.is_empty() {
                        self.slowest = self.slowest.max(last.elapsed());
                    }
                    last = Instant::now();
                    captions.push(text);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended("output", captions.len(), pictures.len()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let what = format!(
                        "gave {} of {} captions within {:.0} seconds",
                        captions.len(),
                        pictures.len(),
                        self.limit.as_secs_f64()
                    );
                    return Err(self.failed(
                        &what,
                        "let it answer each line at once (in Python: print(..., flush=True)), or raise --time-limit",
                    ));
                }
            }
        }
        self.answered += 1;
        // Later ones are looked for without a wait, before the next pictures and at the end.
        if self.answered <= WATCHED {
            self.nothing_more(GRACE + self.slowest.mul_f64(1.5))?;
        }
        Ok(captions)
    }
}

impl Drop for ExternalCaptions {
    fn drop(&mut self) {
        // One that reads its input to the end leaves by itself; the others are ended.
        drop(self.input.take());
        self.program.end();
        // Pictures that stay do no harm.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(command: &str) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(700);
        let mut captions =
            ExternalCaptions::start(command, folder.path().join("pictures"), limit).map_err(|e| e.to_string())?;
        let pictures = vec![RgbImage::new(2, 2), RgbImage::new(2, 2)];
        let first = captions.captions(&pictures).map_err(|e| e.to_string())?;
        let second = captions.captions(&pictures[..1]).map_err(|e| e.to_string())?;
        captions.finish().map_err(|e| e.to_string())?;
        Ok([first, second].concat())
    }

    #[test]
    fn a_program_answers_line_by_line_or_is_named_with_what_it_said() {
        let own = r#"sh -c 'while read path; do test -f "$path" && echo "a picture"; done'"#;
        assert_eq!(answers(own).unwrap(), ["a picture"; 3]);
        let hangs = answers("sleep 60").unwrap_err();
        assert!(hangs.contains("0 of 2 captions within") && hangs.contains("flush"), "{hangs}");
        let crashes = answers(r#"sh -c 'read path; echo one; echo "no weights" >&2; exit 3'"#).unwrap_err();
        assert!(
            crashes.contains("1 of 2") && crashes.contains("exit status: 3") && crashes.contains("no weights"),
            "{crashes}"
        );
        let stops = answers("sh -c 'read a; read b; echo one; echo two'").unwrap_err();
        assert!(stops.contains("ended after 0 of 1"), "{stops}");
        assert!(answers("no-such-program-here").unwrap_err().contains("no-such-program-here"));
    }

    #[test]
    fn a_program_that_closes_its_output_or_its_input_and_runs_on_is_ended() {
        let begun = Instant::now();
        for (command, says) in [
            ("sh -c 'exec >&-; sleep 60'", "closed its output and ran on after 0 of 2"),
            (
                "sh -c 'read a; read b; echo one; exec <&-; echo two; sleep 60'",
                "closed its input and ran on after 0 of 1",
            ),
        ] {
            let said = answers(command).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_program_has_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let number = folder.path().join("number");
        let command =
            format!("sh -c 'sleep 60 & echo $! > {}; while read path; do echo one; done; wait'", number.display());
        let mut captions =
            ExternalCaptions::start(&command, folder.path().join("pictures"), Duration::from_secs(30)).unwrap();
        assert_eq!(captions.captions(&[RgbImage::new(2, 2)]).unwrap(), ["one"]);
        let process = std::fs::read_to_string(&number).unwrap().trim().to_owned();
        // One that has ended may wait for its parent to ask how, which is nobody's business here.
        let runs = || {
            let told = std::process::Command::new("ps").args(["-o", "stat=", "-p", &process]).output().unwrap().stdout;
            let state = String::from_utf8_lossy(&told).trim().to_owned();
            !state.is_empty() && !state.starts_with('Z')
        };
        assert!(runs());
        drop(captions);
        let begun = Instant::now();
        while runs() {
            assert!(begun.elapsed() < Duration::from_secs(20), "process {process} outlives the program");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn lines_that_nobody_asked_for_and_those_without_end_are_named() {
        for (what, command) in [
            ("a banner", "sh -c 'echo loading; while read path; do echo one; done'"),
            ("a banner of a slow program", "sh -c 'echo loading; while read path; do sleep 0.1; echo one; done'"),
            ("two lines a picture", "sh -c 'while read path; do echo one; echo two; done'"),
            ("a line at the end", "sh -c 'while read path; do echo one; done; echo two'"),
        ] {
            let said = answers(command).unwrap_err();
            assert!(
                said.contains("more lines than it got pictures") && said.contains("error (in Python"),
                "{what}: {said}"
            );
        }
        let long = |bytes: usize| {
            let characters = format!("head -c {bytes} /dev/zero | tr \"\\0\" x; echo");
            format!("sh -c 'read a; {characters}; while read path; do echo one; done'")
        };
        let said = answers(&long(LONGEST_LINE_BYTES + 1)).unwrap_err();
        assert!(said.contains("a line of more than 65536 bytes"), "{said}");
        let whole = answers(&long(LONGEST_LINE_BYTES)).unwrap();
        assert_eq!((whole.len(), whole[0].len()), (3, LONGEST_LINE_BYTES));
    }
}
