//! Features of a recipe's pairs: by a model, or out of a folder that this program or another one wrote.
//!
//! The folder holds `image.npy` and `text.npy` (`[pairs, dim]`, 16-, 32- or 64-bit floats, not made unit ones) and `pairs.jsonl`, a line a
//! row: its `id`, and under `picture` a number that copies of one picture share, where that is known.

use crate::detect::Features;
use crate::embed::{AT_A_TIME, AllEmbedded, Embedder};
use crate::error::{Error, IoContext, Result};
use crate::eval::{NO_IMAGES, write_npy};
use crate::model::{Clip, unit};
use crate::recipe::Recipe;
use crate::run::plain::plain_transform;
use crate::run::prepare::{Prepared, prepare_training};
use roclip_data::batch::{Loader, Transform};
use roclip_data::escape::for_terminal;
use roclip_data::pairs::{Pair, Pairs};
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use roclip_data::{artifact, bounded};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

const IMAGE: &str = "image.npy";
const TEXT: &str = "text.npy";
const PAIRS: &str = "pairs.jsonl";
/// Bytes of a line of `pairs.jsonl`.
const LONGEST_LINE: usize = 1 << 20;

/// Pairs that can be read, with their features.
pub struct PairFeatures {
    pub data: Arc<Pairs>,
    /// Index of each row of the features into `data`.
    pub rows: Vec<usize>,
    pub features: Features,
    /// What the source could not use, and is not among `data`.
    pub skips: SkipReport,
}

/// A line of `pairs.jsonl`. Others may say more of a pair.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    picture: Option<i64>,
    /// sha256 of the captions that were encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    captions_sha256: Option<String>,
}

fn captions_sha256(pair: &Pair) -> String {
    artifact::sha256_hex(pair.captions.join("\n").as_bytes())
}

impl PairFeatures {
    /// Encodes the pairs of `recipe`, with the poison that it knows of laid over them.
    ///
    /// # Errors
    /// Those that a run of the recipe would begin with, and no picture that can be read.
    pub fn encode(recipe: &Recipe, model: &Clip, tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        let (data, skips) = pairs(recipe)?;
        if data.len() < 2 {
            return Err(Error::setting(
                "the data have a single pair, and pairs are suspicious beside others",
                "name more with --train-data",
            ));
        }
        // Each picture is looked at once.
        let transform = Transform { cache_bytes: 0, ..plain_transform(recipe, model, Arc::clone(tokenizer)) };
        let loader = Loader::new(Arc::clone(&data), transform, AT_A_TIME.min(data.len()), recipe.data.workers)?;
        let AllEmbedded { pairs: rows, pictures, image, image_norms, text } =
            Embedder { model, loader: &loader, device: model.scale().device() }.all(data.len())?;
        Ok(PairFeatures { data, rows, features: Features { image, image_norms, text, pictures }, skips })
    }

    /// The same features for another look; nothing is copied.
    pub fn again(&self) -> Self {
        let Features { image, image_norms, text, pictures } = &self.features;
        let features = Features {
            image: image.shallow_clone(),
            image_norms: image_norms.shallow_clone(),
            text: text.shallow_clone(),
            pictures: pictures.clone(),
        };
        PairFeatures { data: Arc::clone(&self.data), rows: self.rows.clone(), features, skips: self.skips.clone() }
    }

