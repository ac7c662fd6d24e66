//! Sources: what lists samples. A format is one file here.
//!
//! A source names its samples once. Samples that cannot be used are skipped, counted by reason and written down
//! (`skips.jsonl`), never dropped in silence.

mod annotated_folder;
mod annotations;
mod captions;
mod config;
mod csv;
mod emoji;
mod files;
mod folder;
mod json;
mod json_rows;
mod kept;
mod labels;
mod listing;
mod losses;
mod members;
mod metadata;
mod parquet;
mod pattern;
mod records;
mod rows;
mod seen;
mod shards;
mod spelling;
mod stream;
mod text_encoding;
mod tree;
mod webdataset;

pub use config::{BUILT_IN, SourceConfig};
pub use emoji::{EmojiClasses, EmojiConfig};
pub(crate) use files::files_of;
pub use kept::{Kept, Leaving};
pub use labels::{LabelFile, Labels};
pub use listing::{Listing, allowed_losses};
pub(crate) use members::{Group, Name, Parts, can_be_key, escapes};
pub(crate) use metadata::POISON_FIELD;
pub(crate) use shards::{distinct_ends, is_gzip, is_shard};
pub use spelling::part_count;
pub use stream::{Described, Streamed, describe, stream_samples};
pub(crate) use tree::{Kind, READ_FORMATS};
pub(crate) use webdataset::{Metered, shard_stem, whole};

use crate::artifact;
use crate::error::{Error, IoContext, Result};
use crate::picture::ImageLimits;
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason};
use crate::source::kept::Leave;
use crate::source::seen::Seen;
use crate::source::spelling::{path_parts, place};
use crate::source::tree::Tree;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Who is handed samples one after the other.
type Take<'a> = &'a mut dyn FnMut(Sample) -> Result<()>;

/// Whether a source could hand on all that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Whole,
    /// Parts of one sample lie apart: only [`Source::list`], which holds all samples, can join them.
    Apart,
}

/// Of lists, from which an index pays: about a hundred thousand rows.
const LARGE_LIST_BYTES: u64 = 8 << 20;
/// The same of shards, which hold the pictures, too.
const LARGE_SHARDS_BYTES: u64 = 256 << 20;

/// Something that can list samples. A format is one file with one of these.
trait Source {
    /// Files and folders that it reads, so that nothing is read twice.
    fn places(&self) -> Vec<PathBuf>;

    fn list(&self) -> Result<Listing>;

    /// From how many bytes of its files on an index pays; none where its pictures are no files and no spans of files, which an index could
    /// name, or where it holds little enough in memory.
    fn worth_an_index(&self) -> Option<u64> {
        None
    }

    /// [`Source::list`] that hands every sample to `take` as soon as it is whole, and holds none.
    fn stream(&self, take: Take) -> Result<(Listing, Rest)> {
        let mut listing = self.list()?;
        std::mem::take(&mut listing.samples).into_iter().try_for_each(take)?;
        Ok((listing, Rest::Whole))
    }

    /// Whether no two samples of [`Source::stream`] have the same id.
    fn streams_distinct_ids(&self) -> bool {
        false
    }

    /// Writes the source to `out`, a file or a new folder, in its own format and without what `leave` says. Whole or not at all.
    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept>;
}

/// What is read as one.
struct Part {
    /// As it was named, or found.
    path: String,
    /// Before the ids of joined parts.
    name: String,
    /// Of the part between `::`, from 0; what a pattern stands for is of one part.
    number: u32,
    source: Box<dyn Source>,
}

/// The sources of everything that `config` joins, patterns written out.
fn parts(config: &SourceConfig, limits: ImageLimits) -> Result<Vec<Part>> {
    let mut named: Vec<(u32, String, Vec<PathBuf>)> = Vec::new();
    for (number, part) in (0..).zip(path_parts(&config.path)) {
        let paths = if part == "emoji" { vec![PathBuf::from(part)] } else { pattern::expand(part)? };
        match paths.iter().all(|path| shards::is_shard(path)) {
            // Shards are one source, however many.
            true => named.push((number, part.to_owned(), paths)),
            false => named.extend(paths.into_iter().map(|path| (number, tree::name(&path), vec![path]))),
        }
    }
    let names = part_names(&named.iter().map(|(_, part, _)| part.as_str()).collect::<Vec<_>>());
    let roots = config.image_roots()?;
    let opened = named.into_iter().zip(names).map(|((number, path, paths), name)| {
        let image_root = roots.get(number as usize).cloned().flatten();
        let source = open(&paths, &SourceConfig { image_root, ..config.clone() }, limits)?;
        Ok(Part { path, name, number, source })
    });
    opened.collect()
}

