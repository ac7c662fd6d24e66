//! The lines of a run about its steps and epochs, in `metrics.jsonl` and for people.

use crate::error::{Error, Result};
use crate::eval::{BackdoorOutcome, Evaluation};
use crate::objective::Phase;
use crate::run::numbers::check_measured;
use crate::train::{
    MatchSummary, PassMetrics, SimilarityHistogram, SplitSummary, StepDone, StepMetrics, Trainer, read_metrics,
};
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use roclip_data::skip::SkipReason;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An `epoch` line, read back.
#[derive(Debug, Clone, Deserialize)]
pub struct EpochLine {
    pub epoch: u64,
    pub phase: String,
    pub loss: f64,
    #[serde(default)]
    pub passes: Vec<PassMetrics>,
    pub evaluation: Option<Evaluation>,
    pub matches: Option<MatchSummary>,
    pub split: Option<SplitSummary>,
    pub similarity: SimilarityHistogram,
}

/// The `epoch` lines of a run.
pub fn read_epochs(run: &Path) -> Result<Vec<EpochLine>> {
    let lines = read_metrics(run)?.into_iter().filter(|line| line.get("event").is_some_and(|event| event == "epoch"));
    let path = run.join("metrics.jsonl");
    let parse = |line| {
        check_measured(&path, &line)?;
        serde_json::from_value(line)
            .map_err(|e| Error::file(&path, e.to_string(), "was it written by another version? train again"))
    };
    lines.map(parse).collect()
}

/// An `epoch` line.
#[derive(Serialize)]
pub struct EpochMetrics<'a> {
    /// What the epoch ended with; `loss` is that pass's.
    pub phase: Phase,
    pub loss: f64,
    pub passes: &'a [PassMetrics],
    pub seconds: f64,
    pub data_seconds: f64,
    /// Pairs that could not be used. Others took their places.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: usize,
    /// Rows of batches that none was found for, so that a batch was smaller.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Batches without two good samples, which no step could be taken on.
    #[serde(skip_serializing_if = "is_zero")]
    pub passed_over: u64,
    pub evaluation: Option<&'a Evaluation>,
    pub matches: Option<MatchSummary>,
    pub split: Option<SplitSummary>,
    pub similarity: SimilarityHistogram,
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// A `step` line.
#[derive(Serialize)]
pub struct StepRow<'a> {
    #[serde(flatten)]
    pub metrics: &'a StepMetrics,
    /// Mean over the last steps, waiting included.
    pub pairs_per_second: f64,
}

/// What TensorBoard shows of a step.
pub(super) fn step_scalars(row: &StepRow) -> Vec<(String, f64)> {
    let StepRow { metrics, pairs_per_second } = row;
    [
        ("loss", metrics.loss),
        ("learning_rate", metrics.learning_rate),
        ("logit_scale", metrics.scale),
        ("gradient_norm", metrics.gradient_norm),
        ("pairs_per_second", *pairs_per_second),
    ]
    .map(|(name, value)| (format!("train/{name}"), value))
    .to_vec()
}

/// What TensorBoard shows of an epoch.
pub(super) fn epoch_scalars(report: &EpochMetrics) -> Vec<(String, f64)> {
    let mut scalars = vec![("epoch/loss".to_owned(), report.loss), ("epoch/seconds".to_owned(), report.seconds)];
    let Some(evaluation) = report.evaluation else { return scalars };
    let accuracies = [
        ("zero_shot_top1", evaluation.zero_shot_top1.share()),
        ("zero_shot_top5", evaluation.zero_shot_top5.and_then(Rate::share)),
        ("mean_per_class_recall", evaluation.mean_per_class_recall),
    ];
    scalars.extend(accuracies.into_iter().filter_map(|(name, value)| Some((format!("evaluation/{name}"), value?))));
    scalars.extend(evaluation.psr.and_then(Rate::share).map(|psr| ("attack/psr".to_owned(), psr)));
    let success = |(attack, outcome): (&String, &BackdoorOutcome)| {
        Some((format!("attack/asr/{attack}"), outcome.success.share()?))
    };
    scalars.extend(evaluation.asr.iter().filter_map(success));
    scalars
}

