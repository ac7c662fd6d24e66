//! One epoch: its passes and their steps.

use crate::error::{Error, Result, TorchContext};
use crate::model::tensors;
use crate::model::unit;
use crate::objective::{LearningRate, Pass, Phase, Place, StepInputs, SubCaptionFeatures, TextTraining, Views};
use crate::train::engine::{Host, Position, StepDone, Trainer};
use crate::train::metrics::StepMetrics;
use crate::train::tally::EpochTally;
use crate::train::watch::Towers;
use roclip_data::batch::{HostBatch, PassPlan, View};
use std::time::Instant;
use tch::Tensor;

/// Features of one view, `[batch, dim]` each; of unit length but the raw ones.
struct Features {
    raw_image: Tensor,
    image: Tensor,
    text: Tensor,
}

impl Features {
    fn new(raw_image: Tensor, text: Tensor) -> Self {
        Features { image: unit(&raw_image), raw_image, text }
    }
}

impl Trainer {
    /// Goes on from the trainer's position to the end of the epoch.
    pub fn epoch(&mut self, host: &mut dyn Host) -> Result<()> {
        let epoch = self.position.epoch;
        if !self.position.within_epoch() {
            self.tally = EpochTally::new();
            let (model, loader, device, pairs) = (&self.model, &self.loader, self.device, self.pairs.len());
            self.objective.begin_epoch(epoch, pairs, &mut Towers { model, loader, device, pairs, epoch })?;
        }
        host.epoch_begun(self)?;
        for (number, pass) in (0u64..).zip(self.objective.passes(epoch)) {
            if number >= self.position.pass {
                self.position.pass = number;
                self.pass(pass, host)?;
                self.position.step_in_pass = 0;
            }
        }
        self.position = Position { epoch: epoch + 1, pass: 0, step_in_pass: 0, ..self.position };
        Ok(())
    }

    fn pass(&mut self, pass: Pass, host: &mut dyn Host) -> Result<()> {
        let Pass { phase, pairs, max_steps } = pass;
        let (epoch, number) = (self.position.epoch, self.position.pass);
        let order = self.loader.order(epoch, number, pairs);
        let steps = self.loader.steps(order.len()).min(max_steps.unwrap_or(u64::MAX));
        let plan = PassPlan {
            epoch,
            pass: number,
            two_views: self.objective.views(phase) != Views::One,
            first_step: self.position.step_in_pass,
            steps,
        };
        let mut waiting = Instant::now();
        for batch in self.loader.pass(order, plan) {
            let batch = batch?;
            let waited = waiting.elapsed().as_secs_f64();
            let skipped = batch.skips.total();
            if skipped > 0 {
                self.skips.merge(batch.skips.clone());
                host.pairs_skipped(self, self.tally.skipped + skipped)?;
            }
            self.tally.skipped += skipped;
            self.tally.data_seconds += waited;
            if !batch.can_train() {
                // What it lacks is among the skips. The step counts, so that a run and its resumption agree on where they are.
                self.tally.passed_over += 1;
                self.position.step += 1;
                self.position.step_in_pass += 1;
                waiting = Instant::now();
                continue;
            }
            let place = Place { phase, epoch, step: self.position.step_in_pass, steps };
            let metrics = self.step(&batch, place)?;
            self.tally.loss_sum += metrics.loss;
            self.tally.steps += 1;
            self.position.step += 1;
            self.position.step_in_pass += 1;
            host.step_done(self, &StepDone { metrics, steps, waited, seconds: waiting.elapsed().as_secs_f64() })?;
            waiting = Instant::now();
        }
        self.tally.finish_pass(phase, steps);
        Ok(())
    }

