//! Batches on the host: what a pair becomes, and in which order.

mod loader;
mod transform;

pub use loader::{Batches, Loader, PassPlan};
pub use transform::{HostBatch, Overlay, SubCaptionBatch, Transform, View, ViewAugment};
