//! One epoch of a run: its passes, their steps, and what is written down after them.

use crate::error::{Error, Result, TorchContext};
use crate::eval::Evaluation;
use crate::model::tensors;
use crate::model::unit;
use crate::objective::{LearningRate, Pass, Phase, Place, StepInputs, SubCaptionFeatures, TextTraining, Views};
use crate::train::diagnostics::{SplitSummary, split_lines};
use crate::train::metrics::{EpochMetrics, MetricsLog, StepMetrics, epoch_line};
use crate::train::run::{Position, Trainer};
use crate::train::tally::EpochTally;
use crate::train::watch::Towers;
use roclip_data::artifact;
use roclip_data::batch::{HostBatch, PassPlan, View};
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

/// Where a run writes.
pub(super) struct Outputs<'a> {
    pub run: &'a Path,
    pub log: &'a mut MetricsLog,
    /// Receives one line at a time.
    pub progress: &'a mut dyn FnMut(&str),
}

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

impl Trainer<'_> {
    /// Goes on from the trainer's position to the end of the epoch. The evaluation, where one was due.
    pub(super) fn epoch(&mut self, out: &mut Outputs) -> Result<Option<Evaluation>> {
        let epoch = self.position.epoch;
        if !self.position.within_epoch() {
            self.tally = EpochTally::new();
            let (model, loader, device, pairs) = (&self.model, &self.loader, self.device, self.pairs.len());
            self.objective.begin_epoch(epoch, pairs, &mut Towers { model, loader, device, pairs, epoch })?;
        }
        self.write_split(out.run)?;
        for (number, pass) in (0u64..).zip(self.objective.passes(epoch)) {
            if number >= self.position.pass {
                self.position.pass = number;
                self.pass(pass, out)?;
                self.position.step_in_pass = 0;
            }
        }
        self.check_skips()?;
        // The last two, so that an objective with two kinds of epoch is seen after both.
        let last = epoch + 2 > self.recipe.train.epochs;
        let due = last || epoch.is_multiple_of(self.recipe.eval.every_epochs.max(1));
        let evaluation = if due { Some(self.evaluate()?) } else { None };
        let phase = self.objective.phase(epoch);
        let report = EpochMetrics {
            phase,
            loss: self.tally.passes.last().map_or(f64::NAN, |pass| pass.loss),
            passes: &self.tally.passes,
            seconds: self.tally.seconds(),
            data_seconds: self.tally.data_seconds,
            evaluation: evaluation.as_ref(),
            matches: self.tally.matches.finish(),
            split: self.objective.split().map(|(scores, split)| SplitSummary::new(&self.pairs, scores, split)),
            similarity: self.similarities()?,
        };
        out.log.write("epoch", self.position.step, epoch, &report)?;
        (out.progress)(&epoch_line(epoch, phase, &report));
        self.position = Position { epoch: epoch + 1, pass: 0, step_in_pass: 0, ..self.position };
        self.save(out.run)?;
        Ok(evaluation)
    }

    /// `splits/epoch_N.jsonl`: every pair with its score and side.
    fn write_split(&self, run: &Path) -> Result<()> {
        let Some((scores, split)) = self.objective.split() else { return Ok(()) };
        let path = run.join(format!("splits/epoch_{}.jsonl", self.position.epoch));
        Ok(artifact::write(&path, split_lines(&self.pairs, scores, split).as_bytes())?)
    }

    fn pass(&mut self, pass: Pass, out: &mut Outputs) -> Result<()> {
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
            self.tally.data_seconds += waited;
            self.tally.skipped += batch.skips.total();
            let working = Instant::now();
            let place = Place { phase, epoch, step: self.position.step_in_pass, steps };
            let metrics = self.step(&batch, place)?;
            self.skips.merge(batch.skips);
            self.tally.loss_sum += metrics.loss;
            self.tally.steps += 1;
            self.position.step += 1;
            self.position.step_in_pass += 1;
            if self.position.step.is_multiple_of(self.recipe.train.log_every_steps.max(1)) {
                out.log.write("step", self.position.step, epoch, &metrics)?;
                let batch_seconds = working.elapsed().as_secs_f64() + waited;
                (out.progress)(&self.line(&metrics, steps, waited, batch_seconds));
            }
            let every = self.recipe.train.save_every_steps;
            if every > 0 && self.position.step.is_multiple_of(every) && self.position.step_in_pass < steps {
                self.save(out.run)?;
            }
            waiting = Instant::now();
        }
        self.tally.finish_pass(phase, steps);
        Ok(())
    }

    pub(super) fn step(&mut self, batch: &HostBatch, place: Place) -> Result<StepMetrics> {
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

    /// open_clip's line, with the time to go (were all epochs whole passes at this pace).
    fn line(&self, metrics: &StepMetrics, steps: u64, data_seconds: f64, batch_seconds: f64) -> String {
        let config = &self.recipe.train;
        let (done, mean_loss) = (self.position.step_in_pass, self.tally.mean_loss());
        let left = self.schedule.steps_per_epoch * (config.epochs - self.position.epoch) + steps - done;
        format!(
            "Train Epoch: {} [{}/{} ({:.0}%)] Data (t): {data_seconds:.3} Batch (t): {batch_seconds:.3} {:.0}/s LR: {:.6} Logit Scale: {:.3} Loss: {:.4} ({mean_loss:.4}) ETA: {:.0}s",
            self.position.epoch,
            done * config.batch_size as u64,
            steps * config.batch_size as u64,
            100.0 * done as f64 / steps.max(1) as f64,
            config.batch_size as f64 / batch_seconds.max(1e-9),
            metrics.learning_rate,
            metrics.scale,
            metrics.loss,
            left as f64 * batch_seconds
        )
    }

    fn check_skips(&self) -> Result<()> {
        let skipped = self.tally.skipped;
        let allowed = self.recipe.data.max_skip_fraction * self.pairs.len() as f64;
        if skipped as f64 > allowed {
            return Err(Error::setting(
                format!(
                    "{skipped} of {} pairs could not be used in one epoch: {}",
                    self.pairs.len(),
                    self.skips.summary()
                ),
                "repair the data, or raise data.max_skip_fraction",
            ));
        }
        Ok(())
    }
}
