//! The report's section on a split: what the safe set let in, epoch by epoch, and the scores it was drawn from.

use crate::report::chart::histogram;
use crate::report::results::RunRecord;
use crate::train::SplitSummary;
use maud::{Markup, PreEscaped, html};

/// Histograms shown of a run.
const SHOWN: usize = 8;

/// Empty when no run split its data.
pub fn section(runs: &[RunRecord]) -> Markup {
    let split: Vec<&RunRecord> =
        runs.iter().filter(|run| run.epochs.iter().any(|epoch| epoch.split.is_some())).collect();
    html! {
        @if !split.is_empty() {
            h2 { "The safe set" }
            p.note {
                "Pairs that the split trusts, by epoch: how much of the clean data is kept, and how much poison is let in. Histograms: the \
                 score that the split was made by, for SafeCLIP the similarity of image and own caption."
            }
        }
        @for run in split { (of_run(run)) }
    }
}

fn of_run(run: &RunRecord) -> Markup {
    let splits: Vec<(i32, &SplitSummary)> =
        run.epochs.iter().zip(1..).filter_map(|(e, n)| Some((n, e.split.as_ref()?))).collect();
    let every = splits.len().div_ceil(SHOWN).max(1);
    html! {
        p { (run.row.label) ", seed " (run.row.seed) }
        table {
            tr {
                th { "epoch" } th { "safe pairs" } th { "clean kept" } th { "poison of the safe set" } th { "separation" }
                th.left { "poison let in" }
            }
            @for (number, split) in &splits {
                tr {
                    td { (number) }
                    td { (split.safe) (format!(" ({:.1} %)", 100.0 * split.share)) }
                    td { (format!("{:.1} %", 100.0 * split.clean_kept.rate)) }
                    td { (format!("{:.2} %", 100.0 * split.poison_of_safe)) }
                    td { (separation(split)) }
                    td { (admitted(split)) }
                }
            }
        }
        div.wrap {
            @for (number, split) in splits.iter().step_by(every) {
                (PreEscaped(histogram(&format!("epoch {number}"), &bars(split))))
            }
        }
    }
}

fn separation(split: &SplitSummary) -> String {
    match (split.separation, split.fell_back) {
        (_, true) => "none: most similar pairs taken".to_owned(),
        (Some(distance), _) => format!("{distance:.1}"),
        (None, _) => "by similarity".to_owned(),
    }
}

fn admitted(split: &SplitSummary) -> String {
    let one = |(name, rate): (&String, &roclip_data::rate::Rate)| {
        format!("{name} {}/{} ({:.1} %)", rate.hits, rate.n, 100.0 * rate.rate)
    };
    split.poison_in_safe.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn bars(split: &SplitSummary) -> Vec<(String, String, Vec<u32>)> {
    let class = |name: &str| match name {
        "clean" => "c1",
        "targeted" => "c0",
        _ => "c3",
    };
    split.scores.bins.iter().map(|(name, bins)| (name.clone(), class(name).to_owned(), bins.clone())).collect()
}
