//! Patterns of paths: `{000..015}`, `{train,val}`, `*`, `?`, `[0-9]` and `**`.

use crate::error::{Error, Result};
use crate::source::spelling::{path_parts, place};
use regex::Regex;
use std::path::{Path, PathBuf};

/// No pattern stands for more paths.
const MOST: usize = 1_000_000;

/// The paths that `pattern` stands for: ranges and lists in their order, what lies on the disk by name. A path that is there stands for itself.
///
/// # Errors
/// Braces that are neither a range nor a list, and a pattern that nothing matches.
pub(super) fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    if Path::new(pattern).exists() || !is_pattern(pattern) {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let mut found = Vec::new();
    for path in braces(pattern)? {
        if !has_wildcards(&path) || Path::new(&path).exists() {
            found.push(PathBuf::from(path));
            continue;
        }
        let matching = matching(Path::new(&path))?;
        if matching.is_empty() {
            return Err(Error::setting(
                format!("`{path}` matches nothing"),
                "check the path; `ls` shows what is there",
            ));
        }
        found.extend(matching);
        if found.len() > MOST {
            return Err(too_many(pattern));
        }
    }
    Ok(found)
}

/// Whether one of the patterns that `joined` joins would stand for `target`, or for something below it, once that is there.
pub(super) fn covers(joined: &str, target: &Path) -> bool {
    let patterns = path_parts(joined).filter(|part| is_pattern(part) && !Path::new(part).exists());
    let mut texts = patterns.flat_map(|pattern| braces(pattern).unwrap_or_default()).filter(|text| has_wildcards(text));
    texts.any(|text| {
        let path = std::path::absolute(&text).unwrap_or_else(|_| PathBuf::from(&text));
        let fixed = path.components().take_while(|part| !has_wildcards(&part.as_os_str().to_string_lossy()));
        let folder: PathBuf = fixed.collect();
        let Ok(below) = target.strip_prefix(place(&folder)) else { return false };
        let wild = path.components().skip(folder.components().count());
        for (part, name) in wild.zip(below.components()) {
            let part = part.as_os_str().to_string_lossy();
            if part == "**" {
                return true;
            }
            if !regex_of(&part).is_ok_and(|names| is_named(Path::new(&name), &names)) {
                return false;
            }
        }
        true
    })
}

/// Whether a text stands for several paths.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains('{') || has_wildcards(text)
}

fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn too_many(pattern: &str) -> Error {
    Error::setting(format!("`{pattern}` stands for more than {MOST} paths"), "name a folder instead")
}

/// The texts that the first pair of braces stands for, then the next.
fn braces(pattern: &str) -> Result<Vec<String>> {
    let Some((head, rest)) = pattern.split_once('{') else { return Ok(vec![pattern.to_owned()]) };
    let refuse = || {
        let what = format!("`{pattern}` is not a brace range or a list");
        Err(Error::setting(what, "write it as `shard-{000..015}.tar` or `{train,val}/*.tar`"))
    };
    let Some((inside, tail)) = rest.split_once('}') else { return refuse() };
    let parts: Vec<String> = match inside.split_once("..") {
        Some((first, last)) => {
            let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else { return refuse() };
            if from > to || to - from >= MOST as u64 {
                return refuse();
            }
            (from..=to).map(|number| format!("{number:0width$}", width = first.len())).collect()
        }
        None if inside.contains(',') => inside.split(',').map(str::to_owned).collect(),
        None => return refuse(),
    };
    let tails = braces(tail)?;
    if parts.len().saturating_mul(tails.len()) > MOST {
        return Err(too_many(pattern));
    }
    Ok(parts.iter().flat_map(|part| tails.iter().map(move |tail| format!("{head}{part}{tail}"))).collect())
}

