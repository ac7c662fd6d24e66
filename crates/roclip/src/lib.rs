//! Train CLIP on image-caption pairs that nobody has vetted, and keep the poison out.
//!
//! A sample flows through the modules in this order: [`data`] lists it, [`poison`] may change it, [`augment`] and [`tokenizer`]
//! turn it into numbers, [`model`] embeds it, an [`objective`] scores the batch, [`train`] steps, [`clean`] repairs; [`eval`] measures what came out
//! [`report`] shows it, [`doctor`]
//! explains it and [`export`] hands it on. [`recipe`] says what happens, [`random`] makes it repeatable, [`artifact`] keeps files whole.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod artifact;
pub mod augment;
pub mod clean;
pub mod data;
pub mod doctor;
pub mod error;
pub mod eval;
pub mod export;
pub mod model;
pub mod objective;
pub mod poison;
pub mod random;
pub mod recipe;
pub mod report;
pub mod tokenizer;
pub mod train;
