//! The report's section on captioners: their captions beside those that cost nothing.

use crate::eval::CaptionScores;
use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::results::RunRecord;
use maud::{Markup, html};

/// Every run that trained a captioner.
pub fn section(study: &Study) -> Markup {
    html! {
        p.note {
            "Captions of pictures that were not trained on, against their references: corpus BLEU, the mean of smoothed BLEU-4, ROUGE-L (F) and \
             CIDEr-D times 100. The other rows are captions that cost nothing; a captioner should be above them."
        }
        @for run in study.runs().filter(|run| run.summary.captions.is_some()) { (of_run(run)) }
    }
}

fn of_run(run: &RunRecord) -> Markup {
    let Some(captions) = &run.summary.captions else { return html! {} };
    html! {
        h3 { (run.row.label) ", seed " (run.row.seed) ": " (captions.pictures) " pictures, beam " (captions.search.beam) }
        (scrolling(html! {
            table {
                thead {
                    tr {
                        th { "captions" } th { "BLEU-1" } th { "BLEU-4" } th { "BLEU-4, smoothed" } th { "ROUGE-L" } th { "CIDEr-D" }
                        th { "different ones" } th { "words" }
                    }
                }
                tbody {
                    (row("captioner", &captions.captioner))
                    @for (name, scores) in &captions.baselines { (row(name, scores)) }
                }
            }
        }))
    }
}

fn row(name: &str, scores: &CaptionScores) -> Markup {
    let points = [scores.bleu.bleu1, scores.bleu.bleu4, scores.bleu4_smoothed, scores.rouge_l, scores.cider_d];
    html! {
        tr {
            th { (name) }
            // Runs of earlier versions kept negative zeros.
            @for value in points { td { (format!("{:.2}", 100.0 * value + 0.0)) } }
            td { (scores.distinct) }
            td { (format!("{:.1}", scores.mean_words)) }
        }
    }
}
