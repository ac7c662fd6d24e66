//! Checkpoints: a folder of safetensors and JSON that appears whole or not at all, with checksums that are verified when read.

mod card;
mod export;
mod load;
mod owner;
mod provenance;
mod state;
mod store;
mod verify;

pub use card::model_card;
pub use export::{ExportFormat, export};
pub use load::{Loaded, load, load_training};
pub use owner::run_of;
pub use provenance::Provenance;
pub use state::{Origin, State};
pub(crate) use store::verified;
pub use store::{Contents, at_step, find, newest_step, save, set_newer_aside};
pub(crate) use verify::sha256_of_file;
