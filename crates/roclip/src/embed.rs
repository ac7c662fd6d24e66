//! From pairs to features, in evaluation mode and without graph: the one way for all that look at a loader's pairs with a model as it
//! stands. Pairs that cannot be read are left out.

use crate::error::{Error, Result, TorchContext};
use crate::model::{Clip, tensors, unit};
use roclip_data::batch::{Batches, Loader, View};
use roclip_data::pairs::picture_hash;
use roclip_data::picture::preprocess::normalise_into;
use roclip_data::progress::Task;
use std::ops::Range;
use tch::{Device, Tensor};

/// Pairs encoded at a time where nothing else is said.
pub const AT_A_TIME: usize = 256;

/// A model, and where the pairs come from.
#[derive(Clone, Copy)]
pub struct Embedder<'a> {
    pub model: &'a Clip,
    pub loader: &'a Loader,
    pub device: Device,
}

/// A batch of pairs that can be read.
pub struct Embedded {
    /// Index of each in the pairs that were looked at.
    pub pairs: Vec<usize>,
    /// What the towers saw.
    pub view: View,
    /// Unit features `[pairs, dim]`.
    pub image: Tensor,
    /// Lengths of the image features before they were made unit ones, `[pairs]`.
    pub image_norms: Tensor,
    /// Unit features `[pairs, dim]`.
    pub text: Tensor,
}

/// All pairs that can be read.
pub struct AllEmbedded {
    /// Index of each in the loader's pairs.
    pub pairs: Vec<usize>,
    /// [`picture_hash`] of each as the model sees it: copies of a picture share it. A picture without a clear edge is nobody's copy, and has a
    /// number of its own, below 0.
    pub pictures: Vec<i64>,
    /// Unit features `[pairs, dim]`.
    pub image: Tensor,
    /// Lengths of the image features before they were made unit ones, `[pairs]`.
    pub image_norms: Tensor,
    /// Unit features `[pairs, dim]`.
    pub text: Tensor,
}

impl Embedder<'_> {
    fn side(&self) -> i64 {
        i64::from(self.model.config().image_size())
    }

    /// Images and captions of each of `batches` that has a pair left.
    pub fn pairs<'b>(&'b self, batches: Batches) -> impl Iterator<Item = Result<Embedded>> + 'b {
        let readable = batches.filter(|batch| batch.as_ref().map_or(true, |batch| !batch.pairs.is_empty()));
        readable.map(move |batch| {
            let batch = batch?;
            let (images, tokens) = tensors(&batch.view, batch.pairs.len(), self.side(), self.device);
            tch::no_grad(|| {
                let raw = self.model.image_features(&images, false)?;
                let (image, image_norms) = (unit(&raw), raw.norm_scalaropt_dim(2, [1i64], false));
                let text = unit(&self.model.text_features(&tokens));
                Ok(Embedded { pairs: batch.pairs, view: batch.view, image, image_norms, text })
            })
        })
    }

    /// The first `count` of the loader's pairs without augmentation.
    ///
    /// # Errors
    /// No picture that can be read.
    pub fn all(&self, count: usize) -> Result<AllEmbedded> {
        self.readable(0..count)?.ok_or_else(nothing_readable)
    }

    /// Those of the loader's pairs `which`, without augmentation, that can be read; none where that is none.
    pub fn readable(&self, which: Range<usize>) -> Result<Option<AllEmbedded>> {
        let (mut pairs, mut pictures) = (Vec::new(), Vec::new());
        let rows = || Rows { most: which.len() as i64, filled: 0, all: None };
        let (mut image, mut image_norms, mut text) = (rows(), rows(), rows());
        let side = self.side() as usize;
        let mut planes = Vec::with_capacity(3 * side * side);
        let task = Task::begin("encoding pairs", which.len(), "pairs");
        let batches = self.loader.look(which.collect(), None, AT_A_TIME);
        for embedded in self.pairs(batches) {
            let found = embedded?;
            let shown = found.view.images.chunks(3 * side * side).zip(&found.pairs);
            for (picture, pair) in shown {
                planes.clear();
                normalise_into(picture, &mut planes);
                pictures.push(picture_number(&planes, side, *pair));
            }
            task.advance(found.pairs.len());
            image.push(&found.image)?;
            image_norms.push(&found.image_norms)?;
            text.push(&found.text)?;
            pairs.extend(found.pairs);
        }
        let (Some(image), Some(image_norms), Some(text)) = (image.rows(), image_norms.rows(), text.rows()) else {
            return Ok(None);
        };
        Ok(Some(AllEmbedded { pairs, pictures, image, image_norms, text }))
    }

    /// Unit features `[pairs, dim]` of the pictures of `batches`.
    ///
    /// # Errors
    /// No picture that can be read.
    pub fn images(&self, batches: Batches) -> Result<Tensor> {
        let mut features = Vec::new();
        for batch in batches {
            let batch = batch?;
            if !batch.pairs.is_empty() {
                let (images, _) = tensors(&batch.view, batch.pairs.len(), self.side(), self.device);
                features.push(tch::no_grad(|| self.model.image_features(&images, false).map(|raw| unit(&raw)))?);
            }
        }
        joined(&features)
    }

    /// Unit features `[pairs, dim]` of the plain captions of `pairs`, one for each: pictures are not looked at.
    pub fn captions(&self, pairs: &[usize]) -> Result<Tensor> {
        let mut features = Vec::new();
        let task = Task::begin("encoding captions", pairs.len(), "captions");
        for pairs in pairs.chunks(AT_A_TIME) {
            task.advance(pairs.len());
            let (tokens, length) = self.loader.captions(pairs);
            let tokens = Tensor::from_slice(&tokens).view([pairs.len() as i64, length as i64]).to_device(self.device);
            features.push(tch::no_grad(|| unit(&self.model.text_features(&tokens))));
        }
        joined(&features)
    }
}

