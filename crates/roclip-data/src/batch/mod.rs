//! Batches on the host: what a pair becomes, and in which order.

mod guard;
mod loader;
mod transform;

pub use guard::{contained, panic_is_contained};
pub use loader::{Batches, Loader, PassPlan};
pub use transform::{HostBatch, Overlay, SubCaptionBatch, Transform, View, ViewAugment};
