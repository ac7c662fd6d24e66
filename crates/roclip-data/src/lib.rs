//! Image-caption data that nobody has vetted, without libtorch.
//!
//! A sample flows through the modules in this order: a [`source`] lists it, [`pairs`] names what training sees, [`poison`] may
//! change it, [`picture`] decodes it, a [`trigger`] is laid on, [`augment`] and [`tokenizer`] turn it into numbers, and [`batch`] hands them
//! over on the host. [`skip`] counts what is left out, [`random`] makes all of it repeatable, [`artifact`] keeps files whole.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod artifact;
pub mod augment;
pub mod batch;
pub mod bounded;
pub mod caption_metrics;
pub mod guard;
pub mod index;
pub mod instruction;
pub mod language;
mod nearby;
pub mod pairs;
pub mod paths;
pub mod plural;
pub mod poison;
pub mod probe;
pub mod progress;
pub mod rate;
pub mod sample;
pub mod shard;
pub mod source;
pub mod statistics;
pub mod survey;
pub mod table;
pub mod threads;
pub mod tokenizer;
pub mod trigger;
mod varint;

pub use roclip_pixels::{error, escape, picture, random, skip};
