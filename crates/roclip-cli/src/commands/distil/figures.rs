//! What `roclip distil --table` prints: a line a row and attack, of all seeds. Each figure follows from those of the seeds.

use roclip::run::{Inheritance, Summary};
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use roclip_data::rate::Rate;
use std::collections::BTreeSet;

/// A row's finished runs with their seeds.
type RowRuns<'a> = (&'a str, Vec<(u64, Summary)>);

/// Titles of the columns. The first and the third are words, and so is the last.
const TITLES: [&str; 10] =
    ["row", "accuracy", "attack", "ASR", "base", "turned", "PSNR", "SSIM", "tail", "inheritance"];
const WORDS: [usize; 3] = [0, 2, 9];

/// The table of `rows` over `seeds`.
pub fn table(rows: &[RowRuns], seeds: &[u64]) -> String {
    let mut text = format!("{}\n", header(seeds));
    let mut lines = vec![TITLES.map(str::to_owned)];
    for (name, runs) in rows {
        let attacks: BTreeSet<&String> = runs.iter().flat_map(|(_, summary)| summary.evaluation.asr.keys()).collect();
        for (at, attack) in attacks.into_iter().enumerate() {
            lines.push(line(if at == 0 { name } else { "" }, attack, runs));
        }
    }
    let width = |column: usize| lines.iter().map(|cells| cells.get(column).map_or(0, |cell| letters(cell))).max();
    let widths = std::array::from_fn::<usize, 10, _>(|column| width(column).unwrap_or(0));
    for cells in &lines {
        let padded =
            cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match WORDS.contains(&column) {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
        text += &format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    text + &doses(rows)
}

/// What the figures are of.
fn header(seeds: &[u64]) -> String {
    match seeds {
        [seed] => format!("rates in %, seed {seed}"),
        several => format!(
            "rates in %: means of {}, and each seed's own in their order (seeds share test pictures, whose counts are not added up); \
             PSNR, SSIM and inheritance: means of the seeds; (1 of {}): of so many seeds, the others have no such figure",
            count(several.len(), "seed"),
            several.len()
        ),
    }
}

fn line(name: &str, attack: &str, runs: &[(u64, Summary)]) -> [String; 10] {
    let all = runs.len();
    let rates = |rate: &dyn Fn(&Summary) -> Option<Rate>| {
        let of_seeds: Vec<Option<Rate>> = runs.iter().map(|(_, summary)| rate(summary)?.measured()).collect();
        each(&of_seeds)
    };
    let mean = |digits: usize, value: &dyn Fn(&Summary) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(|(_, summary)| value(summary)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        cell((!values.is_empty()).then(|| format!("{mean:.digits$}")), values.len(), all)
    };
    [
        name.to_owned(),
        if name.is_empty() { String::new() } else { rates(&|of| Some(of.evaluation.zero_shot_top1)) },
        for_terminal(attack).into_owned(),
        rates(&|of| Some(of.evaluation.asr.get(attack)?.success)),
        rates(&|of| Some(of.evaluation.asr.get(attack)?.base_rate)),
        rates(&|of| of.evaluation.asr.get(attack)?.turned),
        mean(1, &|of| of.triggers.get(attack)?.psnr),
        mean(3, &|of| of.triggers.get(attack)?.ssim),
        rates(&|of| Some(of.triggers.get(attack)?.tail.as_ref()?.accuracy)),
        inheritance(&runs.iter().map(|(seed, of)| (*seed, of.inheritance(attack))).collect::<Vec<_>>()),
    ]
}

/// The mean of the seeds that have a rate and each one's own, in percent.
fn each(of_seeds: &[Option<Rate>]) -> String {
    let known: Vec<f64> = of_seeds.iter().flatten().map(|rate| 100.0 * rate.rate).collect();
    if known.is_empty() {
        return "-".to_owned();
    }
    let mean = format!("{:.1}", known.iter().sum::<f64>() / known.len() as f64);
    if of_seeds.len() == 1 {
        return mean;
    }
    let own = of_seeds.iter().map(|rate| rate.map_or_else(|| "-".to_owned(), |rate| rate.percent(1)));
    format!("{mean} ({})", own.collect::<Vec<_>>().join(", "))
}

/// A figure, and of how many of `all` seeds it is, where not of all.
fn cell(figure: Option<String>, seeds: usize, all: usize) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if seeds == all => figure,
        Some(figure) => format!("{figure} ({seeds} of {all})"),
    }
}

