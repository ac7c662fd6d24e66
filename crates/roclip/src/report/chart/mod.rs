//! Charts as inline SVG: no script, no network, colours from the page's style sheet (so that they follow a dark screen and the printer),
//! text that a reader can select. Crates draw prettier charts of more kinds, but `plotters` writes colours and fonts into every element,
//! and `charming` needs a script engine.

mod axis;
mod frame;
mod histogram;
mod lines;
mod points;

pub use axis::Axis;
pub use histogram::{Layer, histogram};
pub use lines::{LineChart, Series, detectors, precisions};
pub use points::{Difference, Dot, Marker, differences, marker, scatter, signed};
