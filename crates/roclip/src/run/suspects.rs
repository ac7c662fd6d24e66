//! Which pairs of a recipe's data are suspicious: features by a model or out of files, scores by several methods, the pairs to leave out,
//! and, where the recipe knows of poison, how well each method did.

use crate::detect::figures::{Figures, curve, figures};
use crate::detect::{Config, Features, Method, combined, p_values, scores};
use crate::error::{Error, IoContext, Result};
use crate::run::earlier_list::EarlierList;
use crate::run::looked::{COMBINED, Drop, LIST, Looked, SUMMARY};
use crate::run::pair_features::PairFeatures;
use roclip_data::artifact;
use roclip_data::pairs::{Pairs, drop_line};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

/// How well a method tells an attack's pairs from clean ones.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub attack: String,
    #[serde(flatten)]
    pub figures: Figures,
    /// `(share of clean pairs, share of poison)` at least as suspicious as each threshold.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// What a method makes of the pairs.
#[derive(Debug, Clone, Serialize)]
pub struct MethodScores {
    pub method: &'static str,
    /// One an attack; none where no poison is known.
    pub attacks: Vec<Judged>,
    /// By pair, in the order of [`Suspects::ids`].
    #[serde(skip)]
    pub scores: Vec<f64>,
}

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
    /// Of trusted pairs, where there are any: how many lie at or above the threshold.
    pub trusted_above: Option<(usize, usize)>,
    #[serde(skip)]
    pub rows: BTreeSet<usize>,
}

/// Pairs with their scores.
#[derive(Serialize)]
pub struct Suspects {
    pub looked: Looked,
    /// Pairs that were looked at.
    pub pairs: usize,
    /// Pairs beside them that cannot be read.
    pub unreadable: usize,
    /// What the source could not use before, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Where there are several, what they say together is the last.
    pub methods: Vec<MethodScores>,
    pub dropped: Option<Dropped>,
    /// The list that the pairs were looked at without; this one names what it names, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<EarlierList>,
    /// The mean rank of each pair over all methods; minus infinity where a single one has no score.
    #[serde(skip)]
    pub together: Vec<f64>,
    /// Of the pairs that were looked at.
    #[serde(skip)]
    pub ids: Vec<String>,
    /// The attack of each that is known to be poison.
    #[serde(skip)]
    pub attacks: Vec<Option<String>>,
    /// Index of each into `data`.
    #[serde(skip)]
    pub rows: Vec<usize>,
    #[serde(skip)]
    pub data: Arc<Pairs>,
}

/// Scores pairs, and says what to leave out. `trusted` are features of pairs that are known to be
/// clean, for a level.
///
/// # Errors
/// What the methods refuse, and a share or level outside 0 to 1.
pub fn suspects(
    config: &Config,
    methods: &[Method],
    drop: (&Drop, Option<&Features>),
    PairFeatures { data, rows, features, skips }: PairFeatures,
) -> Result<Suspects> {
    let (drop, trusted) = drop;
    if let Some(trusted) = trusted {
        drop.check_reached(trusted.len())?;
    }
    let count = features.len();
    let all = match trusted {
        Some(trusted) => joined(&features, trusted)?,
        None => features,
    };
    let all_scores = scores(methods, config, &all)?;
    let mut together = combined(&all_scores);
    let pair = |row: &usize| data.get(*row);
    let attacks: Vec<Option<String>> =
        rows.iter().map(|row| Some(pair(row)?.poison.as_ref()?.attack.clone())).collect();
    let ids = rows.iter().map(|row| pair(row).map(|pair| pair.id.clone()).unwrap_or_default()).collect();
    let named = methods.iter().map(|method| method.name()).zip(all_scores);
    let looked = Looked::by(config, methods, drop);
    let dropped = dropped(drop, &together, count, &attacks)?;
    together.truncate(count);
    // One method is its own mean.
    let mean = (methods.len() > 1).then(|| (COMBINED, together.clone()));
    let methods = named.chain(mean);
    let methods = methods.map(|(method, mut scores)| {
        scores.truncate(count);
        MethodScores { method, attacks: judged(&scores, &attacks), scores }
    });
    let unreadable = data.len() - rows.len();
    let left_out = skips.counts();
    let methods = methods.collect();
    let earlier = None;
    Ok(Suspects {
        looked,
        pairs: count,
        unreadable,
        left_out,
        methods,
        dropped,
        earlier,
        together,
        ids,
        attacks,
        rows,
        data,
    })
}

/// Rows of both, the second below the first.
fn joined(one: &Features, other: &Features) -> Result<Features> {
    let (own, twin) = (one.image.size(), other.image.size());
    if own.last() != twin.last() {
        return Err(Error::setting(
            format!("the features of the pairs have {own:?} values, those of the trusted pairs {twin:?}"),
            "encode both with one model",
        ));
    }
    let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
    // A picture that stands in both is no copy for this: trusted pairs must not make a pair look better or worse. Copies among the trusted
    // ones are copies as those among the others are, or these would not be compared with their like.
    let mut numbers = HashMap::new();
    let own = one.pictures.iter().map(|picture| (false, picture));
    let both = own.chain(other.pictures.iter().map(|picture| (true, picture)));
    let pictures = both
        .map(|picture| {
            let next = numbers.len() as i64;
            *numbers.entry(picture).or_insert(next)
        })
        .collect();
    Ok(Features {
        image: cat(&one.image, &other.image),
        image_norms: cat(&one.image_norms, &other.image_norms),
        text: cat(&one.text, &other.text),
        pictures,
    })
}

