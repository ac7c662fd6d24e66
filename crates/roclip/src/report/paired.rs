//! Differences between rows, seed by seed.

use crate::report::chart::{Difference, differences, signed};
use crate::report::comparison::Comparison;
use crate::report::group::{Group, RateOf, Study, asr, attacks, capitalised, psr, zero_shot};
use crate::report::verdict::{CONTROLS, PSR, Verdict};
use maud::{Markup, html};

/// What each defence costs and brings against each control; none where there is nothing to compare. Rates that prove nothing are compared with
/// nothing.
pub fn section(study: &Study, verdicts: &[Verdict]) -> Option<Markup> {
    let defences: Vec<(&Group, &Verdict)> =
        study.groups.iter().zip(verdicts).filter(|(group, _)| group.row().control.is_none()).collect();
    let attacks = attacks(&study.groups);
    let proving = |rate: &str| -> Vec<&Group> {
        let proves = |(_, verdict): &&(&Group, &Verdict)| !verdict.grey.contains(rate);
        defences.iter().filter(proves).map(|(group, _)| *group).collect()
    };
    let all: Vec<&Group> = defences.iter().map(|(group, _)| *group).collect();
    let accuracy = capitalised(study.accuracy_word());
    let first = [chart(study, &all, &accuracy, &zero_shot), chart(study, &proving(PSR), PSR, &psr)];
    let of_attack = |attack: &String| chart(study, &proving(attack), &format!("ASR {attack}"), &asr(attack));
    let charts: Vec<Markup> = first.into_iter().chain(attacks.iter().map(of_attack)).flatten().collect();
    if charts.is_empty() {
        return None;
    }
    let mut silent: Vec<&str> = defences.iter().flat_map(|(_, verdict)| &verdict.grey).map(String::as_str).collect();
    silent.sort_unstable();
    silent.dedup();
    Some(html! {
        p.note {
            "Percentage points, row less control. Dots: seeds that both have, each with the same poison. Line: 95 % interval, by Student's t \
             over the seeds, or of the counts where there is one seed (Newcombe). A line that crosses zero says that the difference may be \
             chance."
        }
        div.charts { @for chart in charts { (chart) } }
        @if !silent.is_empty() {
            p.note { "Not compared, since they prove nothing here (grey in the table): " (silent.join(", ")) "." }
        }
        p.note {
            "Augmentation alone removes some triggers and raises accuracy by itself; stopping it early is a defence of its own. Read the \
             frontier before crediting the defence."
        }
    })
}

/// The differences of one figure; none where no row has a control with it.
fn chart(study: &Study, defences: &[&Group], name: &str, of: &RateOf) -> Option<Markup> {
    let mut rows = Vec::new();
    for defence in defences {
        for (control, words) in CONTROLS {
            let compared = study.control(control, defence).and_then(|other| Comparison::of(defence, other, of));
            let Some(Comparison { points, interval, by_seed }) = compared else { continue };
            rows.push(Difference {
                label: format!("{} against {words}: {}", defence.short(), signed(points)),
                class: defence.style.class(),
                values: by_seed,
                mean: points,
                interval: interval.map(|interval| (interval.low, interval.high)),
            });
        }
    }
    (!rows.is_empty()).then(|| differences(&format!("{name}: difference"), "percentage points", &rows))
}