/// The line for people of an epoch.
pub fn epoch_line(epoch: u64, report: &EpochMetrics) -> String {
    let mut line = format!("Epoch {epoch} ({:?}) loss {:.4} {:.1}s", report.phase, report.loss, report.seconds);
    if report.skipped > 0 {
        line += &format!(" ({} skipped", count(report.skipped, "unusable pair"));
        line += &match report.left_out {
            0 => " and replaced)".to_owned(),
            rows => format!("; {} of batches without a pair in their place)", count(rows, "row")),
        };
    }
    if report.passed_over > 0 {
        line += &format!(" ({} without two good samples passed over)", count(report.passed_over, "batch"));
    }
    if let Some(evaluation) = report.evaluation.filter(|evaluation| evaluation.zero_shot_top1.n > 0) {
        let measured = match report.phase {
            Phase::Labels | Phase::Distillation => "accuracy",
            _ => "zero-shot",
        };
        line += &format!(" {measured} {:.1}%", 100.0 * evaluation.zero_shot_top1.rate);
        if let Some(top5) = evaluation.zero_shot_top5 {
            line += &format!(" (top-5 {:.1}%)", 100.0 * top5.rate);
        }
        if let Some(psr) = evaluation.psr {
            line += &format!(" PSR {}/{}", psr.hits, psr.n);
        }
        let images = evaluation.skipped.iter().filter(|(word, _)| SkipReason::word_loses_sample(word));
        let skipped: usize = images.map(|(_, count)| *count).sum();
        if skipped > 0 {
            line += &format!(" ({} left out)", count(skipped, "evaluation image"));
        }
        for (attack, outcome) in &evaluation.asr {
            line += &match outcome.success.measured() {
                Some(success) => format!(" ASR {attack} {:.1}%", 100.0 * success.rate),
                None => format!(" ASR {attack} not measured"),
            };
        }
    }
    if let Some(matches) = &report.matches {
        line += &match matches.clean.true_concept > 0.0 {
            true => format!(" matched to its own concept {:.0}%", 100.0 * matches.clean.true_concept),
            // Pairs without classes have no concepts that could be compared.
            false => format!(" matched at a similarity of {:.2}", matches.mean_similarity),
        };
    }
    if let Some(split) = &report.split {
        let admitted = split.poison_in_safe.iter().map(|(attack, rate)| format!(" {attack} {}/{}", rate.hits, rate.n));
        line +=
            &format!(" safe {:.1}% of the pairs, poison in it:{}", 100.0 * split.share, admitted.collect::<String>());
    }
    line
}

/// open_clip's line of a step, with the time to go.
pub(super) fn step_line(trainer: &Trainer, done: &StepDone, seconds_left: f64) -> String {
    let StepDone { metrics, steps, waited, seconds, .. } = done;
    let (config, position) = (&trainer.config, trainer.position);
    let (in_pass, mean_loss) = (position.step_in_pass, trainer.tally.mean_loss());
    format!(
        "Train Epoch: {} [{}/{} ({:.0}%)] Data (t): {waited:.3} Batch (t): {seconds:.3} {:.0}/s LR: {:.6} Logit Scale: {:.3} Loss: {:.4} ({mean_loss:.4}) ETA: {seconds_left:.0}s ({})",
        position.epoch,
        in_pass * config.batch_size as u64,
        steps * config.batch_size as u64,
        100.0 * in_pass as f64 / (*steps).max(1) as f64,
        config.batch_size as f64 / seconds.max(1e-9),
        metrics.learning_rate,
        metrics.scale,
        metrics.loss,
        match config.epochs.saturating_sub(position.epoch) {
            0 => "last epoch".to_owned(),
            left => format!("{} left", count(left, "epoch")),
        }
    )
}
