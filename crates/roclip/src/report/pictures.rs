//! The poison as pictures: pairs as training saw them, triggered tests, and what targets met in a pool.

use crate::report::group::Study;
use crate::report::table::scrolling;
use crate::run::{Figure, Gallery};
use maud::{Markup, html};

pub fn section(gallery: &Gallery) -> Markup {
    let figure = |figure: &Figure, what: &str| {
        html! { figure { img alt={ (what) ": " (figure.caption) } src=(figure.picture); figcaption { (figure.caption) } } }
    };
    let sets = [
        ("Poisoned pairs, as training saw them", "poisoned picture", &gallery.pairs),
        ("Triggered tests", "test picture", &gallery.triggered),
    ];
    html! {
        @for (title, what, sets) in sets {
            @for (attack, list) in sets {
                h3 { (title) ": " (attack) }
                div.wrap { @for one in list { (figure(one, what)) } }
            }
        }
    }
}

/// What the targets met in the last matching epoch of the first row that matches.
pub fn matches(study: &Study, gallery: &Gallery) -> Markup {
    let last = study.runs().find_map(|run| {
        let epochs = run.epochs.iter().zip(1..);
        epochs.filter_map(|(epoch, number)| Some((run, number, epoch.matches.as_ref()?))).last()
    });
    let Some((run, epoch, summary)) = last else { return html! {} };
    html! {
        details {
            summary { "What targeted pictures met: " (run.row.label) ", epoch " (epoch) }
            (scrolling(html! {
                table.left {
                    thead { tr { th { "is, and should become" } th { "matched caption" } th { "similarity" } } }
                    tbody {
                        @for example in &summary.examples {
                            @if let Some(figure) = gallery.targets.get(&example.image) {
                                tr {
                                    th { img alt={ "targeted picture: " (figure.caption) } src=(figure.picture); " " (figure.caption) }
                                    td { (example.matched_caption) }
                                    td { (format!("{:.2}", example.similarity)) }
                                }
                            }
                        }
                    }
                }
            }))
        }
    }
}
