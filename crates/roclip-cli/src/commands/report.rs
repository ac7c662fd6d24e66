//! `roclip report`

use anyhow::Result;
use clap::Args;
use roclip::report::{Hits, ResultRow, Spread, over_seeds, write_report};
use roclip_data::escape::for_terminal;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// Finished runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder for report.html and results.json
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    roclip_data::artifact::check_writable(&arguments.out)?;
    let rows = write_report(&arguments.runs, &arguments.out)?;
    print_table(&rows);
    println!("\n{}", arguments.out.join("report.html").display());
    Ok(())
}

/// One line a run.
pub fn print_table(rows: &[ResultRow]) {
    println!(
        "{:<24} {:>4}  {:>9} {:>7} {:>9} {:>7} {:>9}  {:>7}  {:<40} {:>5} {:>8}",
        "row",
        "seed",
        "zero-shot",
        "top-5",
        "per class",
        "probe",
        "per class",
        "PSR",
        "ASR / without trigger / true class kept",
        "s",
        "MiB"
    );
    for row in rows {
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let psr = row.last.psr.map_or("-".into(), |h| format!("{}/{}", h.hits, h.n));
        let asr = row.last.asr.iter().map(|(name, h)| {
            let kept = row.last.poisoned_accuracy.get(name).copied().unwrap_or(0.0);
            let rate = |hits: Hits| percent(hits.hits as f64 / hits.n.max(1) as f64);
            let chance = row.last.asr_base_rate.get(name).map_or("-".into(), |hits| rate(*hits));
            format!("{name} {} / {chance} / {}", rate(*h), percent(kept))
        });
        let asr: Vec<String> = asr.collect();
        println!(
            "{:<24} {:>4}  {:>9} {:>7} {:>9} {:>7} {:>9}  {psr:>7}  {:<40} {:>5.0} {:>8}",
            for_terminal(&row.label),
            row.seed,
            percent(row.last.zero_shot_top1),
            percent(row.last.zero_shot_top5),
            percent(row.last.mean_per_class_recall),
            row.linear_probe.map_or("-".into(), percent),
            row.linear_probe_mean_per_class_recall.map_or("-".into(), percent),
            for_terminal(&asr.join(", ")),
            row.seconds,
            row.peak_memory_bytes >> 20
        );
    }
    print_means(rows);
}

/// One block an experiment: means and ranges over its seeds.
fn print_means(rows: &[ResultRow]) {
    let summaries = over_seeds(rows);
    if summaries.iter().all(|summary| summary.seeds.len() < 2) {
        return;
    }
    let spread = |value: &Option<Spread>| value.as_ref().map_or("-".into(), show);
    println!("\nover seeds: mean [lowest, highest]");
    for summary in &summaries {
        println!(
            "{} ({} seeds): zero-shot {}, top-5 {}, per class {}, probe {}, per class {}",
            for_terminal(&summary.label),
            summary.seeds.len(),
            spread(&summary.zero_shot_top1),
            spread(&summary.zero_shot_top5),
            spread(&summary.per_class),
            spread(&summary.linear_probe),
            spread(&summary.linear_probe_per_class)
        );
        let attacks = summary.asr.iter().map(|(name, spread)| (format!("ASR {name}"), spread));
        let targeted = summary.psr.iter().map(|spread| ("PSR".to_owned(), spread));
        let chance = summary.asr_base_rate.iter().map(|(name, spread)| (format!("{name}, without trigger"), spread));
        let turned = summary.asr_turned.iter().map(|(name, spread)| (format!("{name}, turned by trigger"), spread));
        for (name, spread) in targeted.chain(attacks).chain(chance).chain(turned) {
            println!("    {:28} {}", for_terminal(&name), show(spread));
        }
    }
}

fn show(spread: &Spread) -> String {
    format!("{:.1} % [{:.1}, {:.1}]", 100.0 * spread.mean, 100.0 * spread.low, 100.0 * spread.high)
}
