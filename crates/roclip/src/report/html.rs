//! The report page. All text goes through maud, which escapes it.

use crate::error::Result;
use crate::report::group::Group;
use crate::report::results::RunRecord;
use crate::report::seeds::by_experiment;
use crate::report::{safe_set, sections, table};
use crate::run::kept_pictures;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Colours that the style sheet names.
const NAMED_COLOURS: usize = 4;

/// The whole page for runs in the order of the table.
pub fn page(runs: &[RunRecord]) -> Result<String> {
    let groups = groups(runs);
    let shown = runs.iter().find(|run| run.summary.poisoned_pairs > 0 && run.folder.join("pictures.json").is_file());
    let gallery = shown.map(|run| kept_pictures(&run.folder)).transpose()?.flatten();
    let missing = gallery.is_none() && runs.iter().any(|run| run.summary.poisoned_pairs > 0);
    let gallery = gallery.unwrap_or_default();
    let page = frame(
        "roclip report",
        &colours(groups.len()),
        html! {
            h1 { "Who got fooled" }
            (lead(runs))
            (table::results(&groups))
            (table::cost(&groups))
            (sections::curves(&groups))
            (sections::frontier(&groups))
            (sections::neighbours(runs))
            (safe_set::section(runs))
            (sections::histograms(&groups))
            (sections::matches(runs, &gallery))
            (sections::pictures(&gallery))
            @if missing { p.note { "No pictures: these runs did not keep any." } }
        },
    );
    Ok(page.into_string() + "\n")
}

/// A page of its own: no script, no network.
pub fn frame(title: &str, style: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width";
            title { (title) }
            style { (PreEscaped(include_str!("style.css"))) (PreEscaped(style)) }
            (body)
        }
    }
}

fn lead(runs: &[RunRecord]) -> Markup {
    let seeds: BTreeSet<u64> = runs.iter().map(|r| r.row.seed).collect();
    let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let Some(first) = runs.iter().max_by_key(|r| r.summary.poisoned_pairs) else { return html! {} };
    let (summary, recipe) = (&first.summary, &first.recipe);
    let share = 100.0 * summary.poisoned_pairs as f64 / summary.pairs.max(1) as f64;
    html! {
        p.lead {
            (runs.len()) " runs, seeds " (seeds) ". " (summary.pairs) " pairs, " (summary.poisoned_pairs) " of them poisoned ("
            (format!("{share:.2}")) " %), " (recipe.train.epochs) " epochs at batch " (recipe.train.batch_size) ", model "
            (recipe.model.name) ". The poisoned models are for measuring defences only."
        }
    }
}

fn groups(runs: &[RunRecord]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    for members in by_experiment(runs, |run| &run.row) {
        let Some(first) = members.first().copied() else { continue };
        groups.push(Group { label: &first.row.label, colour: format!("r{}", groups.len()), first, members });
    }
    groups
}

/// A colour for each of `count` rows: the style sheet's own, then hues that lie far apart.
fn colours(count: usize) -> String {
    let mut css = String::new();
    for at in 0..count {
        let colour = match at {
            named if named < NAMED_COLOURS => format!("var(--c{named})"),
            // The golden angle.
            other => format!("hsl({:.0} 65% 50%)", (other as f64 * 137.508) % 360.0),
        };
        let _ =
            write!(css, ".line.r{at}{{stroke:{colour}}}.dot.r{at}{{fill:{colour}}}.key.r{at}{{background:{colour}}}");
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_colour_of_its_own() {
        let css = colours(9);
        let strokes: BTreeSet<&str> =
            css.split(".line.").skip(1).filter_map(|rule| rule.split(['{', '}']).nth(1)).collect();
        assert_eq!(strokes.len(), 9, "{css}");
    }
}
