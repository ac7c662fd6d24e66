//! Train CLIP on image-caption pairs that nobody has vetted, and keep the poison out.
//!
//! [`roclip_data`] makes batches of pairs. From there: [`model`] embeds them, an [`objective`] scores the batch, [`train`] steps,
//! [`clean`] repairs, [`attack`] optimises what needs a model; [`eval`] measures what came out, [`report`] shows it, [`doctor`] explains
//! it and [`checkpoint`] keeps it and hands it on. [`recipe`] says what happens, and [`run`] makes it happen in a run folder.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod attack;
pub mod checkpoint;
pub mod clean;
pub mod doctor;
pub mod embed;
pub mod error;
pub mod eval;
pub mod model;
pub mod objective;
pub mod recipe;
pub mod report;
pub mod results;
pub mod run;
mod settings;
pub mod train;
