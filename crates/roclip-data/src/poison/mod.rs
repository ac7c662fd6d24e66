//! Attacks against our own training, so that a defence is measured and not believed.
//!
//! A plan is drawn once from a seed and written as a manifest; loading applies it on the fly. Everything made here is labelled
//! as poisoned: manifest, run, checkpoint and report.

mod apply;
mod attack;
mod backdoor;
mod background;
mod captions;
mod fields;
mod images;
mod manifest;
mod names;
mod plan;
mod source;
mod store;
mod summary;
mod targeted;
mod verify;

pub use attack::{AttackConfig, AttackKind, BackdoorCaptions, PoisonConfig};
pub use captions::{ClassWords, whole_word};
pub use images::Images;
pub use manifest::{Aim, Backdoor, FORMAT, Header, Manifest, OF_INSTRUCTIONS, Role, Row, Side};
pub use plan::{Planned, plan};
pub use source::{Candidates, Screen, Source};
pub use store::{StoreConfig, Stored, store};
pub use summary::AttackSummary;
pub use targeted::{CaptionRule, TargetedConfig};
pub use verify::{Verified, row_in_manifest, same_digest, verify};
