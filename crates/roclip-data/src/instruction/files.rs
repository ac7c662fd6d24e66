//! Instructions from files and shards, all of one data set.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::instruction::Instructions;
use crate::instruction::conversation::Found;
use crate::instruction::shards::GZIP_BYTES;
use crate::picture::ImageLimits;
use crate::source::{distinct_ends, files_of, is_shard};
use std::path::Path;

/// The longest file of records.
const FILE_LIMIT_BYTES: u64 = 2 << 30;

/// Reads a file of instructions, several that are joined with `::` or named by a pattern, or the shards of a folder. `image_root` is where the
/// paths of pictures start, each file's own folder when absent. Several turns about one picture are instructions of their own, without those
/// before them (ours: LLaVA learns them in one row).
///
/// # Errors
/// A file that cannot be read, and one of which nothing can be used. Records and turns that cannot be used are counted.
pub fn read_instructions(
    path: &Path,
    image_root: Option<&Path>,
    limits: ImageLimits,
    workers: usize,
) -> Result<Instructions> {
    let mut found = Found::default();
    let files = if path.is_file() { vec![path.to_owned()] } else { files_of(&path.to_string_lossy())? };
    let names: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let names = distinct_ends(&names);
    let mut gzip_left = GZIP_BYTES;
    for (file, name) in files.iter().zip(&names) {
        if is_shard(file) {
            found.read_shard(file, name, limits, &mut gzip_left)?;
            continue;
        }
        let text = bounded::read(file, FILE_LIMIT_BYTES).io("read", file)?;
        let text = String::from_utf8(text)
            .map_err(|_| Error::file(file, "is no UTF-8 text", "give JSON lines, a JSON list or shards (*.tar)"))?;
        let parent = file.parent().unwrap_or(Path::new("."));
        found.read_text(&text, image_root.unwrap_or(parent), file, name)?;
    }
    let instructions = found.probed(limits, workers);
    if instructions.items.is_empty() {
        let why = match instructions.skips.total() {
            0 => "it is empty".to_owned(),
            _ => instructions.skips.summary(),
        };
        return Err(Error::file(
            path,
            format!("has no instruction that can be used: {why}"),
            "give records with `image` and `conversations` of `human` and `gpt`, the first question with `<image>`",
        ));
    }
    Ok(instructions)
}
