//! Batches on the host: what a pair becomes, and in which order.

mod crew;
mod loader;
mod places;
mod transform;

pub use loader::{Batches, Loader};
pub use places::PassPlan;
pub use transform::{HostBatch, Overlay, SubCaptionBatch, Transform, View, ViewAugment};
