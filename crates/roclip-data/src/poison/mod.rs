//! Attacks against our own training, so that a defence is measured and not believed.
//!
//! A plan is drawn once from a seed and written as a manifest; loading applies it on the fly. Everything made here is labelled
//! as poisoned: manifest, run, checkpoint and report.

mod attack;
mod manifest;
mod plan;
mod store;
mod targeted;
mod verify;

pub use attack::{AttackConfig, AttackKind, BackdoorCaptions, BlendedConfig, PatchConfig, PoisonConfig, WaNetConfig};
pub use manifest::{Backdoor, Header, Manifest, Role, Row};
pub use plan::plan;
pub use store::{StoreConfig, Stored, store};
pub use targeted::{Candidates, CaptionRule, Screen, TargetedConfig, whole_word};
pub use verify::{Verified, verify};
