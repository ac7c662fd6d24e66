//! The house keeps its shape: libtorch stays out of the data crate, modules import downwards only, and no files import each other in a
//! circle. ARCHITECTURE.md has the same order in words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate's modules, the ground first. A module imports from those before it.
const ORDER: [(&str, &[&str]); 3] = [
    ("roclip-pixels", &["error", "escape", "random", "skip", "picture", "augment"]),
    (
        "roclip-data",
        &[
            "paths",
            "bounded",
            "nearby",
            "plural",
            "varint",
            "progress",
            "artifact",
            "rate",
            "guard",
            "threads",
            "shard",
            "table",
            "sample",
            "probe",
            "language",
            "caption_metrics",
            "tokenizer",
            "augment",
            "source",
            "instruction",
            "index",
            "survey",
            "trigger",
            "pairs",
            "statistics",
            "poison",
            "batch",
        ],
    ),
    (
        "roclip",
        &[
            "error",
            "settings",
            "world",
            "model",
            "checkpoint",
            "embed",
            "detect",
            "captions",
            "objective",
            "train",
            "instruct",
            "attack",
            "clean",
            "eval",
            "prompt",
            "recipe",
            "run",
            "results",
            "doctor",
            "report",
        ],
    ),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Source files of a crate, as `a/b.rs`, with their text before the first test module.
fn sources(krate: &str) -> BTreeMap<String, String> {
    let root = crates().join(krate).join("src");
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.clone()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.insert(name, lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    found
}

/// The file of a module path, and what is left of the path inside it.
fn file_of<'a>(files: &BTreeMap<String, String>, path: &[&'a str]) -> Option<(String, Vec<&'a str>)> {
    (1..=path.len()).rev().find_map(|length| {
        let stem = path[..length].join("/");
        let candidates = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
        candidates.into_iter().find(|name| files.contains_key(name)).map(|name| (name, path[length..].to_vec()))
    })
}

/// Every `crate::a::b` path in a file, groups in braces spelled out.
fn imports(code: &str) -> BTreeSet<Vec<String>> {
    let group = Regex::new(r"\bcrate((?:::\w+)*)::\{([^}]*)\}").unwrap();
    let single = Regex::new(r"\bcrate((?:::\w+)+)").unwrap();
    let words = |path: &str| path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let mut found = BTreeSet::new();
    for captures in group.captures_iter(code) {
        for item in captures[2].split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let item = item.split(" as ").next().unwrap_or(item);
            let mut path = words(&captures[1]);
            path.extend(words(item).into_iter().filter(|word| word != "self"));
            found.insert(path);
        }
    }
    found.extend(single.captures_iter(code).map(|captures| words(&captures[1])));
    found
}

/// The file that a `mod.rs` takes `name` from, if it only hands it on.
fn handed_on(files: &BTreeMap<String, String>, mod_file: &str, name: &str) -> Option<String> {
    let folder = mod_file.strip_suffix("mod.rs")?;
    let uses = Regex::new(r"(?s)pub(?:\([^)]*\))? use (\w+)::(?:\{([^}]*)\}|(\w+))").unwrap();
    uses.captures_iter(&files[mod_file]).find_map(|captures| {
        let names = captures.get(2).or(captures.get(3))?.as_str();
        let named = names.split(',').any(|one| one.trim().split(" as ").next() == Some(name));
        [format!("{folder}{}.rs", &captures[1]), format!("{folder}{}/mod.rs", &captures[1])]
            .into_iter()
            .find(|file| named && files.contains_key(file))
    })
}

/// Which files each file imports from.
fn arrows(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, code) in files {
        for path in imports(code) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some((file, rest)) = file_of(files, &path) else { continue };
            let from = rest.first().and_then(|item| handed_on(files, &file, item)).unwrap_or(file);
            if from != *name {
                arrows.entry(name.clone()).or_default().insert(from);
            }
        }
    }
    arrows
}

fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

#[test]
fn modules_import_downwards() {
    let mut found = Vec::new();
    for (krate, order) in ORDER {
        let files = sources(krate);
        let floor = |file: &str| {
            let found = order.iter().position(|known| *known == module(file));
            found.unwrap_or_else(|| {
                panic!("{krate}: give the module of {file} its place in ORDER and in ARCHITECTURE.md")
            })
        };
        for (file, imported) in arrows(&files).iter().filter(|(file, _)| *file != "lib.rs") {
            let upwards = imported.iter().filter(|from| *from != "lib.rs" && floor(from) > floor(file));
            found.extend(upwards.map(|from| format!("{krate}: {file} imports upwards from {from}")));
        }
        for known in order {
            let there = files.keys().any(|file| module(file) == *known);
            assert!(there, "{krate} has no module {known}: take it out of ORDER");
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for krate in ["roclip-pixels", "roclip-data", "roclip", "roclip-cli"] {
        let arrows = arrows(&sources(krate));
        let reached = |start: &String| {
            let mut waiting: Vec<&String> = arrows.get(start).into_iter().flatten().collect();
            let mut seen = BTreeSet::new();
            while let Some(file) = waiting.pop() {
                if seen.insert(file) {
                    waiting.extend(arrows.get(file).into_iter().flatten());
                }
            }
            seen
        };
        for (file, imported) in &arrows {
            let back = imported.iter().filter(|from| reached(from).contains(file));
            found.extend(back.map(|from| format!("{krate}: {file} imports {from}, which reaches it")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn libtorch_stays_out_of_the_data_crate() {
    let lock = fs::read_to_string(crates().join("../Cargo.lock")).unwrap();
    let needs = |name: &str| -> Vec<String> {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")));
        let list = entry.and_then(|entry| entry.split_once("dependencies = [")).map_or("", |(_, list)| list);
        list.split('"').skip(1).step_by(2).filter_map(|one| one.split(' ').next()).map(str::to_owned).collect()
    };
    let (mut waiting, mut seen) = (needs("roclip-data"), BTreeSet::new());
    assert!(waiting.len() > 10, "the lock file lists what roclip-data needs");
    while let Some(name) = waiting.pop() {
        assert!(
            !["tch", "torch-sys", "torch-bridge", "roclip"].contains(&name.as_str()),
            "{name} has entered roclip-data"
        );
        if seen.insert(name.clone()) {
            waiting.extend(needs(&name));
        }
    }
}
