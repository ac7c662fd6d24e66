//! MABA's mask of one picture.

use crate::attack::instruct::MaskRule;
use crate::attack::instruct::attribution::{SetFunction, SetWeights};
use crate::attack::instruct::superpixels::superpixels;
use crate::error::{Error, Result, TorchContext};
use crate::instruct::{Asked, VisionLanguage};
use crate::model::pictures_tensor;
use image::RgbImage;
use rand::seq::SliceRandom;
use roclip_data::{artifact, random};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// Share of the pixels that Grad-CAM keeps, as the third party does.
const GRAD_CAM_SHARE: f64 = 0.1;

/// How regions are found. What the paper does not say is ours.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct MaskConfig {
    /// Superpixels of a picture.
    pub regions: usize,
    /// The most regions that speak for a text.
    pub most_regions: usize,
    /// A gain of at most this is about 0.
    pub tolerance: f64,
    pub weights: SetWeights,
    /// Answers that a text is compared with.
    pub distractors: usize,
}

impl Default for MaskConfig {
    fn default() -> Self {
        MaskConfig { regions: 25, most_regions: 8, tolerance: 0.01, weights: SetWeights::RESULTS, distractors: 32 }
    }
}

/// What a mask is of.
pub(super) struct Masked<'a> {
    pub model: &'a VisionLanguage,
    pub picture: &'a RgbImage,
    pub id: &'a str,
    pub question: &'a str,
    pub answer: &'a str,
    /// The answer that the attacker wants.
    pub target: &'a str,
    pub distractors: &'a Distractors,
    pub seed: u64,
}

/// Questions with their answers that a text is compared with.
pub(super) struct Distractors {
    texts: Vec<String>,
    /// Unit text features `[texts, dim]`.
    features: Tensor,
}

impl Distractors {
    pub fn new(model: &VisionLanguage, texts: Vec<String>) -> Self {
        Distractors { features: model.text_features(&texts), texts }
    }

    /// Features of all but `text`: beside its own double no text could have more than half of the probability.
    ///
    /// # Errors
    /// Where there are no others: alone, a text always has all of it.
    fn without(&self, text: &str) -> Result<Tensor> {
        let others: Vec<i64> = (0i64..).zip(&self.texts).filter(|(_, own)| *own != text).map(|(at, _)| at).collect();
        if others.is_empty() {
            return Err(Error::setting(
                "all instructions that a text could be compared with read as it does, and no mask can be sought",
                "give instructions with other answers, or leave out the attacks with masks (--attack)",
            ));
        }
        Ok(self.features.index_select(0, &Tensor::from_slice(&others).to_device(self.features.device())))
    }

    pub fn sha256(&self) -> String {
        artifact::sha256_hex(self.texts.join("\u{0}").as_bytes())
    }
}

