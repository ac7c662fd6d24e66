//! `roclip report`

use crate::commands::progress::say;
use crate::commands::result_table::table;
use crate::commands::width::{columns, wrapped};
use anyhow::Result;
use clap::Args;
use roclip::report::{NamedRun, Report, check_report_folder, key_legend, write_named_report};
use roclip_data::escape::for_terminal;
use roclip_data::paths::plain;
use std::path::{Path, PathBuf};

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
            Ok(NamedRun { name: Some(name.trim().to_owned()), folder: plain(Path::new(folder)) })
        }
        _ => Ok(NamedRun { name: None, folder: plain(&whole) }),
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    check_report_folder(&arguments.out, "--out")?;
    roclip_data::artifact::check_writable(&arguments.out)?;
    let report = write_named_report(&arguments.runs, None, &arguments.out)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report.rows)?);
        return Ok(());
    }
    print_table(&report);
    Ok(())
}

/// A table for each data set in the width of the terminal, its verdict, and where the page is.
pub fn print_table(report: &Report) {
    let columns = columns();
    for (data, number) in report.data.iter().zip(1..) {
        if report.data.len() > 1 {
            let blank = if number > 1 { "\n" } else { "" };
            println!("{blank}{}", wrapped(&format!("Data {number}: {}", for_terminal(&data.title)), columns));
            if !data.apart.is_empty() {
                println!("{}", wrapped(&format!("    {}", for_terminal(&data.apart.join(", "))), columns));
            }
            println!();
        }
        for trained in &data.trained {
            println!("{}", wrapped(&for_terminal(trained), columns));
        }
        println!("{}", table(&data.rows, columns));
        if let Some(legend) = key_legend(data.rows.iter().flat_map(|row| row.settings.keys())) {
            println!("{}", wrapped(&for_terminal(&legend), columns));
        }
        for sentence in &data.sentences {
            println!("{}", wrapped(&for_terminal(sentence), columns));
        }
        for doubt in &data.doubts {
            println!("{}", wrapped(&format!("PROBLEM {}", for_terminal(doubt)), columns));
        }
    }
    for run in &report.repeated {
        say(&format!("`{}` is left out: a run of the same recipe and seed is in the report already", run.display()));
    }
    println!();
    for step in &report.next_steps {
        println!("{}", wrapped(&for_terminal(&step.reason()), columns));
        step.commands.iter().for_each(|command| println!("  {}", for_terminal(command)));
    }
    println!("open {}", for_terminal(&report.page.display().to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_the_last_equals_sign() {
        let parse = |text: &str| named_run(text).map(|run| (run.name, run.folder.display().to_string()));
        assert_eq!(parse("K=2=runs/k2"), Ok((Some("K=2".into()), "runs/k2".into())));
        assert_eq!(parse("runs/k=2"), Ok((None, "runs/k=2".into())));
        assert_eq!(parse("runs/k2"), Ok((None, "runs/k2".into())));
        assert_eq!((parse("runs/k2/"), parse("a=runs//k2/.")), (parse("runs/k2"), parse("a=runs/k2")));
        assert!(parse("=runs/k2").is_err() && parse("name=").is_err());
    }
}
