//! Where clean, targeted and triggered images lie in each model's feature space.

use crate::report::chart::{Dot, marker, scatter};
use crate::report::detector::{kind_class, kind_marker};
use crate::report::group::{Group, Study};
use crate::results::RunRecord;
use maud::{Markup, html};
use std::collections::BTreeMap;

pub fn section(study: &Study) -> Markup {
    let kept: Vec<(&Group, &RunRecord)> = study
        .groups
        .iter()
        .map(|group| (group, group.first))
        .filter(|(_, run)| run.details.as_ref().is_some_and(|details| !details.projection.images.is_empty()))
        .collect();
    html! {
        @if kept.is_empty() {
            p.note { "These runs kept no features: an older version made them." }
        } @else {
            p.note {
                "The first two principal components of unit image features, at most 64 images of a kind; first seed. Every model has a space \
                 of its own. Triggered images that gather away from the clean ones are what a backdoor looks like."
            }
            div.charts { @for (group, run) in &kept { (of_run(group, run)) } }
        }
    }
}

fn of_run(group: &Group, run: &RunRecord) -> Markup {
    let Some(projection) = run.details.as_ref().map(|details| &details.projection) else { return html! {} };
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for image in &projection.images {
        *kinds.entry(&image.kind).or_default() += 1;
    }
    let dots: Vec<Dot> = projection
        .images
        .iter()
        .map(|image| Dot {
            x: image.x,
            y: image.y,
            marker: kind_marker(run, &image.kind),
            class: kind_class(run, &image.kind).to_owned(),
            title: format!("{}: {} ({})", image.kind, image.class, image.image),
        })
        .collect();
    let [x, y] = projection.explained.map(|share| 100.0 * share);
    let (first, second) = (format!("first component ({x:.0} % of variance)"), format!("second ({y:.0} %)"));
    html! {
        div {
            (scatter(&group.short(), [&first, &second], &dots))
            p.legend {
                @for (kind, count) in kinds {
                    span {
                        svg.key viewBox="0 0 26 12" aria-hidden="true" {
                            (marker(kind_marker(run, kind), kind_class(run, kind), (13.0, 6.0), 4.0, kind))
                        }
                        " " (kind) " (" (count) ")"
                    }
                    " "
                }
            }
        }
    }
}
