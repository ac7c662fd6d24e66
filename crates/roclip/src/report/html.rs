//! The report page. All text goes through maud, which escapes it.

use crate::error::Result;
use crate::report::ReportedData;
use crate::report::group::{Group, Study, capitalised, legend, studies};
use crate::report::lead::lead;
use crate::report::next_steps::{NextStep, next_steps};
use crate::report::verdict::{Verdict, verdicts};
use crate::report::{
    captioners, classes, curves, detector, distillation, export, grid, paired, pictures, projection, prompts,
    reproduce, safe_set, table, targets,
};
use crate::results::{ResultRow, RunRecord, Runs, key_legend};
use crate::run::{Gallery, kept_pictures};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use roclip_data::plural::count;

/// The page, and what a terminal says of it.
pub struct Page {
    pub html: String,
    /// `results.csv`.
    pub csv: String,
    /// `results.tex`.
    pub latex: String,
    /// What is said of the rows on each data set, in the order of the tables.
    pub parts: Vec<ReportedData>,
    pub next_steps: Vec<NextStep>,
}

/// Rows on one data set with what is said of them.
struct Part<'a> {
    study: Study<'a>,
    verdicts: Vec<Verdict>,
    next_steps: Vec<NextStep>,
    /// Of one of several, what ends its headings and ids.
    number: usize,
}

/// The whole page for runs in the order of the table. `more_seeds` is the command that trains further seeds of them, where one is known.
pub fn page(runs: &Runs, rows: &[ResultRow], more_seeds: Option<&str>) -> Result<Page> {
    let mut parts = Vec::new();
    for (study, number) in studies(&runs.records).into_iter().zip(1..) {
        let verdicts = verdicts(&study)?;
        let next_steps = next_steps(&study, &verdicts, &runs.records, more_seeds);
        parts.push(Part { study, verdicts, next_steps, number });
    }
    let json = reproduce::json(&rows)?;
    let csv = export::csv(&runs.records);
    let latex = parts.iter().map(|part| export::latex(&part.study)).collect::<String>();
    let files = [
        ("results.json", "application/json", json.as_str()),
        ("results.csv", "text/csv", csv.as_str()),
        ("results.tex", "application/x-tex", latex.as_str()),
    ];
    let mut bodies = Vec::new();
    let mut contents = Vec::new();
    for part in &parts {
        let sections = sections(part)?;
        contents.extend(match parts.len() {
            1 => sections.iter().map(|(id, title, _)| (format!("{id}-1"), (*title).to_owned())).collect(),
            _ => vec![(format!("data-{}", part.number), format!("Data {}: {}", part.number, part.study.data()))],
        });
        bodies.push((part, sections));
    }
    let body = html! {
        h1 { "Who got fooled" }
        (lead(runs))
        (contents_list(&contents))
        @for (part, sections) in bodies {
            @if parts.len() > 1 {
                @let apart = apart(part, &parts);
                h2.study id={ "data-" (part.number) } { "Data " (part.number) ": " (part.study.data()) }
                @if !apart.is_empty() { p.note { (apart.join(", ")) } }
            }
            @for trained in part.study.trained_apart() { p.note { (capitalised(&trained)) } }
            (verdict(part))
            (definitions())
            @for (id, title, section) in sections {
                section id={ (id) "-" (part.number) } { h2 { (title) } (section) }
            }
        }
        footer { (reproduce::downloads(&files)) p { "Written by roclip " (env!("CARGO_PKG_VERSION")) ". The poisoned models are for measuring defences only." } }
    };
    let said = |part: &Part| ReportedData {
        title: part.study.data(),
        apart: apart(part, &parts),
        trained: part.study.trained_apart(),
        rows: part.study.runs().map(|run| run.row.clone()).collect(),
        sentences: part.verdicts.iter().map(|verdict| verdict.sentence.clone()).collect(),
        doubts: said_of(&part.verdicts, FEW_ROWS),
    };
    Ok(Page {
        html: frame("roclip report", body).into_string() + "\n",
        csv,
        latex,
        parts: parts.iter().map(said).collect(),
        next_steps: parts.iter().flat_map(|part| part.next_steps.iter().cloned()).collect(),
    })
}

/// A page of its own: no script, no network.
pub fn frame(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body { main { (body) } }
        }
    }
}

/// In which settings what `part` was measured on differs from that of the others.
fn apart(part: &Part, parts: &[Part]) -> Vec<String> {
    let firsts = parts.iter().filter_map(|part| part.study.groups.first());
    let others: Vec<_> = firsts.map(|group| &group.first.experiment).collect();
    let own = part.study.groups.first().map(|group| &group.first.experiment);
    own.map(|own| own.data_apart_from(&others)).unwrap_or_default()
}

fn contents_list(contents: &[(String, String)]) -> Markup {
    html! {
        nav aria-label="Contents" {
            @for (id, title) in contents {
                a href={ "#" (id) } { (title) }
                " "
            }
        }
    }
}

