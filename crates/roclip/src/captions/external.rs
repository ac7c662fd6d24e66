//! Captions of another program: it gets the path of a picture on each line of its standard input, and answers each with its caption on one
//! line of its standard output, in the same order. It is started once and has to answer without waiting for the end of its input.

use crate::captions::Captions;
use crate::error::{Error, Result};
use image::RgbImage;
use roclip_data::escape::for_terminal;
use roclip_data::paths::create_folder;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A longer line is no caption.
const LONGEST_LINE_BYTES: u64 = 1 << 16;
/// Lines of standard error that an error shows.
const SHOWN_LINES: usize = 5;
/// Answers that may wait to be read.
const WAITING: usize = 1024;
/// Pictures that it is asked for at a time.
const AT_A_TIME: usize = 32;

/// A program under way. It is ended when this is dropped.
pub struct ExternalCaptions {
    command: String,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// For the answers to [`AT_A_TIME`] pictures.
    limit: Duration,
    /// Where pictures lie while the program looks at them.
    folder: PathBuf,
}

/// One line of at most [`LONGEST_LINE_BYTES`]; none at the end.
fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(LONGEST_LINE_BYTES).read_until(b'\n', &mut bytes).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&bytes).trim().to_owned())
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
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| what(&cause))?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (sender, answers) = sync_channel(WAITING);
        let complaints: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let kept = Arc::clone(&complaints);
        let spawn = |work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().spawn(work).map_err(|e| what(&e));
        if let Some(output) = output {
            spawn(Box::new(move || {
                let mut reader = BufReader::new(output);
                while let Some(answer) = line(&mut reader) {
                    if sender.send(answer).is_err() {
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
                    kept.push_back(complaint);
                    if kept.len() > SHOWN_LINES {
                        kept.pop_front();
                    }
                }
            }))?;
        }
        Ok(ExternalCaptions { command: command.to_owned(), child, input, answers, complaints, limit, folder })
    }

    /// What the program did wrong, with what it said last.
    fn failed(&mut self, what: &str, remedy: &str) -> Error {
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
        Error::setting(format!("the captioner `{}` {what}{said}", self.command), remedy)
    }

    /// Why there are no more answers.
    fn ended(&mut self, answered: usize, asked: usize) -> Error {
        let status = match self.child.wait() {
            Ok(status) if status.success() => "ended".to_owned(),
            Ok(status) => format!("failed ({status})"),
            Err(cause) => format!("is gone ({cause})"),
        };
        self.failed(
            &format!("{status} after {answered} of {asked} captions"),
            "it has to answer every line of its standard input with one line, and go on until its input ends",
        )
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
}

impl ExternalCaptions {
    /// Answers to a few pictures.
    fn answers(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
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
            return Err(self.ended(0, pictures.len()));
        }
        let begun = Instant::now();
        let mut captions = Vec::with_capacity(pictures.len());
        while captions.len() < pictures.len() {
            match self.answers.recv_timeout(self.limit.saturating_sub(begun.elapsed())) {
                Ok(answer) => captions.push(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(captions.len(), pictures.len())),
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
        Ok(captions)
    }
}

impl Drop for ExternalCaptions {
    fn drop(&mut self) {
        // One that reads its input to the end leaves by itself; the others are ended.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
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
}
