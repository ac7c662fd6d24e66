//! The towers as an objective sees them in a step, on a batch of any size.
//!
//! With [`TrainConfig::encode_batch_size`](crate::train::TrainConfig::encode_batch_size) the features are cached (GradCache: Gao et al.,
//! Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, arXiv 2101.06983; open_clip's `--accum-freq`): they are first
//! computed a part of the batch at a time and without graph, the objective's loss is taken of all of them, and then each part is encoded
//! again with graph, and the gradient of its features goes back through it. By the chain rule this is the gradient of the whole batch; the
//! memory of the activations is that of a part.
//!
//! With [`TrainConfig::gradient_checkpointing`](crate::train::TrainConfig::gradient_checkpointing) the same is done along a tower's depth
//! ([`checkpointing`](crate::train::checkpointing)), of the whole batch or of each part.

use crate::error::{Error, Result, TorchContext};
use crate::model::{ChunkShare, Clip, Statistics, Tower, on_device, pictures, unit};
use crate::objective::{BatchView, Inputs, SubCaptionFeatures, Towers};
use crate::train::checkpointing::{CheckpointedTower, Kept};
use crate::train::config::{BatchNormRows, TrainConfig};
use crate::train::precision::Precision;
use crate::train::shared_batch::SharedBatch;
use crate::world::OwnRows;
use roclip_data::batch::View;
use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// What a whole view has on the device.
#[derive(Default)]
struct OnDevice {
    /// `[batch, 3, side, side]`.
    images: OnceCell<Tensor>,
    /// `[batch, length]`.
    tokens: OnceCell<Tensor>,
}

/// What a tower encodes.
#[derive(Debug, Clone, Copy)]
enum Encoded {
    Image(BatchView),
    /// The images of both views in one pass.
    BothImages,
    Text(BatchView),
    PositiveSubCaptions,
    CounterfactualSubCaptions,
}

impl Encoded {
    fn is_image(self) -> bool {
        matches!(self, Encoded::Image(_) | Encoded::BothImages)
    }
}

/// Features that a loss was taken of, and whose towers have not been passed with graph yet.
struct Cached {
    encoded: Encoded,
    /// A leaf `[rows, views, dim]`.
    features: Tensor,
    /// Of their pass with gradient checkpointing, where it was one of the whole batch.
    kept: Option<Kept>,
}

/// A batch and the model in training. A view goes to the device when it is first asked for, or a part of it when it is encoded.
pub(super) struct BatchTowers<'a> {
    model: &'a Clip,
    batch: &'a SharedBatch,
    device: Device,
    batch_norm: BatchNormRows,
    encode_batch_size: Option<usize>,
    gradient_checkpointing: bool,
    precision: Precision,
    first: OnDevice,
    second: OnDevice,
    cached: RefCell<Vec<Cached>>,
}

impl<'a> BatchTowers<'a> {
    pub fn new(model: &'a Clip, batch: &'a SharedBatch, device: Device, config: &TrainConfig) -> Self {
        BatchTowers {
            model,
            batch,
            device,
            batch_norm: config.batch_norm,
            encode_batch_size: config.encode_batch_size,
            gradient_checkpointing: config.gradient_checkpointing,
            precision: config.precision,
            first: OnDevice::default(),
            second: OnDevice::default(),
            cached: RefCell::default(),
        }
    }

    /// Brings the gradients that have come to cached features through the towers to the parameters. What no gradient has come to is not
    /// encoded again. To be called once, behind the loss's own backward.
    pub fn backward(&self) -> Result<()> {
        for Cached { encoded, features, kept } in self.cached.take() {
            let gradient = features.grad();
            if !gradient.defined() {
                continue;
            }
            if let Some(kept) = kept {
                let statistics = self.statistics().again();
                self.checkpointed(encoded).backward(kept, as_encoded(&gradient), statistics)?;
                continue;
            }
            for rows in self.chunks(self.rows_of(encoded)?) {
                let gradient = gradient.narrow(0, rows.start as i64, rows.len() as i64);
                self.backward_of(encoded, rows, &gradient)?;
            }
        }
        Ok(())
    }

