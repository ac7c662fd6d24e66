//! Attacks against our own training, so that a defence is measured and not believed.
//!
//! A plan is drawn once from a seed and written as a manifest; loading applies it on the fly. Everything made here is labelled
//! as poisoned: manifest, run, checkpoint and report.

mod attack;
mod badclip;
mod badnets;
mod blended;
mod manifest;
mod material;
mod patch;
mod patch_search;
mod plan;
mod sig;
mod store;
mod targeted;
mod triangles;
mod trigger;
mod verify;
mod wanet;

pub use attack::{AttackConfig, AttackKind, BackdoorCaptions, BlendedConfig, PatchConfig, PoisonConfig, WaNetConfig};
pub use badclip::{BadClipConfig, Negatives, optimise_patch};
pub use badnets::{BadNets, Location, Overflow, Pattern};
pub use blended::{BlendSource, Blended};
pub use manifest::{Backdoor, Header, Manifest, Role, Row};
pub use material::{Material, StoredMaterial};
pub use patch::Patch;
pub use patch_search::{PatchSearch, PatchStep, Place};
pub use plan::plan;
pub use sig::{Sig, SigMode};
pub use store::{StoreConfig, Stored, store};
pub use targeted::{Candidates, CaptionRule, Screen, TargetedConfig, whole_word};
pub use triangles::Triangles;
pub use trigger::{Trigger, TriggerKind, jpeg, jpeg_round_trip};
pub use verify::{Verified, verify};
pub use wanet::{RELEASED_GRID_SHA256, WaNet};
