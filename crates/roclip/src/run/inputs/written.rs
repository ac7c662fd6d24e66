//! What is written of a look at pictures. A folder with `inputs.json` is whole: that file is the first to go and the last to come.

use crate::error::{Error, IoContext, Result};
use crate::run::inputs::{InputScore, SuspectInputs, TrustedInputs};
use roclip_data::artifact;
use roclip_data::pairs::drop_line;
use serde::Serialize;
use std::cell::Cell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const SUMMARY: &str = "inputs.json";
const PAGE: &str = "inputs.html";
/// Ids of pictures that are flagged, one a line.
const FLAGGED: &str = "flagged.txt";
const LINES: &str = "inputs.jsonl";

/// All of them, in the order in which those of an earlier look are removed: the list is known for this command's by the lines beside it.
const FILES: [&str; 4] = [SUMMARY, PAGE, FLAGGED, LINES];

impl SuspectInputs {
    /// The ids of the pictures that are flagged as they are, one a line; empty where there are none.
    pub fn list(&self) -> String {
        let Some(TrustedInputs { level, .. }) = self.trusted else { return String::new() };
        let flagged = |input: &&InputScore| input.laid.is_none() && input.is_flagged(self.ordered_by(), level);
        self.inputs.iter().filter(flagged).map(|input| drop_line(&input.id)).collect()
    }

    /// Writes `inputs.jsonl` (a line a picture and trigger, and one of each that cannot be read), `flagged.txt` (an id a line) where something
    /// is flagged, `page` as `inputs.html`, and `inputs.json`. Those of an earlier look stay where not all can be written.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path, page: &str) -> Result<()> {
        let mut lines = String::new();
        self.inputs.iter().try_for_each(|input| add_line(&mut lines, input))?;
        self.unread.iter().try_for_each(|one| add_line(&mut lines, one))?;
        let summary = serde_json::to_string_pretty(self).map_err(|e| not_json(&e))? + "\n";
        let list = self.list();
        let files = [(SUMMARY, summary.as_str()), (PAGE, page), (FLAGGED, &list), (LINES, &lines)];
        let is_written = |name: &str, text: &str| name != FLAGGED || !text.is_empty();
        let files: Vec<(PathBuf, &[u8])> = files
            .into_iter()
            .filter(|(name, text)| is_written(name, text))
            .map(|(name, text)| (out.join(name), text.as_bytes()))
            .collect();
        in_order(out, &files, &|| Ok(()))
    }
}

/// Writes `files` into the folder `out`, the last of them first. Those of an earlier look are removed when all are written and none is in its
/// place yet; then `between` is done. An error after that leaves nothing.
fn in_order(out: &Path, files: &[(PathBuf, &[u8])], between: &dyn Fn() -> Result<()>) -> Result<()> {
    let begun = Cell::new(false);
    let written = artifact::write_together_after(files, &|| {
        begun.set(true);
        remove(out)?;
        between()
    });
    if written.is_err() && begun.get() {
        // The error that is told is that of writing.
        let _: Result<()> = remove(out);
    }
    written
}

/// Removes what a look has written into `out`, as far as that can be done; the first error.
fn remove(out: &Path) -> Result<()> {
    let removed = FILES.map(|name| {
        let path = out.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).io("remove", &path),
            _ => Ok(()),
        }
    });
    removed.into_iter().collect()
}

fn add_line<T: Serialize>(lines: &mut String, row: &T) -> Result<()> {
    *lines += &serde_json::to_string(row).map_err(|e| not_json(&e))?;
    lines.push('\n');
    Ok(())
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::internal(format!("JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::inputs::Unread;
    use crate::run::inputs::judged::flags;
    use std::collections::BTreeMap;

    #[test]
    fn pictures_are_listed_that_are_flagged_as_they_are() {
        let input = |id: &str, laid: Option<usize>, p: f64| InputScore {
            id: id.to_owned(),
            attack: laid.map(|_| "patch".to_owned()),
            scores: BTreeMap::new(),
            p_values: Some(BTreeMap::from([("jpeg", p), ("blur", 0.01)])),
            flagged: None,
            beside: BTreeMap::new(),
            place: 0,
            laid,
        };
        let inputs =
            vec![input("a", None, 0.05), input("b", None, 0.06), input("a\nb", None, 0.01), input("c", Some(0), 0.01)];
        let mut found = SuspectInputs {
            clean: 40,
            looked_at: 3,
            unreadable: 0,
            trusted: Some(TrustedInputs { statistics: 20, held_out: 20, copies: 0, level: 0.05 }),
            descriptions: None,
            methods: flags(&inputs, &["blur", "jpeg"], Some(0.05)),
            judged: Vec::new(),
            inputs,
            samples: Vec::new(),
            backdoors: Vec::new(),
            unread: vec![Unread {
                id: "d".to_owned(),
                unreadable: "image-truncated".to_owned(),
                detail: String::new(),
                trusted: false,
            }],
            warnings: Vec::new(),
        };
        assert_eq!(found.list(), "a\n{\"id\":\"a\\nb\"}\n");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        found.write(folder.path(), "first").unwrap();
        assert!(path(FLAGGED).is_file());
        let lines = std::fs::read_to_string(path(LINES)).unwrap();
        let last = lines.lines().last().unwrap();
        assert_eq!((lines.lines().count(), last), (5, r#"{"id":"d","unreadable":"image-truncated","detail":""}"#));
        found.trusted = None;
        found.write(folder.path(), "second").unwrap();
        assert!(!path(FLAGGED).exists(), "the list of an earlier look passes for this one's");
        // What cannot be replaced is known before anything is.
        std::fs::remove_file(path(LINES)).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(path(LINES)).unwrap();
        assert!(found.write(folder.path(), "third").is_err());
        assert_eq!(std::fs::read_to_string(path(PAGE)).unwrap(), "second");
        assert!(path(SUMMARY).is_file());
    }

    #[test]
    fn an_end_halfway_leaves_no_summary_and_nothing_of_two_looks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = |text: &'static [u8]| [SUMMARY, PAGE, FLAGGED, LINES].map(|name| (path(name), text));
        in_order(folder.path(), &files(b"old"), &|| Ok(())).unwrap();
        // All are written, and the earlier ones are gone before the first of the new ones is in its place.
        let between = || {
            assert!(FILES.iter().all(|name| !path(name).exists()));
            // The page can take no place.
            std::fs::create_dir_all(path(PAGE).join("a")).unwrap();
            Ok(())
        };
        assert!(in_order(folder.path(), &files(b"new"), &between).is_err());
        assert!([SUMMARY, FLAGGED, LINES].iter().all(|name| !path(name).exists()), "what a look begins, it takes away");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the page's place alone");
    }
}
