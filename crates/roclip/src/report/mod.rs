//! What happened, for people: one self-contained HTML file, and the figures as JSON, CSV and LaTeX. All are made of run folders alone.

mod attack_page;
mod backdoor_page;
mod captioners;
mod chart;
mod classes;
mod comparison;
mod curves;
mod data_set;
mod detector;
mod distillation;
mod export;
mod grid;
mod group;
mod html;
mod inputs;
mod lead;
mod next_steps;
mod paired;
mod pictures;
mod projection;
mod prompts;
mod reproduce;
mod safe_set;
mod sheet;
mod statistics;
mod style;
mod suspects;
mod table;
mod targets;
mod verdict;

pub use crate::results::{
    EpochRecord, Experiment, Hits, NamedRun, ResultRow, RunRecord, SeedSummary, Spread, key_columns, key_legend,
    over_seeds, read_run,
};
pub use crate::run::{check_inputs_folder, check_report_folder, check_suspects_folder};
pub use attack_page::{success_in_words, write_attack_page};
pub use backdoor_page::write_backdoor_page;
pub use data_set::{statistics_lines, write_statistics};
pub use inputs::inputs_page;
pub use next_steps::{NextStep, enough_seeds};
pub use sheet::write_sheet;
pub use suspects::write_suspects;

use crate::error::{Error, Result};
use crate::results::read_runs;
use roclip_data::artifact;
use std::path::{Path, PathBuf};

/// What a report says, for a terminal.
pub struct Report {
    /// One a run, in the order of the tables.
    pub rows: Vec<ResultRow>,
    /// The same rows with what is said of them, by what they were measured on.
    pub data: Vec<ReportedData>,
    pub next_steps: Vec<NextStep>,
    /// Runs that were left out: another one has their recipe and seed.
    pub repeated: Vec<PathBuf>,
    /// `report.html`.
    pub page: PathBuf,
}

/// Rows that may stand in one table.
pub struct ReportedData {
    /// What they were measured on, and trained on where that is one.
    pub title: String,
    /// In which settings that differs from the data of the others, as `key = value`.
    pub apart: Vec<String>,
    /// Where they were trained on different data: which of them on what, a line for each.
    pub trained: Vec<String>,
    pub rows: Vec<ResultRow>,
    /// One sentence a row of the table.
    pub sentences: Vec<String>,
    /// What makes rows doubtful.
    pub doubts: Vec<String>,
}

/// Reads finished runs and writes `report.html`, `results.json`, `results.csv` and `results.tex` into `output`. `more_seeds` is the command
/// that trains further seeds of all of them, where one did; without it the report looks for one.
pub fn write_report(runs: &[PathBuf], more_seeds: Option<&str>, output: &Path) -> Result<Report> {
    write_named_report(&runs.iter().map(NamedRun::from).collect::<Vec<_>>(), more_seeds, output)
}

/// [`write_report`] with names for the rows.
pub fn write_named_report(runs: &[NamedRun], more_seeds: Option<&str>, output: &Path) -> Result<Report> {
    if runs.is_empty() {
        return Err(Error::setting("no runs to report on", "name one or more run folders"));
    }
    check_report_folder(output, "--out")?;
    let runs = read_runs(runs)?;
    let rows: Vec<ResultRow> = runs.records.iter().map(|record| record.row.clone()).collect();
    // The page reads the runs' pictures, and can fail; then no file is written.
    let page = html::page(&runs, &rows, more_seeds)?;
    let json = serde_json::to_string_pretty(&rows).map_err(|e| Error::internal(format!("JSON: {e}")))? + "\n";
    let path = output.join("report.html");
    // Results and page are of one report.
    artifact::write_together(&[
        (path.clone(), page.html.as_bytes()),
        (output.join("results.json"), json.as_bytes()),
        (output.join("results.csv"), page.csv.as_bytes()),
        (output.join("results.tex"), page.latex.as_bytes()),
    ])?;
    Ok(Report { rows, data: page.parts, next_steps: page.next_steps, repeated: runs.repeated, page: path })
}
