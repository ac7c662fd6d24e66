//! Image and text augmentation, as the RoCLIP repository applies them (`utils/augment_image.py`, `utils/augment_text.py`).

mod auto_augment;
mod blur;
mod color;
mod image_augment;
mod perturb;
pub mod preprocess;
mod sub_caption;
mod text_augment;
pub(crate) mod wordnet;

pub use auto_augment::Operation;
pub use image_augment::{Crop, ImageAugment, ImageAugmentConfig, Jitter};
pub use perturb::{PerturbConfig, perturb};
pub use sub_caption::{SubCaption, SubCaptions};
pub use text_augment::{TextAugment, TextAugmentConfig, TextRefresh};