impl Masked<'_> {
    /// Whether each pixel of the picture, which has the model's size, is in the mask. `paper` is the paper's own mask of it, which a random one
    /// is compared with.
    ///
    /// # Errors
    /// Regions that cannot be, and Grad-CAM of a model without a grid.
    pub fn mask(&self, rule: MaskRule, config: &MaskConfig, paper: Option<&[bool]>) -> Result<Vec<bool>> {
        let (width, height) = self.picture.dimensions();
        match rule {
            MaskRule::Fixed => {
                let inside = |at: u32, side: u32| at >= side / 4 && at < side - side / 4;
                Ok((0..width * height).map(|at| inside(at % width, width) && inside(at / width, height)).collect())
            }
            MaskRule::GradCam => self.grad_cam(),
            MaskRule::Random => {
                let paper =
                    paper.ok_or_else(|| Error::internal("a random mask without the one that it is as large as"))?;
                let labels = superpixels(self.picture, config.regions)?;
                let marked: BTreeSet<usize> =
                    labels.iter().zip(paper).filter(|(_, inside)| **inside).map(|(label, _)| *label).collect();
                let mut regions: Vec<usize> = (0..=labels.iter().max().copied().unwrap_or(0)).collect();
                regions.shuffle(&mut random::stream(self.seed, "maba-random-mask", 0, self.id));
                regions.truncate(marked.len());
                Ok(labels.iter().map(|label| regions.contains(label)).collect())
            }
            MaskRule::Paper | MaskRule::NoSubtraction => {
                let labels = superpixels(self.picture, config.regions)?;
                let clean = self.regions_for(self.answer, &labels, config)?;
                let poisoned = match rule {
                    MaskRule::Paper => self.regions_for(self.target, &labels, config)?,
                    _ => Vec::new(),
                };
                let mut kept: Vec<usize> = clean.iter().filter(|at| !poisoned.contains(at)).copied().collect();
                // A mask without a pixel would be no trigger; the paper does not say what becomes of such pictures.
                if kept.is_empty() {
                    kept = clean;
                }
                Ok(labels.iter().map(|label| kept.contains(label)).collect())
            }
        }
    }

    /// The regions that speak for `answer` behind the question.
    fn regions_for(&self, answer: &str, labels: &[usize], config: &MaskConfig) -> Result<Vec<usize>> {
        let count = labels.iter().max().map_or(0, |last| last + 1);
        let side = i64::from(self.picture.width());
        let values: Vec<f32> = (0..count)
            .flat_map(|region| labels.iter().map(move |label| f32::from(u8::from(*label == region))))
            .collect();
        let device = self.model.device();
        let regions = Tensor::from_slice(&values).view([count as i64, 1, -1, side]).to_device(device);
        let image = pictures_tensor(&self.model.tower, std::slice::from_ref(self.picture))?.squeeze_dim(0);
        let text = format!("{} {answer}", self.question);
        let others = self.distractors.without(&text)?;
        let texts = Tensor::cat(&[&self.model.text_features(&[text]), &others], 0);
        let function = SetFunction {
            tower: &self.model.tower,
            image: &image,
            regions: &regions,
            texts: &texts,
            weights: config.weights,
        };
        function.greedy(config.most_regions, config.tolerance)
    }

    /// The pixels that the answer hangs on most: Grad-CAM over the grid that the model sees (there over a ResNet-50's last stage, for its own
    /// class).
    fn grad_cam(&self) -> Result<Vec<bool>> {
        let side = self.model.captioner().grid_side().ok_or_else(|| {
            Error::setting(
                "a bridge of prefix tokens has no grid for Grad-CAM",
                "choose another mask, or a model with cross-attention",
            )
        })?;
        let seen = self.model.see(std::slice::from_ref(self.picture))?.set_requires_grad(true);
        let asked: Asked = self.model.asked(self.question, self.answer)?;
        let forced = self.model.forced(&seen, &[&asked]);
        (forced.scores * forced.within).sum(Kind::Float).backward();
        let (width, height) = self.picture.dimensions();
        let map = tch::no_grad(|| {
            let weights = seen.grad().mean_dim([1i64].as_slice(), true, Kind::Float);
            let map = (&seen * weights).sum_dim_intlist([2i64].as_slice(), false, Kind::Float).relu();
            let map = map.view([1, 1, side, side]);
            map.upsample_bilinear2d([i64::from(height), i64::from(width)], false, None, None).view(-1)
        });
        // The weights of the model are not what is asked for.
        for parameter in self.model.captioner().parameters().trainable().into_values() {
            let mut parameter = parameter;
            parameter.zero_grad();
        }
        let values: Vec<f32> = Vec::try_from(map).torch("reading Grad-CAM")?;
        let mut order: Vec<usize> = (0..values.len()).collect();
        let value = |at: &usize| values.get(*at).copied().unwrap_or(0.0);
        order.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.cmp(b)));
        order.truncate(((GRAD_CAM_SHARE * values.len() as f64).round() as usize).max(1));
        let mut mask = vec![false; values.len()];
        order.into_iter().for_each(|at| {
            if let Some(pixel) = mask.get_mut(at) {
                *pixel = true;
            }
        });
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    #[test]
    fn each_rule_marks_some_pixels_and_not_all() {
        let model = small(Bridge::CrossAttention);
        let picture = RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([(8 * x) as u8, (8 * y) as u8, ((x / 8 + y / 8) % 2 * 200) as u8])
        });
        let texts = ["What is it? a blue box", "What is it? a red square", "What is it? banana, blue"];
        let distractors = Distractors::new(&model, texts.map(str::to_owned).to_vec());
        let masked = Masked {
            model: &model,
            picture: &picture,
            id: "a",
            question: "What is it?",
            answer: "a red square",
            target: "banana",
            distractors: &distractors,
            seed: 0,
        };
        let config = MaskConfig::default();
        let of_the_paper = masked.mask(MaskRule::Paper, &config, None).unwrap();
        let of = |rule| masked.mask(rule, &config, Some(&of_the_paper)).unwrap();
        let count = |rule| of(rule).iter().filter(|pixel| **pixel).count();
        assert_eq!((count(MaskRule::Fixed), count(MaskRule::GradCam)), (256, 102));
        let (paper, whole) = (count(MaskRule::Paper), count(MaskRule::NoSubtraction));
        assert!(paper > 0 && paper <= whole && whole < 1024, "{paper} {whole}");
        // Random regions are as many as the paper's.
        let labels = superpixels(&picture, config.regions).unwrap();
        let regions = |mask: &[bool]| {
            let inside = labels.iter().zip(mask).filter(|(_, inside)| **inside);
            inside.map(|(label, _)| *label).collect::<BTreeSet<usize>>()
        };
        for like in [of(MaskRule::Paper), of(MaskRule::NoSubtraction), labels.iter().map(|label| *label == 3).collect()]
        {
            let random = masked.mask(MaskRule::Random, &config, Some(&like)).unwrap();
            assert_eq!(regions(&random).len(), regions(&like).len());
        }
        let many = MaskConfig { regions: 2000, ..config };
        assert!(masked.mask(MaskRule::Paper, &many, None).unwrap_err().to_string().contains("2000 superpixels"));
        let prefix = small(Bridge::Prefix);
        let blind = Masked { model: &prefix, ..masked };
        assert!(blind.mask(MaskRule::GradCam, &config, None).unwrap_err().to_string().contains("no grid"));
    }

    #[test]
    fn a_text_is_not_compared_with_itself() {
        let model = small(Bridge::Prefix);
        let texts = ["a blue box", "a red square", "banana"].map(str::to_owned);
        let distractors = Distractors::new(&model, texts.to_vec());
        let others = distractors.without("a red square").unwrap();
        let expected = distractors.features.index_select(0, &Tensor::from_slice(&[0i64, 2]));
        assert!(others.equal(&expected));
        assert!(distractors.without("a green square").unwrap().equal(&distractors.features));
        assert!(Distractors::new(&model, vec!["banana".into()]).without("banana").is_err());
    }
}
