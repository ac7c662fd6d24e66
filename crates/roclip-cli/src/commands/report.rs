//! `roclip report`

use crate::commands::progress::say;
use crate::commands::result_table::table;
use anyhow::Result;
use clap::Args;
use roclip::report::{NamedRun, Report, write_named_report};
use roclip_data::escape::for_terminal;
use std::path::{Path, PathBuf};

/// Columns where the terminal does not say how many it has, and the most that are used of a wide one.
const COLUMNS: usize = 100;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  roclip report runs/demo/*-seed0 --out runs/demo\n  roclip report K=2=runs/k2 control=runs/undefended"
)]
pub struct Arguments {
    /// Finished runs; NAME=RUN calls a row so
    #[arg(value_name = "[NAME=]RUN", required = true, value_parser = named_run)]
    runs: Vec<NamedRun>,
    /// Folder for report.html, results.json, results.csv and results.tex
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    out: PathBuf,
    /// Print results.json on stdout instead of the table
    #[arg(long)]
    json: bool,
}

/// `NAME=RUN`, or a run. A folder whose own path has `=` in it is taken for what it is.
fn named_run(text: &str) -> Result<NamedRun, String> {
    let whole = PathBuf::from(text);
    match text.rsplit_once('=') {
        Some((name, folder)) if !whole.exists() && (!name.contains('/') || Path::new(folder).exists()) => {
            if name.trim().is_empty() || folder.is_empty() {
                return Err("give both, as in baseline=runs/undefended".to_owned());
            }
            Ok(NamedRun { name: Some(name.trim().to_owned()), folder: folder.into() })
        }
        _ => Ok(NamedRun { name: None, folder: whole }),
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    roclip_data::artifact::check_writable(&arguments.out)?;
    let report = write_named_report(&arguments.runs, &arguments.out)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report.rows)?);
        return Ok(());
    }
    print_table(&report);
    Ok(())
}

/// The table in the width of the terminal, the verdict, and where the page is.
pub fn print_table(report: &Report) {
    let columns = columns();
    println!("{}", table(&report.rows, columns));
    for sentence in &report.sentences {
        println!("{}", wrapped(&for_terminal(sentence), columns));
    }
    for doubt in &report.doubts {
        println!("{}", wrapped(&format!("PROBLEM {}", for_terminal(doubt)), columns));
    }
    for run in &report.repeated {
        say(&format!("`{}` is left out: a run of the same recipe and seed is in the report already", run.display()));
    }
    println!();
    for step in &report.next_steps {
        println!("{}", wrapped(&format!("{}:", for_terminal(&step.why)), columns));
        step.commands.iter().for_each(|command| println!("  {}", for_terminal(command)));
    }
    println!("open {}", for_terminal(&report.page.display().to_string()));
}

/// Of the terminal, or what the environment says where there is none.
fn columns() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let said = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    terminal.or_else(said).filter(|columns| *columns > 0).map_or(COLUMNS, |columns| columns.min(COLUMNS))
}

/// `text` in lines of at most `columns` letters, broken between words; further lines are indented.
fn wrapped(text: &str, columns: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, "   ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_the_terminal() {
        let text = "RoCLIP: 0 of 16 targets fooled (undefended 16, clearly less), zero-shot 28.8 %.";
        for columns in [40, 60, 100] {
            let lines = wrapped(text, columns);
            assert!(lines.lines().all(|line| line.chars().count() <= columns), "{lines}");
            assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_name_stands_before_the_last_equals_sign() {
        let parse = |text: &str| named_run(text).map(|run| (run.name, run.folder.display().to_string()));
        assert_eq!(parse("K=2=runs/k2"), Ok((Some("K=2".into()), "runs/k2".into())));
        assert_eq!(parse("runs/k=2"), Ok((None, "runs/k=2".into())));
        assert_eq!(parse("runs/k2"), Ok((None, "runs/k2".into())));
        assert!(parse("=runs/k2").is_err() && parse("name=").is_err());
    }
}