    /// Brings the `gradient` of the features of a chunk `rows` through its tower.
    fn backward_of(&self, encoded: Encoded, rows: Range<usize>, gradient: &Tensor) -> Result<()> {
        let statistics = Statistics::Chunk(None);
        if self.gradient_checkpointing {
            let tower = self.checkpointed(encoded);
            let (_, kept) = tower.forward(self.input(encoded, rows)?, statistics)?;
            return tower.backward(kept, as_encoded(gradient), statistics);
        }
        let again = self.encode(encoded, rows, statistics)?;
        // Its gradient with respect to the features is the cached one.
        let surrogate = (again * gradient).sum(Kind::Float);
        surrogate.f_backward().torch("bringing a gradient through a tower")
    }

    /// Rows that are computed here: one that stands in for them where there are none.
    fn rows(&self) -> usize {
        self.batch.own.pairs.len().max(1)
    }

    fn rows_of(&self, encoded: Encoded) -> Result<usize> {
        match encoded {
            Encoded::PositiveSubCaptions | Encoded::CounterfactualSubCaptions => {
                Ok(self.sub_caption_tokens(encoded)?.0)
            }
            _ => Ok(self.rows()),
        }
    }

    fn chunks(&self, rows: usize) -> Vec<Range<usize>> {
        chunks(rows, self.encode_batch_size.unwrap_or(rows))
    }

    /// What `encode` makes of `rows` rows a chunk at a time, in one tensor.
    fn in_chunks(&self, rows: usize, encode: impl Fn(Range<usize>) -> Result<Tensor>) -> Result<Tensor> {
        let mut parts = self.chunks(rows).into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        match parts.len() {
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(Tensor::cat(&parts, 0)),
        }
    }

    /// Features `[rows, views, dim]` as the tower gives them, of this process's rows. Those that were computed in parts or with gradient
    /// checkpointing are a leaf of the graph, and their towers' gradient comes with [`BatchTowers::backward`].
    fn own(&self, encoded: Encoded) -> Result<Tensor> {
        let rows = self.rows_of(encoded)?;
        if self.chunks(rows).len() == 1 {
            if !self.gradient_checkpointing || !records_graph() {
                return self.encode(encoded, 0..rows, self.statistics());
            }
            let tower = self.checkpointed(encoded);
            let (features, kept) = tower.forward(self.input(encoded, 0..rows)?, self.statistics())?;
            return Ok(self.cache(encoded, by_rows(&features, rows), Some(kept)));
        }
        let share = |count: usize| count as f64 / rows as f64;
        let features = tch::no_grad(|| {
            self.in_chunks(rows, |chunk| {
                let share = ChunkShare { share: share(chunk.len()), later: share(rows - chunk.end) };
                self.encode(encoded, chunk, Statistics::Chunk(Some(share)))
            })
        })?;
        if !records_graph() {
            return Ok(features);
        }
        Ok(self.cache(encoded, features, None))
    }

    /// `features` as a leaf that a loss can be taken of.
    fn cache(&self, encoded: Encoded, features: Tensor, kept: Option<Kept>) -> Tensor {
        let features = features.set_requires_grad(true);
        self.cached.borrow_mut().push(Cached { encoded, features: features.shallow_clone(), kept });
        features
    }

