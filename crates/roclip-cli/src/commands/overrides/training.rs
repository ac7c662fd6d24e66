//! Which model learns, from what objective, how, and with what machine.

use crate::commands::numbers::of_key;
use crate::commands::overrides::{Overrides, set};
use anyhow::Result;
use clap::Args;
use roclip::recipe::{ObjectiveName, Recipe, flag_help, most};
use roclip::train::Precision;

#[derive(Args, Clone, Default)]
pub struct ModelFlags {
    #[arg(help = flag_help("model.name"))]
    #[arg(long)]
    model: Option<String>,
}

impl ModelFlags {
    pub fn name(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl Overrides for ModelFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.model.name, &self.model);
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct BatchFlag {
    #[arg(help = flag_help("train.batch_size"))]
    #[arg(long, value_parser = of_key::<usize>("train.batch_size"))]
    batch_size: Option<usize>,
}

impl Overrides for BatchFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.train.batch_size, &self.batch_size);
        Ok(())
    }
}

/// A warm-up as a flag says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Warmup {
    Steps(u64),
    /// Of all steps.
    Share(f64),
}

/// `100` is steps; `0.1` and `10%` are a share of all steps.
fn warmup(text: &str) -> Result<Warmup, String> {
    if let Ok(steps) = text.parse() {
        let most = most("train.warmup_steps");
        return match steps <= most {
            true => Ok(Warmup::Steps(steps)),
            false => Err(format!("{steps} steps are not in 0..={most}")),
        };
    }
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let share = share.ok().filter(|share| (0.0..1.0).contains(share));
    share.map(Warmup::Share).ok_or_else(|| "give steps, as in 100, or a share of all steps, as in 0.1 or 10%".into())
}

fn warmup_help() -> String {
    let steps = flag_help("train.warmup_steps");
    let about = steps.split(';').next().unwrap_or_default();
    format!(
        "{about}; or a share of all steps, as in 0.1 or 10% [recipe keys: train.warmup_steps and train.warmup_fraction, default 10%]"
    )
}

/// How a model is trained.
#[derive(Args, Clone, Default)]
pub struct TrainingFlags {
    #[arg(help = flag_help("train.epochs"))]
    #[arg(long, value_parser = of_key::<u64>("train.epochs"))]
    epochs: Option<u64>,
    #[command(flatten)]
    batch: BatchFlag,
    #[arg(help = flag_help("train.learning_rate"))]
    #[arg(long)]
    lr: Option<f64>,
    #[arg(help = flag_help("train.weight_decay"))]
    #[arg(long)]
    wd: Option<f64>,
    #[arg(help = warmup_help(), value_name = "STEPS|SHARE", value_parser = warmup)]
    #[arg(long)]
    warmup: Option<Warmup>,
}

/// How a step is computed; captioners and prompts are not trained so.
#[derive(Args, Clone, Default)]
pub struct ComputeFlags {
    #[arg(help = flag_help("train.precision"))]
    #[arg(long, value_parser = Precision::ALL.map(Precision::word))]
    precision: Option<String>,
    #[arg(help = flag_help("train.encode_batch_size"))]
    #[arg(long, value_name = "PAIRS", value_parser = of_key::<usize>("train.encode_batch_size"))]
    encode_batch_size: Option<usize>,
}

impl Overrides for ComputeFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.train.precision, &self.precision.as_deref().and_then(Precision::named));
        recipe.train.encode_batch_size = self.encode_batch_size.or(recipe.train.encode_batch_size);
        Ok(())
    }
}

/// What a model learns from its pairs; a cleaning method has its own.
#[derive(Args, Clone, Default)]
pub struct ObjectiveFlags {
    #[arg(help = flag_help("objective.name"))]
    #[arg(long, value_parser = ObjectiveName::ALL.map(|known| known.word))]
    objective: Option<String>,
    #[arg(help = flag_help("objective.roclip.period"))]
    #[arg(long, value_parser = of_key::<u64>("objective.roclip.period"))]
    match_period: Option<u64>,
    #[arg(help = flag_help("objective.roclip.match_start"))]
    #[arg(long, value_parser = of_key::<u64>("objective.roclip.match_start"))]
    match_start: Option<u64>,
    #[arg(help = flag_help("objective.roclip.pool_size"))]
    #[arg(long, value_parser = of_key::<usize>("objective.roclip.pool_size"))]
    pool_size: Option<usize>,
}

impl Overrides for TrainingFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        self.batch.apply(recipe)?;
        let train = &mut recipe.train;
        set(&mut train.epochs, &self.epochs);
        set(&mut train.learning_rate, &self.lr);
        set(&mut train.weight_decay, &self.wd);
        if let Some(warmup) = self.warmup {
            (train.warmup_steps, train.warmup_fraction) = match warmup {
                Warmup::Steps(steps) => (Some(steps), None),
                Warmup::Share(share) => (None, Some(share)),
            };
        }
        Ok(())
    }
}

impl Overrides for ObjectiveFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.objective.name, &self.objective.as_deref().and_then(ObjectiveName::named));
        let roclip = &mut recipe.objective.roclip;
        set(&mut roclip.period, &self.match_period);
        roclip.match_start = self.match_start.or(roclip.match_start);
        if self.pool_size.is_some() {
            roclip.pool_fraction = None;
        }
        roclip.pool_size = self.pool_size.or(roclip.pool_size);
        Ok(())
    }
}

/// What the work is done with.
#[derive(Args, Clone, Default)]
pub struct MachineFlags {
    #[arg(help = flag_help("data.workers"))]
    #[arg(long, value_parser = of_key::<usize>("data.workers"))]
    workers: Option<usize>,
    #[arg(help = flag_help("train.threads"))]
    #[arg(long)]
    pub threads: Option<i32>,
    #[arg(help = flag_help("train.device"))]
    #[arg(long)]
    device: Option<String>,
}

impl Overrides for MachineFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        set(&mut recipe.data.workers, &self.workers);
        set(&mut recipe.train.threads, &self.threads);
        set(&mut recipe.train.device, &self.device);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_is_steps_or_a_share() {
        for (text, expected) in [
            ("100", Warmup::Steps(100)),
            ("0", Warmup::Steps(0)),
            ("1000000000", Warmup::Steps(1_000_000_000)),
            ("0.1", Warmup::Share(0.1)),
            ("10%", Warmup::Share(0.1)),
            ("0.5 %", Warmup::Share(0.005)),
        ] {
            assert_eq!(warmup(text), Ok(expected), "{text}");
        }
        for text in ["1.5", "100%", "-1", "nan", "many", "%", "1000000001", "18446744073709551616"] {
            assert!(warmup(text).is_err(), "{text}");
        }
    }
}
