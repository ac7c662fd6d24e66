//! Backdoors of instruction tuning: the attacks that MABA (arXiv 2406.18844) is compared with, and MABA itself.

mod attribution;
mod dual_key;
mod input_aware;
mod key_words;
mod kind;
mod mask;
mod prepared;
mod superpixels;
mod token_search;

pub use attribution::{SetWeights, kept_regions};
pub use kind::{InstructAttack, MaskRule};
pub use mask::MaskConfig;
pub use prepared::{Prepare, Prepared, Shown};
pub use superpixels::superpixels;
pub use token_search::TokenSearch;
