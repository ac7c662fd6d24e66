//! What outcomes add up to: one row a strategy.

use crate::attack::aicattack::{Defence, Goal, MeanInterval, Outcome, Strategy};
use crate::attack::distinct;
use roclip_data::caption_metrics::{Rouge, Smoothing, content_recall, sentence_bleu, stemmed, words};
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Success (ours) takes a changed caption and this share of its BLEU-4 gone, or a content word of the references lost.
const LOST_SHARE: f64 = 0.5;

/// Scores of a caption that drop under attack, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Drops {
    pub bleu4: f64,
    pub bleu1: f64,
    pub bleu2: f64,
    /// Precision over stemmed words, averaged over references, as released.
    pub rouge1_precision: f64,
    pub rouge2_precision: f64,
    /// As released: `B * R / (B + R)` of BLEU-4 and the precision of ROUGE-1, without the factor 2.
    pub bleu_rouge: f64,
    /// Standard measures beside them.
    pub bleu4_smoothed: f64,
    pub rouge_l_f: f64,
    pub content_recall: f64,
}

impl Drops {
    fn scores(caption: &str, references: &[Vec<String>]) -> Drops {
        let caption = words(caption);
        let bleu = sentence_bleu(&caption, references, Smoothing::None);
        let stems: Vec<Vec<String>> = references.iter().map(|reference| stemmed(reference)).collect();
        let released = Rouge::of(&stemmed(&caption), &stems);
        let (b, r) = (bleu.bleu4, released.rouge1.precision);
        Drops {
            bleu4: bleu.bleu4,
            bleu1: bleu.bleu1,
            bleu2: bleu.bleu2,
            rouge1_precision: r,
            rouge2_precision: released.rouge2.precision,
            bleu_rouge: if b + r > 0.0 { b * r / (b + r) } else { 0.0 },
            bleu4_smoothed: sentence_bleu(&caption, references, Smoothing::AddOne).bleu4,
            rouge_l_f: Rouge::of(&caption, references).rouge_l.f,
            content_recall: content_recall(&caption, references),
        }
    }

    fn each(self, other: Drops, with: impl Fn(f64, f64) -> f64) -> Drops {
        Drops {
            bleu4: with(self.bleu4, other.bleu4),
            bleu1: with(self.bleu1, other.bleu1),
            bleu2: with(self.bleu2, other.bleu2),
            rouge1_precision: with(self.rouge1_precision, other.rouge1_precision),
            rouge2_precision: with(self.rouge2_precision, other.rouge2_precision),
            bleu_rouge: with(self.bleu_rouge, other.bleu_rouge),
            bleu4_smoothed: with(self.bleu4_smoothed, other.bleu4_smoothed),
            rouge_l_f: with(self.rouge_l_f, other.rouge_l_f),
            content_recall: with(self.content_recall, other.content_recall),
        }
    }
}

/// A strategy's row of the table. Means are over the pictures that could be attacked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub strategy: String,
    pub attacked: usize,
    /// Pictures from which nothing could be gained, which stand in no mean.
    pub unattackable: usize,
    /// Before less after.
    pub drop: Drops,
    /// Standard deviation of the drop of BLEU-4.
    pub bleu4_drop_deviation: f64,
    /// Of the mean drop of BLEU-4, over draws of the pictures. Absent of fewer than two pictures, and in older files.
    #[serde(default)]
    pub bleu4_drop_interval: Option<MeanInterval>,
    /// Its drop of BLEU-4 less that of [`Strategy::RANDOM`], picture by picture. Absent of that strategy itself, where it was not run, and in
    /// older files.
    #[serde(default)]
    pub bleu4_drop_against_random: Option<MeanInterval>,
    /// Untargeted, ours: the caption changed, and half of its BLEU-4 or a content word of the references is gone. Targeted: the caption is the
    /// target.
    pub success: Rate,
    pub changed: Rate,
    /// Mean BLEU-4 (smoothed) with the target caption, before and after a targeted attack.
    pub target_bleu4: Option<(f64, f64)>,
    pub l0: f64,
    pub l_inf: f64,
    pub l2: f64,
    pub queries: f64,
    /// Behind each defence: the drop of BLEU-4 from the clean picture behind it, and success by the same rule.
    pub defended: BTreeMap<Defence, Defended>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defended {
    pub bleu4_drop: f64,
    pub success: Rate,
}

