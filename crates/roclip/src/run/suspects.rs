//! Which pairs of a recipe's data are suspicious: features by a model or out of files, scores by several methods, the pairs to leave out,
//! and, where the recipe knows of poison, how well each method did.

use crate::detect::figures::{Figures, curve, figures, precision_recall};
use crate::detect::{Config, Features, Method, Neighbourhood, combined, scores};
use crate::error::{Error, IoContext, Result};
use crate::model::extent;
use crate::run::earlier_list::EarlierList;
use crate::run::left_out::{Dropped, dropped};
use crate::run::looked::{Drop, LIST, Looked, SUMMARY};
use crate::run::looked_at::LookedAt;
use crate::run::ordering::{COMBINED, Methods};
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
    /// `(recall, precision)` at thresholds that find more of the poison.
    #[serde(skip)]
    pub precision_recall: Vec<(f64, f64)>,
}

/// What a method makes of the pairs.
#[derive(Debug, Clone, Serialize)]
pub struct MethodScores {
    pub method: &'static str,
    /// Where it seeks neighbours: how many, among how many pairs.
    #[serde(flatten)]
    pub neighbourhood: Option<Neighbourhood>,
    /// One an attack; none where no poison is known.
    pub attacks: Vec<Judged>,
    /// By pair, in the order of [`Suspects::ids`].
    #[serde(skip)]
    pub scores: Vec<f64>,
}

/// Pairs with their scores.
#[derive(Serialize)]
pub struct Suspects {
    pub looked: Looked,
    /// Where whoever looks says what the pairs are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<LookedAt>,
    /// [`Looked::ordered_by`].
    pub ordered_by: String,
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
    /// Orders the pairs: the rank of each by one method, minus infinity where that has no score, or its mean rank over all methods.
    #[serde(skip)]
    pub order: Vec<f64>,
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
    methods: &Methods,
    drop: (&Drop, Option<&Features>),
    PairFeatures { data, rows, features, skips }: PairFeatures,
) -> Result<Suspects> {
    let (drop, trusted) = drop;
    if let Some(trusted) = trusted {
        drop.check_reached(trusted.len())?;
    }
    let count = features.len();
    let all = match trusted {
        Some(trusted) => joined(features, trusted)?,
        None => features,
    };
    let neighbourhood = |method: Method| method.neighbourhood(config, all.len());
    let all_scores = scores(methods.list(), config, &all)?;
    let mut together = combined(&all_scores);
    let by_one = methods.place().and_then(|at| all_scores.get(at));
    let mut order = by_one.map_or_else(|| together.clone(), |scores| combined(std::slice::from_ref(scores)));
    let pair = |row: &usize| data.get(*row);
    let attacks: Vec<Option<String>> =
        rows.iter().map(|row| Some(pair(row)?.poison.as_ref()?.attack.clone())).collect();
    let ids = rows.iter().map(|row| pair(row).map(|pair| pair.id.clone()).unwrap_or_default()).collect();
    let named = methods.list().iter().map(|method| (method.name(), neighbourhood(*method))).zip(all_scores);
    let looked = Looked::by(config, methods, drop);
    let dropped = dropped(drop, &order, count, &attacks)?;
    order.truncate(count);
    together.truncate(count);
    // One method is its own mean.
    let mean = (methods.list().len() > 1).then_some(((COMBINED, None), together));
    let methods = named.chain(mean);
    let methods = methods.map(|((method, neighbourhood), mut scores)| {
        scores.truncate(count);
        MethodScores { method, neighbourhood, attacks: judged(&scores, &attacks), scores }
    });
    let unreadable = data.len() - rows.len();
    let left_out = skips.counts();
    let methods = methods.collect();
    let earlier = None;
    Ok(Suspects {
        ordered_by: looked.ordered_by(),
        looked,
        looked_at: None,
        pairs: count,
        unreadable,
        left_out,
        methods,
        dropped,
        earlier,
        order,
        ids,
        attacks,
        rows,
        data,
    })
}

