//! What is in a data set, for people: as lines, and as a page with pictures.

use crate::error::Result;
use crate::report::html::frame;
use crate::report::table::{percent, scrolling};
use crate::run::picture_url;
use maud::{Markup, html};
use roclip_data::artifact;
use roclip_data::picture::ImageLimits;
use roclip_data::plural::count;
use roclip_data::sample::Sample;
use roclip_data::statistics::{Cluster, CopyStatistics, Quantiles, SharedPhrase, Statistics};
use std::collections::BTreeMap;
use std::path::Path;

/// Side of a shown picture, in pixels.
const SIDE: u32 = 96;
/// Pictures of a group on the page, and groups that are shown with pictures.
const PICTURES: usize = 8;
const GROUPS: usize = 12;
/// Captions and groups in the lines.
const LINES: usize = 5;
/// Classes and splits in the lines.
const NAMES: usize = 12;

/// The lines of a terminal. Texts in them are the data's own.
pub fn statistics_lines(found: &Statistics) -> Vec<String> {
    let Statistics { pictures, usable, pairs, captions, copies, .. } = found;
    let mut lines = vec![format!(
        "pictures   {usable} of {pictures} can be used, with {} ({:.1} a picture), {} without any",
        count(*pairs, "caption"),
        *pairs as f64 / (*usable).max(1) as f64,
        captions.pictures_without
    )];
    let mut named = |what: &str, counts: &BTreeMap<String, usize>| {
        if counts.keys().any(|name| !name.is_empty()) {
            lines.push(format!("{what:10} {}", names(counts)));
        }
    };
    named("splits", &found.splits);
    named("classes", &found.classes);
    named("formats", &found.formats.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect());
    for (what, quantiles, unit) in [
        ("width", &found.width, "pixels"),
        ("height", &found.height, "pixels"),
        ("file size", &found.bytes, "bytes"),
        ("caption", &captions.tokens, "tokens, start and end included"),
    ] {
        if let Some(Quantiles { min, p5, median, p95, max, .. }) = quantiles {
            lines.push(format!("{what:10} {min} to {max} {unit}; median {median}, nine of ten {p5} to {p95}"));
        }
    }
    if *pairs > 0 {
        let are = if captions.cut == 1 { "is" } else { "are" };
        let of = count(*pairs, "caption");
        lines.push(format!("cut        {} of {of} {are} longer than CLIP's 77 tokens", captions.cut));
        lines.push(format!(
            "captions   {} different; {} ({}) {} of another pair, too",
            captions.distinct,
            captions.repeated,
            percent(captions.repeated as f64 / *pairs as f64),
            if captions.repeated == 1 { "is that" } else { "are those" }
        ));
        for one in captions.most_repeated.iter().take(LINES) {
            lines.push(format!(
                "             {} x \"{}\" ({})",
                one.pairs,
                short(&one.caption),
                count(one.pictures, "picture")
            ));
        }
    }
    if found.repeated_keys > 0 {
        lines.push(format!(
            "keys       {} {} the key of one in an earlier shard or folder",
            count(found.repeated_keys, "picture"),
            if found.repeated_keys == 1 { "has" } else { "have" }
        ));
    }
    lines.push(format!("copies     {}", copies_in_words(copies)));
    for group in copies.largest.iter().take(LINES) {
        lines.push(format!("             {}", group_in_words(group)));
    }
    lines.push(format!("backdoors  {}", suspects_in_words(copies)));
    for group in copies.suspects.iter().take(LINES) {
        lines.push(format!("             {}", group_in_words(group)));
    }
    match found.left_out.is_empty() {
        true => lines.push("left out   nothing".to_owned()),
        false => {
            let total: usize = found.left_out.values().map(|left| left.count).sum();
            lines.push(format!("left out   {total}"));
            for (reason, left) in &found.left_out {
                let first = left.examples.first().map(|(id, detail)| format!(" (first: {id}: {detail})"));
                lines.push(format!("             {} {reason}{}", left.count, first.unwrap_or_default()));
            }
        }
    }
    lines
}