/// Rows of the strategies in the order of `strategies`; those without an outcome are left out. Intervals are drawn by `seed`.
pub fn table(outcomes: &[Outcome], strategies: &[Strategy], goal: &Goal, seed: u64) -> Vec<Row> {
    let of = |strategy: &Strategy| -> Option<Row> {
        let all: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.strategy == *strategy).collect();
        (!all.is_empty()).then(|| row(strategy.word(), &all, goal))
    };
    let drops = |strategy: &Strategy| -> BTreeMap<&str, f64> {
        let own = outcomes.iter().filter(|outcome| outcome.strategy == *strategy && !outcome.unattackable);
        own.map(|outcome| (outcome.id.as_str(), bleu4_drop(outcome))).collect()
    };
    let strategies = distinct(strategies);
    let random = if strategies.contains(&Strategy::RANDOM) { drops(&Strategy::RANDOM) } else { Default::default() };
    let compared = |strategy: &Strategy| -> Option<Row> {
        let own = drops(strategy);
        let against = || MeanInterval::of_difference(&own, &random, seed);
        Some(Row {
            bleu4_drop_interval: MeanInterval::of(&own.values().copied().collect::<Vec<_>>(), seed),
            bleu4_drop_against_random: if *strategy == Strategy::RANDOM { None } else { against() },
            ..of(strategy)?
        })
    };
    strategies.iter().filter_map(compared).collect()
}

/// The references of an attacked picture as words.
fn references(outcome: &Outcome) -> Vec<Vec<String>> {
    outcome.references.iter().map(|text| words(text)).collect()
}

/// Of one picture.
fn bleu4_drop(outcome: &Outcome) -> f64 {
    let references = references(outcome);
    let of = |caption: &str| sentence_bleu(&words(caption), &references, Smoothing::None).bleu4;
    of(&outcome.clean) - of(&outcome.attacked)
}

/// One attacked picture: scores before and after, and what counts as success.
fn judged(clean: &str, attacked: &str, references: &[Vec<String>], goal: &Goal) -> (Drops, bool) {
    let (before, after) = (Drops::scores(clean, references), Drops::scores(attacked, references));
    let changed = words(clean) != words(attacked);
    let success = match goal {
        Goal::Targeted(target) => words(attacked) == words(target),
        Goal::Untargeted => {
            let halved = before.bleu4 > 0.0 && after.bleu4 <= (1.0 - LOST_SHARE) * before.bleu4;
            changed && (halved || after.content_recall < before.content_recall)
        }
    };
    (before.each(after, |before, after| before - after), success)
}

