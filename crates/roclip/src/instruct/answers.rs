//! Answers to one question, which a model that answers questions gives of every picture, as captions.

use crate::captions::{AttendedWord, Captions, attended};
use crate::error::{Error, Result};
use crate::instruct::folder::Stored;
use crate::instruct::model::VisionLanguage;
use crate::model::captioner::{SearchConfig, Written};
use image::RgbImage;
use std::path::Path;

/// A model of `roclip caption instruct` with its question.
pub struct ModelAnswers {
    model: VisionLanguage,
    question: String,
    search: SearchConfig,
    name: String,
    sha256: String,
}

impl ModelAnswers {
    /// The model that was `stored` at `path`.
    ///
    /// # Errors
    /// A question that asks nothing or leaves no room for an answer, and a search that the model cannot do.
    pub fn new(stored: Stored, path: &Path, question: &str, search: SearchConfig) -> Result<ModelAnswers> {
        let Stored { model, sha256, .. } = stored;
        search.check(Some(model.config().context))?;
        if question.trim().is_empty() {
            return Err(Error::setting("--question is empty", "ask something, or leave it out for the plain question"));
        }
        model.asked(question, "")?;
        Ok(ModelAnswers { model, question: question.to_owned(), search, name: path.display().to_string(), sha256 })
    }

    fn written(&self, pictures: &[RgbImage]) -> Result<Vec<Written>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let questions = vec![self.question.clone(); pictures.len()];
        self.model.written(&self.model.see(pictures)?, &questions, self.search)
    }
}

impl Captions for ModelAnswers {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn image_size(&self) -> Option<u32> {
        Some(self.model.tower.config().image_size())
    }

    fn knows(&self, word: &str) -> Option<bool> {
        Some(self.model.knows(word))
    }

    fn captions(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
        let text = |written: &Written| self.model.decoder().text(&written.ids);
        Ok(self.written(pictures)?.iter().map(text).collect())
    }

    fn attention(&mut self, pictures: &[RgbImage]) -> Result<Option<Vec<Vec<AttendedWord>>>> {
        if self.model.captioner().grid_side().is_none() {
            return Ok(None);
        }
        let words = |written| attended(self.model.decoder(), written);
        Ok(Some(self.written(pictures)?.into_iter().map(words).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    fn answers(bridge: Bridge) -> ModelAnswers {
        let search = SearchConfig { beam: 1, min_tokens: 1, max_tokens: 6 };
        ModelAnswers {
            model: small(bridge),
            question: "What is it?".into(),
            search,
            name: "small".into(),
            sha256: String::new(),
        }
    }

    #[test]
    fn answers_are_captions_and_cross_attention_is_shown() {
        let pictures: Vec<RgbImage> =
            (0..3u8).map(|at| RgbImage::from_pixel(32, 32, image::Rgb([at * 80, 90, 200]))).collect();
        for bridge in [Bridge::CrossAttention, Bridge::Prefix] {
            let mut captions = answers(bridge);
            let said = captions.captions(&pictures).unwrap();
            let (model, questions) = (&captions.model, vec!["What is it?".to_owned(); 3]);
            assert_eq!(said, model.answers(&model.see(&pictures).unwrap(), &questions, captions.search).unwrap());
            assert_eq!((captions.image_size(), captions.knows("zebra")), (Some(32), Some(false)));
            match (bridge, captions.attention(&pictures).unwrap()) {
                (Bridge::Prefix, attention) => assert!(attention.is_none()),
                (Bridge::CrossAttention, attention) => {
                    let maps = attention.unwrap();
                    assert_eq!(maps.len(), 3);
                    let sums: Vec<f32> = maps.iter().flatten().map(|word| word.map.iter().sum::<f32>()).collect();
                    assert!(!sums.is_empty() && sums.iter().all(|sum| (sum - 1.0).abs() < 1e-4), "{sums:?}");
                }
            }
        }
        assert!(answers(Bridge::Prefix).captions(&[]).unwrap().is_empty());
    }
}
