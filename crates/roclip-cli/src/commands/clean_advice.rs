//! What is said of a cleaning that changed nothing or cost much, and the command to try in its place.

use crate::commands::again::{Without, again};
use crate::commands::next_steps::shell_word;
use crate::commands::progress::say;
use crate::commands::warned::Warned;
use roclip::clean::{CleanMethod, ENOUGH_STEPS, HARDLY_MOVED, WARMUP};
use roclip::recipe::Recipe;
use roclip::run::Summary;
use roclip_data::paths::beside;
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use std::path::Path;

/// Zero-shot accuracy, as a fraction, that no cleaning may cost unsaid.
const DEAR: f64 = 0.05;

/// Steps that no learning rate makes up for.
const FEW_STEPS: u64 = 10;

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
        // As many steps as are advised move the weights by no more than in proportion: where that is next to nothing, too, the rate is to blame.
        let enough = at_full_rate(ENOUGH_STEPS, (WARMUP * ENOUGH_STEPS as f64) as u64);
        let at_best = moved * enough / at_full_rate(steps, warmup);
        match (lost, moved < HARDLY_MOVED) {
            (true, _) => Some(Misfit::RateTooHigh),
            (false, true) if too_few(steps, warmup) && at_best >= HARDLY_MOVED => Some(Misfit::TooFewSteps),
            (false, still) => still.then_some(Misfit::RateTooLow),
        }
    }

    /// Rates to try after `rate` with a method that was released with another one.
    fn rates(self, rate: f64, released: f64) -> [f64; 3] {
        match self {
            Misfit::RateTooHigh => [30.0, 10.0, 3.0].map(|divisor| rate / divisor),
            Misfit::RateTooLow | Misfit::TooFewSteps => {
                [1.0, 3.0, 10.0].map(|factor| factor * released.max(10.0 * rate))
            }
        }
    }
}

/// Whether no rate is reached in `steps` steps that could move anything.
fn too_few(steps: u64, warmup: u64) -> bool {
    steps < FEW_STEPS || warmup >= steps
}

/// The steps at the full rate that `steps` steps are worth, of which the first `warmup` raise it.
fn at_full_rate(steps: u64, warmup: u64) -> f64 {
    let (steps, rising) = (steps.max(1) as f64, steps.min(warmup) as f64);
    steps - rising + rising * (rising + 1.0) / (2.0 * warmup.max(1) as f64)
}

/// What is to be said of a cleaning that did not go well.
pub struct Advice<'a> {
    pub misfit: Misfit,
    pub recipe: &'a Recipe,
    pub method: CleanMethod,
    pub steps: u64,
    /// Share of their length that the weights moved by.
    pub moved: f64,
    /// Zero-shot accuracy of the victim and of the cleaned model.
    pub accuracy: [f64; 2],
}

