//! CLIP's two towers, in open_clip's key layout: the code is the checkpoint schema.

mod batch;
pub mod captioner;
mod clip;
mod config;
mod description;
mod footprint;
mod head;
pub mod layout;
mod packing;
mod parameters;
mod preprocess;
mod resnet;
mod statistics;
mod text;
mod tower;
mod transformer;
mod vit;
mod weights;

pub use batch::tensors;
pub(crate) use batch::{on_device, pictures, pictures_tensor};
pub use clip::{Clip, unit};
pub use config::{FEW_PAIRS, ModelConfig, TextConfig, VisionConfig, VisionLayers};
pub(crate) use description::CLIP_VOCABULARY;
pub use head::{HEAD_BIAS, HEAD_WEIGHT, Head, copy_saved};
pub(crate) use parameters::extent;
pub use parameters::{Parameter, Parameters, Part, Scope};
pub use preprocess::Preprocess;
pub(crate) use preprocess::STANDARDISE;
pub use statistics::{ChunkShare, Statistics};
pub(crate) use tower::Tower;
pub use weights::{read_safetensors, read_safetensors_metadata, write_safetensors};
