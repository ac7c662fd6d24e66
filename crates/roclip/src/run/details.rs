//! `details.json`: what a report shows of the trained model beside its rates, measured when the run ends.

use crate::error::Result;
use crate::eval::Details;
use crate::run::numbers::read_measured;
use roclip_data::artifact;
use std::path::Path;

const FILE: &str = "details.json";

pub(super) fn keep_details(run: &Path, details: &Details) -> Result<()> {
    Ok(artifact::write_json(&run.join(FILE), details)?)
}

/// The details that the run in `folder` kept; none of a run that kept none.
pub fn read_details(folder: &Path) -> Result<Option<Details>> {
    let path = folder.join(FILE);
    Ok(if path.is_file() { Some(read_measured(&path)?) } else { None })
}