    fn checkpointed(&self, encoded: Encoded) -> CheckpointedTower<'_> {
        CheckpointedTower {
            tower: self.tower(encoded),
            precision: self.precision,
            device: self.device,
            collectives: self.batch.world().collectives(),
        }
    }

    fn tower(&self, encoded: Encoded) -> &dyn Tower {
        match encoded.is_image() {
            true => self.model.image_tower(),
            false => self.model.text_tower(),
        }
    }

    /// What the tower takes of `rows` of this process's.
    fn input(&self, encoded: Encoded, rows: Range<usize>) -> Result<Tensor> {
        let shown = self.shown(encoded, rows)?;
        if encoded.is_image() { self.model.tower_input(&shown) } else { Ok(shown) }
    }

    /// One pass of a tower over `rows` of this process's: `[rows, views, dim]`.
    fn encode(&self, encoded: Encoded, rows: Range<usize>, statistics: Statistics) -> Result<Tensor> {
        let count = rows.len();
        let shown = self.shown(encoded, rows)?;
        let features = self.precision.features(self.device, || match encoded.is_image() {
            true => self.model.image_features_by(&shown, statistics),
            false => Ok(self.model.text_features(&shown)),
        })?;
        Ok(by_rows(&features, count))
    }

    /// The pictures, those of both views one after the other, or the tokens of `rows` of this process's.
    fn shown(&self, encoded: Encoded, rows: Range<usize>) -> Result<Tensor> {
        match encoded {
            Encoded::Image(view) => self.images_of(view, rows),
            Encoded::BothImages => self.pictures(&[BatchView::First, BatchView::Second], rows),
            Encoded::Text(view) => self.tokens_of(view, rows),
            Encoded::PositiveSubCaptions | Encoded::CounterfactualSubCaptions => {
                let (_, tokens, length) = self.sub_caption_tokens(encoded)?;
                self.ids(tokens, rows, *length)
            }
        }
    }

    fn statistics(&self) -> Statistics<'_> {
        match self.batch_norm {
            BatchNormRows::PerProcess => Statistics::Rows,
            BatchNormRows::WholeBatch => {
                let collectives = self.batch.world().collectives();
                Statistics::WholeBatch { collectives, counts: self.batch.has_own(), again: false }
            }
        }
    }

    /// How many sub-captions there are, and their tokens `[sub-captions, length]` with that length.
    fn sub_caption_tokens(&self, encoded: Encoded) -> Result<(usize, &[i64], &usize)> {
        let made =
            self.batch.own.sub_captions.as_ref().ok_or_else(|| Error::internal("a batch without sub-captions"))?;
        let (tokens, length) = match encoded {
            Encoded::CounterfactualSubCaptions => &made.counterfactual,
            _ => &made.positive,
        };
        Ok((made.rows.len(), tokens, length))
    }

    fn made(&self, view: BatchView) -> Result<&View> {
        let made = match view {
            BatchView::First => Some(&self.batch.own.view),
            BatchView::Second => self.batch.own.second.as_ref(),
        };
        made.ok_or_else(|| Error::internal("the objective asks for a view that its pass has not"))
    }

    fn side(&self) -> i64 {
        i64::from(self.model.config().image_size())
    }

    fn on_device(&self, view: BatchView) -> &OnDevice {
        match view {
            BatchView::First => &self.first,
            BatchView::Second => &self.second,
        }
    }

    /// Images and tokens of a whole view, which stay on the device.
    fn view(&self, view: BatchView) -> Result<(&Tensor, &Tensor)> {
        let (rows, there) = (0..self.rows(), self.on_device(view));
        let images = held(&there.images, || self.pictures(&[view], rows.clone()))?;
        Ok((images, held(&there.tokens, || self.tokens(view, rows.clone()))?))
    }

    fn images_of(&self, view: BatchView, rows: Range<usize>) -> Result<Tensor> {
        match rows.len() == self.rows() {
            true => Ok(held(&self.on_device(view).images, || self.pictures(&[view], rows))?.shallow_clone()),
            false => self.pictures(&[view], rows),
        }
    }

    fn tokens_of(&self, view: BatchView, rows: Range<usize>) -> Result<Tensor> {
        match rows.len() == self.rows() {
            true => Ok(held(&self.on_device(view).tokens, || self.tokens(view, rows))?.shallow_clone()),
            false => self.tokens(view, rows),
        }
    }

    /// The pictures of `rows`, one view's after the other's. They become numbers here: those of chunks a chunk at a time.
    fn pictures(&self, views: &[BatchView], rows: Range<usize>) -> Result<Tensor> {
        let made = views.iter().map(|view| self.made(*view)).collect::<Result<Vec<_>>>()?;
        let side = self.side();
        if !self.batch.has_own() {
            return Ok(Tensor::zeros([made.len() as i64, 3, side, side], (Kind::Float, self.device)));
        }
        let bytes = made.into_iter().map(|made| part(&made.images, rows.clone(), (3 * side * side) as usize));
        Ok(pictures(&bytes.collect::<Result<Vec<_>>>()?, side, self.device))
    }

    fn tokens(&self, view: BatchView, rows: Range<usize>) -> Result<Tensor> {
        let made = self.made(view)?;
        match self.batch.has_own() {
            true => self.ids(&made.tokens, rows, made.length),
            false => Ok(Tensor::zeros([1, 2], (Kind::Int64, self.device))),
        }
    }

    /// `rows` of token ids `[rows, length]`.
    fn ids(&self, tokens: &[i64], rows: Range<usize>, length: usize) -> Result<Tensor> {
        let shape = [rows.len() as i64, length as i64];
        Ok(on_device(part(tokens, rows, length)?, &shape, self.device))
    }
}

