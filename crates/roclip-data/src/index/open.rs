//! Which index a source has, where it lies, and making it where it is wanted and there is none.

use crate::artifact;
use crate::error::{Error, Result};
use crate::index::file::{ENDING, HIDDEN, remedy};
use crate::index::stored::Index;
use crate::index::write::write;
use crate::picture::ImageLimits;
use crate::plural::count;
use crate::source::{Described, SourceConfig, describe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a source is read through an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexUse {
    /// Where it is large.
    Auto,
    Always,
    Never,
    /// Through this one, which is never made anew.
    Named(PathBuf),
}

impl IndexUse {
    /// As settings have it: `auto`, `always`, `never` or the path of an index.
    pub fn of(setting: &str) -> IndexUse {
        match setting {
            "auto" => IndexUse::Auto,
            "always" => IndexUse::Always,
            "never" => IndexUse::Never,
            path => IndexUse::Named(path.into()),
        }
    }
}

/// An open index.
pub struct Indexed {
    pub index: Arc<Index>,
    /// What a person should know: that it was made, and why.
    pub remark: Option<String>,
}

/// The index that `config` is to be read through, made with `workers` threads where there is none that is true; none where the list is to be
/// held in memory, and why, where that is worth a word.
///
/// # Errors
/// An index that was named and is not of this data, data that no index can name and that must have one, and those of making it.
pub fn open_or_make(
    config: &SourceConfig,
    limits: ImageLimits,
    wanted: &IndexUse,
    workers: usize,
) -> Result<(Option<Indexed>, Option<String>)> {
    if *wanted == IndexUse::Never {
        return Ok((None, None));
    }
    let Some(described) = describe(config, limits)? else {
        return match wanted {
            IndexUse::Auto | IndexUse::Never => Ok((None, None)),
            IndexUse::Always | IndexUse::Named(_) => Err(cannot(config)),
        };
    };
    match wanted {
        IndexUse::Named(path) => {
            let index = Index::open(path)?;
            if !index.is_of(&described) {
                return Err(of_other_data(path, config, "name the index of this data, or leave --index out"));
            }
            match index.stale() {
                None => Ok((Some(Indexed { index: Arc::new(index), remark: None }), None)),
                Some(changed) => Err(Error::file(
                    path,
                    format!("is not true any more: {changed}"),
                    format!("{}, or leave --index out", remedy(path)),
                )),
            }
        }
        IndexUse::Auto if !described.is_large => Ok((None, None)),
        _ => automatic(config, limits, &described, workers),
    }
}

/// The index where it is looked for without being named.
fn automatic(
    config: &SourceConfig,
    limits: ImageLimits,
    described: &Described,
    workers: usize,
) -> Result<(Option<Indexed>, Option<String>)> {
    let mut why =
        if described.is_large { "the data is large" } else { "--index always (data.index) asks for one" }.to_owned();
    for path in places(described) {
        if !path.exists() {
            continue;
        }
        let found = Index::open(&path).and_then(|index| index.skips().map(|_| index));
        why = match found {
            Err(error) => format!("the one that is there cannot be used ({error})"),
            Ok(index) if !index.is_of(described) => "the one that is there is of other data".to_owned(),
            Ok(index) => match index.stale() {
                None => return Ok((Some(Indexed { index: Arc::new(index), remark: None }), None)),
                Some(changed) => format!("{changed} after the last one was made"),
            },
        };
    }
    let Some(path) = places(described).into_iter().find(|path| artifact::check_file_writable(path).is_ok()) else {
        let said = "no index is made, for neither the folder of the data nor the cache folder can be written in: the list of pairs is held in memory";
        return Ok((None, Some(said.to_owned())));
    };
    write(&path, config, limits, described, workers)?;
    let index = Arc::new(Index::open(&path)?);
    let remark = Some(format!(
        "made the index `{}` of {} with {}: {why}",
        path.display(),
        count(index.samples(), "picture"),
        count(index.captions(), "caption")
    ));
    Ok((Some(Indexed { index, remark }), None))
}

/// Makes the index of `config` at `out`, or where it is looked for.
///
/// # Errors
/// Data that no index can name, a place that cannot be written, and those of the list.
pub fn make(config: &SourceConfig, limits: ImageLimits, out: Option<&Path>, workers: usize) -> Result<Index> {
    let described = describe(config, limits)?.ok_or_else(|| cannot(config))?;
    let path = match out {
        Some(path) => path.to_owned(),
        None => {
            let mut all = places(&described).into_iter();
            let writable = all.find(|path| artifact::check_file_writable(path).is_ok());
            writable.ok_or_else(|| {
                Error::setting(
                    "neither the folder of the data nor the cache folder can be written in",
                    "name a file with --out",
                )
            })?
        }
    };
    write(&path, config, limits, &described, workers)?;
    Index::open(&path)
}

/// The index of `config` that is there: at `path`, or where it is looked for.
///
/// # Errors
/// Data that no index can name, no index, and one of other data.
pub fn existing(config: &SourceConfig, limits: ImageLimits, path: Option<&Path>) -> Result<Index> {
    let described = describe(config, limits)?.ok_or_else(|| cannot(config))?;
    let found = match path {
        Some(path) => Some(path.to_owned()),
        None => places(&described).into_iter().find(|path| path.exists()),
    };
    let Some(path) = found else {
        return Err(Error::setting(
            format!("`{}` has no index beside it or in the cache folder", config.path),
            "make it (without --check), or say with --out where it lies",
        ));
    };
    let index = Index::open(&path)?;
    match index.is_of(&described) {
        true => Ok(index),
        false => Err(of_other_data(&path, config, "name the index of this data with --out, or the data that it is of")),
    }
}

fn of_other_data(path: &Path, config: &SourceConfig, remedy: &str) -> Error {
    Error::file(path, format!("is the index of other data, or of `{}` read with other settings", config.path), remedy)
}

fn cannot(config: &SourceConfig) -> Error {
    Error::setting(
        format!("`{}` cannot be read through an index", config.path),
        "an index is of CSV, TSV, JSON lines, Parquet and uncompressed tar shards, without a labels file; pictures of *.tar.gz are held in memory: repack large ones as *.tar; folders of pictures are listed each time",
    )
}

/// Where the index may lie: beside the data, hidden as its own readers wish, or in the cache folder.
fn places(described: &Described) -> Vec<PathBuf> {
    let digest = artifact::sha256_hex(described.identity.as_bytes());
    let name = format!("{HIDDEN}{}{ENDING}", digest.get(..16).unwrap_or(&digest));
    let beside = described.files.first().and_then(|file| file.parent()).map(Path::to_owned);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let folders = beside.into_iter().chain(cache.map(|cache| cache.join("roclip")));
    folders.map(|folder| folder.join(&name)).collect()
}
