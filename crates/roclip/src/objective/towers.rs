//! A batch, and the towers that an objective encodes it with.

use crate::error::{Error, Result};
use crate::model::{Clip, unit};
use crate::world::OwnRows;
use tch::Tensor;

/// One of the augmented views of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchView {
    First,
    /// Another draw of the augmentations, in passes that ask for two views.
    Second,
}

/// Unit text features of sub-captions, with graph.
pub struct SubCaptionFeatures {
    /// `[k]`, places in the batch.
    pub rows: Tensor,
    /// `[k, dim]`.
    pub positive: Tensor,
    /// `[k, dim]`.
    pub counterfactual: Tensor,
}

/// What a view shows, as tensors, and the model that sees it.
pub struct Inputs<'a> {
    pub model: &'a Clip,
    /// `[batch, 3, side, side]`, normalised as CLIP's.
    pub images: &'a Tensor,
    /// `[batch, length]`.
    pub tokens: &'a Tensor,
}

/// The batch of a step and the towers in training. Where several processes share the batch, all of this is of the whole of it, and the
/// features carry the gradients of all of them. An objective calls what it needs. Each call is a forward pass of its own, from which
/// BatchNorm takes its statistics, and builds a graph unless it stands within [`tch::no_grad`]. Where a batch is encoded in chunks, the graph
/// begins at the features: their gradient is brought through the towers behind the loss's own backward pass.
pub trait Towers {
    /// Index of each pair of the batch in the data.
    fn pairs(&self) -> &[usize];

    /// The rows that the loss of this process is of, for losses that are a mean over rows. A loss of the whole batch is as right, and more
    /// work.
    fn own_rows(&self) -> OwnRows {
        OwnRows::All
    }

    /// `exp(logit_scale)`, scalar.
    fn scale(&self) -> Tensor;

    /// Image features `[batch, dim]` as the tower gives them.
    fn raw_image(&self, view: BatchView) -> Result<Tensor>;

    /// Image features `[batch, dim]` of unit length.
    fn image(&self, view: BatchView) -> Result<Tensor> {
        Ok(unit(&self.raw_image(view)?))
    }

    /// Image features of the two views, of unit length, in one forward pass: BatchNorm sees both.
    fn images(&self) -> Result<[Tensor; 2]>;

    /// Text features `[batch, dim]` of unit length.
    fn text(&self, view: BatchView) -> Result<Tensor>;

    /// Another model's features of a view: image and text, of unit length, in evaluation mode and without graph.
    fn through(&self, model: &Clip, view: BatchView) -> Result<[Tensor; 2]>;

    /// Another model's image features `[batch, dim]` of a view as its tower gives them, in evaluation mode and without graph.
    fn image_through(&self, model: &Clip, view: BatchView) -> Result<Tensor>;

    /// The view itself, for objectives with a decoder of their own.
    fn inputs(&self, _view: BatchView) -> Result<Inputs<'_>> {
        Err(Error::internal("these towers show features only"))
    }

    /// Features of some rows' sub-captions. None where the loader makes none, or no caption of the batch has a known word.
    fn sub_captions(&self) -> Result<Option<SubCaptionFeatures>>;
}
