//! The rows of the page: the runs of one experiment are one, and rows on the same data make one study.

use crate::report::chart::marker;
use crate::report::style::Style;
use crate::results::{ResultRow, RunRecord, TrainingData, by_experiment, key_columns};
use maud::{Markup, html};
use roclip_data::rate::Rate;
use std::collections::BTreeSet;

/// The runs of one experiment, which share a label and a colour.
pub struct Group<'a> {
    pub label: &'a str,
    pub style: Style,
    /// The first, and the others; seeds ascend.
    pub first: &'a RunRecord,
    pub members: Vec<&'a RunRecord>,
}

impl<'a> Group<'a> {
    pub fn row(&self) -> &'a ResultRow {
        &self.first.row
    }

    /// The label in a few letters: what is shown at the end of a line.
    pub fn short(&self) -> String {
        let name = match self.row().control.as_deref() {
            Some("undefended") if self.row().name == "CLIP, undefended" => "undefended",
            Some("augmentation-only") if self.row().name == "CLIP, augmentation only" => "augmentation",
            Some("clean-data") if self.row().name == "CLIP on clean data" => "clean data",
            _ => &self.row().name,
        };
        let values: Vec<&str> = self.row().settings.values().map(String::as_str).collect();
        if values.is_empty() { name.to_owned() } else { format!("{} {name}", values.join(" ")) }
    }

    /// Pairs of runs of one seed, this group's first.
    pub fn paired<'b>(&self, other: &Group<'b>) -> Vec<(&'a RunRecord, &'b RunRecord)> {
        let twin = |own: &&'a RunRecord| {
            let twin = other.members.iter().find(|run| run.row.seed == own.row.seed)?;
            Some((*own, *twin))
        };
        self.members.iter().filter_map(twin).collect()
    }

    /// Whether this group learned from other poison than `other` where no recipe says how it was drawn: manifests of the same seeds differ.
    fn met_another_poison(&self, other: &Group) -> bool {
        // Manifests are read for this, and only where nothing else says it.
        if self.first.poison.is_told() {
            return false;
        }
        let known: Vec<bool> =
            self.paired(other).into_iter().filter_map(|(own, twin)| own.poison.is(&twin.poison)).collect();
        !known.is_empty() && !known.contains(&true)
    }

    /// The mean over seeds.
    pub fn mean(&self, value: impl Fn(&RunRecord) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.members.iter().filter_map(|run| value(run)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The small picture that stands for the row.
    pub fn key(&self) -> Markup {
        html! {
            svg.key viewBox="0 0 26 12" aria-hidden="true" {
                line.line.(self.style.class()) x1="0" x2="26" y1="6" y2="6" {}
                (marker(self.style.marker, &self.style.class(), (13.0, 6.0), 3.6, self.label))
            }
        }
    }
}

/// Rows that may stand in one table: measured on the same data.
pub struct Study<'a> {
    pub groups: Vec<Group<'a>>,
}

impl<'a> Study<'a> {
    pub fn runs(&self) -> impl Iterator<Item = &'a RunRecord> + '_ {
        self.groups.iter().flat_map(|group| group.members.iter().copied())
    }

    /// What the rows have in common: what they were measured on, and what they were trained on where that is one.
    pub fn data(&self) -> String {
        let measured = self.groups.first().map(|group| group.first.measured_on.as_str()).unwrap_or_default();
        match self.training_data().as_slice() {
            [(trained, _)] => format!("trained on {}, measured on {measured}", trained.words),
            _ => format!("measured on {measured}; trained on different data: see each row"),
        }
    }

    /// Of each row what it was trained on, where they differ in that: a line for each data.
    pub fn trained_apart(&self) -> Vec<String> {
        let data = self.training_data();
        let line =
            |(data, rows): &(&TrainingData, Vec<&str>)| format!("trained on {}: {}", data.words, rows.join("; "));
        if data.len() < 2 { Vec::new() } else { data.iter().map(line).collect() }
    }

