//! All strategies against all pictures, one outcome after the other, so that nothing is lost when the victim fails.

use crate::attack::aicattack::fitness::Judge;
use crate::attack::aicattack::individual::change_between;
use crate::attack::aicattack::places::attention_over;
use crate::attack::aicattack::search::Searcher;
use crate::attack::aicattack::{Budget, Change, Defence, Fitness, Goal, Search, Strategy};
use crate::attack::distinct;
use crate::captions::Captions;
use crate::error::{Error, Result};
use image::RgbImage;
use roclip_data::caption_metrics::words;
use roclip_data::progress::Task;
use roclip_data::random::{self, Stream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A picture to attack, square, and what people say about it.
pub struct Line {
    pub id: String,
    pub picture: RgbImage,
    pub references: Vec<String>,
}

/// What a study is made of.
pub struct Inputs<'a> {
    pub pictures: &'a [Line],
    pub strategies: &'a [Strategy],
    pub budget: &'a Budget,
    pub fitness: Fitness,
    pub goal: &'a Goal,
    pub defences: &'a [Defence],
    /// Outcomes that are known already, by picture and strategy.
    pub known: &'a BTreeSet<(String, Strategy)>,
}

/// What became of one picture under one strategy.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Outcome {
    pub id: String,
    pub strategy: Strategy,
    pub references: Vec<String>,
    /// The victim's caption before and after.
    pub clean: String,
    pub attacked: String,
    /// What the search lowers, before and after.
    pub clean_cost: f64,
    pub cost: f64,
    /// Captions of the victim that the attack asked for.
    pub queries: usize,
    pub change: Change,
    /// Nothing was to be gained: the clean caption costs nothing already.
    pub unattackable: bool,
    /// The victim's captions of the clean and the attacked picture behind each defence.
    pub defended: BTreeMap<Defence, (String, String)>,
}

impl Outcome {
    /// What of its numbers no attack by `budget` on a picture of `side` x `side` pixels can have ended with.
    pub fn impossible(&self, budget: &Budget, side: u32) -> Option<String> {
        let Change { l0, l_inf, l2 } = self.change;
        let (pixels, largest) = (u64::from(side) * u64::from(side), f64::from(l_inf) / 255.0);
        // Three colours of each changed pixel differ by at most the largest difference, and one by as much.
        let most = largest * (3.0 * l0 as f64).sqrt();
        let around = 1e-6 * most.max(1.0);
        if self.queries == 0 || self.queries > budget.queries {
            Some(format!("{} queries of {}", self.queries, budget.queries))
        } else if l0 as u64 > pixels {
            Some(format!("{l0} changed pixels (l0) of {pixels}"))
        } else if (l0 == 0) != (l_inf == 0) {
            Some(format!("{l0} changed pixels (l0), and a largest difference (l_inf) of {l_inf}"))
        } else if !(largest - around..=most + around).contains(&l2) {
            Some(format!("l2 is {l2}, and can be from {largest:.3} to {most:.3} by l0 and l_inf"))
        } else if self.unattackable && l0 > 0 {
            Some(format!("{l0} changed pixels (l0) of a picture that was not attacked"))
        } else {
            None
        }
    }
}

/// Attacks, and hands each outcome with the clean and the attacked picture to `done`. Attention comes from `surrogate`, or from the victim
/// itself where there is none.
///
/// # Errors
/// Pictures and budgets that cannot be, attention where none is, and what goes wrong with the victim. Outcomes before that have been handed
/// over.
pub fn study(
    inputs: &Inputs,
    victim: &mut dyn Captions,
    mut surrogate: Option<&mut dyn Captions>,
    done: &mut dyn FnMut(&Outcome, &RgbImage, &RgbImage) -> Result<()>,
) -> Result<()> {
    for line in inputs.pictures {
        let (width, height) = line.picture.dimensions();
        if width != height {
            return Err(Error::internal(format!("`{}` is {width} x {height}, and no square", line.id)));
        }
        inputs.budget.check(width)?;
        if !line.references.iter().any(|caption| !words(caption).is_empty()) {
            return Err(Error::setting(
                format!("`{}` has no reference caption that its fitness could be measured by", line.id),
                "give each picture at least one caption",
            ));
        }
    }
    let strategies = distinct(inputs.strategies);
    let task = Task::begin("attacking", inputs.pictures.len() * strategies.len(), "attacks");
    for line in inputs.pictures {
        let left: Vec<Strategy> = strategies
            .iter()
            .copied()
            .filter(|strategy| !inputs.known.contains(&(line.id.clone(), *strategy)))
            .collect();
        task.advance(strategies.len() - left.len());
        if left.is_empty() {
            continue;
        }
        let mut attention = Vec::new();
        if left.iter().any(|strategy| strategy.places.attends()) {
            let source: &mut dyn Captions = match &mut surrogate {
                Some(surrogate) => &mut **surrogate,
                None => &mut *victim,
            };
            attention = maps(&line.picture, source)?;
        }
        let picture = Picture::new(line, inputs, victim)?;
        for strategy in left {
            let (outcome, attacked) = picture.attacked(strategy, &attention, inputs, victim)?;
            done(&outcome, &line.picture, &attacked)?;
            task.advance(1);
        }
    }
    victim.finish()
}

