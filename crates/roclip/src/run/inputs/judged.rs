//! How well methods tell triggered pictures from clean ones, and how many pictures they flag.

use crate::detect::figures::{Figures, curve, figures};
use crate::run::inputs::InputScore;
use serde::Serialize;
use std::collections::BTreeSet;

/// What a method says of all pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputMethodFlags {
    pub method: &'static str,
    /// Of the pictures as they are, those that it flags; none without a level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<usize>,
}

/// How well a method tells triggered pictures from clean ones.
#[derive(Debug, Clone, Serialize)]
pub struct InputJudged {
    pub method: &'static str,
    pub attack: String,
    #[serde(flatten)]
    pub figures: Figures,
    /// Where there is a level.
    #[serde(flatten)]
    pub flagged: Option<FlaggedOfAttack>,
    /// `(share of clean pictures, share of triggered ones)` at least as suspicious as each threshold.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// What a level finds, where it is known which pictures carry a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FlaggedOfAttack {
    /// Of the triggered pictures.
    pub triggered_flagged: usize,
    /// Of those without a trigger, looked at beside the triggered ones.
    pub clean_flagged: usize,
    /// The share of those: what the level states.
    pub false_positive_rate: f64,
}

/// By each of `methods`: how many of `inputs` as they are it flags at `level`.
pub(super) fn flags(inputs: &[InputScore], methods: &[&'static str], level: Option<f64>) -> Vec<InputMethodFlags> {
    let flagged = |method: &str, level: f64| {
        let plain = inputs.iter().filter(|input| input.laid.is_none());
        plain.filter(|input| input.is_flagged(method, level)).count()
    };
    methods
        .iter()
        .map(|method| InputMethodFlags { method, flagged: level.map(|level| flagged(method, level)) })
        .collect()
}

/// One a method and attack.
pub(super) fn judged(inputs: &[InputScore], methods: &[&'static str], level: Option<f64>) -> Vec<InputJudged> {
    let attacks: BTreeSet<&String> = inputs.iter().filter_map(|input| input.attack.as_ref()).collect();
    let mut found = Vec::new();
    for (method, attack) in methods.iter().flat_map(|method| attacks.iter().map(move |attack| (*method, *attack))) {
        let scores: Vec<f64> = inputs.iter().map(|input| input.score(method, attack)).collect();
        let mark = |input: &InputScore| match &input.attack {
            None => Some(false),
            Some(own) => (own == attack).then_some(true),
        };
        let marks: Vec<Option<bool>> = inputs.iter().map(mark).collect();
        let Some(figures) = figures(&scores, &marks) else { continue };
        let flagged = level.map(|level| {
            let of = |kind: bool| {
                let own = inputs.iter().zip(&marks).filter(|(_, mark)| **mark == Some(kind));
                own.filter(|(input, _)| input.p_value(method, attack).is_some_and(|p| p <= level)).count()
            };
            let clean_flagged = of(false);
            let false_positive_rate = clean_flagged as f64 / figures.clean.max(1) as f64;
            FlaggedOfAttack { triggered_flagged: of(true), clean_flagged, false_positive_rate }
        });
        let curve = curve(&scores, &marks);
        found.push(InputJudged { method, attack: attack.clone(), figures, flagged, curve });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::InputMethod;
    use crate::run::inputs::Beside;
    use std::collections::BTreeMap;

    fn input(attack: Option<&str>, score: f64, p: f64) -> InputScore {
        let method = InputMethod::WhitenedDirection.name();
        InputScore {
            id: String::new(),
            attack: attack.map(str::to_owned),
            scores: BTreeMap::from([(method, score)]),
            p_values: Some(BTreeMap::from([(method, p)])),
            flagged: None,
            beside: BTreeMap::new(),
            place: 0,
            laid: attack.map(|_| 0),
        }
    }

    #[test]
    fn an_attack_is_judged_by_what_clean_pictures_score_beside_its_own() {
        let method = InputMethod::WhitenedDirection.name();
        // Alone, the clean pictures lie further along their own direction than the triggered ones along theirs.
        let mut inputs = vec![input(None, 5.0, 0.05), input(None, 6.0, 0.01)];
        for (input, (score, p)) in inputs.iter_mut().zip([(3.0, 0.5), (4.0, 0.02)]) {
            let beside =
                Beside { scores: BTreeMap::from([(method, score)]), p_values: Some(BTreeMap::from([(method, p)])) };
            input.beside.insert("patch".to_owned(), beside);
        }
        inputs.extend([
            input(Some("patch"), 3.5, 0.04),
            input(Some("patch"), 9.0, 0.01),
            input(Some("other"), 9.0, 0.2),
        ]);
        let found = judged(&inputs, &[method], Some(0.04));
        assert_eq!(found.iter().map(|judged| judged.attack.as_str()).collect::<Vec<_>>(), ["other", "patch"]);
        assert_eq!(found[1].figures.auroc, Some(0.75));
        let measured = FlaggedOfAttack { triggered_flagged: 2, clean_flagged: 1, false_positive_rate: 0.5 };
        assert_eq!(found[1].flagged, Some(measured));
        // As they are, without anything beside them.
        let flagged = |level| flags(&inputs, &[method], level)[0].flagged;
        assert_eq!((flagged(Some(0.05)), flagged(Some(0.04)), flagged(None)), (Some(2), Some(1), None));
        let silent = judged(&inputs, &[method], None);
        assert!(silent.iter().all(|judged| judged.flagged.is_none()));
        assert_eq!(serde_json::to_value(&silent[0]).unwrap().get("clean_flagged"), None);
    }
}
