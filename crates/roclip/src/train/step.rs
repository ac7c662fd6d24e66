//! One optimizer step: the objective encodes the batch, and the parameters move.

use crate::error::{Error, Result, TorchContext};
use crate::model::{Clip, Statistics, tensors, unit};
use crate::objective::{BatchView, Inputs, LearningRate, Place, SubCaptionFeatures, Towers};
use crate::train::config::BatchNormRows;
use crate::train::engine::Trainer;
use crate::train::metrics::StepMetrics;
use crate::train::shared_batch::SharedBatch;
use crate::world::OwnRows;
use std::cell::OnceCell;
use tch::{Device, Kind, Tensor};

/// Samples of a batch that an error names.
const SHOWN_SAMPLES: usize = 3;

/// Images `[batch, 3, side, side]` and tokens `[batch, length]` of a view.
type ViewTensors = (Tensor, Tensor);

/// A batch and the model in training. A view goes to the device when it is first asked for.
struct BatchTowers<'a> {
    model: &'a Clip,
    batch: &'a SharedBatch,
    device: Device,
    batch_norm: BatchNormRows,
    first: OnceCell<ViewTensors>,
    second: OnceCell<ViewTensors>,
}

impl<'a> BatchTowers<'a> {
    fn new(model: &'a Clip, batch: &'a SharedBatch, device: Device, batch_norm: BatchNormRows) -> Self {
        BatchTowers { model, batch, device, batch_norm, first: OnceCell::new(), second: OnceCell::new() }
    }

    /// Rows that are computed here: one that stands in for them where there are none.
    fn rows(&self) -> usize {
        self.batch.own.pairs.len().max(1)
    }

    fn statistics(&self) -> Statistics<'_> {
        match self.batch_norm {
            BatchNormRows::PerProcess => Statistics::Rows,
            BatchNormRows::WholeBatch => {
                let collectives = self.batch.world().collectives();
                Statistics::WholeBatch { collectives, counts: self.batch.has_own() }
            }
        }
    }

    fn own_images(&self, images: &Tensor) -> Result<Tensor> {
        self.model.image_features_by(images, self.statistics())
    }

    fn view(&self, view: BatchView) -> Result<&ViewTensors> {
        let (cell, made) = match view {
            BatchView::First => (&self.first, Some(&self.batch.own.view)),
            BatchView::Second => (&self.second, self.batch.own.second.as_ref()),
        };
        let made = made.ok_or_else(|| Error::internal("the objective asks for a view that its pass has not"))?;
        let side = i64::from(self.model.config().image_size());
        Ok(cell.get_or_init(|| match self.batch.has_own() {
            true => tensors(made, self.batch.own.pairs.len(), side, self.device),
            false => (
                Tensor::zeros([1, 3, side, side], (Kind::Float, self.device)),
                Tensor::zeros([1, 2], (Kind::Int64, self.device)),
            ),
        }))
    }
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
        self.batch.gathered(&self.own_images(&self.view(view)?.0)?)
    }

    fn images(&self) -> Result<[Tensor; 2]> {
        let (first, second) = (&self.view(BatchView::First)?.0, &self.view(BatchView::Second)?.0);
        let both = self.own_images(&Tensor::cat(&[first, second], 0))?;
        let half = self.rows() as i64;
        let of = |from| -> Result<Tensor> { Ok(unit(&self.batch.gathered(&both.narrow(0, from, half))?)) };
        Ok([of(0)?, of(half)?])
    }

    fn text(&self, view: BatchView) -> Result<Tensor> {
        Ok(unit(&self.batch.gathered(&self.model.text_features(&self.view(view)?.1))?))
    }

    fn through(&self, model: &Clip, view: BatchView) -> Result<[Tensor; 2]> {
        let (images, tokens) = self.view(view)?;
        tch::no_grad(|| {
            let own = [model.image_features(images, false)?, model.text_features(tokens)];
            let [image, text] = own.each_ref().map(|one| self.batch.gathered(one));
            Ok([unit(&image?), unit(&text?)])
        })
    }

    fn image_through(&self, model: &Clip, view: BatchView) -> Result<Tensor> {
        tch::no_grad(|| self.batch.gathered(&model.image_features(&self.view(view)?.0, false)?))
    }

    fn inputs(&self, view: BatchView) -> Result<Inputs<'_>> {
        let (images, tokens) = self.view(view)?;
        Ok(Inputs { model: self.model, images, tokens })
    }

    fn sub_captions(&self) -> Option<SubCaptionFeatures> {
        let made = self.batch.own.sub_captions.as_ref().filter(|made| !made.rows.is_empty())?;
        let encode = |(tokens, length): &(Vec<i64>, usize)| {
            let tokens = Tensor::from_slice(tokens).view([-1, *length as i64]).to_device(self.device);
            unit(&self.model.text_features(&tokens))
        };
        let rows = Tensor::from_slice(&made.rows).to_device(self.device);
        let (positive, counterfactual) = (encode(&made.positive), encode(&made.counterfactual));
        Some(SubCaptionFeatures { rows, positive, counterfactual })
    }
}