/// Lists the samples that `config` asks for, without those whose files are longer than `limits` allows.
///
/// # Errors
/// A path or a setting that cannot be, the same data named twice, or no samples at all.
pub fn list_samples(config: &SourceConfig, limits: ImageLimits) -> Result<Listing> {
    let parts = parts(config, limits)?;
    check_places(&parts, config)?;
    let mut all = Listing::default();
    for Part { name, number, source, .. } in &parts {
        let mut found = source.list()?;
        found.samples.iter_mut().for_each(|sample| sample.part = *number);
        if parts.len() > 1 {
            found = found.under(name);
        }
        all.append(found);
    }
    let mut seen = Seen::default();
    let Listing { samples, skips, .. } = &mut all;
    samples.retain(|sample| {
        let first = seen.insert(&sample.id);
        if !first {
            skips.add(&sample.id, Skip::new(SkipReason::SampleRepeated, "an earlier one has this id"));
        }
        first
    });
    all.listed = all.samples.len() + all.skips.count(SkipReason::loses_sample);
    if let Some(path) = &config.labels {
        Labels::read(path)?.apply(&mut all.samples, path)?;
    }
    if let Some(split) = &config.split {
        check_all_parts_are_split(config, all.samples.iter().map(|sample| (sample.part, sample.split.is_some())))?;
        let splits: std::collections::BTreeSet<String> = all.samples.iter().filter_map(|s| s.split.clone()).collect();
        // A folder of the split's own name is that split.
        let is_itself = splits.is_empty()
            && Path::new(&config.path).file_name().is_some_and(|name| name.eq_ignore_ascii_case(split));
        let asked = |sample: &Sample| sample.split.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(split));
        all.samples.retain(|sample| is_itself || asked(sample));
        if !is_itself {
            all.forget_losses_beside(split);
        }
        if all.samples.is_empty() && !splits.is_empty() {
            let splits: Vec<String> = splits.into_iter().take(10).collect();
            if let Some(lost) = all.lost_in_words() {
                return Err(Error::setting(
                    format!("no samples in `{}` in split `{split}` can be read: {lost}", config.path),
                    format!("repair or fetch again what is lost; beside it are the splits `{}`", splits.join("`, `")),
                ));
            }
            return Err(Error::setting(
                format!("no samples in `{}` in split `{split}`: it has `{}`", config.path, splits.join("`, `")),
                "name one of them, or leave the split out",
            ));
        }
    }
    match all.samples.is_empty() {
        true => Err(nothing(config, &all)),
        false => Ok(all),
    }
}

/// For data of which one split is asked for: `samples` are the parts that they are of, and whether they are in a split.
///
/// # Errors
/// A joined part that has no splits beside one that has, of which nothing would be used.
pub fn check_all_parts_are_split(config: &SourceConfig, samples: impl Iterator<Item = (u32, bool)>) -> Result<()> {
    let mut parts: BTreeMap<u32, bool> = BTreeMap::new();
    samples.for_each(|(part, is_split)| *parts.entry(part).or_default() |= is_split);
    let whole = parts.iter().find(|(_, is_split)| !**is_split).map(|(part, _)| *part);
    let Some(whole) = whole.filter(|_| parts.values().any(|is_split| *is_split)) else { return Ok(()) };
    let named = path_parts(&config.path).nth(whole as usize).unwrap_or_default();
    Err(Error::setting(
        format!(
            "`{}` joins data with splits and `{named}`, which has none and would be left out of any split",
            config.path
        ),
        "name the folder or the files of the split (as in `pets/train::more`) and no split, or give that part a split, too",
    ))
}

/// # Errors
/// The same data named twice.
fn check_places(parts: &[Part], config: &SourceConfig) -> Result<()> {
    let mut places: HashMap<PathBuf, &str> = HashMap::new();
    for Part { path: part, source, .. } in parts {
        for place in source.places() {
            let inside = |other: &&PathBuf| other.is_dir() && (place.starts_with(other) || other.starts_with(&place));
            let nested = if place.is_dir() { places.keys().find(inside).cloned() } else { None };
            let nested = nested.and_then(|other| places.get(&other).copied());
            if let Some(other) = nested.or_else(|| places.insert(place, part)) {
                return Err(Error::setting(
                    format!("`{}` names the same data twice: by `{other}` and by `{part}`", config.path),
                    "name it once; each of its pairs would be two",
                ));
            }
        }
    }
    Ok(())
}

