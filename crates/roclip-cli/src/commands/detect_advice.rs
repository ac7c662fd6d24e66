//! Which method to look with, where the mean rank of several hides poison that one of them finds.

use roclip::run::MethodScores;
use roclip_data::escape::for_terminal;
use std::collections::{BTreeMap, BTreeSet};

/// Of two areas, a difference that advice may rest on.
const CLEARLY: f64 = 0.05;
/// A method whose area is lower orders the poison behind the clean pairs, and takes from the mean rank what others find.
const SPOILS: f64 = 0.35;

/// A line an attack that still has pairs, and that one of `methods`, the last of which is all of them together, orders clearly better than the
/// mean; and what to do about it. `left` has the pairs of each attack, and how many stay.
pub fn advice(methods: &[MethodScores], left: &BTreeMap<String, (usize, usize)>) -> Vec<String> {
    let Some((together, single)) = methods.split_last() else { return Vec::new() };
    let area = |scores: &MethodScores, attack: &str| {
        scores.attacks.iter().find(|judged| judged.attack == attack).and_then(|judged| judged.figures.auroc)
    };
    let mut lines = Vec::new();
    let mut wanted = BTreeSet::new();
    for (attack, _) in left.iter().filter(|(_, (_, left))| *left > 0) {
        let areas: Vec<(&str, f64)> =
            single.iter().filter_map(|method| Some((method.method, area(method, attack)?))).collect();
        let best = areas.iter().copied().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let (Some((method, alone)), Some(mean)) = (best, area(together, attack)) else { continue };
        if alone <= mean + CLEARLY {
            continue;
        }
        let spoilers: Vec<String> = areas
            .iter()
            .filter(|(_, area)| *area < SPOILS)
            .map(|(method, area)| format!("{method} ({area:.3})"))
            .collect();
        let spoilers = match spoilers.is_empty() {
            true => String::new(),
            false => format!("; far below 0.5, and so against it in the mean: {}", spoilers.join(", ")),
        };
        wanted.insert(method);
        lines.push(format!(
            "{}: {method} alone tells it better (AUROC {alone:.3}, all together {mean:.3}){spoilers}",
            for_terminal(attack)
        ));
    }
    let flags: Vec<String> = wanted.iter().map(|method| format!("--methods {method}")).collect();
    match flags.as_slice() {
        [] => {}
        [only] => lines.push(format!("look again with {only} alone")),
        // Together they would spoil each other's ranks as they do here.
        several => lines.push(format!(
            "look once with each alone ({}), each into a --out of its own, and leave out what all their drop.txt name",
            several.join("; then ")
        )),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip::detect::figures::Figures;
    use roclip::run::{COMBINED, Judged};

    fn method(method: &'static str, areas: [f64; 2]) -> MethodScores {
        let judged = |attack: &str, auroc| Judged {
            attack: attack.to_owned(),
            figures: Figures {
                poisoned: 4,
                clean: 90,
                poisoned_without_score: 0,
                clean_without_score: 0,
                auroc: Some(auroc),
                false_positives_at_95: None,
                false_positives_at_100: None,
            },
            curve: Vec::new(),
        };
        let attacks = ["patch", "targets"].into_iter().zip(areas).map(|(attack, area)| judged(attack, area)).collect();
        MethodScores { method, attacks, scores: Vec::new() }
    }

    fn left(stay: [usize; 2]) -> BTreeMap<String, (usize, usize)> {
        ["patch", "targets"].into_iter().zip(stay).map(|(attack, stay)| (attack.to_owned(), (4, stay))).collect()
    }

    #[test]
    fn opposite_methods_are_advised_one_by_one() {
        let lid = || method("lid", [0.99, 0.02]);
        let copies = || method("picture-copies", [0.1, 0.97]);
        let both = [lid(), copies(), method(COMBINED, [0.55, 0.5])];
        let lines = advice(&both, &left([4, 4]));
        assert_eq!(
            lines,
            [
                "patch: lid alone tells it better (AUROC 0.990, all together 0.550); far below 0.5, and so against it in the mean: \
                 picture-copies (0.100)",
                "targets: picture-copies alone tells it better (AUROC 0.970, all together 0.500); far below 0.5, and so against it in the \
                 mean: lid (0.020)",
                "look once with each alone (--methods lid; then --methods picture-copies), each into a --out of its own, and leave out what \
                 all their drop.txt name",
            ]
        );
        let one = advice(&both, &left([4, 0]));
        assert!(one.len() == 2 && one[1] == "look again with --methods lid alone", "{one:?}");
        // One method is its own mean, and what is gone needs no other.
        assert!(advice(&[lid(), method(COMBINED, [0.99, 0.02])], &left([4, 4])).is_empty());
        assert!(advice(&both, &left([0, 0])).is_empty());
    }
}
