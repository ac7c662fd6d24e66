//! `roclip doctor`

use crate::commands::width::{columns, wrapped};
use anyhow::Result;
use clap::Args;
use roclip::doctor::{Severity, examine};
use roclip::recipe::flag_help;
use roclip::run::machine_of;
use roclip_data::escape::for_terminal;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A finished run; its undefended control is looked for beside it
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// cpu, cuda or cuda:N: where its model is asked
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(help = flag_help("train.threads"))]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: i32,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let findings = examine(&arguments.run, machine_of(arguments.threads, &arguments.device)?)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
        return Ok(());
    }
    let columns = columns();
    for finding in &findings {
        let mark = match finding.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Problem => "PROBLEM",
        };
        let attack = finding.attack.as_ref().map(|a| format!(" [{a}]")).unwrap_or_default();
        println!(
            "{}",
            wrapped(&for_terminal(&format!("{mark:8} {}{attack}: {}", finding.check, finding.what)), columns)
        );
        if !finding.remedy.is_empty() {
            println!("{}", wrapped(&for_terminal(&format!("         -> {}", finding.remedy)), columns));
        }
    }
    Ok(())
}