impl<'a> Advice<'a> {
    /// Of a finished cleaning by `recipe`; none where it went well, or where too little is known of it.
    pub fn of(summary: &Summary, recipe: &'a Recipe) -> Option<Advice<'a>> {
        let (moved, before, clean) = (summary.weights_moved?, summary.before.as_ref()?, recipe.clean.as_ref()?);
        let (before, after) = (&before.zero_shot_top1, &summary.evaluation.zero_shot_top1);
        // An older run did not keep its steps; the advice is then of its rate.
        let steps = summary.step.unwrap_or(u64::MAX);
        let misfit = Misfit::of(moved, before, after, [steps, recipe.train.warmup(steps)])?;
        Some(Advice { misfit, recipe, method: clean.method, steps, moved, accuracy: [before.rate, after.rate] })
    }

    /// What happened.
    pub fn what(&self) -> String {
        let still = "this cleaned next to nothing: the model is still its victim";
        match (self.misfit, self.short()) {
            (Misfit::TooFewSteps, Some(why)) => format!("{still} ({why})"),
            (Misfit::TooFewSteps | Misfit::RateTooLow, _) => still.to_owned(),
            (Misfit::RateTooHigh, _) => {
                let [before, after] = self.accuracy.map(|rate| format!("{:.1} %", 100.0 * rate));
                format!("this cost much: zero-shot {after} instead of {before}")
            }
        }
    }

    /// Why the steps were too few, where they were.
    fn short(&self) -> Option<String> {
        let (train, steps) = (&self.recipe.train, count(self.steps, "step"));
        let warmup = train.warmup(self.steps);
        let why = || match warmup >= self.steps {
            true => format!(
                "{steps}, and the learning rate rises over the first {warmup}, so that it came to {:.0} % of {:e}",
                100.0 * self.steps as f64 / warmup.max(1) as f64,
                train.learning_rate
            ),
            false => format!("it took {steps}, which are few"),
        };
        too_few(self.steps, warmup).then(why)
    }

    fn rates(&self) -> [f64; 3] {
        self.misfit.rates(self.recipe.train.learning_rate, self.released())
    }

    /// The learning rate that the method was released with.
    fn released(&self) -> f64 {
        self.method.training(&self.recipe.train).learning_rate
    }

    /// What to do, before a command.
    pub fn remedy(&self) -> String {
        let (rate, released) = (self.recipe.train.learning_rate, self.released());
        let first = self.rates().into_iter().next().unwrap_or(rate);
        let try_first = match first == released {
            true => format!("try --lr {first:.0e}, which {} was released with", self.method.method().name()),
            false => format!("try --lr {first:.0e}"),
        };
        let choose = "or several and choose by accuracy and attack success:";
        match (self.misfit, self.short()) {
            (Misfit::TooFewSteps, _) => "Give more --epochs or --pairs, or a shorter --warmup:".to_owned(),
            (Misfit::RateTooLow, Some(why)) => {
                format!(
                    "More steps alone would not change that ({why}). After {rate:e} {try_first}, and more steps, {choose}"
                )
            }
            _ if rate == released => format!(
                "The released learning rate of {rate:e} is for models of hundreds of millions of pairs, and suits no small one: {try_first}, {choose}"
            ),
            _ => format!("After {rate:e} {try_first}, {choose}"),
        }
    }

    /// The command that was `typed` for the run in `run`, with what is advised in place of what went wrong.
    pub fn command(&self, typed: &[String], run: &Path) -> String {
        let train = &self.recipe.train;
        let (mut without, mut more) = (vec![Without::Valued("--run"), Without::Flag("--json")], Vec::new());
        if self.misfit == Misfit::TooFewSteps || self.misfit == Misfit::RateTooLow && self.short().is_some() {
            let an_epoch = self.steps.div_ceil(train.epochs.max(1)).max(1);
            let epochs = ENOUGH_STEPS.div_ceil(an_epoch).max(train.epochs);
            more.push(format!("--epochs {epochs} --warmup {WARMUP}"));
            without.extend(["--epochs", "--warmup"].map(Without::Valued));
            without.extend(["train.epochs", "train.warmup_steps", "train.warmup_fraction"].map(Without::Key));
        }
        let name = match self.misfit {
            Misfit::TooFewSteps => "longer",
            Misfit::RateTooLow | Misfit::RateTooHigh => {
                let rates = self.rates().map(|rate| format!("{rate:.0e}")).join(",");
                more.push(format!("--sweep train.learning_rate={rates}"));
                without.extend(["--lr", "--learning-rate"].map(Without::Valued));
                without.push(Without::Key("train.learning_rate"));
                "sweep"
            }
        };
        more.push(format!("--run {}", shell_word(&beside(run, name))));
        without.push(Without::Flag("--overwrite"));
        again(typed, &without, &more.join(" "))
    }
}

/// Says what went wrong with a cleaning, and the command to try that was `typed` for the run in `run`.
pub fn warn(advice: &Advice, typed: &[String], run: &Path) {
    say(&format!("warning: {}. {}", advice.what(), advice.remedy()));
    say(&format!("         {}", advice.command(typed, run)));
}

/// Says what went wrong with `cells` of a sweep of as many as `all`, by their names, and a command in place of that which was `typed` for the
/// sweep in `out` where no cell of it went well.
pub fn warn_of_cells(cells: &[(String, Advice)], all: usize, typed: &[String], out: &Path) {
    let mut warned = Warned::default();
    for (name, advice) in cells {
        warned.note(name, &format!("warning: {}", advice.what()));
    }
    warned.say_all();
    if let (true, Some(advice)) = (cells.len() == all, nearest(cells)) {
        say(&advice.remedy());
        say(&format!("         {}", advice.command(typed, out)));
    }
}

/// Of cells that all changed nothing, or all cost much, the one that came nearest to what is wanted.
fn nearest<'a, 'b>(cells: &'b [(String, Advice<'a>)]) -> Option<&'b Advice<'a>> {
    let high = |advice: &Advice| advice.misfit == Misfit::RateTooHigh;
    let dear = cells.iter().filter(|(_, advice)| high(advice)).count();
    if dear > 0 && dear < cells.len() {
        return None;
    }
    // The greatest change where there was next to none, the smallest where it cost much.
    let by = |advice: &Advice| if high(advice) { -advice.moved } else { advice.moved };
    cells.iter().map(|(_, advice)| advice).max_by(|a, b| by(a).total_cmp(&by(b)))
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
        assert_eq!(Misfit::of(5e-4, &rate(300), &rate(298), [46, 50]), Some(Misfit::TooFewSteps));
        assert_eq!(Misfit::of(1e-4, &rate(300), &rate(298), [3, 0]), Some(Misfit::TooFewSteps));
        assert_eq!(Misfit::of(0.05, &rate(300), &rate(298), [3, 0]), None, "few steps that moved it were enough");
        // Twenty times as many steps move nothing, either.
        assert_eq!(Misfit::of(2.4e-7, &rate(300), &rate(300), [5, 0]), Some(Misfit::RateTooLow));
        assert_eq!(Misfit::of(1e-7, &rate(300), &rate(300), [5, 50]), Some(Misfit::RateTooLow));
        let rates = |misfit: Misfit, rate| misfit.rates(rate, 1e-5).map(|rate| format!("{rate:.0e}"));
        assert_eq!(rates(Misfit::RateTooLow, 1e-5), ["1e-4", "3e-4", "1e-3"]);
        assert_eq!(rates(Misfit::RateTooHigh, 1e-5), ["3e-7", "1e-6", "3e-6"]);
        assert_eq!(rates(Misfit::RateTooLow, 1e-8), ["1e-5", "3e-5", "1e-4"], "not below the released one");
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
        let moved = 1e-6;
        let advice = |misfit, recipe, steps| Advice { misfit, recipe, method, steps, moved, accuracy: [0.5, 0.5] };
        let few = advice(Misfit::TooFewSteps, &recipe, 1);
        let words = few.what();
        assert!(words.contains("1 step, and the learning rate rises over the first 50"), "{words}");
        assert!(words.contains("came to 2 % of 1e-3") && !words.contains("released"), "{words}");
        assert_eq!(
            few.command(&typed, Path::new("x")),
            "roclip clean runs/und --lr 1e-3 --pairs 100 --rebound --epochs 100 --warmup 0.1 --run x-longer"
        );
        let low = advice(Misfit::RateTooLow, &recipe, 200);
        assert!(!low.remedy().contains("released") && low.remedy().contains("After 1e-3 try --lr 1e-2"));
        assert_eq!(
            low.command(&typed, Path::new("x")),
            "roclip clean runs/und --epochs 1 --pairs 100 --rebound --sweep train.learning_rate=1e-2,3e-2,1e-1 --run x-sweep"
        );
        let own = Recipe { train: method.training(&recipe.train), ..recipe.clone() };
        assert!(advice(Misfit::RateTooLow, &own, 200).remedy().contains("The released learning rate of 1e-5"));
    }

    #[test]
    fn a_rate_that_is_far_too_low_is_not_tried_again_with_more_steps() {
        let typed = "roclip clean v --lr 1e-8 --epochs 1 --warmup 0 --run x".split(' ').map(str::to_owned);
        let mut recipe = Recipe::default();
        let method = CleanMethod::Finetune;
        recipe.train = method.training(&recipe.train);
        (recipe.train.epochs, recipe.train.learning_rate, recipe.train.warmup_steps) = (1, 1e-8, Some(0));
        let accuracy = [0.5, 0.5];
        let advice = Advice { misfit: Misfit::RateTooLow, recipe: &recipe, method, steps: 5, moved: 2e-7, accuracy };
        let words = advice.remedy();
        assert!(
            words.contains("After 1e-8 try --lr 1e-5, which finetune was released with, and more steps"),
            "{words}"
        );
        assert_eq!(
            advice.command(&typed.collect::<Vec<_>>(), Path::new("x")),
            "roclip clean v --epochs 20 --warmup 0.1 --sweep train.learning_rate=1e-5,3e-5,1e-4 --run x-sweep"
        );
    }

    #[test]
    fn a_sweep_is_given_again_from_the_cell_that_came_nearest() {
        let recipe = Recipe::default();
        let method = CleanMethod::default();
        let cell = |name: &str, misfit, moved| {
            (name.to_owned(), Advice { misfit, recipe: &recipe, method, steps: 200, moved, accuracy: [0.5, 0.5] })
        };
        let nearest = |cells: &[(String, Advice)]| nearest(cells).map(|advice| advice.moved);
        let low = [cell("a", Misfit::RateTooLow, 1e-7), cell("b", Misfit::RateTooLow, 2e-7)];
        assert_eq!(nearest(&low), Some(2e-7));
        let high = [cell("a", Misfit::RateTooHigh, 0.5), cell("b", Misfit::RateTooHigh, 0.2)];
        assert_eq!(nearest(&high), Some(0.2));
        assert_eq!(nearest(&[cell("a", Misfit::RateTooLow, 1e-7), cell("b", Misfit::RateTooHigh, 0.2)]), None);
    }
}