    /// One optimizer step on `batch`.
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
        let text_training = self.objective.text_training(phase);
        let view = self.tensors(batch, &batch.view);
        let (first, second) = self.encode(batch, &view, phase, text_training)?;
        let scale = self.model.scale();
        let reference = self.reference_features(&view)?;
        let sub_captions = self.sub_caption_features(batch);
        let inputs = StepInputs {
            image: &first.image,
            raw_image: &first.raw_image,
            text: &first.text,
            second: second.as_ref().map(|features| (&features.image, &features.text)),
            reference: reference.as_ref().map(|features| (&features.image, &features.text)),
            sub_captions: sub_captions.as_ref().map(|[rows, positive, counterfactual]| SubCaptionFeatures {
                rows,
                positive,
                counterfactual,
            }),
            scale: &scale,
            pairs: &batch.pairs,
        };
        let output = self.objective.loss(phase, &inputs)?;
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
        self.optimizer.step(learning_rate, text_training)?;
        self.model.clamp_scale();
        self.tally.matches.add(&self.pairs, &output.matches);
        Ok(StepMetrics { loss, learning_rate, scale: scale.double_value(&[]), gradient_norm, phase })
    }

    /// Images `[batch, 3, side, side]` and tokens `[batch, length]` of a view.
    fn tensors(&self, batch: &HostBatch, view: &View) -> (Tensor, Tensor) {
        tensors(view, batch.pairs.len(), i64::from(self.model.config().image_size()), self.device)
    }

    /// Features of the batch's first view, and of its second one where the phase has two.
    fn encode(
        &self,
        batch: &HostBatch,
        (images, tokens): &(Tensor, Tensor),
        phase: Phase,
        text_training: TextTraining,
    ) -> Result<(Features, Option<Features>)> {
        let image = |images: &Tensor| self.model.image_features(images, true);
        let text = |tokens: &Tensor| unit(&self.model.text_features(tokens));
        let Some(view) = &batch.second else {
            let text = match text_training {
                TextTraining::Full => text(tokens),
                TextTraining::ZeroGradient | TextTraining::Frozen => tch::no_grad(|| text(tokens)),
            };
            return Ok((Features::new(image(images)?, text), None));
        };
        let (images_2, tokens_2) = self.tensors(batch, view);
        if self.objective.views(phase) == Views::TwoFirstWithoutGraph {
            let features =
                |images: &Tensor, tokens: &Tensor| Ok::<_, Error>(Features::new(image(images)?, text(tokens)));
            let first = tch::no_grad(|| features(images, tokens))?;
            return Ok((first, Some(features(&images_2, &tokens_2)?)));
        }
        let both = image(&Tensor::cat(&[images, &images_2], 0))?;
        let half = batch.pairs.len() as i64;
        let first = Features::new(both.narrow(0, 0, half), text(tokens));
        Ok((first, Some(Features::new(both.narrow(0, half, half), text(&tokens_2)))))
    }

    /// What the frozen reference makes of the batch's first view.
    fn reference_features(&self, (images, tokens): &(Tensor, Tensor)) -> Result<Option<Features>> {
        let Some(reference) = &self.reference else { return Ok(None) };
        tch::no_grad(|| {
            let image = reference.image_features(images, false)?;
            Ok(Some(Features::new(image, unit(&reference.text_features(tokens)))))
        })
    }

    /// Rows, positives and counterfactuals of the batch's sub-captions.
    fn sub_caption_features(&self, batch: &HostBatch) -> Option<[Tensor; 3]> {
        let sub_captions = batch.sub_captions.as_ref().filter(|made| !made.rows.is_empty())?;
        let encode = |(tokens, length): &(Vec<i64>, usize)| {
            let tokens = Tensor::from_slice(tokens).view([-1, *length as i64]).to_device(self.device);
            unit(&self.model.text_features(&tokens))
        };
        let rows = Tensor::from_slice(&sub_captions.rows).to_device(self.device);
        Some([rows, encode(&sub_captions.positive), encode(&sub_captions.counterfactual)])
    }

    fn diverged(&self, what: String, batch: &HostBatch) -> Error {
        let ids: Vec<&str> =
            batch.pairs.iter().filter_map(|at| self.pairs.pairs.get(*at)).map(|p| p.id.as_str()).collect();
        Error::Diverged {
            what: format!(
                "{what} is not finite at epoch {} step {}; samples of the batch: {}",
                self.position.epoch,
                self.position.step,
                ids.join(" ")
            ),
            remedy: "lower learning_rate, raise warmup_steps, or look at these samples; the last checkpoint is intact"
                .into(),
        }
    }
}