/// # Errors
/// An `out` that lies in the data that `config` names, or holds it: the next reader would take it for a part of them.
pub fn check_outside(config: &SourceConfig, limits: ImageLimits, out: &Path) -> Result<()> {
    check_apart(config, &parts(config, limits)?, out)
}

fn check_apart(config: &SourceConfig, parts: &[Part], out: &Path) -> Result<()> {
    let target = artifact::place_of_new(out);
    // A folder is read whole, whatever it will hold; and a pattern stands for all that it will match.
    let folders = parts.iter().map(|part| place(Path::new(&part.path)));
    let matched = pattern::covers(&config.path, &target);
    for data in parts.iter().flat_map(|part| part.source.places()).chain(folders) {
        if matched || data.starts_with(&target) || data.is_dir() && target.starts_with(&data) {
            return Err(Error::file(
                out,
                format!("lies in the data, or holds it (`{}`)", data.display()),
                "name another place",
            ));
        }
    }
    Ok(())
}

/// Writes what `config` names to `out` in its own format, without what `leaving` says of its `samples`, which [`list_samples`] has listed: a file
/// for a list, a folder for shards and folders; for several joined parts a folder with each under its name. Whole or not at all.
///
/// # Errors
/// An `out` that lies in the data or holds it, that has another ending than the list, and whatever cannot be written.
pub fn write_kept(
    config: &SourceConfig,
    limits: ImageLimits,
    samples: &[Sample],
    leaving: &dyn Fn(&Sample) -> Leaving,
    out: &Path,
) -> Result<Kept> {
    let parts = parts(config, limits)?;
    check_apart(config, &parts, out)?;
    let of_part = |part: &Part| -> Vec<&Sample> {
        let begins = format!("{}/", part.name);
        let is_own =
            |sample: &&Sample| parts.len() == 1 || sample.part == part.number && sample.id.starts_with(&begins);
        samples.iter().filter(is_own).collect()
    };
    let write = |part: &Part, out: &Path| {
        let own = of_part(part);
        let mut leave = Leave::default();
        own.iter().for_each(|sample| leave.add(sample, leaving(sample)));
        let kept = part.source.write_kept(&leave, out)?;
        Ok::<Kept, Error>(kept.with_pictures_of(&own, out))
    };
    if let [part] = parts.as_slice() {
        let ending = |path: &Path| path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let from = Path::new(&part.path);
        if from.is_file() && !shards::is_shard(from) && ending(from) != ending(out) {
            let wanted = ending(from).unwrap_or_default();
            return Err(Error::file(
                out,
                format!("has not the ending of the data, .{wanted}"),
                "a list is read by its ending; give it the same",
            ));
        }
        return Ok(Kept { path: out.display().to_string(), ..write(part, out)? });
    }
    artifact::write_folder(out, |folder| {
        let mut kept = Kept::default();
        let mut roots = Vec::new();
        for part in &parts {
            let mut written = write(part, &folder.join(&part.name))?;
            roots.push(written.image_root.take());
            kept.append(written);
        }
        let paths: Vec<String> = parts.iter().map(|part| out.join(&part.name).display().to_string()).collect();
        Ok(Kept { path: paths.join("::"), image_root: config::join_roots(&roots), ..kept })
    })
}

/// Where [`write_kept`] could write what `config` names: a name of the data's own kind that is not taken, beside the data where that is
/// possible; none for data that is not written again.
///
/// # Errors
/// A path or a setting that cannot be.
pub fn place_of_kept(config: &SourceConfig, limits: ImageLimits) -> Result<Option<PathBuf>> {
    let parts = parts(config, limits)?;
    if parts.iter().any(|part| part.path == "emoji") {
        return Ok(None);
    }
    let (beside, ending) = match parts.as_slice() {
        [part] => {
            let path = Path::new(&part.path);
            let is_list = path.is_file() && !shards::is_shard(path);
            let ending = path.extension().filter(|_| is_list).map(|ending| ending.to_string_lossy().to_lowercase());
            // Of shards the ending says nothing, and a pattern is no name.
            let is_named = is_list || path.is_dir();
            let stem = if is_list { path.file_stem() } else { path.file_name() };
            let stem = stem.filter(|_| is_named).map(|stem| stem.to_string_lossy().into_owned());
            (stem.map(|stem| path.with_file_name(format!("{stem}-kept"))), ending)
        }
        _ => (None, None),
    };
    let ending = ending.map(|ending| format!(".{ending}")).unwrap_or_default();
    let free = |place: PathBuf| {
        let named = artifact::unused_name(&place, &ending);
        check_apart(config, &parts, &named).is_ok().then_some(named)
    };
    let others = ["kept", "../kept"].map(PathBuf::from);
    Ok(beside.into_iter().chain(others).find_map(free))
}

