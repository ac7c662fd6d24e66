//! Image and text augmentation, as the RoCLIP repository applies them (`utils/augment_image.py`, `utils/augment_text.py`).

mod auto_augment;
mod blur;
mod check;
mod color;
mod eda;
mod image_augment;
mod perturb;
mod sub_caption;

pub use auto_augment::Operation;
pub use eda::{TextAugment, TextAugmentConfig, TextRefresh};
pub use image_augment::{Crop, ImageAugment, ImageAugmentConfig, Jitter};
pub use perturb::{PerturbConfig, perturb};
pub use sub_caption::{SubCaption, SubCaptions};
