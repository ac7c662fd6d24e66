//! What happened, for people: one self-contained HTML file, and one JSON object per run. Both are made of run folders alone.

mod chart;
mod experiment;
mod group;
mod html;
mod results;
mod safe_set;
mod sections;
mod seeds;
mod sheet;
mod table;

pub use experiment::Experiment;
pub use results::{EpochRecord, Hits, ResultRow, RunRecord, read_run};
pub use seeds::{SeedSummary, Spread, over_seeds};
pub use sheet::write_sheet;

use crate::error::{Error, Result};
use roclip_data::artifact;
use std::path::{Path, PathBuf};

/// Reads finished runs and writes `report.html` and `results.json` into `output`.
pub fn write_report(runs: &[PathBuf], output: &Path) -> Result<Vec<ResultRow>> {
    if runs.is_empty() {
        return Err(Error::setting("no runs to report on", "name one or more run folders"));
    }
    let records = results::read_runs(runs)?;
    let rows: Vec<ResultRow> = records.iter().map(|record| record.row.clone()).collect();
    // The page reads the runs' pictures, and can fail; then neither file is written.
    let page = html::page(&records)?;
    artifact::write_json(&output.join("results.json"), &rows)?;
    artifact::write(&output.join("report.html"), page.as_bytes())?;
    Ok(rows)
}
