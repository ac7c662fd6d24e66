//! Image and text augmentation, as the RoCLIP repository applies them (`utils/augment_image.py`, `utils/augment_text.py`).

mod eda;
mod sub_caption;

pub use eda::{TextAugment, TextAugmentConfig, TextRefresh};
pub use roclip_pixels::augment::{
    Crop, ImageAugment, ImageAugmentConfig, Jitter, Operation, PerturbConfig, brightness, gaussian_blur, perturb,
    saturation,
};
pub use sub_caption::{SubCaption, SubCaptions};
