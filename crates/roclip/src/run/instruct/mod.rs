//! Training a small vision-language model on instructions, in a folder of its own: `instruct.json` (settings), `model.json`, `weights/`,
//! `losses.jsonl`, and at its end `answers.jsonl` and `summary.json`.

mod data;
mod references;
mod settings;
mod train;

pub use data::InstructData;
use data::read_data;
pub(super) use data::{LEARNED_TESTS, SkipLimit, beside_tests, picture_for};
pub(super) use references::{Tests, no_tests};
pub use settings::{AnswerLine, InstructSettings, InstructSummary};
pub use train::train_instruct;
