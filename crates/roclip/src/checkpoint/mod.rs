//! Models on disk. Checkpoints: a folder of safetensors and JSON that appears whole or not at all, with checksums that are verified when read. Models of
//! other programs: weights in open_clip's or transformers' layout.

mod card;
mod export;
mod foreign;
mod load;
mod loaded;
mod owner;
mod provenance;
mod source;
mod state;
mod store;
mod verify;

pub use card::model_card;
pub use export::{ExportFormat, export};
pub use foreign::Description;
pub use load::{is_checkpoint, load, load_as, load_captioner, load_training};
pub use loaded::{Layout, Loaded};
pub use owner::{run_of, runs_within};
pub use provenance::Provenance;
pub use source::taken_of_several;
pub use state::{Origin, State};
pub use store::{Contents, at_step, find, newest_step, save, set_newer_aside};
pub(crate) use store::{
    LEARNED_PROMPTS, configuration, configuration_digest, keep_newest, saved_configuration, verified,
};
pub(crate) use verify::{check_files, sha256_of_file, state_of};