fn row(strategy: String, outcomes: &[&Outcome], goal: &Goal) -> Row {
    let attacked: Vec<&Outcome> = outcomes.iter().copied().filter(|outcome| !outcome.unattackable).collect();
    let count = attacked.len().max(1) as f64;
    let judgements: Vec<(Drops, bool)> =
        attacked.iter().map(|outcome| judged(&outcome.clean, &outcome.attacked, &references(outcome), goal)).collect();
    let sum = judgements.iter().fold(Drops::default(), |sum, (drop, _)| sum.each(*drop, |a, b| a + b));
    let drop = sum.each(sum, |sum, _| sum / count);
    let square = judgements.iter().map(|(one, _)| (one.bleu4 - drop.bleu4).powi(2)).sum::<f64>();
    let rate = |hits: usize| Rate::new(hits, attacked.len());
    let mean = |value: &dyn Fn(&Outcome) -> f64| attacked.iter().map(|outcome| value(outcome)).sum::<f64>() / count;
    let near = |target: &str, caption: &str| sentence_bleu(&words(caption), &[words(target)], Smoothing::AddOne).bleu4;
    let defences = attacked.first().map(|outcome| outcome.defended.keys().copied().collect::<Vec<_>>());
    let defended = |defence: Defence| {
        let judge = |outcome: &&Outcome| {
            let (clean, attacked) = outcome.defended.get(&defence)?;
            Some(judged(clean, attacked, &references(outcome), goal))
        };
        let all: Vec<(Drops, bool)> = attacked.iter().filter_map(judge).collect();
        let bleu4_drop = all.iter().map(|(drop, _)| drop.bleu4).sum::<f64>() / count;
        (defence, Defended { bleu4_drop, success: rate(all.iter().filter(|(_, success)| *success).count()) })
    };
    Row {
        strategy,
        attacked: attacked.len(),
        unattackable: outcomes.len() - attacked.len(),
        drop,
        bleu4_drop_deviation: (square / count).sqrt(),
        bleu4_drop_interval: None,
        bleu4_drop_against_random: None,
        success: rate(judgements.iter().filter(|(_, success)| *success).count()),
        changed: rate(attacked.iter().filter(|outcome| words(&outcome.clean) != words(&outcome.attacked)).count()),
        target_bleu4: match goal {
            Goal::Untargeted => None,
            Goal::Targeted(target) => {
                Some((mean(&|outcome| near(target, &outcome.clean)), mean(&|outcome| near(target, &outcome.attacked))))
            }
        },
        l0: mean(&|outcome| outcome.change.l0 as f64),
        l_inf: mean(&|outcome| f64::from(outcome.change.l_inf)),
        l2: mean(&|outcome| outcome.change.l2),
        queries: mean(&|outcome| outcome.queries as f64),
        defended: defences.unwrap_or_default().into_iter().map(defended).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::aicattack::Change;

    fn outcome(attacked: &str, unattackable: bool) -> Outcome {
        Outcome {
            id: attacked.into(),
            strategy: Strategy::ALL[0],
            references: vec!["a red apple on the table".into()],
            clean: "a red apple on the table".into(),
            attacked: attacked.into(),
            clean_cost: 1.0,
            cost: 0.5,
            queries: 121,
            change: Change { l0: 4, l_inf: 40, l2: 0.5 },
            unattackable,
            defended: [(Defence::Jpeg, ("a red apple on the table".into(), attacked.to_owned()))].into(),
        }
    }

    #[test]
    fn unattackable_pictures_stand_in_no_mean_and_success_takes_a_loss() {
        let outcomes = [
            outcome("a red apple on the table", false),
            outcome("a red apple on the  TABLE", false),
            outcome("a red car on the table", false),
            outcome("", true),
        ];
        let twice = [Strategy::ALL, Strategy::ALL].concat();
        let rows = table(&outcomes, &twice, &Goal::Untargeted, 0);
        assert_eq!(rows.len(), 1, "a row of a strategy however often it is named");
        let row = &rows[0];
        assert_eq!((row.attacked, row.unattackable, row.success.hits, row.changed.hits), (3, 1, 1, 1));
        assert!((row.drop.bleu1 - (1.0 / 6.0) / 3.0).abs() < 1e-9 && row.drop.bleu4 > 0.3);
        assert_eq!(row.defended[&Defence::Jpeg].success.hits, 1);
        let goal = Goal::Targeted("a red car on the table".into());
        let targeted = &table(&outcomes, &Strategy::ALL, &goal, 0)[0];
        assert_eq!(targeted.success.hits, 1);
        assert!(targeted.target_bleu4.is_some_and(|(before, after)| after > before));
    }

    #[test]
    fn every_drop_has_an_interval_and_is_compared_with_chance_picture_by_picture() {
        let spoiled = ["a red car on the table", "a red apple on the table", "the apple", "a red apple on a box"];
        let of = |strategy: Strategy, spoils: &dyn Fn(usize) -> bool| -> Vec<Outcome> {
            let attacked = |at: usize| if spoils(at) { spoiled[at % 4] } else { "a red apple on the table" };
            let one = |at: usize| Outcome { id: at.to_string(), strategy, ..outcome(attacked(at), at == 9) };
            (0..10).map(one).collect()
        };
        let [attention, ..] = Strategy::ALL;
        let mut outcomes = of(attention, &|_| true);
        let alone = table(&outcomes, &Strategy::ALL, &Goal::Untargeted, 0);
        assert_eq!(alone[0].bleu4_drop_against_random, None, "chance was not tried");
        outcomes.extend(of(Strategy::RANDOM, &|at| at % 2 == 0));
        let rows = table(&outcomes, &Strategy::ALL, &Goal::Untargeted, 0);
        let [own, random] = rows.as_slice() else { panic!("{rows:#?}") };
        for row in [own, random] {
            let found = row.bleu4_drop_interval.unwrap();
            assert!((found.mean - row.drop.bleu4).abs() < 1e-12 && found.n == 9, "{found:?}");
            assert!(found.low < found.mean && found.mean < found.high, "{found:?}");
        }
        let against = own.bleu4_drop_against_random.unwrap();
        assert!((against.mean - (own.drop.bleu4 - random.drop.bleu4)).abs() < 1e-12 && against.n == 9);
        assert!(against.low >= 0.0, "never worse on any picture: {against:?}");
        assert_eq!(random.bleu4_drop_against_random, None);
    }
}
