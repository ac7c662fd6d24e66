//! Which pairs are left out, and how much of the poison goes with them and stays.

use crate::detect::p_values;
use crate::error::{Error, Result};
use crate::run::looked::Drop;
use roclip_data::plural::count;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Pairs that are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Dropped {
    pub pairs: usize,
    /// What a share asks for, where fewer have a score: what a single method says nothing of is never left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<usize>,
    /// Clean pairs among them, where poison is known.
    pub clean: usize,
    /// By attack: its pairs, and how many of them are still there.
    pub left: BTreeMap<String, (usize, usize)>,
    /// How much of the poison that is, and how much stays, where poison is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poison: Option<PoisonLeftOut>,
    /// Of trusted pairs, where there are any: how many lie at or above the threshold.
    pub trusted_above: Option<(usize, usize)>,
    #[serde(skip)]
    pub rows: BTreeSet<usize>,
}

/// What leaving pairs out does to poison that is known. The share of it that stays and the share of what stays that it is are two things.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PoisonLeftOut {
    /// Poisoned pairs that are left out, and all that there were.
    pub found: usize,
    pub poisoned: usize,
    /// Pairs of either kind that stay.
    pub kept: usize,
    /// Share of poison among what is left out; none where nothing is.
    pub precision: Option<f64>,
    /// Share of all poison that is left out.
    pub recall: f64,
    /// Share of all poison that stays.
    pub surviving: f64,
    /// Share of poison among the pairs that stay.
    pub within_kept: f64,
}

/// Which of the first `count` of `scores` are left out; those behind them are of trusted pairs.
pub(super) fn dropped(
    drop: &Drop,
    scores: &[f64],
    count: usize,
    attacks: &[Option<String>],
) -> Result<Option<Dropped>> {
    let (own, trusted) = scores.split_at(count.min(scores.len()));
    drop.check()?;
    let mut asked = None;
    let (rows, trusted_above): (BTreeSet<usize>, _) = match drop {
        Drop::Nothing => return Ok(None),
        Drop::Fraction(share) => {
            let mut order: Vec<usize> = (0..own.len()).collect();
            let of = |at: usize| own.get(at).copied().unwrap_or(f64::NAN);
            order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
            let count = (share * own.len() as f64).round() as usize;
            if count == 0 {
                return Err(Error::setting(
                    format!("--drop-fraction {share} of {} pairs is none of them", own.len()),
                    "raise it",
                ));
            }
            let scored = order.into_iter().filter(|at| of(*at) > f64::NEG_INFINITY);
            let rows: BTreeSet<usize> = scored.take(count).collect();
            asked = Some(count).filter(|asked| rows.len() < *asked);
            (rows, None)
        }
        Drop::Level(level) => {
            let at_most =
                |p: Vec<f64>| p.into_iter().enumerate().filter(|(_, p)| p <= level).map(|(at, _)| at).collect();
            let rows: BTreeSet<usize> = at_most(p_values(trusted, own));
            let threshold = rows.iter().filter_map(|at| own.get(*at)).copied().fold(f64::INFINITY, f64::min);
            let above = trusted.iter().filter(|score| **score >= threshold).count();
            (rows, Some((above, trusted.len())))
        }
    };
    if rows.len() == own.len() {
        return Err(Error::setting(
            format!("all {} pairs would be left out", own.len()),
            "lower --drop-fraction or --level; with --level, trusted pairs must be such as the data's own",
        ));
    }
    let mut left: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (at, attack) in attacks.iter().enumerate() {
        let Some(attack) = attack else { continue };
        let (all, kept) = left.entry(attack.clone()).or_default();
        *all += 1;
        *kept += usize::from(!rows.contains(&at));
    }
    let clean = rows.iter().filter(|at| attacks.get(**at).is_some_and(Option::is_none)).count();
    let poison = PoisonLeftOut::of(own.len(), rows.len(), clean, &left);
    Ok(Some(Dropped { pairs: rows.len(), asked, clean, left, poison, trusted_above, rows }))
}

impl PoisonLeftOut {
    /// Of `pairs`, of which `dropped` are left out, `clean` clean ones among them; `left` has what each attack has, and keeps. None without poison.
    fn of(
        pairs: usize,
        dropped: usize,
        clean: usize,
        left: &BTreeMap<String, (usize, usize)>,
    ) -> Option<PoisonLeftOut> {
        let poisoned: usize = left.values().map(|(all, _)| all).sum();
        let (found, kept) = (dropped.saturating_sub(clean), pairs.saturating_sub(dropped));
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Some(PoisonLeftOut {
            found,
            poisoned,
            kept,
            precision: share(found, dropped),
            recall: share(found, poisoned)?,
            surviving: share(poisoned.saturating_sub(found), poisoned)?,
            within_kept: share(poisoned.saturating_sub(found), kept)?,
        })
    }

