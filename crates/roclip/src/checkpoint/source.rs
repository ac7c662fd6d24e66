//! Where the files of a model lie: what a path that names one means.

use crate::checkpoint::store::find;
use crate::checkpoint::verify::{CONFIG, STATE};
use crate::error::{Error, IoContext, Result};
use roclip_data::artifact;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Endings of files that torch pickles.
const PICKLES: [&str; 6] = ["pt", "pth", "bin", "ckpt", "pkl", "pickle"];
/// What to do with a pickle.
const INSTEAD_OF_PICKLE: &str = "convert it where you trust it: in Python, `safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"model.safetensors\")` (take the part under `state_dict` where there is one), or fetch the safetensors of the same model";
/// Names of weights in the folders that open_clip and transformers write, in the order in which they are taken.
const USUAL: [&str; 3] = ["open_clip_model.safetensors", "model.safetensors", "model.safetensors.index.json"];
/// The end of the name of a list of shards.
const INDEX: &str = ".safetensors.index.json";
/// The most shards of one model.
const MOST_SHARDS: usize = 1_000;

/// Files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ModelFiles {
    /// A checkpoint of this program: its folder.
    Checkpoint(PathBuf),
    /// Weights in one file, or in shards, as another program writes them; `named` is the one that says which.
    Weights { named: PathBuf, files: Vec<PathBuf> },
}

/// What `path` means: a run (its newest checkpoint), a checkpoint, a folder of open_clip's or transformers' layout, or a file of weights.
///
/// # Errors
/// What holds no model, holds two, or holds one that only a pickle can give.
pub(super) fn model_files(path: &Path) -> Result<ModelFiles> {
    let found = fs::metadata(path).io("find the model", path)?;
    if found.is_dir() {
        if path.join(STATE).is_file() || path.join("checkpoints").is_dir() || path.join("run.toml").is_file() {
            return find(path).map(ModelFiles::Checkpoint);
        }
        return weights(&in_folder(path)?);
    }
    weights(path)
}

/// Says which file of weights is taken of a folder that holds several; nothing of runs, checkpoints and files.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn taken_of_several(path: &Path) -> Result<Option<String>> {
    let own = path.join(STATE).is_file() || path.join("checkpoints").is_dir() || path.join("run.toml").is_file();
    if own || !path.is_dir() {
        return Ok(None);
    }
    let files = names_in(path)?;
    let taken = USUAL.into_iter().find(|usual| files.contains(*usual)).filter(|usual| !usual.ends_with(INDEX));
    Ok(taken.and_then(|taken| {
        let others: Vec<&String> =
            files.iter().filter(|name| name.ends_with(".safetensors") && *name != taken).collect();
        let first = others.first()?;
        Some(format!(
            "`{}` holds {} files of weights, and `{taken}` is taken; name another one, as in {}, to take that",
            path.display(),
            others.len() + 1,
            path.join(first).display()
        ))
    }))
}

fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).io("list", folder)? {
        let path = entry.io("list", folder)?.path();
        files.extend(path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file()).map(str::to_owned));
    }
    Ok(files)
}

/// The file of weights in a folder.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    let files = names_in(folder)?;
    if let Some(usual) = USUAL.into_iter().find(|usual| files.contains(*usual)) {
        return Ok(folder.join(usual));
    }
    let weights: Vec<&String> = files.iter().filter(|name| name.ends_with(".safetensors")).collect();
    let pickles: Vec<&String> = files.iter().filter(|name| is_pickle(Path::new(name))).collect();
    match (weights.as_slice(), pickles.first()) {
        ([only], _) => Ok(folder.join(only)),
        ([], Some(pickle)) => Err(pickled(&folder.join(pickle))),
        ([], None) => Err(Error::file(
            folder,
            "holds no model",
            "name a run folder, one of its checkpoints/step_N, or a folder with open_clip_model.safetensors or model.safetensors",
        )),
        ([first, second, ..], _) => Err(Error::file(
            folder,
            format!("holds {} files of weights (`{first}`, `{second}`)", weights.len()),
            "name the one that you mean",
        )),
    }
}

