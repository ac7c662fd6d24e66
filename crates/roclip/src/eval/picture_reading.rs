//! What a model makes of each picture, to be written to files.

use crate::error::{Error, Result};
use roclip_data::artifact;
use serde::Serialize;
use std::path::Path;
use tch::Tensor;

/// Guesses of each picture that are written.
pub const GUESSES_WRITTEN: usize = 5;

/// One picture that was read.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct PictureReading {
    pub dataset: String,
    pub id: String,
    /// Its class.
    pub label: String,
    /// The likeliest class.
    pub prediction: String,
    /// Of the prediction, by a softmax over all classes at the model's own temperature.
    pub probability: f64,
    /// The likeliest classes, best first, at most five.
    pub top5: Vec<Guess>,
}

#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Guess {
    pub class: String,
    pub probability: f64,
}

/// All pictures of a data set that were read, and their features.
pub struct Pictures {
    pub readings: Vec<PictureReading>,
    /// `[readings, dim]`, projected and not normalised, in the order of the readings.
    pub features: Tensor,
}

/// Writes readings as JSON lines, or as a table where the name ends in `.csv`.
pub fn write_predictions(path: &Path, readings: &[PictureReading]) -> Result<()> {
    let failed = |e: String| Error::internal(format!("predictions: {e}"));
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("csv")) {
        return Ok(artifact::write_json_lines(path, readings)?);
    }
    let mut table = csv::Writer::from_writer(Vec::new());
    let ranks = (1..=GUESSES_WRITTEN).flat_map(|rank| [format!("top_{rank}"), format!("probability_{rank}")]);
    let head = ["dataset", "id", "label", "prediction", "probability"].map(str::to_owned);
    table.write_record(head.into_iter().chain(ranks)).map_err(|e| failed(e.to_string()))?;
    for reading in readings {
        let own = [&reading.dataset, &reading.id, &reading.label, &reading.prediction].map(String::clone);
        let guesses = (0..GUESSES_WRITTEN).flat_map(|at| {
            let guess = reading.top5.get(at);
            [
                guess.map_or(String::new(), |g| g.class.clone()),
                guess.map_or(String::new(), |g| g.probability.to_string()),
            ]
        });
        let row = own.into_iter().chain([reading.probability.to_string()]).chain(guesses);
        table.write_record(row).map_err(|e| failed(e.to_string()))?;
    }
    Ok(artifact::write(path, &table.into_inner().map_err(|e| failed(e.to_string()))?)?)
}