/// What is on the disk and matches, by name. Folders that cannot be listed hold nothing.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if text == "**" {
            found = found.into_iter().flat_map(folders_below).collect();
        } else if has_wildcards(&text) {
            let names = regex_of(&text)?;
            // As in shells, what begins with a dot is hidden from wildcards.
            let shows = |path: &PathBuf| text.starts_with('.') || !is_hidden(path);
            let inside =
                |folder: PathBuf| entries(&folder).into_iter().filter(|path| shows(path) && is_named(path, &names));
            found = found.into_iter().flat_map(inside).collect();
        } else {
            found = found.into_iter().map(|folder| folder.join(part)).filter(|path| path.exists()).collect();
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn is_named(path: &Path, names: &Regex) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.is_match(name))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Of a name with wildcards.
fn regex_of(name: &str) -> Result<Regex> {
    let mut expression = String::from("^");
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let inside: String = letters.by_ref().take_while(|letter| *letter != ']').collect();
                let (not, inside) = match inside.strip_prefix(['!', '^']) {
                    Some(rest) => ("^", rest),
                    None => ("", inside.as_str()),
                };
                let inside: String = inside
                    .chars()
                    .map(|letter| if letter == '-' { "-".to_owned() } else { regex::escape(&letter.to_string()) })
                    .collect();
                expression.push_str(&format!("[{not}{inside}]"));
            }
            other => expression.push_str(&regex::escape(&other.to_string())),
        }
    }
    expression.push('$');
    Regex::new(&expression)
        .map_err(|_| Error::setting(format!("`{name}` is no pattern of names"), "use *, ? and [0-9] in it"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(listed).into_iter().flatten().flatten();
    entries.map(|entry| folder.join(entry.file_name())).collect()
}

/// The folder and all in it; links to folders are not followed, and hidden ones not entered.
fn folders_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut all = vec![folder];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        let is_folder =
            |path: &PathBuf| !is_hidden(path) && std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        all.extend(entries(&folder).into_iter().filter(is_folder));
        if all.len() > MOST {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brace_ranges_keep_their_zeros_and_lists_multiply() {
        assert_eq!(braces("s-{008..010}.tar").unwrap(), ["s-008.tar", "s-009.tar", "s-010.tar"]);
        assert_eq!(braces("{a,b}/{0..1}").unwrap(), ["a/0", "a/1", "b/0", "b/1"]);
        for broken in ["s-{10..2}.tar", "{a}", "{a", "{0..99999999}", "{0..999}{0..999}{0..9}"] {
            assert!(braces(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn wildcards_match_what_lies_there_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/00.tar", "a/01.tar", "a/10.tar", "a/.hidden.tar", "b/c/00.tar", "b/x.csv", "odd[1].tar"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let all = expand(&folder.path().join(pattern).to_string_lossy()).unwrap();
            all.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(found("a/*.tar"), ["a/00.tar", "a/01.tar", "a/10.tar"]);
        assert_eq!(found("a/0?.tar"), ["a/00.tar", "a/01.tar"]);
        assert_eq!(found("a/[!0]*.tar"), ["a/10.tar"]);
        assert_eq!(found("a/[0-1]0.tar"), ["a/00.tar", "a/10.tar"]);
        assert_eq!(found("**/00.tar"), ["a/00.tar", "b/c/00.tar"]);
        assert_eq!(found("{b,a}/*"), ["b/c", "b/x.csv", "a/00.tar", "a/01.tar", "a/10.tar"]);
        assert_eq!(found("odd[1].tar"), ["odd[1].tar"], "a path that is there is no pattern");
        let nothing = expand(&folder.path().join("a/*.csv").to_string_lossy()).unwrap_err().to_string();
        assert!(nothing.contains("matches nothing"), "{nothing}");
        assert!(expand("a/[.tar").is_err());
    }

    #[test]
    fn a_pattern_covers_what_it_would_match() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        let covered = |pattern: &str, target: &str| covers(&root.join(pattern).to_string_lossy(), &root.join(target));
        for (pattern, target) in
            [("a/*", "a/new"), ("a/*", "a/new/deeper"), ("a/**/x.tar", "a/new"), ("{b,a}/n*", "a/new")]
        {
            assert!(covered(pattern, target), "{pattern} {target}");
        }
        for (pattern, target) in [("a/*.tar", "a/new"), ("a/*", "b/new"), ("a/{0..9}", "a/new"), ("a", "a/new")] {
            assert!(!covered(pattern, target), "{pattern} {target}");
        }
        let joined = format!("{}::{}", root.join("x.csv").display(), root.join("a/*").display());
        assert!(covers(&joined, &root.join("a/new")));
    }
}