/// The attention of each word over the picture.
fn maps(picture: &RgbImage, source: &mut dyn Captions) -> Result<Vec<Vec<f32>>> {
    let attended = source.attention(std::slice::from_ref(picture))?.ok_or_else(|| {
        Error::setting(
            format!("`{}` shows no attention", source.name()),
            "name a show-attend-tell captioner with --attention, or attack with --strategy none",
        )
    })?;
    attention_over(attended.first().map_or(&[], Vec::as_slice), picture.width() as usize)
}

/// A picture with what the victim says of it before any attack.
struct Picture<'a> {
    line: &'a Line,
    judge: Judge,
    clean: String,
    clean_cost: f64,
    /// Behind each defence.
    defended: BTreeMap<Defence, String>,
}

impl<'a> Picture<'a> {
    fn new(line: &'a Line, inputs: &Inputs, victim: &mut dyn Captions) -> Result<Self> {
        let references: Vec<Vec<String>> = line.references.iter().map(|caption| words(caption)).collect();
        let judge = Judge::new(inputs.fitness, inputs.goal, &references);
        let clean = one(victim.captions(std::slice::from_ref(&line.picture))?)?;
        let clean_cost = judge.cost(&clean);
        let mut defended = BTreeMap::new();
        for defence in inputs.defences {
            defended.insert(*defence, one(victim.captions(&[defence.apply(&line.picture)?])?)?);
        }
        Ok(Picture { line, judge, clean, clean_cost, defended })
    }

    fn attacked(
        &self,
        strategy: Strategy,
        maps: &[Vec<f32>],
        inputs: &Inputs,
        victim: &mut dyn Captions,
    ) -> Result<(Outcome, RgbImage)> {
        let (picture, budget) = (&self.line.picture, inputs.budget);
        let unattackable = Judge::is_idle(self.clean_cost);
        let mut outcome = Outcome {
            id: self.line.id.clone(),
            strategy,
            references: self.line.references.clone(),
            clean: self.clean.clone(),
            attacked: self.clean.clone(),
            clean_cost: self.clean_cost,
            cost: self.clean_cost,
            queries: 1,
            change: Change::default(),
            unattackable,
            defended: self.defended.iter().map(|(at, said)| (*at, (said.clone(), said.clone()))).collect(),
        };
        if unattackable {
            return Ok((outcome, picture.clone()));
        }
        let pixels = (picture.width() * picture.height()) as usize;
        let mut random = random::stream(budget.seed, &format!("aicattack/{}", strategy.word()), 0, &self.line.id);
        let fixed = match strategy.places.attends() {
            true => Some(strategy.places.choose(maps, pixels, budget.pixels, &mut random)?),
            false => None,
        };
        let mut draw = |random: &mut Stream| match &fixed {
            Some(places) => Ok(places.clone()),
            None => strategy.places.choose(maps, pixels, budget.pixels, random),
        };
        let mut ask = |pictures: &[RgbImage]| {
            let captions = victim.captions(pictures)?;
            Ok(captions
                .into_iter()
                .map(|caption| {
                    let cost = self.judge.cost(&caption);
                    (caption, cost)
                })
                .collect())
        };
        let searcher = Searcher { budget, picture, draw: &mut draw, random, clean_cost: self.clean_cost };
        let found = searcher.run(strategy.search, &mut ask)?;
        let Some(best) = found else { return Ok((outcome, picture.clone())) };
        outcome.queries += best.queries;
        // An attacker who found nothing better leaves the picture alone. Noise does not look at what it did.
        if best.cost >= self.clean_cost && strategy.search != Search::Noise {
            return Ok((outcome, picture.clone()));
        }
        outcome.change = change_between(picture, &best.picture);
        (outcome.attacked, outcome.cost) = (best.caption, best.cost);
        for defence in inputs.defences {
            let said = one(victim.captions(&[defence.apply(&best.picture)?])?)?;
            if let Some((_, attacked)) = outcome.defended.get_mut(defence) {
                *attacked = said;
            }
        }
        Ok((outcome, best.picture))
    }
}

