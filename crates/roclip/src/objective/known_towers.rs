//! Towers whose answers are given, for tests of objectives.

pub(crate) use crate::detect::known_features::concepts;
use crate::error::Result;
use crate::model::Clip;
use crate::objective::{AllFeatures, BatchView, Encode, SubCaptionFeatures, Towers};
use tch::Tensor;

/// The features that the towers give for all pairs.
pub(crate) struct KnownTowers {
    pub pairs: Vec<usize>,
    pub pictures: Vec<i64>,
    /// Unit features `[pairs, dim]`.
    pub image: Tensor,
    pub text: Tensor,
    pub similarities: Vec<f64>,
}

impl KnownTowers {
    /// Pairs of different pictures, with these concepts for features.
    pub fn new(images: &[i64], captions: &[i64]) -> Self {
        KnownTowers {
            pairs: (0..images.len()).collect(),
            pictures: (0..images.len() as i64).collect(),
            image: concepts(images),
            text: concepts(captions),
            similarities: Vec::new(),
        }
    }

    /// For objectives that ask for nothing else.
    pub fn with_similarities(similarities: Vec<f64>) -> Self {
        KnownTowers { similarities, ..KnownTowers::new(&[], &[]) }
    }
}

impl Encode for KnownTowers {
    fn captions(&mut self, pairs: &[usize]) -> Result<Tensor> {
        let pairs: Vec<i64> = pairs.iter().map(|at| *at as i64).collect();
        Ok(self.text.index_select(0, &Tensor::from_slice(&pairs)))
    }

    fn similarities(&mut self, _augmented: bool) -> Result<Vec<f64>> {
        Ok(self.similarities.clone())
    }

    fn features(&mut self) -> Result<AllFeatures> {
        Ok(AllFeatures {
            pairs: self.pairs.clone(),
            pictures: self.pictures.clone(),
            image: self.image.shallow_clone(),
            text: self.text.shallow_clone(),
        })
    }
}

/// The features that the towers give for one batch, both views, as they are to be returned.
pub(crate) struct KnownBatch {
    pub pairs: Vec<usize>,
    pub image: [Tensor; 2],
    pub text: [Tensor; 2],
    pub scale: Tensor,
    /// The features that any other model gives for either view.
    pub through: Option<[Tensor; 2]>,
    /// Rows, positives and counterfactuals.
    pub sub_captions: Option<[Tensor; 3]>,
}

impl KnownBatch {
    /// One view, and the same again for the second.
    pub fn new(image: &Tensor, text: &Tensor, scale: f32, pairs: &[usize]) -> Self {
        let twice = |features: &Tensor| [features.shallow_clone(), features.shallow_clone()];
        KnownBatch {
            pairs: pairs.to_vec(),
            image: twice(image),
            text: twice(text),
            scale: Tensor::from(scale),
            through: None,
            sub_captions: None,
        }
    }

    /// With another second view.
    pub fn second(mut self, image: &Tensor, text: &Tensor) -> Self {
        self.image[1] = image.shallow_clone();
        self.text[1] = text.shallow_clone();
        self
    }
}

/// Without a graph where a real tower's output would be without.
fn given(features: &[Tensor; 2], view: BatchView) -> Tensor {
    let [first, second] = features;
    (match view {
        BatchView::First => first,
        BatchView::Second => second,
    }) * 1.0
}

impl Towers for KnownBatch {
    fn pairs(&self) -> &[usize] {
        &self.pairs
    }

    fn scale(&self) -> Tensor {
        self.scale.shallow_clone()
    }

    fn raw_image(&self, view: BatchView) -> Result<Tensor> {
        Ok(given(&self.image, view))
    }

    fn image(&self, view: BatchView) -> Result<Tensor> {
        self.raw_image(view)
    }

    fn images(&self) -> Result<[Tensor; 2]> {
        Ok([BatchView::First, BatchView::Second].map(|view| given(&self.image, view)))
    }

    fn text(&self, view: BatchView) -> Result<Tensor> {
        Ok(given(&self.text, view))
    }

    fn through(&self, _model: &Clip, _view: BatchView) -> Result<[Tensor; 2]> {
        Ok(self.through.as_ref().unwrap().each_ref().map(Tensor::shallow_clone))
    }

    fn image_through(&self, _model: &Clip, _view: BatchView) -> Result<Tensor> {
        let [image, _] = self.through.as_ref().unwrap();
        Ok(image.shallow_clone())
    }

    fn sub_captions(&self) -> Result<Option<SubCaptionFeatures>> {
        let Some(given) = &self.sub_captions else { return Ok(None) };
        let [rows, positive, counterfactual] = given.each_ref().map(Tensor::shallow_clone);
        Ok(Some(SubCaptionFeatures { rows, positive, counterfactual }))
    }
}
