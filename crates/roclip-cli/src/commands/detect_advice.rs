//! Which method to look with, where what orders the pairs hides poison that another method finds.

use crate::commands::next_steps::shell_word;
use roclip::run::MethodScores;
use roclip_data::escape::for_terminal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Of two areas, a difference that advice may rest on, and an area that makes a method worth another look.
const CLEARLY: f64 = 0.1;
const GOOD: f64 = 0.9;
/// A method whose area is lower orders the poison behind the clean pairs, and takes from the mean rank what others find.
const SPOILS: f64 = 0.35;
/// What a method that is advised does not see, by its name.
const BLIND: [(&str, &str); 1] = [(
    "picture-copies",
    "picture-copies judges a picture by all of its captions: it tells targeted poison, which gives a picture many; where each picture has \
     one caption, it sees copies alone and no backdoor",
)];
/// Of fewer poisoned pairs an area is an accident.
const FEWEST: usize = 5;

/// A line an attack that still has pairs, and that one of `methods`, the last of which is all of them together, tells clearly better than the one
/// of them that the pairs are ordered by; and what to do about it. `left` has the pairs of each attack, and how many stay; `look_alone` the command
/// that looks with one method, and the list that it writes.
pub fn advice(
    methods: &[MethodScores],
    ordered_by: &str,
    left: &BTreeMap<String, (usize, usize)>,
    look_alone: &dyn Fn(&str) -> (String, PathBuf),
) -> Vec<String> {
    let Some((together, single)) = methods.split_last() else { return Vec::new() };
    let one = single.iter().find(|method| method.method == ordered_by);
    let ordering = one.unwrap_or(together);
    let figures = |scores: &MethodScores, attack: &str| {
        let judged = scores.attacks.iter().find(|judged| judged.attack == attack)?;
        let pairs = judged.figures.poisoned.saturating_sub(judged.figures.poisoned_without_score);
        (pairs >= FEWEST).then_some((judged.figures.auroc?, pairs))
    };
    let mut lines = Vec::new();
    let mut wanted = BTreeSet::new();
    for (attack, _) in left.iter().filter(|(_, (_, left))| *left > 0) {
        let of_method =
            |method: &MethodScores| figures(method, attack).map(|(area, pairs)| (method.method, area, pairs));
        let areas: Vec<(&str, f64, usize)> = single.iter().filter_map(of_method).collect();
        let best = areas.iter().copied().max_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
        let (Some((method, alone, pairs)), Some((own, _))) = (best, figures(ordering, attack)) else { continue };
        if alone < GOOD || alone <= own + CLEARLY {
            continue;
        }
        let other = match one {
            Some(one) => format!("{}, which orders the pairs, {own:.3}", one.method),
            None => format!("all together {own:.3}"),
        };
        let spoilers: Vec<String> = areas
            .iter()
            .filter(|(_, area, _)| one.is_none() && *area < SPOILS)
            .map(|(method, area, _)| format!("{method} ({area:.3})"))
            .collect();
        let spoilers = match spoilers.is_empty() {
            true => String::new(),
            false => format!("; far below 0.5, and so against it in the mean: {}", spoilers.join(", ")),
        };
        wanted.insert(method);
        lines.push(format!(
            "{}: {method} alone tells it better (AUROC {alone:.3} of {pairs} pairs, {other}){spoilers}",
            for_terminal(attack)
        ));
    }
    let wanted: Vec<&str> = wanted.into_iter().collect();
    match wanted.as_slice() {
        [] => {}
        [only] => lines.push(format!("look again with it alone: {}", look_alone(only).0)),
        // Together they would spoil each other's ranks.
        several => {
            let (looks, lists): (Vec<String>, Vec<PathBuf>) = several.iter().map(|method| look_alone(method)).unzip();
            let lists: Vec<String> = lists.iter().map(|list| shell_word(list)).collect();
            let joined = if several.len() == 2 { "both.txt" } else { "all.txt" };
            lines.push("look once with each alone, and leave out what any of them names:".to_owned());
            lines.extend(looks.into_iter().map(|look| format!("  {look}")));
            lines.push(format!("  cat {} > {joined}", lists.join(" ")));
            lines.push(format!("and train with --drop {joined}"));
        }
    }
    let blind = BLIND.into_iter().filter(|(method, _)| wanted.contains(method));
    lines.extend(blind.map(|(_, words)| words.to_owned()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip::detect::figures::Figures;
    use roclip::run::{COMBINED, Judged};

    fn method(method: &'static str, areas: [f64; 2]) -> MethodScores {
        silent(method, areas, 0)
    }

    fn silent(method: &'static str, areas: [f64; 2], poisoned_without_score: usize) -> MethodScores {
        let judged = |attack: &str, auroc| Judged {
            attack: attack.to_owned(),
            figures: Figures {
                poisoned: 8,
                clean: 90,
                poisoned_without_score,
                clean_without_score: 0,
                auroc: Some(auroc),
                average_precision: None,
                false_positives_at_95: None,
                false_positives_at_100: None,
            },
            curve: Vec::new(),
            precision_recall: Vec::new(),
        };
        let attacks = ["patch", "targets"].into_iter().zip(areas).map(|(attack, area)| judged(attack, area)).collect();
        MethodScores { method, neighbourhood: None, attacks, scores: Vec::new() }
    }

    /// The command that looks with a method alone, and its list.
    fn alone(method: &str) -> (String, PathBuf) {
        (format!("roclip detect pairs --methods {method}"), format!("s {method}/drop.txt").into())
    }

    fn left(stay: [usize; 2]) -> BTreeMap<String, (usize, usize)> {
        ["patch", "targets"].into_iter().zip(stay).map(|(attack, stay)| (attack.to_owned(), (8, stay))).collect()
    }

    #[test]
    fn opposite_methods_are_advised_one_by_one() {
        let lid = || method("lid", [0.99, 0.02]);
        let copies = || method("picture-copies", [0.1, 0.97]);
        let both = [lid(), copies(), method(COMBINED, [0.55, 0.5])];
        let advice = |methods: &[MethodScores], left: &_| advice(methods, COMBINED, left, &alone);
        let lines = advice(&both, &left([4, 4]));
        assert_eq!(
            lines,
            [
                "patch: lid alone tells it better (AUROC 0.990 of 8 pairs, all together 0.550); far below 0.5, and so against it in the \
                 mean: picture-copies (0.100)",
                "targets: picture-copies alone tells it better (AUROC 0.970 of 8 pairs, all together 0.500); far below 0.5, and so against \
                 it in the mean: lid (0.020)",
                "look once with each alone, and leave out what any of them names:",
                "  roclip detect pairs --methods lid",
                "  roclip detect pairs --methods picture-copies",
                "  cat 's lid/drop.txt' 's picture-copies/drop.txt' > both.txt",
                "and train with --drop both.txt",
                BLIND[0].1,
            ]
        );
        let one = advice(&both, &left([4, 0]));
        assert!(one.len() == 2 && one[1] == "look again with it alone: roclip detect pairs --methods lid", "{one:?}");
        // One method is its own mean, what is gone needs no other, and a few pairs tell nothing.
        assert!(advice(&[lid()], &left([4, 4])).is_empty());
        let of_few = [silent("lid", [0.99, 0.02], 4), method(COMBINED, [0.55, 0.5])];
        assert!(advice(&of_few, &left([4, 4])).is_empty());
        let of_five = [silent("lid", [0.99, 0.02], 3), method(COMBINED, [0.55, 0.5])];
        assert!(advice(&of_five, &left([4, 4]))[0].contains("AUROC 0.990 of 5 pairs"));
        assert!(advice(&both, &left([0, 0])).is_empty());
    }

    #[test]
    fn what_orders_the_pairs_is_what_others_are_compared_with() {
        let methods = [method("plausibility", [0.97, 0.6]), method("lid", [0.99, 0.9]), method(COMBINED, [0.5, 0.5])];
        let advice = |methods: &[MethodScores], by: &str| advice(methods, by, &left([4, 4]), &alone);
        let lines = advice(&methods, "plausibility");
        assert_eq!(
            lines,
            [
                "targets: lid alone tells it better (AUROC 0.900 of 8 pairs, plausibility, which orders the pairs, 0.600)",
                "look again with it alone: roclip detect pairs --methods lid",
            ]
        );
        assert!(advice(&methods, "lid").is_empty());
        // A single method has no other beside it.
        assert!(advice(&methods[..1], "plausibility").is_empty());
        // Better is not good, and good is not clearly better.
        for [own, other] in [[0.546, 0.667], [0.5, 0.89], [0.85, 0.94]] {
            let methods = [method("plausibility", [own; 2]), method("lid", [other; 2]), method(COMBINED, [0.5, 0.5])];
            assert!(advice(&methods, "plausibility").is_empty(), "{other} over {own}");
        }
    }
}