/// The only caption.
fn one(captions: Vec<String>) -> Result<String> {
    captions.into_iter().next().ok_or_else(|| Error::internal("a captioner without a caption"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captions::AttendedWord;

    /// Says more about brighter corners, and looks at the upper half.
    struct Bright;

    impl Captions for Bright {
        fn name(&self) -> String {
            "bright".into()
        }

        fn image_size(&self) -> Option<u32> {
            Some(8)
        }

        fn captions(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
            let caption = |picture: &RgbImage| {
                let dark = picture.pixels().take(32).filter(|pixel| pixel.0[0] < 95).count();
                let words = ["a", "red", "apple", "on", "the", "table"];
                words[..(6usize.saturating_sub(dark)).max(1)].join(" ")
            };
            Ok(pictures.iter().map(caption).collect())
        }

        fn attention(&mut self, pictures: &[RgbImage]) -> Result<Option<Vec<Vec<AttendedWord>>>> {
            let word = AttendedWord { word: "apple".into(), map: vec![0.5, 0.5, 0.0, 0.0] };
            Ok(Some(pictures.iter().map(|_| vec![word.clone()]).collect()))
        }
    }

    fn lines(reference: &str) -> Vec<Line> {
        let picture = RgbImage::from_pixel(8, 8, image::Rgb([100, 100, 100]));
        vec![Line { id: "a".into(), picture, references: vec![reference.to_owned()] }]
    }

    fn outcomes(reference: &str, goal: &Goal, known: &BTreeSet<(String, Strategy)>) -> Vec<Outcome> {
        let budget = Budget { pixels: 6, ..Budget::default() };
        let pictures = lines(reference);
        let inputs = Inputs {
            pictures: &pictures,
            strategies: &Strategy::ALL,
            budget: &budget,
            fitness: Fitness::Bleu4,
            goal,
            defences: &Defence::ALL,
            known,
        };
        let mut found = Vec::new();
        study(&inputs, &mut Bright, None, &mut |outcome, _, _| {
            found.push(outcome.clone());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn attention_finds_what_chance_misses_within_the_same_budget() {
        let found = outcomes("a red apple on the table", &Goal::Untargeted, &BTreeSet::new());
        assert_eq!(found.len(), Strategy::ALL.len());
        let cost = |word: &str| found.iter().find(|outcome| outcome.strategy.word() == word).unwrap().cost;
        assert!(cost("sentence/proper") < 1e-9 && cost("inverse/proper") > 0.9, "{found:#?}");
        for outcome in &found {
            let noise = outcome.strategy.search == Search::Noise;
            assert_eq!(outcome.queries, if noise { 2 } else { 121 }, "{}", outcome.strategy.word());
            assert!(outcome.change.l0 <= 6 && !outcome.unattackable);
            assert_eq!(outcome.defended.len(), 3);
        }
        let known = BTreeSet::from([("a".to_owned(), Strategy::ALL[0])]);
        assert_eq!(outcomes("a red apple on the table", &Goal::Untargeted, &known), found[1..]);
    }

    #[test]
    fn what_cannot_be_lowered_is_counted_and_a_target_is_reached() {
        let flat = outcomes("the table on apple red", &Goal::Untargeted, &BTreeSet::new());
        assert!(flat.iter().all(|outcome| outcome.unattackable && outcome.queries == 1));
        let target = Goal::Targeted("a red apple on".into());
        let found = outcomes("a red apple on the table", &target, &BTreeSet::new());
        assert_eq!(found[0].attacked, "a red apple on");
    }

    #[test]
    fn a_picture_without_references_is_refused() {
        let budget = Budget { pixels: 6, ..Budget::default() };
        let pictures = lines(" ,");
        let inputs = Inputs {
            pictures: &pictures,
            strategies: &Strategy::ALL,
            budget: &budget,
            fitness: Fitness::Bleu4,
            goal: &Goal::Untargeted,
            defences: &[],
            known: &BTreeSet::new(),
        };
        let error = study(&inputs, &mut Bright, None, &mut |_, _, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("no reference"), "{error}");
    }
}