impl Trainer {
    /// One optimizer step on `batch`.
    ///
    /// # Errors
    /// A batch of fewer than two pairs, and a loss or a gradient that is not finite.
    pub fn step(&mut self, batch: &SharedBatch, place: Place) -> Result<StepMetrics> {
        if batch.pairs.len() < 2 {
            return Err(Error::setting(
                format!(
                    "fewer than two samples of step {} can be used ({})",
                    self.position.step,
                    batch.skips.summary()
                ),
                "repair the data",
            ));
        }
        let phase = place.phase;
        let learning_rate = match self.objective.learning_rate(place) {
            LearningRate::Scheduled(scale) => self.schedule.rate(self.position.step) * scale,
            LearningRate::Absolute(rate) => rate,
        };
        let towers = BatchTowers::new(&self.model, batch, self.device, self.config.batch_norm);
        let output = self.objective.loss(phase, &towers)?;
        let own_loss = output.loss.f_double_value(&[]).torch("reading the loss")?;
        // Not before the others have come as far: a loss that is no number is everybody's.
        self.world.collectives().backward(&output.loss)?;
        let loss = self.world.average(&self.optimizer.gradients(), own_loss)?;
        if !loss.is_finite() {
            return Err(self.diverged("the loss".into(), batch));
        }
        let gradient_norm = self.optimizer.gradient_norm();
        if !gradient_norm.is_finite() {
            let name = self.optimizer.non_finite_gradient().unwrap_or("the norm").to_owned();
            return Err(self.diverged(format!("the gradient of `{name}`"), batch));
        }
        // Of the weights that made the loss.
        let scale = tch::no_grad(|| self.model.scale());
        let objective = &self.objective;
        self.optimizer.step(learning_rate, &|part| objective.update(phase, part))?;
        self.model.clamp_scale();
        self.tally.matches.add(&self.pairs, &output.matches);
        Ok(StepMetrics { loss, learning_rate, scale: scale.double_value(&[]), gradient_norm, phase })
    }

    fn diverged(&self, what: String, batch: &SharedBatch) -> Error {
        let samples: Vec<String> =
            batch.pairs.iter().filter_map(|at| self.pairs.get(*at)).map(|pair| pair.id.clone()).collect();
        let shown: Vec<&str> = samples.iter().take(SHOWN_SAMPLES).map(String::as_str).collect();
        let more = match samples.len().saturating_sub(SHOWN_SAMPLES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Error::Diverged {
            what: format!(
                "{what} is not finite at epoch {} step {}; samples of the batch: {}{more}",
                self.position.epoch,
                self.position.step,
                shown.join(" ")
            ),
            remedy: "lower learning_rate, raise warmup_steps, or look at these samples; the last checkpoint is intact"
                .into(),
            samples,
        }
    }
}