/// What a file of weights stands for.
fn weights(path: &Path) -> Result<ModelFiles> {
    if path.to_string_lossy().ends_with(INDEX) {
        return Ok(ModelFiles::Weights { named: path.to_owned(), files: shards(path)? });
    }
    let mut start = Vec::new();
    let file = fs::File::open(path).io("open", path)?;
    if !file.metadata().io("read", path)?.is_file() {
        return Err(Error::file(path, "is no regular file", "name a file of weights"));
    }
    file.take(64).read_to_end(&mut start).io("read", path)?;
    if start.is_empty() {
        return Err(Error::file(path, "is empty", "fetch it again"));
    }
    // A zip archive, or the mark of a pickle of any protocol in use.
    let looks_pickled = start.starts_with(b"PK\x03\x04") || matches!(start.as_slice(), [0x80, 2..=5, ..]);
    if is_pickle(path) || looks_pickled {
        return Err(pickled(path));
    }
    if start.starts_with(b"version https://git-lfs") {
        return Err(Error::file(
            path,
            "is a pointer of Git LFS, and not the weights",
            "fetch them with `git lfs pull`",
        ));
    }
    // A file of one of our checkpoints is that checkpoint: its state says which tokens the vocabulary has.
    let folder = path.parent().unwrap_or(Path::new("."));
    if folder.join(STATE).is_file()
        && folder.join(CONFIG).is_file()
        && path.file_name().is_some_and(|n| n == "model.safetensors")
    {
        return Ok(ModelFiles::Checkpoint(folder.to_owned()));
    }
    Ok(ModelFiles::Weights { named: path.to_owned(), files: vec![path.to_owned()] })
}

fn is_pickle(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| PICKLES.contains(&ending.as_str()))
}

fn pickled(path: &Path) -> Error {
    Error::file(
        path,
        "is a torch pickle, which may run code when it is read, and is never read here",
        INSTEAD_OF_PICKLE,
    )
}

/// transformers' list of the shards of a large model.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn shards(path: &Path) -> Result<Vec<PathBuf>> {
    let index: Index = artifact::read_json(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let plain = |name: &&&String| name.ends_with(".safetensors") && !name.contains(['/', '\\']);
    match names.iter().find(|name| !plain(name)) {
        Some(other) => Err(Error::file(
            path,
            format!("names the shard `{other}`"),
            "give shards that are safetensors in its own folder",
        )),
        None if names.is_empty() || names.len() > MOST_SHARDS => {
            Err(Error::file(path, format!("names {} shards", names.len()), "give the list of a model's shards"))
        }
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn taken(files: &[(&str, &[u8])]) -> std::result::Result<Vec<String>, String> {
        let folder = folder(files);
        match model_files(folder.path()) {
            Ok(ModelFiles::Weights { files, .. }) => {
                Ok(files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect())
            }
            Ok(ModelFiles::Checkpoint(_)) => Ok(vec!["checkpoint".into()]),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_folder_is_its_weights() {
        let one: &[u8] = b"weights";
        assert_eq!(
            taken(&[("model.safetensors", one), ("open_clip_model.safetensors", one)]).unwrap(),
            ["open_clip_model.safetensors"]
        );
        assert_eq!(taken(&[("model.safetensors", one), ("pytorch_model.bin", one)]).unwrap(), ["model.safetensors"]);
        assert_eq!(taken(&[("mine.safetensors", one)]).unwrap(), ["mine.safetensors"]);
        let index = br#"{"metadata": {}, "weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}"#;
        assert_eq!(
            taken(&[("model.safetensors.index.json", index)]).unwrap(),
            ["model-1.safetensors", "model-2.safetensors"]
        );
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        assert!(taken(&[]).unwrap_err().contains("holds no model"));
        let two = taken(&[("a.safetensors", b"a"), ("b.safetensors", b"b"), ("c.txt", b"c")]).unwrap_err();
        assert!(two.contains("2 files of weights") && two.contains("`a.safetensors`"), "{two}");
        for (name, bytes) in [
            ("open_clip_pytorch_model.bin", b"a" as &[u8]),
            ("model.PT", b"a"),
            ("model.safetensors", b"PK\x03\x04"),
            ("model.safetensors", b"\x80\x02c"),
        ] {
            let said = taken(&[(name, bytes)]).unwrap_err();
            assert!(said.contains("pickle") && said.contains("save_file"), "{said}");
        }
        assert!(taken(&[("model.safetensors", b"")]).unwrap_err().contains("is empty"));
        assert!(
            taken(&[("model.safetensors", b"version https://git-lfs.example/spec/v1\n")])
                .unwrap_err()
                .contains("git lfs pull")
        );
        for shard in ["../other.safetensors", "a.bin"] {
            let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
            let said = taken(&[("model.safetensors.index.json", index.as_bytes())]).unwrap_err();
            assert!(said.contains(shard), "{said}");
        }
        assert!(taken(&[("model.safetensors.index.json", br#"{"weight_map": {}}"#)]).unwrap_err().contains("0 shards"));
    }
}