/// What is in `cell`, made where nothing is yet.
fn held(cell: &OnceCell<Tensor>, make: impl FnOnce() -> Result<Tensor>) -> Result<&Tensor> {
    if let Some(found) = cell.get() {
        return Ok(found);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

/// `rows` of `values`, of which a row has `each`.
fn part<T>(values: &[T], rows: Range<usize>, each: usize) -> Result<&[T]> {
    let part = values.get(rows.start * each..rows.end * each);
    part.ok_or_else(|| Error::internal("a batch with fewer rows than pairs"))
}

/// The rows `0..rows` in parts of `at_once` at most, of nearly equal size. None is of a single row, which has no variance for BatchNorm:
/// an odd number of rows in twos has a three.
fn chunks(rows: usize, at_once: usize) -> Vec<Range<usize>> {
    let parts = rows.div_ceil(at_once.max(1)).min(rows / 2).max(1);
    (0..parts).map(|part| rows * part / parts..rows * (part + 1) / parts).collect()
}

/// Features `[views * rows, dim]` that a tower gives, one view's after the other's, as `[rows, views, dim]`.
fn by_rows(features: &Tensor, rows: usize) -> Tensor {
    let dim = features.size().last().copied().unwrap_or(0);
    features.reshape([-1, rows as i64, dim]).transpose(0, 1)
}

/// `[rows, views, dim]` as the tower gives it: `[views * rows, dim]`.
fn as_encoded(features: &Tensor) -> Tensor {
    features.transpose(0, 1).flatten(0, 1)
}

/// Whether operations are recorded here: not within [`tch::no_grad`].
fn records_graph() -> bool {
    (Tensor::zeros([], (Kind::Float, Device::Cpu)).set_requires_grad(true) * 1.0).requires_grad()
}

impl Towers for BatchTowers<'_> {
    fn pairs(&self) -> &[usize] {
        &self.batch.pairs
    }

    fn own_rows(&self) -> OwnRows {
        self.batch.own_rows()
    }

    fn scale(&self) -> Tensor {
        self.model.scale()
    }

    fn raw_image(&self, view: BatchView) -> Result<Tensor> {
        self.batch.gathered(&self.own(Encoded::Image(view))?.select(1, 0))
    }

    fn images(&self) -> Result<[Tensor; 2]> {
        let both = self.own(Encoded::BothImages)?;
        let of = |view| -> Result<Tensor> { Ok(unit(&self.batch.gathered(&both.select(1, view))?)) };
        Ok([of(0)?, of(1)?])
    }

    fn text(&self, view: BatchView) -> Result<Tensor> {
        Ok(unit(&self.batch.gathered(&self.own(Encoded::Text(view))?.select(1, 0))?))
    }

    fn through(&self, model: &Clip, view: BatchView) -> Result<[Tensor; 2]> {
        let image = self.image_through(model, view)?;
        let text = tch::no_grad(|| {
            let own = self.in_chunks(self.rows(), |rows| {
                self.precision.features(self.device, || Ok(model.text_features(&self.tokens_of(view, rows)?)))
            })?;
            self.batch.gathered(&own)
        })?;
        Ok([unit(&image), unit(&text)])
    }

    fn image_through(&self, model: &Clip, view: BatchView) -> Result<Tensor> {
        tch::no_grad(|| {
            let own = self.in_chunks(self.rows(), |rows| {
                self.precision.features(self.device, || model.image_features(&self.images_of(view, rows)?, false))
            })?;
            self.batch.gathered(&own)
        })
    }

    fn inputs(&self, view: BatchView) -> Result<Inputs<'_>> {
        if self.encode_batch_size.is_some() || self.gradient_checkpointing {
            return Err(Error::internal(
                "an objective that takes pictures themselves, of which only features are cached",
            ));
        }
        let (images, tokens) = self.view(view)?;
        Ok(Inputs { model: self.model, images, tokens })
    }

    fn sub_captions(&self) -> Result<Option<SubCaptionFeatures>> {
        let Some(made) = self.batch.own.sub_captions.as_ref().filter(|made| !made.rows.is_empty()) else {
            return Ok(None);
        };
        let rows = Tensor::from_slice(&made.rows).to_device(self.device);
        let encode = |encoded| -> Result<Tensor> { Ok(unit(&self.own(encoded)?.select(1, 0))) };
        let (positive, counterfactual) =
            (encode(Encoded::PositiveSubCaptions)?, encode(Encoded::CounterfactualSubCaptions)?);
        Ok(Some(SubCaptionFeatures { rows, positive, counterfactual }))
    }
}

#[cfg(test)]
#[path = "batch_towers_tests.rs"]
mod tests;
