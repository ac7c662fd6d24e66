//! What students inherited, and what the triggers of classifiers change and depend on.

use crate::eval::{Dose, TriggerMeasures};
use crate::report::group::Study;
use crate::report::table::{percent, scrolling};
use crate::results::RunRecord;
use crate::run::Inheritance;
use maud::{Markup, html};
use roclip_data::rate::Rate;

/// None where no row is a classifier whose triggers were measured.
pub fn section(study: &Study) -> Option<Markup> {
    let measured: Vec<(&str, &RunRecord)> = study
        .groups
        .iter()
        .flat_map(|group| group.members.iter().map(|run| (group.label, *run)))
        .filter(|(_, run)| !run.summary.triggers.is_empty())
        .collect();
    (!measured.is_empty()).then(|| {
        html! {
            p.note {
                "Inheritance: strict ASR of a student by that of its teacher, with a 95 % interval (Katz); none (–) where the 95 % interval of either's \
                 ASR does not lie above that of its own base rate: the teacher's attack did not take, or the student is at chance. PSNR and SSIM: pictures with and without the trigger. Tail: accuracy on the tenth of the untouched test pictures that is \
                 most extreme in variance, and on the others. An " code { "ink_reconstructed" } " is a reconstruction after an abstract, and no \
                 result of that paper."
            }
            (scrolling(html! {
                table {
                    thead {
                        tr {
                            th { "row" } th { "seed" } th { "attack" } th { "teacher's ASR" } th { "ASR" } th { "base rate" } th { "inheritance" }
                            th { "PSNR" } th { "SSIM" } th { "accuracy: tail" } th { "elsewhere" } th { "ASR at variance" }
                        }
                    }
                    tbody {
                        @for (label, run) in &measured {
                            @for (attack, measures) in &run.summary.triggers { (row(label, run, attack, measures)) }
                        }
                    }
                }
            }))
        }
    })
}

fn row(label: &str, run: &RunRecord, attack: &str, measures: &TriggerMeasures) -> Markup {
    let rate = |rate: Option<Rate>| rate.and_then(Rate::measured).map_or("–".to_owned(), |rate| percent(rate.rate));
    let own = run.summary.evaluation.asr.get(attack);
    let teacher = run.summary.teacher.as_ref().and_then(|teacher| teacher.asr.get(attack));
    let inherited = run.summary.inheritance(attack);
    let dose = |dose: &Dose| format!("{:.3}: {}", dose.variance, rate(Some(dose.success)));
    html! {
        tr {
            th { (label) } td { (run.row.seed) } td { (attack) }
            td { (rate(teacher.map(|outcome| outcome.success))) }
            td { (rate(own.map(|outcome| outcome.success))) }
            td { (rate(own.map(|outcome| outcome.base_rate))) }
            td {
                @match inherited.and_then(Inheritance::share) {
                    Some(ratio) => {
                        (format!("{:.2}", ratio.ratio))
                        small { (format!(" [{:.2}, {:.2}]", ratio.low, ratio.high)) }
                    },
                    None => {
                        "–"
                        @if let Some(reason) = inherited.and_then(Inheritance::reason) { small { " " (reason) } }
                    },
                }
            }
            td { (measures.psnr.map_or("–".to_owned(), |psnr| format!("{psnr:.1} dB"))) }
            td { (measures.ssim.map_or("–".to_owned(), |ssim| format!("{ssim:.3}"))) }
            td { (rate(measures.tail.as_ref().map(|tail| tail.accuracy))) }
            td { (rate(measures.tail.as_ref().map(|tail| tail.accuracy_elsewhere))) }
            td { (measures.doses.iter().map(dose).collect::<Vec<_>>().join(", ")) }
        }
    }
}
