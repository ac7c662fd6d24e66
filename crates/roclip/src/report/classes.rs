//! What each row's model makes of each class.

use crate::eval::ClassRecall;
use crate::report::group::{Group, Study};
use crate::report::table::scrolling;
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Classes shown: a page of a thousand of them is a file, not a page.
const SHOWN: usize = 300;

/// Of the first seed; empty where no run kept it.
pub fn section(study: &Study) -> Markup {
    let recall = |group: &Group, class: &str| -> Option<ClassRecall> {
        group.first.details.as_ref()?.recall.get(class).cloned()
    };
    let kept: Vec<&Group> = study.groups.iter().filter(|group| group.first.details.is_some()).collect();
    let classes: BTreeSet<&String> = kept
        .iter()
        .filter_map(|group| group.first.details.as_ref())
        .flat_map(|details| details.recall.keys())
        .collect();
    html! {
        @if !classes.is_empty() {
            details {
                summary { "Every class: how many of its test images are read rightly, and what most of the others are taken for" }
                (scrolling(html! {
                    table.left {
                        thead { tr { th { "class" } @for group in &kept { th { (group.key()) " " (group.label) } } } }
                        tbody {
                            @for class in classes.iter().take(SHOWN) {
                                tr {
                                    th { (class) }
                                    @for group in &kept {
                                        td {
                                            @if let Some(recall) = recall(group, class) {
                                                (recall.hits) "/" (recall.n)
                                                @if let Some(other) = &recall.mistaken_for { small { (other) } }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }))
                @if classes.len() > SHOWN { p.note { (classes.len() - SHOWN) " more classes are in details.json of each run." } }
            }
        } @else {
            p.note { "These runs kept no figures of their classes: an older version made them." }
        }
    }
}
