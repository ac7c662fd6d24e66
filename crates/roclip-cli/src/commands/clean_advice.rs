//! What is said of a cleaning that changed nothing or cost much, and the command to try in its place.

use crate::commands::again::{Without, again};
use crate::commands::next_steps::shell_word;
use roclip::clean::CleanMethod;
use roclip::recipe::Recipe;
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use std::path::Path;

/// Weights that moved less than this share of their length are as good as the victim's.
const HARDLY_MOVED: f64 = 1e-3;
/// Zero-shot accuracy, as a fraction, that no cleaning may cost unsaid.
const DEAR: f64 = 0.05;

/// Steps that no learning rate makes up for.
const FEW_STEPS: u64 = 10;
/// Steps of a cleaning that is advised in place of one of too few.
const ENOUGH_STEPS: u64 = 100;

/// What was wrong with a cleaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    TooFewSteps,
    RateTooLow,
    RateTooHigh,
}

impl Misfit {
    /// Of a cleaning of so many `steps`, of which the first `warmup` raise the rate, that moved the weights so far and took zero-shot accuracy
    /// from `before` to `after`.
    pub fn of(moved: f64, before: &Rate, after: &Rate, [steps, warmup]: [u64; 2]) -> Option<Misfit> {
        let lost = before.n > 0 && before.rate - after.rate > DEAR && after.high < before.rate;
        match (lost, moved < HARDLY_MOVED) {
            (true, _) => Some(Misfit::RateTooHigh),
            (false, true) if steps < FEW_STEPS || warmup >= steps => Some(Misfit::TooFewSteps),
            (false, still) => still.then_some(Misfit::RateTooLow),
        }
    }

    /// Rates to try after `rate`.
    fn rates(self, rate: f64) -> [f64; 3] {
        match self {
            Misfit::RateTooHigh => [30.0, 10.0, 3.0].map(|divisor| rate / divisor),
            Misfit::RateTooLow | Misfit::TooFewSteps => [10.0, 30.0, 100.0].map(|factor| factor * rate),
        }
    }
}

/// What is to be said of a cleaning that did not go well.
pub struct Advice<'a> {
    pub misfit: Misfit,
    pub recipe: &'a Recipe,
    pub method: CleanMethod,
    pub steps: u64,
    /// Zero-shot accuracy of the victim and of the cleaned model.
    pub accuracy: [f64; 2],
}

