//! The report's section on a split: what the safe set let in, epoch by epoch, and the scores it was drawn from.

use crate::report::chart::{escape, histogram};
use crate::report::results::RunRecord;
use std::fmt::Write;

/// Histograms shown of a run.
const SHOWN: usize = 8;

/// Empty when no run split its data.
pub fn section(runs: &[RunRecord]) -> String {
    let mut html = String::new();
    for run in runs.iter().filter(|run| run.epochs.iter().any(|epoch| epoch.split.is_some())) {
        if html.is_empty() {
            html += "<h2>The safe set</h2><p class=\"note\">Pairs that the split trusts, by epoch: how much of the clean data is kept, and how much poison is let in. Histograms: the score that the split was made by, for SafeCLIP the similarity of image and own caption.</p>";
        }
        let _ = write!(html, "<p>{}, seed {}</p>", escape(&run.row.label()), run.row.seed);
        html += "<table><tr><th>epoch</th><th>safe pairs</th><th>clean kept</th><th>poison of the safe set</th><th>separation</th><th class=\"left\">poison let in</th></tr>";
        let splits: Vec<_> = run.epochs.iter().zip(1..).filter_map(|(e, n)| Some((n, e.split.as_ref()?))).collect();
        for (number, split) in &splits {
            let admitted = split
                .poison_in_safe
                .iter()
                .map(|(name, rate)| format!("{} {}/{} ({:.1} %)", escape(name), rate.hits, rate.n, 100.0 * rate.rate));
            let separation = match (split.separation, split.fell_back) {
                (_, true) => "none: most similar pairs taken".to_owned(),
                (Some(distance), _) => format!("{distance:.1}"),
                (None, _) => "by similarity".to_owned(),
            };
            let _ = write!(
                html,
                "<tr><td>{number}</td><td>{} ({:.1} %)</td><td>{:.1} %</td><td>{:.2} %</td><td>{separation}</td><td>{}</td></tr>",
                split.safe,
                100.0 * split.share,
                100.0 * split.clean_kept.rate,
                100.0 * split.poison_of_safe,
                admitted.collect::<Vec<_>>().join(", ")
            );
        }
        html += "</table><div class=\"wrap\">";
        let every = splits.len().div_ceil(SHOWN).max(1);
        for (number, split) in splits.iter().step_by(every) {
            let class = |name: &str| match name {
                "clean" => "c1",
                "targeted" => "c0",
                _ => "c3",
            };
            let bins =
                split.scores.bins.iter().map(|(name, bins)| (name.clone(), class(name).to_owned(), bins.clone()));
            html += &histogram(&format!("epoch {number}"), &bins.collect::<Vec<_>>());
        }
        html += "</div>";
    }
    html
}
