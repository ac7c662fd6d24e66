//! A model for tests.

use crate::instruct::{VisionLanguage, VisionLanguageConfig};
use crate::model::captioner::{Architecture, Bridge, CaptionerConfig};
use crate::model::{Clip, ModelConfig};
use roclip_data::tokenizer::{CompactVocabulary, Tokenizer, Truncate};
use tch::Device;

pub fn small(bridge: Bridge) -> VisionLanguage {
    let texts = ["a red square", "a blue box", "banana"];
    let tower_tokenizer = Tokenizer::new(32, Truncate::KeepEot).unwrap();
    let compact = CompactVocabulary::build(&tower_tokenizer, texts.into_iter());
    let tower_tokenizer = tower_tokenizer.with_compact(Some(compact));
    let mut clip = ModelConfig::named("ViT-tiny-32").unwrap();
    clip.text_cfg.vocab_size = tower_tokenizer.vocabulary_size() as i64;
    let tower = Clip::new(clip, Device::Cpu, 1).unwrap();
    let captioner = CaptionerConfig {
        architecture: Architecture::Bridge,
        bridge,
        width: 24,
        layers: 2,
        heads: 2,
        ..CaptionerConfig::default()
    };
    let config = VisionLanguageConfig { captioner, context: 40 };
    let vocabulary = VisionLanguage::vocabulary(texts.into_iter(), 40).unwrap();
    VisionLanguage::new(config, vocabulary, tower, tower_tokenizer, 3).unwrap()
}