/// Which of the first `count` of `scores` are left out; those behind them are of trusted pairs.
fn dropped(drop: &Drop, scores: &[f64], count: usize, attacks: &[Option<String>]) -> Result<Option<Dropped>> {
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
    Ok(Some(Dropped { pairs: rows.len(), asked, clean, left, trusted_above, rows }))
}

/// One an attack, and all of them together where there are several.
fn judged(scores: &[f64], attacks: &[Option<String>]) -> Vec<Judged> {
    let names: BTreeSet<&String> = attacks.iter().flatten().collect();
    let against = |own: &dyn Fn(&String) -> bool| -> Vec<Option<bool>> {
        let mark = |attack: &Option<String>| match attack {
            None => Some(false),
            Some(attack) => own(attack).then_some(true),
        };
        attacks.iter().map(mark).collect()
    };
    let judge = |attack: String, marks: Vec<Option<bool>>| {
        figures(scores, &marks).map(|figures| Judged { attack, figures, curve: curve(scores, &marks) })
    };
    names.iter().filter_map(|name| judge((*name).clone(), against(&|attack| attack == *name))).collect()
}

impl Suspects {
    /// Writes `scores.jsonl` (a line a pair), `drop.txt` (an id a line) where something is left out, and `detect.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let lines = self.ids.iter().enumerate().map(|(at, id)| {
            let scores: BTreeMap<&str, Option<f64>> = self
                .methods
                .iter()
                .map(|method| (method.method, method.scores.get(at).copied().filter(|score| score.is_finite())))
                .collect();
            let mut line = serde_json::json!({"id": id, "scores": scores});
            if let (Some(fields), Some(dropped)) = (line.as_object_mut(), &self.dropped) {
                fields.insert("dropped".to_owned(), dropped.rows.contains(&at).into());
            }
            line
        });
        artifact::write_json_lines(&out.join("scores.jsonl"), lines)?;
        let list = out.join(LIST);
        let text = self.list();
        match text.is_empty() {
            // The list of an earlier look must not pass for this one's.
            true if list.is_file() => std::fs::remove_file(&list).io("remove", &list)?,
            true => {}
            false => {
                artifact::write(&list, text.as_bytes())?;
            }
        }
        artifact::write_json(&out.join(SUMMARY), self)?;
        Ok(())
    }

    /// The ids of the pairs to leave out, one a line, behind those of an earlier list; empty where this look leaves nothing out.
    pub fn list(&self) -> String {
        let rows = self.dropped.iter().flat_map(|dropped| &dropped.rows);
        let own: String = rows.filter_map(|at| self.ids.get(*at)).map(|id| drop_line(id)).collect();
        match &self.earlier {
            Some(earlier) if !own.is_empty() => earlier.lines().to_owned() + &own,
            _ => own,
        }
    }

    /// These, where the pairs were looked at without what an `earlier` list names.
    #[must_use]
    pub fn after(mut self, earlier: Option<EarlierList>) -> Suspects {
        self.looked = self.looked.after(earlier.as_ref());
        self.earlier = earlier.map(|mut earlier| {
            earlier.names_poison = Looked::names_poison(&earlier.list);
            earlier
        });
        self
    }

    /// What all methods together say of each pair.
    pub fn combined(&self) -> &[f64] {
        &self.together
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts;
    use tch::{Device, Kind};

    fn attacks(of: &[Option<&str>]) -> Vec<Option<String>> {
        of.iter().map(|attack| attack.map(str::to_owned)).collect()
    }

    #[test]
    fn a_share_takes_the_most_suspicious_and_counts_what_is_left() {
        let marks = attacks(&[None, Some("a"), None, Some("a"), Some("b")]);
        let scores = [0.1, 0.9, 0.8, 0.2, 0.7];
        let found = dropped(&Drop::Fraction(0.4), &scores, 5, &marks).unwrap().unwrap();
        assert_eq!((found.rows, found.pairs, found.clean), (BTreeSet::from([1, 2]), 2, 1));
        assert_eq!(found.left, BTreeMap::from([("a".to_owned(), (2, 1)), ("b".to_owned(), (1, 1))]));
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
        let found = dropped(&Drop::Level(0.05), &scores, 2, &attacks(&[None, None])).unwrap().unwrap();
        assert_eq!((found.pairs, found.trusted_above), (0, Some((0, 19))));
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

    #[test]
    fn copies_among_trusted_pairs_stay_copies_and_are_none_of_the_others() {
        let features = |pictures: &[i64]| Features {
            image: concepts(&vec![0; pictures.len()]),
            image_norms: Tensor::ones([pictures.len() as i64], (Kind::Float, Device::Cpu)),
            text: concepts(&vec![0; pictures.len()]),
            pictures: pictures.to_vec(),
        };
        let both = joined(&features(&[7, 7, i64::MIN]), &features(&[7, 7, 9, i64::MIN])).unwrap();
        let same = |a: usize, b: usize| both.pictures[a] == both.pictures[b];
        assert!(both.len() == 7 && same(0, 1) && same(3, 4), "{:?}", both.pictures);
        let numbers: BTreeSet<i64> = both.pictures.iter().copied().collect();
        assert_eq!(numbers.len(), 5, "{:?}", both.pictures);
    }

    #[test]
    fn methods_are_judged_by_attack_against_clean_pairs_alone() {
        let marks = attacks(&[Some("a"), Some("b"), None, None]);
        let found = judged(&[4.0, 1.0, 2.0, 3.0], &marks);
        let areas: Vec<(&str, Option<f64>)> =
            found.iter().map(|judged| (judged.attack.as_str(), judged.figures.auroc)).collect();
        assert_eq!(areas, [("a", Some(1.0)), ("b", Some(0.0))]);
    }
}
