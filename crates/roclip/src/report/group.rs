//! The runs that a page shows as one row.

use crate::report::results::{ResultRow, RunRecord};
use maud::{Markup, html};

/// The runs of one experiment, which share a label and a colour.
pub struct Group<'a> {
    pub label: &'a str,
    /// CSS class of the colour.
    pub colour: String,
    /// The first, and the others; seeds ascend.
    pub first: &'a RunRecord,
    pub members: Vec<&'a RunRecord>,
}

impl Group<'_> {
    pub fn row(&self) -> &ResultRow {
        &self.first.row
    }
}

/// The rows with their colours.
pub fn legend(groups: &[Group]) -> Markup {
    html! {
        p { @for group in groups { span class={ "key " (group.colour) } {} (group.label) " " } }
    }
}
