//! Pairs as a recipe and a model have them, before any augmentation.

use crate::model::Clip;
use crate::recipe::Recipe;
use roclip_data::batch::Transform;
use roclip_data::tokenizer::Tokenizer;
use std::sync::Arc;

/// Pictures as `model` looks at them, and captions by `tokenizer`.
pub(super) fn plain_transform(recipe: &Recipe, model: &Clip, tokenizer: Arc<Tokenizer>) -> Transform {
    Transform {
        seed: recipe.seed,
        image_size: model.config().image_size(),
        resizing: model.preprocess().resizing,
        limits: recipe.data.limits,
        views: Default::default(),
        sub_captions: None,
        tokenizer,
        cache_bytes: recipe.data.cache_mib << 20,
    }
}
