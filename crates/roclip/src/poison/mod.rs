//! Attacks against our own training, so that a defence is measured and not believed.
//!
//! A plan is drawn once from a seed and written as a manifest; loading applies it on the fly. Everything made here is labelled
//! as poisoned: manifest, run, checkpoint and report.

mod badnets;
mod blended;
mod manifest;
mod plan;
mod targeted;
mod trigger;

pub use badnets::{BadNets, Location, Overflow, Pattern};
pub use blended::{BlendSource, Blended};
pub use manifest::{Header, Manifest, Role, Row};
pub use plan::{AttackConfig, AttackKind, BackdoorCaptions, PoisonConfig, plan};
pub use targeted::{CaptionRule, TargetedConfig};
pub use trigger::{Trigger, TriggerKind};