/// The mean of the seeds that have one, and why the others have none.
fn inheritance(of_seeds: &[(u64, Option<Inheritance>)]) -> String {
    let shares: Vec<f64> = of_seeds.iter().filter_map(|(_, inherited)| Some((*inherited)?.share()?.ratio)).collect();
    let why = |(seed, inherited): &(u64, Option<Inheritance>)| Some((*seed, (*inherited)?.reason()?));
    let reasons: Vec<(u64, &str)> = of_seeds.iter().filter_map(why).collect();
    let each = || reasons.iter().map(|(seed, reason)| format!("seed {seed}: {reason}")).collect::<Vec<_>>().join("; ");
    let alike: BTreeSet<&str> = reasons.iter().map(|(_, reason)| *reason).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    match (shares.len(), alike.first()) {
        (0, None) => "-".to_owned(),
        (0, Some(reason)) if alike.len() == 1 => format!("- ({reason})"),
        (0, Some(_)) => format!("- ({})", each()),
        (have, _) if have == of_seeds.len() => format!("{mean:.2}"),
        (have, None) => format!("{mean:.2} ({have} of {})", of_seeds.len()),
        (have, Some(_)) => format!("{mean:.2} ({have} of {}; {})", of_seeds.len(), each()),
    }
}

/// Success at other target variances, of rows that have such.
fn doses(rows: &[RowRuns]) -> String {
    let mut text = String::new();
    let firsts = rows.iter().filter_map(|(name, runs)| Some((*name, runs.first()?)));
    for (name, (seed, summary)) in firsts {
        for (attack, measures) in summary.triggers.iter().filter(|(_, measures)| !measures.doses.is_empty()) {
            if text.is_empty() {
                text = format!(
                    "\nASR in % at other target variances (seed {seed}); `ink_reconstructed` is a reconstruction, not the paper's attack\n"
                );
            }
            let cells =
                measures.doses.iter().map(|dose| format!("{:.3}: {:>5}", dose.variance, dose.success.percent(1)));
            let cells = cells.collect::<Vec<_>>().join("  ");
            text += &format!("{name:44} {:24} {cells}\n", for_terminal(attack));
        }
    }
    text
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::rate::Ratio;

    #[test]
    fn a_mean_says_of_how_many_seeds_it_is_and_why() {
        let share = |ratio: f64| Some(Inheritance::Share(Ratio { ratio, low: 0.0, high: 2.0 }));
        let (not, chance) = (Some(Inheritance::NothingToInherit), Some(Inheritance::StudentAtChance));
        for (of_seeds, said) in [
            ([share(1.0), share(0.5)], "0.75"),
            ([share(1.29), not], "1.29 (1 of 2; seed 1: the teacher's attack did not take)"),
            ([chance, chance], "- (the student is at chance)"),
            ([chance, not], "- (seed 0: the student is at chance; seed 1: the teacher's attack did not take)"),
            ([None, None], "-"),
        ] {
            assert_eq!(inheritance(&(0..).zip(of_seeds).collect::<Vec<_>>()), said);
        }
        assert_eq!(cell(Some("7.1".into()), 1, 2), "7.1 (1 of 2)");
    }

    #[test]
    fn rates_of_seeds_are_a_mean_and_each_ones_own() {
        let summary = |hits: usize, n: usize| -> Summary {
            let rate = Rate::new(hits, n);
            let mut evaluation = roclip::eval::Evaluation::of_nothing();
            evaluation.zero_shot_top1 = rate;
            let outcome = serde_json::json!({
                "target": "red", "success": rate, "success_top5": rate, "success_top10": rate, "success_all": rate,
                "base_rate": rate, "turned": rate, "true_class": rate, "after": {},
            });
            evaluation.asr.insert("patch".into(), serde_json::from_value(outcome).unwrap());
            serde_json::from_value(serde_json::json!({
                "objective": "classifier", "seed": 0, "epoch": 1, "phase": "labels", "pairs": 8, "poisoned_pairs": 1,
                "evaluation": evaluation, "after": {}, "linear_probe": null, "seconds": 0.0, "peak_memory_bytes": 0,
            }))
            .unwrap()
        };
        let said = table(&[("teacher-patch", vec![(0, summary(1, 1)), (1, summary(2, 41))])], &[0, 1]);
        assert!(said.contains("means of 2 seeds") && said.contains("not added up"), "{said}");
        // The mean of 100 and 4.9 %, and not 3 of 42.
        assert!(said.contains("  52.4 (100.0, 4.9) ") && !said.contains("7.1"), "{said}");
        assert_eq!(each(&[None, Some(Rate::new(1, 2))]), "50.0 (-, 50.0)");
        assert!(!said.contains("target variances"), "{said}");
    }
}