impl Advice<'_> {
    /// What happened and what to do, before a command.
    pub fn words(&self) -> String {
        let [before, after] = self.accuracy.map(|rate| format!("{:.1} %", 100.0 * rate));
        let (train, steps) = (&self.recipe.train, count(self.steps, "step"));
        let rate = train.learning_rate;
        let still = "this cleaned next to nothing: the model is still its victim";
        let first = format!("{:.0e}", self.misfit.rates(rate).first().copied().unwrap_or(rate));
        // A method's own settings are those of its release.
        let released = self.method.training(train).learning_rate == rate;
        let try_others = match released {
            true => format!(
                "The released learning rate of {rate:e} is for models of hundreds of millions of pairs, and suits no small one: try --lr {first}, or several and choose by accuracy and attack success:"
            ),
            false => format!("After {rate:e} try --lr {first}, or several and choose by accuracy and attack success:"),
        };
        match self.misfit {
            Misfit::TooFewSteps => {
                let warmup = train.warmup(self.steps);
                let why = match warmup >= self.steps {
                    true => format!(
                        "{steps}, and the learning rate rises over the first {warmup}, so that it came to {:.0} % of {rate:e}",
                        100.0 * self.steps as f64 / warmup.max(1) as f64
                    ),
                    false => format!("it took {steps}, which are few"),
                };
                format!("{still} ({why}). Give more --epochs or --pairs, or a shorter --warmup:")
            }
            Misfit::RateTooLow => format!("{still}. {try_others}"),
            Misfit::RateTooHigh => format!("this cost much: zero-shot {after} instead of {before}. {try_others}"),
        }
    }

    /// The command that was `typed` for the run in `run`, with what is advised in place of what went wrong.
    pub fn command(&self, typed: &[String], run: &Path) -> String {
        let train = &self.recipe.train;
        let (mut without, more) = match self.misfit {
            Misfit::TooFewSteps => {
                let an_epoch = self.steps.div_ceil(train.epochs.max(1)).max(1);
                let epochs = ENOUGH_STEPS.div_ceil(an_epoch).max(train.epochs);
                let more = format!("--epochs {epochs} --warmup 0.1 --run {}-longer", shell_word(run));
                let keys = ["train.epochs", "train.warmup_steps", "train.warmup_fraction"].map(Without::Key);
                ([vec![Without::Valued("--epochs"), Without::Valued("--warmup")], keys.to_vec()].concat(), more)
            }
            Misfit::RateTooLow | Misfit::RateTooHigh => {
                let rates = self.misfit.rates(train.learning_rate).map(|rate| format!("{rate:.0e}")).join(",");
                let more = format!("--sweep train.learning_rate={rates} --run {}-sweep", shell_word(run));
                let lr = [Without::Valued("--lr"), Without::Valued("--learning-rate")];
                ([lr.to_vec(), vec![Without::Key("train.learning_rate")]].concat(), more)
            }
        };
        without.extend([Without::Valued("--run"), Without::Flag("--json")]);
        again(typed, &without, &more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_blamed_for_what_it_did() {
        let rate = |hits| Rate::new(hits, 500);
        let long = [200, 50];
        assert_eq!(Misfit::of(1e-4, &rate(300), &rate(298), long), Some(Misfit::RateTooLow));
        assert_eq!(Misfit::of(0.2, &rate(300), &rate(200), long), Some(Misfit::RateTooHigh));
        assert_eq!(Misfit::of(0.05, &rate(300), &rate(290), long), None);
        assert_eq!(Misfit::of(0.05, &Rate::new(0, 0), &Rate::new(0, 0), long), None, "nothing was measured");
        assert_eq!(Misfit::of(1e-4, &rate(300), &rate(298), [46, 50]), Some(Misfit::TooFewSteps));
        assert_eq!(Misfit::of(1e-4, &rate(300), &rate(298), [3, 0]), Some(Misfit::TooFewSteps));
        assert_eq!(Misfit::of(0.05, &rate(300), &rate(298), [3, 0]), None, "few steps that moved it were enough");
        let rates = [Misfit::RateTooLow, Misfit::RateTooHigh]
            .map(|misfit| misfit.rates(1e-5).map(|rate| format!("{rate:.0e}")));
        assert_eq!(rates, [["1e-4", "3e-4", "1e-3"], ["3e-7", "1e-6", "3e-6"]]);
    }

    #[test]
    fn advice_keeps_the_other_flags_and_blames_no_rate_that_was_not_reached() {
        let typed: Vec<String> = "roclip clean runs/und --epochs 1 --lr 1e-3 --pairs 100 --rebound --run x"
            .split(' ')
            .map(str::to_owned)
            .collect();
        let mut recipe = Recipe::default();
        let method = CleanMethod::default();
        recipe.train = method.training(&recipe.train);
        (recipe.train.epochs, recipe.train.learning_rate, recipe.train.warmup_steps) = (1, 1e-3, Some(50));
        let advice = |misfit, recipe, steps| Advice { misfit, recipe, method, steps, accuracy: [0.5, 0.5] };
        let few = advice(Misfit::TooFewSteps, &recipe, 1);
        let words = few.words();
        assert!(words.contains("1 step, and the learning rate rises over the first 50"), "{words}");
        assert!(words.contains("came to 2 % of 1e-3") && !words.contains("released"), "{words}");
        assert_eq!(
            few.command(&typed, Path::new("x")),
            "roclip clean runs/und --lr 1e-3 --pairs 100 --rebound --epochs 100 --warmup 0.1 --run x-longer"
        );
        let low = advice(Misfit::RateTooLow, &recipe, 200);
        assert!(!low.words().contains("released") && low.words().contains("After 1e-3 try --lr 1e-2"));
        assert_eq!(
            low.command(&typed, Path::new("x")),
            "roclip clean runs/und --epochs 1 --pairs 100 --rebound --sweep train.learning_rate=1e-2,3e-2,1e-1 --run x-sweep"
        );
        let own = Recipe { train: method.training(&recipe.train), ..recipe.clone() };
        assert!(advice(Misfit::RateTooLow, &own, 200).words().contains("The released learning rate of 1e-5"));
    }
}
