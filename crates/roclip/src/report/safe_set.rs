//! The report's section on a split: what the safe set let in, epoch by epoch, and the scores it was drawn from.

use crate::report::chart::{Layer, histogram};
use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::results::RunRecord;
use crate::train::SplitSummary;
use maud::{Markup, html};

/// Histograms shown of a run.
const SHOWN: usize = 4;

/// Every run that split its data.
pub fn section(study: &Study) -> Markup {
    html! {
        p.note {
            "Pairs that the split trusts, by epoch: how much of the clean data is kept, and how much poison is let in. Histograms: the score \
             that the split was made by, for SafeCLIP the similarity of image and own caption."
        }
        @for run in study.runs().filter(|run| run.epochs.iter().any(|epoch| epoch.split.is_some())) { (of_run(run)) }
    }
}

fn of_run(run: &RunRecord) -> Markup {
    let splits: Vec<(i32, &SplitSummary)> =
        run.epochs.iter().zip(1..).filter_map(|(e, n)| Some((n, e.split.as_ref()?))).collect();
    let every = splits.len().div_ceil(SHOWN).max(1);
    html! {
        h3 { (run.row.label) ", seed " (run.row.seed) }
        (scrolling(html! {
            table {
                thead {
                    tr {
                        th { "epoch" } th { "safe pairs" } th { "clean kept" } th { "poison of the safe set" } th { "separation" }
                        th { "poison let in" }
                    }
                }
                tbody {
                    @for (number, split) in &splits {
                        tr {
                            th { (number) }
                            td { (split.safe) (format!(" ({:.1} %)", 100.0 * split.share)) }
                            td { (format!("{:.1} %", 100.0 * split.clean_kept.rate)) }
                            td { (format!("{:.2} %", 100.0 * split.poison_of_safe)) }
                            td { (separation(split)) }
                            td { (admitted(split)) }
                        }
                    }
                }
            }
        }))
        div.charts {
            @for (number, split) in splits.iter().step_by(every) { (histogram(&format!("scores, epoch {number}"), &layers(split))) }
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

fn layers(split: &SplitSummary) -> Vec<Layer> {
    let class = |name: &str| match name {
        "clean" => "kind-clean",
        "targeted" => "kind-target",
        _ => "kind-trigger",
    };
    let layer = |(name, bins): (&String, &Vec<u32>)| Layer {
        name: name.clone(),
        class: class(name).to_owned(),
        bins: bins.clone(),
    };
    let mut layers: Vec<Layer> = split.scores.bins.iter().map(layer).collect();
    layers.sort_by_key(|layer| layer.class != "kind-clean");
    layers
}