/// Rows of both, the second below the first.
fn joined(one: Features, other: &Features) -> Result<Features> {
    let (own, twin) = (extent(&one.image, 1), extent(&other.image, 1));
    if own != twin {
        return Err(Error::setting(
            format!("the features of a pair are {own} values, those of a trusted pair {twin}"),
            "encode both with one model",
        ));
    }
    // Takes the first: of large data there is no room for it beside both.
    let cat = |a: Tensor, b: &Tensor| Tensor::cat(&[&a, b], 0);
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
        image: cat(one.image, &other.image),
        image_norms: cat(one.image_norms, &other.image_norms),
        text: cat(one.text, &other.text),
        pictures,
    })
}

/// One an attack, each against the clean pairs alone.
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
        figures(scores, &marks).map(|figures| Judged {
            attack,
            figures,
            curve: curve(scores, &marks),
            precision_recall: precision_recall(scores, &marks),
        })
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

    /// Whether what orders the pairs says the same of all: which of them are left out is then the order of the data alone.
    pub fn all_tie(&self) -> bool {
        let first = self.order.first();
        self.order.len() > 1 && self.order.iter().all(|score| Some(score) == first)
    }

    /// Says that `lid` has fewer neighbours than it should have, where that is so.
    pub fn few_neighbours(&self) -> Option<String> {
        let lid = self.methods.iter().find(|method| method.method == Method::Lid.name())?.neighbourhood?;
        let asked = self.looked.settings.dimension_neighbours;
        (lid.neighbours < asked).then(|| {
            format!(
                "lid has {} neighbours in place of {asked}: there are {} references",
                lid.neighbours, lid.references
            )
        })
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
    fn copies_among_trusted_pairs_stay_copies_and_are_none_of_the_others() {
        let features = |pictures: &[i64]| Features {
            image: concepts(&vec![0; pictures.len()]),
            image_norms: Tensor::ones([pictures.len() as i64], (Kind::Float, Device::Cpu)),
            text: concepts(&vec![0; pictures.len()]),
            pictures: pictures.to_vec(),
        };
        let both = joined(features(&[7, 7, i64::MIN]), &features(&[7, 7, 9, i64::MIN])).unwrap();
        let same = |a: usize, b: usize| both.pictures[a] == both.pictures[b];
        assert!(both.len() == 7 && same(0, 1) && same(3, 4), "{:?}", both.pictures);
        let numbers: BTreeSet<i64> = both.pictures.iter().copied().collect();
        assert_eq!(numbers.len(), 5, "{:?}", both.pictures);
    }

    #[test]
    fn pairs_of_one_score_tie_and_others_do_not() {
        use roclip_data::pairs::CaptionMode;
        use roclip_data::sample::{ImageBytes, Sample};
        let found = |captions: &[i64]| {
            let sample = |at: usize| Sample {
                captions: vec![format!("{at}")],
                ..Sample::new("test".into(), format!("{at}"), ImageBytes::Memory(Vec::new().into()))
            };
            let count = captions.len();
            let data = Arc::new(Pairs::new((0..count).map(sample).collect(), CaptionMode::Expand));
            let features = Features {
                image: concepts(&vec![0; count]),
                image_norms: Tensor::ones([count as i64], (Kind::Float, Device::Cpu)),
                text: concepts(captions),
                pictures: (0..count as i64).collect(),
            };
            let encoded = PairFeatures { data, rows: (0..count).collect(), features, skips: Default::default() };
            let methods = Methods::new(vec![Method::ClipScore], None).unwrap();
            let config = Config { neighbours: 2, ..Config::default() };
            suspects(&config, &methods, (&Drop::Fraction(0.25), None), encoded).unwrap()
        };
        assert!(!found(&[0, 1, 0, 2, 0, 0, 0, 0]).all_tie());
        let same = Suspects { order: vec![3.5; 8], ..found(&[0; 8]) };
        assert!(same.all_tie());
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
