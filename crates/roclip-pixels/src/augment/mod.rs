//! Image augmentation, as the RoCLIP repository applies it (`utils/augment_image.py`).

mod auto_augment;
mod blur;
mod check;
mod color;
mod image_augment;
mod perturb;

pub use auto_augment::Operation;
pub use blur::gaussian as gaussian_blur;
pub use color::{brightness, saturation};
pub use image_augment::{Crop, ImageAugment, ImageAugmentConfig, Jitter};
pub use perturb::{PerturbConfig, perturb};