    /// Reads the features of the pairs of `recipe` from `folder`. Pairs that it has none of count as those that cannot be read.
    ///
    /// # Errors
    /// A file that is missing or no array of two dimensions, rows that do not fit each other, and ids that the data does not have.
    pub fn read(folder: &Path, recipe: &Recipe) -> Result<Self> {
        let (image, text) = (array(&folder.join(IMAGE))?, array(&folder.join(TEXT))?);
        let lines = lines(&folder.join(PAIRS))?;
        let (shape, other) = (image.size(), text.size());
        if shape != other || shape.first() != Some(&(lines.len() as i64)) {
            return Err(Error::file(
                folder,
                format!("{IMAGE} has the shape {shape:?}, {TEXT} {other:?}, and {PAIRS} {} lines", lines.len()),
                "give one row of each and one line for each pair, of one width",
            ));
        }
        let (data, skips) = pairs(recipe)?;
        let there = data.places(lines.iter().map(|line| line.id.as_str()));
        let rows: Vec<usize> = lines.iter().filter_map(|line| there.get(line.id.as_str()).copied()).collect();
        if rows.len() < lines.len() {
            let stranger = lines.iter().find(|line| !there.contains_key(line.id.as_str()));
            return Err(Error::file(
                &folder.join(PAIRS),
                format!(
                    "{} of {} ids are not among the {} pairs (first: `{}`): these are features of other data",
                    lines.len() - rows.len(),
                    lines.len(),
                    data.len(),
                    stranger.map_or("", |line| line.id.as_str())
                ),
                "name the data that was encoded, or encode this data (`roclip detect pairs MODEL --write-features FOLDER`)",
            ));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = lines.iter().find(|line| !seen.insert(line.id.as_str())) {
            return Err(Error::file(
                &folder.join(PAIRS),
                format!("the id `{}` stands twice", twice.id),
                "give one row for each pair",
            ));
        }
        let differs = |line: &Line, row: usize| {
            let encoded = line.captions_sha256.as_ref();
            encoded.is_some_and(|encoded| data.get(row).is_none_or(|pair| captions_sha256(&pair) != *encoded))
        };
        if let Some((other, _)) = lines.iter().zip(&rows).find(|(line, row)| differs(line, **row)) {
            return Err(Error::file(
                &folder.join(PAIRS),
                format!("the captions of `{}` are others than those that were encoded", for_terminal(&other.id)),
                "encode this data (`roclip detect pairs MODEL --write-features FOLDER`)",
            ));
        }
        let image_norms = image.norm_scalaropt_dim(2, [1i64], false);
        let pictures = lines.iter().zip(1..).map(|(line, number)| line.picture.unwrap_or(-number)).collect();
        let features = Features { image: unit(&image), image_norms, text: unit(&text), pictures };
        Ok(PairFeatures { data, rows, features, skips })
    }

    /// Writes a folder that [`PairFeatures::read`] reads, whole or not at all.
    ///
    /// # Errors
    /// A folder that is there already, and what the disk says.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let Features { image, image_norms, text, pictures } = &self.features;
        artifact::write_folder(folder, |folder| {
            write_npy(&folder.join(IMAGE), &(image * image_norms.unsqueeze(1)))?;
            write_npy(&folder.join(TEXT), text)?;
            artifact::write_with(&folder.join(PAIRS), |out| {
                for (row, picture) in self.rows.iter().zip(pictures) {
                    let Some(pair) = self.data.get(*row) else { continue };
                    let line = Line {
                        id: pair.id.clone(),
                        picture: Some(*picture).filter(|picture| *picture > 0),
                        captions_sha256: Some(captions_sha256(&pair)),
                    };
                    let line = serde_json::to_string(&line).map_err(|cause| Error::internal(cause.to_string()))?;
                    writeln!(out, "{line}").io("write", &folder.join(PAIRS))?;
                }
                Ok::<(), Error>(())
            })
        })
    }
}

/// The pairs of `recipe`, with the poison that it knows of, and what is none of them.
fn pairs(recipe: &Recipe) -> Result<(Arc<Pairs>, SkipReport)> {
    let mut recipe = recipe.clone();
    // Each pair is looked at once, however often an epoch has it: a list names pairs, and a repeat is no pair of the data.
    recipe.data.weights = None;
    if recipe.manifest.is_none() && recipe.poison.attacks.is_empty() {
        // Labelled images are for attacks alone here.
        recipe.eval.source.path = NO_IMAGES.to_owned();
        recipe.eval.probe = None;
    }
    let Prepared { pairs, skips, .. } = prepare_training(&recipe)?;
    Ok((Arc::new(pairs), skips))
}

/// An array of two dimensions, as 32-bit floats.
fn array(path: &Path) -> Result<Tensor> {
    let refuse = |what: String| Error::file(path, what, "write it with numpy.save: [pairs, dim], floats, in C order");
    let (file, length) = bounded::open(path).io("read", path)?;
    let told = promised_bytes(file).ok_or_else(|| refuse("has no header of an array".into()))?;
    if told != length {
        return Err(refuse(format!("has {length} bytes, and its header speaks of {told}")));
    }
    let read = Tensor::read_npy(path).map_err(|cause| refuse(format!("cannot be read as an array: {cause}")))?;
    match read.size().as_slice() {
        [rows, dim] if *rows > 0 && *dim > 0 && read.is_floating_point() => Ok(read.to_kind(Kind::Float)),
        shape => Err(refuse(format!("holds {:?} of the shape {shape:?}", read.kind()))),
    }
}

/// The length of an array's file by its header. What reads the numbers does not ask whether all of them are there.
fn promised_bytes(mut file: std::fs::File) -> Option<u64> {
    let mut start = [0; 10];
    file.read_exact(&mut start).ok()?;
    let length: u64 = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, low, high] => u64::from(u16::from_le_bytes([low, high])),
        _ => return None,
    };
    let mut header = String::new();
    file.take(length).read_to_string(&mut header).ok()?;
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start_matches([':', ' ', '\'']));
    let size: u64 = after("'descr'")?.trim_start_matches(['<', '|', '=']).get(1..2)?.parse().ok()?;
    let shape = after("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    let numbers = sides.map(|side| side.parse::<u64>().ok()).try_fold(1u64, |all, side| all.checked_mul(side?))?;
    numbers.checked_mul(size)?.checked_add(start.len() as u64 + length)
}

fn lines(path: &Path) -> Result<Vec<Line>> {
    let (file, _) = bounded::open(path).io("read", path)?;
    let (mut reader, mut found, mut line) = (BufReader::new(file), Vec::new(), Vec::new());
    loop {
        line.clear();
        let mut bounded = reader.by_ref().take(LONGEST_LINE as u64);
        if bounded.read_until(b'\n', &mut line).io("read", path)? == 0 {
            return Ok(found);
        }
        found.push(serde_json::from_slice(&line).map_err(|cause| {
            Error::file(
                path,
                format!("line {}: {cause}", found.len() + 1),
                "give a line {\"id\": \"...\"} for each row",
            )
        })?);
    }
}