/// Says that there is nothing, and what there is instead.
fn nothing(config: &SourceConfig, all: &Listing) -> Error {
    let split = config.split.as_ref().map(|s| format!(" in split `{s}`")).unwrap_or_default();
    let mut instead = Vec::new();
    if all.skips.total() > 0 {
        instead.push(all.skips.summary());
    }
    if !all.remark.is_empty() {
        instead.push(format!("there are {}", all.remark));
    }
    let instead = if instead.is_empty() { String::new() } else { format!(" ({})", instead.join("; ")) };
    Error::setting(
        format!("no samples in `{}`{split}{instead}", config.path),
        "check the path, the split and the columns",
    )
}

/// How the parts of joined data are called in ids: the shortest ends of their paths that tell them apart. The folder says more than a range of
/// shard numbers, where it is enough.
fn part_names(parts: &[&str]) -> Vec<String> {
    let folders: Vec<&str> = parts
        .iter()
        .map(|part| part.rsplit_once('/').filter(|(_, file)| pattern::is_pattern(file)).map_or(*part, |(f, _)| f))
        .collect();
    let by_folder = shards::distinct_ends(&folders);
    let different: HashSet<&String> = by_folder.iter().collect();
    if different.len() == parts.len() { by_folder } else { shards::distinct_ends(parts) }
}

/// The source that a path is, or that several shards are.
fn open(paths: &[PathBuf], config: &SourceConfig, limits: ImageLimits) -> Result<Box<dyn Source>> {
    let Some(path) = paths.first() else { return Err(Error::internal("a source of no paths")) };
    if path == Path::new("emoji") {
        return Ok(Box::new(emoji::Emoji::new(config.emoji.clone(), config.split.clone())?));
    }
    let memory = webdataset::Memory {
        file_bytes: limits.max_file_bytes,
        gzip_bytes: config.gzip_memory_mib.saturating_mul(1 << 20),
        with_sha256: config.with_sha256,
    };
    if path.is_dir() && paths.len() == 1 {
        let tree = Tree::walk(path)?;
        let root = path.to_owned();
        if !tree.shards.is_empty() {
            return Ok(Box::new(webdataset::WebDataset::of_folder(root, &tree, memory)));
        }
        if !tree.tables.is_empty() {
            return Ok(Box::new(annotated_folder::AnnotatedFolder::new(root, tree, config.clone(), memory)));
        }
        if tree.images.is_empty() && !tree.parquets.is_empty() {
            return Ok(Box::new(parquet::Parquet::new(root, tree.parquets, config.clone(), memory)));
        }
        return Ok(Box::new(folder::Folder::new(root, tree)));
    }
    if shards::is_shard(path) {
        for shard in paths {
            std::fs::metadata(shard).io("find the shard", shard)?;
        }
        return Ok(Box::new(webdataset::WebDataset::new(paths.to_vec(), memory)));
    }
    file(path, config, memory)
}

/// The source that a file is.
fn file(path: &Path, config: &SourceConfig, memory: webdataset::Memory) -> Result<Box<dyn Source>> {
    let found = std::fs::metadata(path).io("find", path)?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (path, config) = (path.to_owned(), config.clone());
    match ending.as_str() {
        _ if !found.is_file() => {}
        "csv" | "tsv" | "txt" => return Ok(Box::new(csv::Csv::new(path, config))),
        "jsonl" | "ndjson" => return Ok(Box::new(json_rows::JsonLines::new(path, config))),
        "parquet" => {
            let (folder, file) = (path.parent().map(Path::to_owned), path.file_name().map(PathBuf::from));
            let files = file.into_iter().collect();
            return Ok(Box::new(parquet::Parquet::new(folder.unwrap_or_default(), files, config, memory)));
        }
        "json" => return Ok(Box::new(annotations::Annotations::new(path, config))),
        _ => {}
    }
    Err(Error::file(
        &path,
        "is not a format known here",
        "give *.tar, *.tar.gz, *.csv, *.tsv, *.jsonl, *.parquet, *.json (COCO's captions), or a folder of shards or images",
    ))
}

#[cfg(test)]
mod tests;