    /// What the rows were trained on, and which of them on what.
    fn training_data(&self) -> Vec<(&TrainingData, Vec<&str>)> {
        let mut found: Vec<(&TrainingData, Vec<&str>)> = Vec::new();
        for group in &self.groups {
            let own = &group.first.trained_on;
            match found.iter_mut().find(|(known, _)| known.is(own)) {
                Some((_, rows)) => rows.push(group.label),
                None => found.push((own, vec![group.label])),
            }
        }
        found
    }

    /// The keys by which rows of one name differ, each with what it is called in labels, in the order of columns.
    pub fn keys(&self) -> Vec<(String, String)> {
        key_columns(self.groups.iter().map(Group::row))
    }

    /// What the share of rightly read test pictures is called in all rows.
    pub fn accuracy_word(&self) -> &'static str {
        let words: BTreeSet<&str> = self.groups.iter().map(|group| accuracy_of(group.first)).collect();
        match (words.first(), words.len()) {
            (Some(one), 1) => one,
            _ => "top-1",
        }
    }

    /// The group that plays the part `control` for `group`: it met the same attack with the same model. One on clean data has met none of
    /// it, and is the control however much there is.
    pub fn control(&self, control: &str, group: &Group) -> Option<&Group<'a>> {
        let same = |other: &Group| match control {
            "clean-data" => other.first.aim == group.first.aim,
            _ => other.first.attack == group.first.attack,
        };
        let is_control = |other: &Group| other.row().is_control(control) && same(other);
        self.groups.iter().find(|other| is_control(other) && !group.met_another_poison(other))
    }
}

/// What a run's share of rightly read test pictures is called: a classifier has no prompts, and learned ones know some of the classes.
pub fn accuracy_of(run: &RunRecord) -> &'static str {
    match (run.recipe.is_labelled(), &run.recipe.prompt) {
        (true, _) => "accuracy",
        (_, Some(_)) => "accuracy, seen classes",
        (false, None) => "zero-shot",
    }
}

/// The studies of a page, in the order of their first runs.
pub fn studies(runs: &[RunRecord]) -> Vec<Study<'_>> {
    let mut studies: Vec<(&str, Study)> = Vec::new();
    for members in by_experiment(runs, |run| &run.row) {
        let Some(first) = members.first().copied() else { continue };
        let colour = Style::of(first, 0).colour;
        let groups = studies.iter().flat_map(|(_, study)| &study.groups);
        let same_study = |known: &&Group| known.row().data == first.row.data && known.style.colour == colour;
        let rival = groups.filter(same_study).count();
        let group = Group { label: &first.row.label, style: Style::of(first, rival), first, members };
        match studies.iter_mut().find(|(data, _)| *data == first.row.data) {
            Some((_, study)) => study.groups.push(group),
            None => studies.push((&first.row.data, Study { groups: vec![group] })),
        }
    }
    studies.into_iter().map(|(_, study)| study).collect()
}

/// A word as a title begins.
pub fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}

/// The rows with their colours.
pub fn legend(groups: &[Group]) -> Markup {
    html! {
        p.legend { @for group in groups { span { (group.key()) " " (group.label) } " " } }
    }
}

/// One of a run's rates.
pub type RateOf<'a> = dyn Fn(&RunRecord) -> Option<Rate> + 'a;

pub fn zero_shot(run: &RunRecord) -> Option<Rate> {
    run.summary.evaluation.zero_shot_top1.measured()
}

/// Of learned prompts, on the classes that they were not learned on.
pub fn accuracy_unseen(run: &RunRecord) -> Option<Rate> {
    run.summary.prompt.as_ref()?.unseen.accuracy.measured()
}

pub fn psr(run: &RunRecord) -> Option<Rate> {
    run.summary.evaluation.psr?.measured()
}

pub fn asr(attack: &str) -> impl Fn(&RunRecord) -> Option<Rate> + '_ {
    move |run| run.summary.evaluation.asr.get(attack)?.success.measured()
}

/// Backdoor attacks of any of `groups`.
pub fn attacks(groups: &[Group]) -> Vec<String> {
    let runs = groups.iter().flat_map(|group| &group.members);
    let names: BTreeSet<String> = runs.flat_map(|run| run.row.last.asr.keys().cloned()).collect();
    names.into_iter().collect()
}
