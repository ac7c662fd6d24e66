//! What an evaluation takes, by the pace of a part of it.

use crate::error::Result;
use crate::eval::features::text_features;
use crate::eval::{Evaluator, unaltered};
use crate::model::Clip;
use roclip_data::sample::Sample;
use roclip_data::tokenizer::Tokenizer;
use std::time::Instant;

/// Prompts and images whose pace is measured.
const PROMPTS: usize = 128;
const IMAGES: usize = 64;

impl Evaluator {
    /// Seconds that one evaluation of `model` takes, with `backdoors` triggers laid on every image.
    ///
    /// # Errors
    /// Those of the evaluation itself.
    pub fn seconds(&self, model: &Clip, tokenizer: &Tokenizer, backdoors: usize) -> Result<f64> {
        let images: Vec<&Sample> = self.samples.iter().take(IMAGES).collect();
        let prompts: Vec<String> = self.prompts.all().take(PROMPTS).collect();
        if images.is_empty() || prompts.is_empty() {
            return Ok(0.0);
        }
        let started = Instant::now();
        drop(text_features(model, tokenizer, &prompts, PROMPTS, model.scale().device())?);
        let texts = started.elapsed().as_secs_f64() * self.prompts.count() as f64 / prompts.len() as f64;
        let started = Instant::now();
        self.encoder(model).encode(&images, &unaltered)?;
        let pictures = started.elapsed().as_secs_f64() * self.samples.len() as f64 / images.len() as f64;
        Ok(texts + pictures * (1 + backdoors) as f64)
    }
}
