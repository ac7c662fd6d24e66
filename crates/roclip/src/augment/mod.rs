//! Image and text augmentation, as the RoCLIP repository applies them (`utils/augment_image.py`, `utils/augment_text.py`).

mod blur;
mod color;
mod image_augment;
pub mod preprocess;
mod text_augment;
mod wordnet;

pub use image_augment::{Crop, ImageAugment, ImageAugmentConfig, Jitter};
pub use text_augment::{TextAugment, TextAugmentConfig, TextRefresh};