/// Rows that a line of a terminal names.
const FEW_ROWS: usize = 3;

/// A row and those of its seeds that something is said of; none where it is said of the row.
type SaidOf<'a> = (&'a str, Vec<u64>);

/// Problems and doubts, one a line; what is said of several rows alike is one line that names the first `most` of them.
fn said_of(verdicts: &[Verdict], most: usize) -> Vec<String> {
    let mut said: Vec<(String, Vec<SaidOf>)> = Vec::new();
    for verdict in verdicts {
        let doubts = verdict.doubts.iter().map(|doubt| (None, format!("{doubt}.")));
        let problems = verdict.problems.iter().map(|(seed, finding)| {
            let attack = finding.attack.as_ref().map(|attack| format!(" [{attack}]")).unwrap_or_default();
            let text = format!("{}{attack}: {}. {}", finding.check, finding.what, as_sentence(&finding.remedy));
            (Some(*seed), text)
        });
        for (seed, text) in doubts.chain(problems) {
            let at = said.iter().position(|(known, _)| *known == text).unwrap_or_else(|| {
                said.push((text, Vec::new()));
                said.len() - 1
            });
            let Some((_, rows)) = said.get_mut(at) else { continue };
            match rows.last_mut() {
                Some((row, seeds)) if *row == verdict.label => seeds.extend(seed),
                _ => rows.push((&verdict.label, seed.into_iter().collect())),
            }
        }
    }
    let named = |(row, seeds): &SaidOf| match seeds.as_slice() {
        [] => (*row).to_owned(),
        [seed] => format!("{row}, seed {seed}"),
        seeds => format!("{row}, seeds {}", seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    };
    let line = |(text, rows): (String, Vec<SaidOf>)| {
        let first = rows.iter().take(most).map(named).collect::<Vec<_>>().join("; ");
        match rows.len() {
            1 => format!("{first}: {text}"),
            rows if rows > most => format!("{} ({first}; and {} more): {text}", count(rows, "row"), rows - most),
            rows => format!("{} ({first}): {text}", count(rows, "row")),
        }
    };
    said.into_iter().map(line).collect()
}

/// A remedy with a capital and a full stop.
fn as_sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

fn verdict(part: &Part) -> Markup {
    let problems = said_of(&part.verdicts, usize::MAX);
    let warnings: usize = part.verdicts.iter().map(|verdict| verdict.warnings).sum();
    let steps = &part.next_steps;
    html! {
        ul.verdict {
            @for (group, verdict) in part.study.groups.iter().zip(&part.verdicts) {
                li.doubtful[!verdict.grey.is_empty()] { (group.key()) " " (emphasised(&verdict.sentence, group)) }
            }
        }
        @if let Some(legend) = key_legend(part.study.groups.iter().flat_map(|group| group.row().settings.keys())) { p.note { (legend) "." } }
        @if !problems.is_empty() {
            div.problem role="alert" {
                strong { (count(problems.len(), "problem")) ": do not trust these figures before you have read this" }
                ul { @for problem in &problems { li { (problem) } } }
            }
        }
        @if warnings > 0 { p.note { "The doctor has " (count(warnings, "warning")) " besides: " code { "roclip doctor RUN" } " says which." } }
        @if !steps.is_empty() {
            details.next open[!problems.is_empty()] {
                summary { "What to do next" }
                ul { @for step in steps { li { (step.reason()) " " @for command in &step.commands { code { (command) } " " } } } }
            }
        }
    }
}

/// The row's name stands out.
fn emphasised(sentence: &str, group: &Group) -> Markup {
    match sentence.strip_prefix(group.label) {
        Some(rest) => html! { strong { (group.label) } (rest) },
        None => html! { (sentence) },
    }
}

/// The words of the page, each with what it means.
const WORDS: [(&str, &str); 9] = [
    ("PSR", "poison success rate: targeted pictures read as the class that the attacker planted for them."),
    (
        "ASR",
        "attack success rate: pictures of other classes, with the trigger, read as the target. Base rate: without it, chance.",
    ),
    ("turned", "of the pictures not read as the target without the trigger, those that are with it."),
    ("zero-shot", "top-1 accuracy with class names as prompts; targeted pictures are left out."),
    ("seen, unseen", "of learned prompts: the classes that they were learned on, and the others."),
    ("probe", "accuracy of a linear classifier on the image features: how good the features are."),
    ("clean data", "the same poison measured on a model that never saw it: what happens by chance."),
    (
        "clearly, within chance",
        "whether the 95 % interval of the difference leaves out zero. One run: counts with Wilson's interval. Seeds: mean and range.",
    ),
    (
        "grey",
        "proves nothing: the attack fails without a defence, that control is missing, or the model knows no classes. Nothing is compared.",
    ),
];

fn definitions() -> Markup {
    html! {
        details.definitions open {
            summary { "What the words mean" }
            dl { @for (word, meaning) in WORDS { div { dt { (word) } dd { (meaning) } } } }
        }
    }
}

type Section = (&'static str, &'static str, Markup);

fn sections(part: &Part) -> Result<Vec<Section>> {
    let Part { study, verdicts, .. } = part;
    if study.runs().all(|run| run.summary.prompt.is_some()) {
        return Ok(vec![
            ("table", "The table", table::results(study, verdicts)),
            ("prompts", "Learned prompts", html! { (prompts::prompts(study)) (prompts::detections(study)?) }),
            ("again", "Recipes and machines", reproduce::section(&study.groups)?),
        ]);
    }
    let gallery = |run: &RunRecord| -> Result<Gallery> { Ok(kept_pictures(&run.folder)?.unwrap_or_default()) };
    let poisoned = || study.runs().filter(|run| run.summary.poisoned_pairs > 0);
    let shown = poisoned().find(|run| run.folder.join("pictures.json").is_file());
    let pictures_kept = shown.map(&gallery).transpose()?.unwrap_or_default();
    let has_targets = study.runs().any(|run| !run.summary.evaluation.targets.is_empty());
    let has_matches = study.runs().any(|run| run.epochs.iter().any(|epoch| epoch.matches.is_some()));
    let has_split = study.runs().any(|run| run.epochs.iter().any(|epoch| epoch.split.is_some()));
    let mut sections: Vec<Section> =
        vec![("table", "The table", html! { (table::results(study, verdicts)) (table::details(study)) })];
    if grid::is_grid(study) {
        sections.push(("grid", "The settings that were swept", grid::section(study, verdicts)));
    }
    if has_targets {
        sections.push(("targets", "Picture by picture", targets::section(study, &gallery)?));
    }
    if let Some(section) = distillation::section(study) {
        sections.push(("triggers", "Triggers of classifiers, and what students inherit", section));
    }
    if prompts::any(study) {
        sections.push((
            "prompts",
            "Learned prompts",
            html! { (prompts::prompts(study)) (prompts::detections(study)?) },
        ));
    }
    if study.runs().any(|run| run.summary.captions.is_some()) {
        sections.push(("captioners", "Captioners", captioners::section(study)));
    }
    if let Some(section) = paired::section(study, verdicts) {
        sections.push(("cost", "What the defence costs and brings", section));
    }
    sections.push(("curves", "Curves", html! { (legend(&study.groups)) (curves::section(study)) }));
    if let Some(section) = curves::frontier(study) {
        sections.push(("frontier", "The frontier", section));
    }
    sections.push(("classes", "Classes", classes::section(study)));
    sections.push(("projection", "Feature space", projection::section(study)));
    if detector::any(study) {
        sections.push(("similarity", "Similarity as a detector", detector::section(study)));
    }
    if has_matches {
        sections.push((
            "matches",
            "What images were matched with",
            html! { (curves::neighbours(study)) (pictures::matches(study, &pictures_kept)) },
        ));
    }
    if has_split {
        sections.push(("safe", "The safe set", safe_set::section(study)));
    }
    let missing = shown.is_none() && poisoned().next().is_some();
    sections.push((
        "pictures",
        "The poison",
        html! {
            (pictures::section(&pictures_kept))
            @if missing { p.note { "No pictures: these runs did not keep any." } }
            @if poisoned().next().is_none() { p.note { "No run here was trained on poison." } }
        },
    ));
    sections.push(("again", "Recipes and machines", reproduce::section(&study.groups)?));
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Finding, Severity};
    use std::collections::BTreeSet;

    #[test]
    fn what_is_said_of_several_rows_alike_is_one_line() {
        let problem = |what: &str| Finding {
            check: "loss".into(),
            attack: None,
            severity: Severity::Problem,
            what: what.into(),
            remedy: "train longer".into(),
        };
        let verdict = |label: &str, what: &str| Verdict {
            label: label.into(),
            sentence: String::new(),
            doubts: Vec::new(),
            grey: BTreeSet::new(),
            problems: vec![(0, problem(what))],
            warnings: 0,
        };
        let mut rows = vec![verdict("a", "high"), verdict("b", "other"), verdict("c", "high")];
        let expected =
            ["2 rows (a, seed 0; c, seed 0): loss: high. Train longer.", "b, seed 0: loss: other. Train longer."];
        assert_eq!(said_of(&rows, 3), expected);
        // Seeds of a row are no rows, and a terminal names the first rows only.
        rows[0].problems.push((1, problem("high")));
        rows.extend(["d", "e"].map(|label| verdict(label, "high")));
        let said = |most| said_of(&rows, most)[0].clone();
        assert_eq!(said(2), "4 rows (a, seeds 0, 1; c, seed 0; and 2 more): loss: high. Train longer.");
        assert_eq!(
            said(usize::MAX),
            "4 rows (a, seeds 0, 1; c, seed 0; d, seed 0; e, seed 0): loss: high. Train longer."
        );
    }
}
