//! How a row looks: one colour for what it is, in every report, and dashes and a marker as a second cue.

use crate::objective::ObjectiveName;
use crate::report::chart::Marker;
use crate::results::RunRecord;

/// Dash patterns that the style sheet names `dash-0` to `dash-5`.
const DASHES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// A name of the style sheet, from the palette of Okabe and Ito.
    pub colour: &'static str,
    dash: usize,
    pub marker: Marker,
}

impl Style {
    /// Of a row that is the `rival`-th (from 0) of its colour on the page.
    pub fn of(run: &RunRecord, rival: usize) -> Style {
        let (colour, cue) = identity(run);
        let shape = (cue + rival) % Marker::ALL.len();
        Style {
            colour,
            dash: (cue + rival) % DASHES,
            marker: Marker::ALL.get(shape).copied().unwrap_or(Marker::Circle),
        }
    }

    /// CSS classes of a line.
    pub fn class(&self) -> String {
        format!("colour-{} dash-{}", self.colour, self.dash)
    }
}

/// The colour of what a run is, and the place of its dashes and marker.
fn identity(run: &RunRecord) -> (&'static str, usize) {
    match (run.row.control.as_deref(), &run.recipe.clean, run.recipe.objective.name) {
        (Some("undefended"), ..) => ("vermillion", 0),
        (Some("augmentation-only"), ..) => ("blue", 1),
        (Some("clean-data"), ..) => ("orange", 3),
        (_, Some(_), _) => ("sky", 4),
        (_, _, ObjectiveName::Roclip) => ("green", 2),
        (_, _, ObjectiveName::Safeclip) => ("purple", 5),
        _ => ("black", 0),
    }
}