    /// For people: how much goes, of all poison and among what goes, and how much stays, of all poison and among what stays.
    pub fn in_words(&self) -> String {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let precision = match self.precision {
            Some(share) => format!("precision {}, ", percent(share)),
            None => String::new(),
        };
        format!(
            "{} of {} poisoned pairs go (recall {}, {precision}{} stay); of the {} that are kept {} are poison",
            self.found,
            self.poisoned,
            percent(self.recall),
            percent(self.surviving),
            count(self.kept, "pair"),
            percent(self.within_kept)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attacks(of: &[Option<&str>]) -> Vec<Option<String>> {
        of.iter().map(|attack| attack.map(str::to_owned)).collect()
    }

    #[test]
    fn a_share_takes_the_most_suspicious_and_counts_what_is_left() {
        let marks = attacks(&[None, Some("a"), None, Some("a"), Some("b")]);
        let scores = [0.1, 0.9, 0.8, 0.2, 0.7];
        let found = dropped(&Drop::Fraction(0.4), &scores, 5, &marks).unwrap().unwrap();
        assert_eq!((&found.rows, found.pairs, found.clean), (&BTreeSet::from([1, 2]), 2, 1));
        assert_eq!(found.left, BTreeMap::from([("a".to_owned(), (2, 1)), ("b".to_owned(), (1, 1))]));
        let poison = found.poison.unwrap();
        assert_eq!((poison.found, poison.poisoned, poison.kept, poison.precision), (1, 3, 3, Some(0.5)));
        assert_eq!((poison.recall, poison.surviving, poison.within_kept), (1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(
            poison.in_words(),
            "1 of 3 poisoned pairs go (recall 33.3 %, precision 50.0 %, 66.7 % stay); of the 3 pairs that are kept 66.7 % are poison"
        );
        let clean = dropped(&Drop::Fraction(0.4), &scores, 5, &attacks(&[None; 5])).unwrap().unwrap();
        assert_eq!(clean.poison, None, "nobody knows of poison");
        for share in [0.0, 1.0, f64::NAN, -0.1] {
            assert!(dropped(&Drop::Fraction(share), &scores, 5, &marks).is_err());
        }
        assert!(dropped(&Drop::Fraction(0.95), &scores, 5, &marks).unwrap_err().to_string().contains("all 5 pairs"));
    }

    #[test]
    fn a_level_takes_what_few_trusted_pairs_are_as_suspicious_as() {
        // Three pairs, then nineteen trusted ones: p is 1/20 above all of these, 2/20 above all but one.
        let trusted: Vec<f64> = (1..20).map(f64::from).collect();
        let scores: Vec<f64> = [30.0, 18.5, 3.0].into_iter().chain(trusted).collect();
        let level = Drop::Level;
        let marks = attacks(&[Some("a"), None, None]);
        let found = dropped(&level(0.05), &scores, 3, &marks).unwrap().unwrap();
        assert_eq!((found.rows, found.trusted_above), (BTreeSet::from([0]), Some((0, 19))));
        let found = dropped(&level(0.1), &scores, 3, &marks).unwrap().unwrap();
        assert_eq!((found.rows, found.clean, found.trusted_above), (BTreeSet::from([0, 1]), 1, Some((1, 19))));
    }

    #[test]
    fn a_level_that_nothing_reaches_is_no_all_clear_and_one_that_nothing_reached_is() {
        let said = Drop::Level(0.01).check_reached(60).unwrap_err().to_string();
        for words in ["--level 0.01 of 60 trusted pairs", "1/61", "at least 99 with --trusted-data"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(Drop::Level(0.01).check_reached(98).is_err() && Drop::Level(0.01).check_reached(99).is_ok());
        assert!(Drop::Level(0.05).check_reached(19).is_ok() && Drop::Fraction(0.001).check_reached(2).is_ok());
        let scores: Vec<f64> = [3.0, 2.0].into_iter().chain((1..20).map(f64::from)).collect();
        let found = dropped(&Drop::Level(0.05), &scores, 2, &attacks(&[None, Some("a")])).unwrap().unwrap();
        assert_eq!((found.pairs, found.trusted_above), (0, Some((0, 19))));
        let poison = found.poison.unwrap();
        assert_eq!((poison.precision, poison.recall, poison.surviving, poison.within_kept), (None, 0.0, 1.0, 0.5));
    }

    #[test]
    fn a_pair_without_a_score_is_never_left_out() {
        let silent = f64::NEG_INFINITY;
        let marks = attacks(&[None, None, Some("a"), None, None]);
        let scores = [silent, 0.0, 1.0, silent, silent];
        let found = dropped(&Drop::Fraction(0.6), &scores, 5, &marks).unwrap().unwrap();
        assert_eq!((found.rows, found.pairs, found.asked), (BTreeSet::from([1, 2]), 2, Some(3)));
        let found = dropped(&Drop::Fraction(0.4), &scores, 5, &marks).unwrap().unwrap();
        assert_eq!((found.pairs, found.asked), (2, None));
        // Among the trusted ones it is one that is less suspicious than any with a score.
        let beside: Vec<f64> = scores.into_iter().chain([silent; 19]).collect();
        let found = dropped(&Drop::Level(0.05), &beside, 5, &marks).unwrap().unwrap();
        assert_eq!((found.rows, found.trusted_above), (BTreeSet::from([1, 2]), Some((0, 19))));
    }
}
