//! How a first cleaning is typed for a model: the released settings are for models of millions of pairs, and change nothing in a small one.

use crate::model::FEW_PAIRS;
use crate::train::TrainConfig;

/// Steps of a cleaning that is advised: in few, no learning rate changes much.
pub const ENOUGH_STEPS: u64 = 100;
/// The share of them that raises the rate.
pub const WARMUP: f64 = 0.1;
/// The learning rate that cleans small models (docs/results/cleaning.md).
const SMALL_RATE: &str = "1e-3";

/// What a cleaning is of.
pub struct Victim<'a> {
    /// As it was trained.
    pub train: &'a TrainConfig,
    /// Whether its first weights were somebody's of a large model, which it still is.
    pub began_large: bool,
    /// That it can be cleaned on.
    pub pairs: usize,
}

/// The flags of `roclip clean`, each behind a space, that fit `victim` where a method's own settings, those of `released`, do not.
pub fn first_try(released: &TrainConfig, victim: &Victim) -> String {
    let Victim { train, began_large, pairs } = *victim;
    if began_large || pairs >= FEW_PAIRS {
        return String::new();
    }
    let mut flags = format!(" --lr {SMALL_RATE}");
    let mut batch = released.batch_size;
    if pairs < batch {
        batch = train.batch_size.min(pairs);
        flags += &format!(" --batch-size {batch}");
    }
    let an_epoch = (pairs / batch.max(1)).max(1) as u64;
    if an_epoch * released.epochs < ENOUGH_STEPS {
        flags += &format!(" --epochs {} --warmup {WARMUP}", ENOUGH_STEPS.div_ceil(an_epoch));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_model_is_cleaned_at_a_rate_and_in_steps_that_move_it() {
        let (released, train) = (crate::clean::CleanMethod::Cleanclip.method().training(), TrainConfig::default());
        let flags = |began_large, pairs| first_try(&released, &Victim { train: &train, began_large, pairs });
        assert_eq!(flags(false, 1_500), " --lr 1e-3");
        assert_eq!([flags(false, 3_000_000), flags(true, 1_500)], ["", ""]);
        assert_eq!(flags(false, 200), " --lr 1e-3 --epochs 34 --warmup 0.1");
        let train = TrainConfig { batch_size: 8, ..TrainConfig::default() };
        let of_few = first_try(&released, &Victim { train: &train, began_large: false, pairs: 45 });
        assert_eq!(of_few, " --lr 1e-3 --batch-size 8 --epochs 20 --warmup 0.1");
    }
}