/// Rows that come in batches, in the one tensor that they end in: batches that are joined at the end are there twice.
struct Rows {
    /// How many there can be.
    most: i64,
    filled: i64,
    all: Option<Tensor>,
}

impl Rows {
    fn push(&mut self, batch: &Tensor) -> Result<()> {
        let mut size = batch.size();
        let Some(rows) = size.first_mut() else { return Ok(()) };
        let count = std::mem::replace(rows, self.most);
        let all = self.all.get_or_insert_with(|| Tensor::empty(&size, (batch.kind(), batch.device())));
        all.f_narrow(0, self.filled, count).torch("keeping features")?.copy_(batch);
        self.filled += count;
        Ok(())
    }

    /// Those that came; none where no batch did.
    fn rows(self) -> Option<Tensor> {
        Some(self.all?.narrow(0, 0, self.filled))
    }
}

/// The number of the picture of `pair`, as [`AllEmbedded::pictures`] has it.
fn picture_number(planes: &[f32], side: usize, pair: usize) -> i64 {
    match picture_hash(planes, side) {
        0 => -1 - pair as i64,
        hash => hash,
    }
}

/// Rows of all of `features`, which are an error when there are none.
pub fn joined(features: &[Tensor]) -> Result<Tensor> {
    if features.is_empty() {
        return Err(nothing_readable());
    }
    Ok(Tensor::cat(features, 0))
}

pub(crate) fn nothing_readable() -> Error {
    Error::setting("no picture of these pairs can be read", "repair the data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn rows_are_those_that_came() {
        let batch =
            |from: i64, to: i64| Tensor::arange_start(2 * from, 2 * to, (Kind::Float, Device::Cpu)).view([-1, 2]);
        let mut rows = Rows { most: 9, filled: 0, all: None };
        for (from, to) in [(0, 4), (4, 5), (5, 7)] {
            rows.push(&batch(from, to)).unwrap();
        }
        // Two pairs could not be read.
        let found = rows.rows().unwrap();
        assert!(found.is_contiguous() && found.size() == [7, 2] && found == batch(0, 7));
        assert!(Rows { most: 9, filled: 0, all: None }.rows().is_none());
        let mut full = Rows { most: 2, filled: 0, all: None };
        assert!(full.push(&batch(0, 3)).is_err());
    }

    #[test]
    fn pictures_without_an_edge_are_nobodys_copies() {
        let flat = |level: f32| vec![level; 3 * 32 * 32];
        let halves: Vec<f32> = (0..3 * 32 * 32).map(|at| if at % 32 < 16 { -1.0 } else { 1.0 }).collect();
        let number = |planes: &[f32], pair| picture_number(planes, 32, pair);
        // Two of one colour, even of the same one, are two pictures; copies of one with an edge are one.
        assert_ne!(number(&flat(0.5), 0), number(&flat(0.5), 1));
        assert_ne!(number(&flat(0.5), 3), number(&flat(-0.5), 4));
        assert!(number(&flat(0.5), 0) < 0 && number(&halves, 0) > 0);
        assert_eq!(number(&halves, 0), number(&halves, 1));
    }
}
