//! Train CLIP on image-caption pairs that nobody has vetted, and keep the poison out.
//!
//! This crate holds everything that computes with libtorch; [`roclip_data`] holds the data, and the `roclip` binary is a thin layer
//! over both. `docs/` in the repository is the guide for users, `ARCHITECTURE.md` the map for those who change the code.
//!
//! # The modules, in the order in which a run uses them
//!
//! 1. [`recipe`] says what happens: a TOML file whose keys are the structs of all other modules.
//! 2. [`run`] makes it happen in a run folder, and resumes it bit for bit.
//! 3. [`model`] embeds batches of pairs, an [`objective`] scores them (CLIP, RoCLIP, SafeCLIP), and [`train`] takes the steps.
//! 4. [`eval`] measures what came out: accuracy, and success of the attacks by one strict definition.
//! 5. [`clean`] repairs a backdoored model; [`attack`] optimises patches against a model; [`prompt`] learns prompts for a frozen one.
//! 6. [`checkpoint`] keeps a model with its checksums and provenance, and exports it.
//! 7. [`report`] shows finished runs, and [`doctor`] explains them.
//!
//! # Example
//!
//! One training step of CLIP on two pairs, without a recipe or a run:
//!
//! ```no_run
//! use roclip::model::{Clip, ModelConfig, unit};
//! use roclip::objective::info_nce;
//! use roclip_data::tokenizer::{Tokenizer, Truncate};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ModelConfig::named("ViT-tiny-32")?;
//! let tokenizer = Tokenizer::new(config.text_cfg.context_length as usize, Truncate::KeepEot)?;
//! let model = Clip::new(config, Device::Cpu, 0)?;
//!
//! let captions = ["a photo of a cat", "two dogs on a beach"];
//! let (ids, length) = tokenizer.pad(&captions.map(|caption| tokenizer.encode(caption)));
//! let tokens = Tensor::from_slice(&ids).view([captions.len() as i64, length as i64]);
//! // Real pictures come from `roclip_data::picture`; these are noise, `[batch, 3, size, size]`.
//! let size = i64::from(model.config().image_size());
//! let images = Tensor::randn([captions.len() as i64, 3, size, size], (Kind::Float, Device::Cpu));
//!
//! let image_features = unit(&model.image_features(&images, true)?); // [batch, dim]
//! let text_features = unit(&model.text_features(&tokens)); // [batch, dim]
//! let loss = info_nce(&image_features, &text_features, &model.scale());
//! loss.backward();
//! println!("loss {:.3}, where guessing has {:.3}", loss.double_value(&[]), 2f64.ln());
//! # Ok(())
//! # }
//! ```
//!
//! # Errors and panics
//!
//! Fallible functions return [`error::Error`], whose messages say what was wrong, where, and what to do. Tensor operations inside the towers
//! and losses, where shapes are fixed at construction, panic when libtorch fails (out of memory, say).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod attack;
pub mod captions;
pub mod checkpoint;
pub mod clean;
pub mod detect;
pub mod doctor;
pub mod embed;
pub mod error;
pub mod eval;
pub mod instruct;
pub mod model;
pub mod objective;
pub mod prompt;
pub mod recipe;
pub mod report;
pub mod results;
pub mod run;
mod settings;
pub mod train;
pub mod world;
