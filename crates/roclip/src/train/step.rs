//! One optimizer step: the objective encodes the batch, and the parameters move.

use crate::error::{Error, Result, TorchContext};
use crate::model::{Clip, tensors, unit};
use crate::objective::{BatchView, Inputs, LearningRate, Place, SubCaptionFeatures, Towers};
use crate::train::engine::Trainer;
use crate::train::metrics::StepMetrics;
use roclip_data::batch::HostBatch;
use std::cell::OnceCell;
use tch::{Device, Tensor};

/// Samples of a batch that an error names.
const SHOWN_SAMPLES: usize = 3;

/// Images `[batch, 3, side, side]` and tokens `[batch, length]` of a view.
type ViewTensors = (Tensor, Tensor);

/// A batch and the model in training. A view goes to the device when it is first asked for.
struct BatchTowers<'a> {
    model: &'a Clip,
    batch: &'a HostBatch,
    device: Device,
    first: OnceCell<ViewTensors>,
    second: OnceCell<ViewTensors>,
}

impl<'a> BatchTowers<'a> {
    fn new(model: &'a Clip, batch: &'a HostBatch, device: Device) -> Self {
        BatchTowers { model, batch, device, first: OnceCell::new(), second: OnceCell::new() }
    }

    fn view(&self, view: BatchView) -> Result<&ViewTensors> {
        let (cell, made) = match view {
            BatchView::First => (&self.first, Some(&self.batch.view)),
            BatchView::Second => (&self.second, self.batch.second.as_ref()),
        };
        let made = made.ok_or_else(|| Error::internal("the objective asks for a view that its pass has not"))?;
        let side = i64::from(self.model.config().image_size());
        Ok(cell.get_or_init(|| tensors(made, self.batch.pairs.len(), side, self.device)))
    }
}

impl Towers for BatchTowers<'_> {
    fn pairs(&self) -> &[usize] {
        &self.batch.pairs
    }

    fn scale(&self) -> Tensor {
        self.model.scale()
    }

    fn raw_image(&self, view: BatchView) -> Result<Tensor> {
        self.model.image_features(&self.view(view)?.0, true)
    }

    fn images(&self) -> Result<[Tensor; 2]> {
        let (first, second) = (&self.view(BatchView::First)?.0, &self.view(BatchView::Second)?.0);
        let both = self.model.image_features(&Tensor::cat(&[first, second], 0), true)?;
        let half = self.batch.pairs.len() as i64;
        Ok([0, half].map(|from| unit(&both.narrow(0, from, half))))
    }

    fn text(&self, view: BatchView) -> Result<Tensor> {
        Ok(unit(&self.model.text_features(&self.view(view)?.1)))
    }

    fn through(&self, model: &Clip, view: BatchView) -> Result<[Tensor; 2]> {
        let (images, tokens) = self.view(view)?;
        tch::no_grad(|| Ok([unit(&model.image_features(images, false)?), unit(&model.text_features(tokens))]))
    }

    fn image_through(&self, model: &Clip, view: BatchView) -> Result<Tensor> {
        tch::no_grad(|| model.image_features(&self.view(view)?.0, false))
    }

    fn inputs(&self, view: BatchView) -> Result<Inputs<'_>> {
        let (images, tokens) = self.view(view)?;
        Ok(Inputs { model: self.model, images, tokens })
    }

    fn sub_captions(&self) -> Option<SubCaptionFeatures> {
        let made = self.batch.sub_captions.as_ref().filter(|made| !made.rows.is_empty())?;
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
    pub fn step(&mut self, batch: &HostBatch, place: Place) -> Result<StepMetrics> {
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
        let output = self.objective.loss(phase, &BatchTowers::new(&self.model, batch, self.device))?;
        let loss = output.loss.f_double_value(&[]).torch("reading the loss")?;
        if !loss.is_finite() {
            return Err(self.diverged("the loss".into(), batch));
        }
        output.loss.backward();
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

    fn diverged(&self, what: String, batch: &HostBatch) -> Error {
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