fn names(counts: &BTreeMap<String, usize>) -> String {
    let mut sorted: Vec<(&String, &usize)> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let shown = sorted.iter().take(NAMES).map(|(name, count)| {
        let name = if name.is_empty() { "none" } else { name.as_str() };
        format!("{} {count}", short(name))
    });
    let more = sorted.len().saturating_sub(NAMES);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

/// At most 80 characters.
fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn copies_in_words(copies: &CopyStatistics) -> String {
    let CopyStatistics { equal_groups, equal_copies, near_bits, near_groups, near_copies, flat, .. } = copies;
    let flat = match flat {
        0 => String::new(),
        flat => format!("; {} of one colour, compared by bytes alone", count(*flat, "picture")),
    };
    format!(
        "{} in {} with equal bytes; {} in {} of near-copies (at most {near_bits} of 64 bits differ); the first of a group is no copy{flat}",
        count_of(*equal_copies),
        count(*equal_groups, "group"),
        count_of(*near_copies),
        count(*near_groups, "group")
    )
}

fn count_of(copies: usize) -> String {
    if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") }
}

fn suspects_in_words(copies: &CopyStatistics) -> String {
    let CopyStatistics { min_copies, looked_at, suspected, .. } = copies;
    match (looked_at, suspected) {
        (0, _) => format!("none: no group of {min_copies} or more near-copies"),
        (_, 0) => format!(
            "none: {} of {min_copies} or more near-copies, and in none of them do the captions say the same",
            count(*looked_at, "group")
        ),
        _ => format!(
            "perhaps natural ones: {} of {min_copies} or more near-copies, and in {suspected} of them the captions say the same",
            count(*looked_at, "group")
        ),
    }
}

fn group_in_words(group: &Cluster) -> String {
    let Cluster { pictures, captions, distinct_captions, phrase, ids, equal_bytes, widest_bits, .. } = group;
    let said = phrase.as_ref().map(|SharedPhrase { words, captions: having, elsewhere, others }| {
        format!(", {having} of them say \"{}\" (elsewhere {elsewhere} of {others})", short(words))
    });
    let ids: Vec<String> = ids.iter().take(3).map(|id| short(id)).collect();
    let more = if *pictures > ids.len() { ", ..." } else { "" };
    format!(
        "{pictures} near-copies ({equal_bytes} with equal bytes, up to {widest_bits} bits apart) with {} ({distinct_captions} different){}: {}{more}",
        count(*captions, "caption"),
        said.unwrap_or_default(),
        ids.join(", ")
    )
}

/// Writes the page to `out`, with small pictures of the largest groups of copies of `samples`, which are read within `limits`. `data` names
/// them.
///
/// # Errors
/// Where the page cannot be written.
pub fn write_statistics(
    found: &Statistics,
    samples: &[Sample],
    data: &str,
    limits: ImageLimits,
    out: &Path,
) -> Result<()> {
    let Statistics { captions, copies, .. } = found;
    let suspects = copies.suspects.iter().take(GROUPS).map(|group| shown_group(group, samples, limits));
    let suspects = suspects.collect::<Result<Vec<_>>>()?;
    let largest = copies.largest.iter().take(GROUPS).map(|group| shown_group(group, samples, limits));
    let largest = largest.collect::<Result<Vec<_>>>()?;
    let page = frame(
        "Data",
        html! {
            h1 { "What is in the data" }
            p.lead {
                code { (data) } ": " (found.usable) " of " (count(found.pictures, "picture")) " can be used, with "
                (count(found.pairs, "caption")) "."
            }
            nav { a href="#sizes" { "Sizes" } a href="#captions" { "Captions" } a href="#backdoors" { "Natural backdoors" }
                a href="#copies" { "Copies" } a href="#left-out" { "Left out" } }
            h2 #sizes { "Sizes" }
            (scrolling(html! {
                table {
                    thead { tr { th { "" } th { "least" } th { "1 %" } th { "5 %" } th { "25 %" } th { "median" } th { "75 %" } th { "95 %" } th { "99 %" } th { "most" } } }
                    tbody {
                        (quantile_row("width, pixels", found.width))
                        (quantile_row("height, pixels", found.height))
                        (quantile_row("file, bytes", found.bytes))
                        (quantile_row("caption, tokens", captions.tokens))
                    }
                }
            }))
            (counts("Formats", found.formats.iter().map(|(name, count)| (*name, *count))))
            (counts("Splits", found.splits.iter().filter(|_| found.splits.keys().any(|name| !name.is_empty())).map(|(name, count)| (if name.is_empty() { "none" } else { name.as_str() }, *count))))
            (counts("Classes", found.classes.iter().map(|(name, count)| (name.as_str(), *count))))
            h2 #captions { "Captions" }
            p {
                (count(captions.distinct, "different caption")) " (case and white space aside); " (captions.repeated) " are those of another pair, too. "
                (captions.cut) " are longer than CLIP's 77 tokens and are cut. " (count(captions.pictures_without, "picture")) " without any."
            }
            @if !captions.most_repeated.is_empty() {
                (scrolling(html! {
                    table.left {
                        thead { tr { th { "caption" } th { "pairs" } th { "pictures" } } }
                        tbody { @for one in &captions.most_repeated { tr { th { (one.caption) } td { (one.pairs) } td { (one.pictures) } } } }
                    }
                }))
            }
            h2 #backdoors { "Natural backdoors" }
            p.note {
                "Many near-copies of one picture whose captions say the same teach a model that picture as a trigger, though nobody planted it: 798 \
                 pairs of one birthday cake in CC3M act so. Elsewhere: captions of other pictures that say the same; the fewer, the more the \
                 words mean this one picture."
            }
            p { "Found: " (suspects_in_words(copies)) "." }
            @for group in suspects { (group) }
            h2 #copies { "Copies" }
            p { (copies_in_words(copies)) "." }
            @for group in largest { (group) }
            h2 #left-out { "Left out" }
            @if found.left_out.is_empty() {
                p { "Nothing." }
            } @else {
                (scrolling(html! {
                    table.left {
                        thead { tr { th { "reason" } th { "number" } th { "for example" } } }
                        tbody {
                            @for (reason, left) in &found.left_out {
                                tr {
                                    th { (reason) } td { (left.count) }
                                    td { @for (id, detail) in &left.examples { div { code { (id) } " " (detail) } } }
                                }
                            }
                        }
                    }
                }))
            }
        },
    );
    Ok(artifact::write(out, (page.into_string() + "\n").as_bytes())?)
}

fn quantile_row(what: &str, quantiles: Option<Quantiles>) -> Markup {
    html! {
        @if let Some(Quantiles { min, p1, p5, p25, median, p75, p95, p99, max }) = quantiles {
            tr { th { (what) } @for value in [min, p1, p5, p25, median, p75, p95, p99, max] { td { (value) } } }
        }
    }
}

/// Folded where there are many.
fn counts<'a>(title: &str, counts: impl Iterator<Item = (&'a str, usize)>) -> Markup {
    let counts: Vec<(&str, usize)> = counts.collect();
    html! {
        @if !counts.is_empty() {
            details open[counts.len() <= NAMES] {
                summary { (title) ": " (counts.len()) }
                p { @for (number, (name, count)) in counts.iter().enumerate() { @if number > 0 { ", " } (name) " " b { (count) } } }
            }
        }
    }
}

/// A group with its first pictures.
fn shown_group(group: &Cluster, samples: &[Sample], limits: ImageLimits) -> Result<Markup> {
    let members = group.shown.iter().take(PICTURES).filter_map(|at| samples.get(*at as usize));
    let figures = members.map(|sample| {
        let picture = match sample.picture(limits) {
            Ok(picture) => html! { img alt={ "picture " (sample.id) } src=(picture_url(&picture, SIDE)?); },
            Err(skip) => html! { "cannot be shown: " (skip.reason) },
        };
        Ok(html! { figure { (picture) figcaption { (sample.id) } } })
    });
    let figures = figures.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        h3 {
            (count(group.pictures, "picture")) ", " (count(group.captions, "caption")) ", " (group.distinct_captions) " different"
            @if let Some(phrase) = &group.phrase { ": “" (phrase.words) "” in " (phrase.captions) ", elsewhere " (phrase.elsewhere) " of " (phrase.others) }
        }
        div.wrap { @for figure in figures { (figure) } }
        @if !group.caption_examples.is_empty() {
            p.note { @for (number, caption) in group.caption_examples.iter().enumerate() { @if number > 0 { " · " } (short(caption)) } }
        }
    })
}
