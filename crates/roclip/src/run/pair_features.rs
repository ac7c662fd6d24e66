//! Features of a recipe's pairs: by a model, or out of a folder that this program or another one wrote.
//!
//! The folder holds `image.npy` and `text.npy` (`[pairs, dim]`, 16-, 32- or 64-bit floats, not made unit ones) and `pairs.jsonl`, a line a
//! row: its `id`, and under `picture` a number that copies of one picture share, where that is known.

use crate::detect::{Features, first_without_numbers};
use crate::embed::{AT_A_TIME, AllEmbedded, Embedder};
use crate::error::{Error, IoContext, Result};
use crate::eval::{NO_IMAGES, write_npy};
use crate::model::{Clip, extent, unit};
use crate::recipe::Recipe;
use crate::run::feature_array::FeatureArray;
use crate::run::plain::plain_transform;
use crate::run::prepare::{Prepared, prepare_training};
use roclip_data::batch::{Loader, Transform};
use roclip_data::escape::for_terminal;
use roclip_data::pairs::{Pair, Pairs};
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use roclip_data::{artifact, bounded};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

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

    /// Values of each row.
    pub fn width(&self) -> i64 {
        extent(&self.features.image, 1)
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
    /// A file that is missing or no array of two dimensions, rows that do not fit each other, ids that the data does not have, and values that are
    /// no numbers.
    pub fn read(folder: &Path, recipe: &Recipe) -> Result<Self> {
        let (of_image, of_text) = (FeatureArray::open(&folder.join(IMAGE))?, FeatureArray::open(&folder.join(TEXT))?);
        let lines = lines(&folder.join(PAIRS))?;
        let (shape, other) = (of_image.size().unwrap_or_default(), of_text.size().unwrap_or_default());
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
        let (image, image_norms) = numbers(&folder.join(IMAGE), &of_image, &lines)?;
        make_unit(&image);
        let (text, _) = numbers(&folder.join(TEXT), &of_text, &lines)?;
        make_unit(&text);
        let features = Features { image, image_norms, text, pictures: picture_numbers(&lines) };
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

/// The numbers of `array`, of which each row is of one of `lines`, and the length of each row.
///
/// # Errors
/// The first that is none, or is so large that its row has no length, with its row and its pair.
fn numbers(path: &Path, array: &FeatureArray, lines: &[Line]) -> Result<(Tensor, Tensor)> {
    let rows = array.read()?;
    let refuse = |row: i64, what: &str| {
        let id = usize::try_from(row).ok().and_then(|row| lines.get(row)).map_or("", |line| line.id.as_str());
        Error::file(
            path,
            format!("row {row}, from 0, which is of `{}`, has values that are {what}", for_terminal(id)),
            "encode that pair anew, with a model whose training did not diverge, or take its row out of all three files",
        )
    };
    if let Some(row) = first_without_numbers(&rows) {
        return Err(refuse(row, "no numbers, or infinite"));
    }
    let lengths = rows.norm_scalaropt_dim(2, [1i64], false);
    match first_without_numbers(&lengths) {
        None => Ok((rows, lengths)),
        Some(row) => Err(refuse(row, "so large that their squares are infinite")),
    }
}

/// Makes `rows` unit ones where they stand.
fn make_unit(rows: &Tensor) {
    let count = extent(rows, 0);
    for from in (0..count).step_by(AT_A_TIME) {
        let mut some = rows.narrow(0, from, (AT_A_TIME as i64).min(count - from));
        some.copy_(&unit(&some));
    }
}

/// A number for the picture of each of `lines`: one for all that give one `picture`, whatever it is, and one of its own for each that gives none.
fn picture_numbers(lines: &[Line]) -> Vec<i64> {
    let mut known = HashMap::new();
    let of = |(line, place): (&Line, i64)| match line.picture {
        Some(picture) => *known.entry(picture).or_insert(place),
        None => place,
    };
    lines.iter().zip(0..).map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_a_number_and_other_pictures_have_none_in_common() {
        let line = |picture| Line { id: String::new(), picture, captions_sha256: None };
        // A number of another program's may be that of a row, or below 0.
        let lines = [None, Some(-1), Some(0), Some(-1), None, Some(i64::MIN)].map(line);
        assert_eq!(picture_numbers(&lines), [0, 1, 2, 1, 4, 5]);
    }

    #[test]
    fn rows_are_made_unit_ones_where_they_stand() {
        let rows = Tensor::from_slice(&[3f32, 4.0, 0.0, 2.0]).view([2, 2]);
        make_unit(&rows);
        assert_eq!(Vec::<f32>::try_from(rows.view([-1])).unwrap(), [0.6, 0.8, 0.0, 1.0]);
    }

    #[test]
    fn a_row_whose_length_is_infinite_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(IMAGE);
        let lines = ["a", "b"].map(|id| Line { id: id.to_owned(), picture: None, captions_sha256: None });
        let read = |large: f32| {
            write_npy(&path, &Tensor::from_slice(&[3f32, 4.0, large, 1.0]).view([2, 2])).unwrap();
            numbers(&path, &FeatureArray::open(&path).unwrap(), &lines)
        };
        let (_, lengths) = read(0.0).unwrap();
        assert_eq!(Vec::<f32>::try_from(lengths).unwrap(), [5.0, 1.0]);
        let said = read(1e30).unwrap_err().to_string();
        assert!(said.contains("row 1, from 0, which is of `b`") && said.contains("so large"), "{said}");
        assert!(read(f32::NAN).unwrap_err().to_string().contains("no numbers, or infinite"));
    }
}
