//! Results for a terminal: a table of one line an experiment, or a block of short lines each where the terminal is narrow.

use roclip::report::{ResultRow, SeedSummary, Spread, key_columns, over_seeds};
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use std::collections::BTreeSet;

/// Letters of a label in the table.
const LABEL: usize = 42;

/// A cell of what a row does not have.
const NONE: &str = "-";

/// What one column shows.
struct Column {
    title: String,
    cells: Vec<String>,
}

/// The means over seeds of all rows, at most `columns` letters wide.
pub fn table(rows: &[ResultRow], columns: usize) -> String {
    let summaries = over_seeds(rows);
    let name =
        |summary: &SeedSummary| members(rows, summary).next().map_or(summary.label.clone(), |row| row.name.clone());
    let names: Vec<String> = summaries.iter().map(|summary| for_terminal(&name(summary)).into_owned()).collect();
    let longest = names.iter().map(|name| letters(name)).max().unwrap_or(0).clamp(3, LABEL);
    let total = |found: &[Column]| longest + found.iter().map(|column| width(column) + 2).sum::<usize>();
    let mut found = columns_of(rows, &summaries, true);
    if total(&found) > columns {
        let few = columns_of(rows, &summaries, false);
        found = if total(&few) <= columns { few } else { found };
    }
    let widths: Vec<usize> = found.iter().map(width).collect();
    let total = total(&found);
    if total > columns || names.iter().any(|name| letters(name) > LABEL) {
        return blocks(&names, &found, columns);
    }
    let line = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let cells = found.iter().zip(&widths).map(|(column, width)| format!("  {:>width$}", cell(column)));
        format!("{name:<longest$}{}\n", cells.collect::<String>())
    };
    let mut text = line("row", &|column| column.title.clone());
    for (at, name) in names.iter().enumerate() {
        text += &line(name, &|column| column.cells.get(at).cloned().unwrap_or_default());
    }
    text
}

/// One experiment after the other, each figure on a line where not all fit on one.
fn blocks(names: &[String], found: &[Column], columns: usize) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        text += &chunks(name, columns);
        let mut line = String::from(" ");
        for column in found {
            let figure = format!(" {} {}", column.title, column.cells.get(at).map_or("", |cell| cell.trim()));
            // What a row does not have needs no place, where no column stands open for it.
            if column.cells.get(at).is_none_or(|cell| ["", NONE].contains(&cell.trim())) {
                continue;
            }
            if letters(&line) + letters(&figure) + 1 > columns && line.trim() != "" {
                text += &format!("{line}\n");
                line = String::from(" ");
            } else if line.trim() != "" {
                line.push(',');
            }
            line += &figure;
        }
        text += &format!("{line}\n");
    }
    text
}

/// A name in lines of the terminal's width.
fn chunks(name: &str, columns: usize) -> String {
    let all: Vec<char> = name.chars().collect();
    all.chunks(columns.max(1)).map(|chunk| chunk.iter().collect::<String>() + "\n").collect()
}

/// Every figure; without `all` what an ordinary terminal has room for beside the keys of a sweep: no seconds, and no names of seeds.
fn columns_of(rows: &[ResultRow], summaries: &[SeedSummary], all: bool) -> Vec<Column> {
    let column = |title: &str, cell: &dyn Fn(&SeedSummary) -> String| Column {
        title: for_terminal(title).into_owned(),
        cells: summaries.iter().map(cell).collect(),
    };
    let runs = |summary: &SeedSummary| match summary.seeds.as_slice() {
        several if !all => several.len().to_string(),
        [seed] => format!("1 run, seed {seed}"),
        several => count(several.len(), "run"),
    };
    // Columns of the keys in which rows of one name differ.
    let keys = key_columns(rows.iter());
    let value = |summary: &SeedSummary, key: &String| {
        let row = members(rows, summary).next();
        row.and_then(|row| row.settings.get(key)).map(|value| for_terminal(value).into_owned()).unwrap_or_default()
    };
    let of_key = |(key, title): &(String, String)| column(title, &|summary| value(summary, key));
    let mut found: Vec<Column> = keys.iter().map(of_key).collect();
    let word = |row: &ResultRow| match (row.is_classifier(), row.is_prompts()) {
        (true, _) => "accuracy",
        (_, true) => "accuracy seen",
        (false, false) => "zero-shot",
    };
    let words: BTreeSet<&str> = rows.iter().map(word).collect();
    let accuracy = if words.len() == 1 { words.first().copied().unwrap_or_default() } else { "top-1" };
    found.extend([column("runs", &runs), column(accuracy, &|s| spread(s.zero_shot_top1.as_ref()))]);
    if rows.iter().any(ResultRow::is_prompts) {
        found.push(column("accuracy unseen", &|s| spread(s.accuracy_unseen.as_ref())));
    }
    if rows.iter().any(|row| row.linear_probe.is_some()) {
        found.push(column("probe", &|s| spread(s.linear_probe.as_ref())));
    }
    if rows.iter().any(|row| row.last.psr.is_some()) {
        found.push(column("PSR", &|s| counts(rows, s)));
    }
    let attacks: BTreeSet<&String> = rows.iter().flat_map(|row| row.last.asr.keys()).collect();
    for attack in attacks {
        let title =
            if rows.iter().all(|row| row.last.asr.len() < 2) { "ASR".to_owned() } else { format!("ASR {attack}") };
        found.push(column(&title, &|s| spread(s.asr.get(attack))));
    }
    let mean_seconds = |s: &SeedSummary| {
        let seconds: Vec<f64> = members(rows, s).map(|row| row.seconds).collect();
        format!("{:.0}", seconds.iter().sum::<f64>() / seconds.len().max(1) as f64)
    };
    if all {
        found.push(column("seconds", &mean_seconds));
    }
    found
}

fn members<'a>(rows: &'a [ResultRow], summary: &'a SeedSummary) -> impl Iterator<Item = &'a ResultRow> {
    rows.iter().filter(|row| row.label == summary.label && row.data == summary.data)
}

/// `0/16` of one run; the mean of several.
fn counts(rows: &[ResultRow], summary: &SeedSummary) -> String {
    let counts: Vec<_> = members(rows, summary).filter_map(|row| row.last.psr).collect();
    match counts.as_slice() {
        [one] => format!("{}/{}", one.hits, one.n),
        _ => spread(summary.psr.as_ref()),
    }
}

/// The mean, and the range over seeds where they differ.
fn spread(value: Option<&Spread>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(Spread { mean, low, high }) if low == high => format!("{:.1} %", 100.0 * mean),
        Some(Spread { mean, low, high }) => {
            format!("{:.1} % [{:.1}, {:.1}]", 100.0 * mean, 100.0 * low, 100.0 * high)
        }
    }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

fn width(column: &Column) -> usize {
    column.cells.iter().map(|cell| letters(cell)).chain([letters(&column.title)]).max().unwrap_or(0)
}
