//! `roclip data index`

use crate::commands::data::named::{Lookers, NamedData, check_new, check_no_input};
use crate::commands::forecast_lines::size;
use crate::commands::progress::{say, took};
use crate::commands::signals::leaving_nothing;
use anyhow::{Result, bail};
use clap::Args;
use roclip_data::escape::for_terminal;
use roclip_data::index::{Index, existing, is_index, make};
use roclip_data::plural::count;
use roclip_data::threads::processors;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pictures that differ which are named.
const SHOWN: usize = 10;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: NamedData,
    /// Where the index is written, and with --check where it lies; for `--index FILE`, since indexes are looked for beside the data and in the
    /// cache folder only
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Read the index that is there and every picture that it names, instead of making one: are they still what was listed? Exit code 1 where
    /// they are not
    #[arg(long, conflicts_with = "overwrite")]
    check: bool,
    /// Make it anew where one is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    lookers: Lookers,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let recipe = arguments.data.recipe()?;
    let (source, limits) = (&recipe.data.source, recipe.data.limits);
    let workers = arguments.lookers.named().unwrap_or_else(processors);
    if arguments.check {
        let index = existing(source, limits, arguments.out.as_deref())?;
        if let Some(changed) = index.stale() {
            bail!(
                "`{}` is not true any more: {changed}; make it anew with --overwrite instead of --check",
                index.path().display()
            );
        }
        let other = index.check(limits, workers)?;
        if arguments.json {
            println!("{}", json!({"index": index.path(), "pictures": index.samples(), "changed": other}));
        } else {
            println!(
                "{}: {}, {} of them {}",
                index.path().display(),
                count(index.samples(), "picture"),
                other.len(),
                not_listed(other.len())
            );
        }
        for (id, what) in other.iter().take(SHOWN) {
            say(&format!("{}: {}", for_terminal(id), for_terminal(what)));
        }
        if !other.is_empty() {
            bail!(
                "{} of {} {}; bring back what was, or make the index anew with --overwrite instead of --check",
                other.len(),
                count(index.samples(), "picture"),
                not_listed(other.len())
            );
        }
        return Ok(());
    }
    if let Some(out) = &arguments.out {
        check_new(out, "--out", Some(arguments.overwrite))?;
        check_no_input(out, "--out", &[Path::new(&source.path)])?;
        if out.symlink_metadata().is_ok() && !is_index(out) {
            bail!("--out `{}` is no index, and --overwrite replaces an index only; name another place", out.display());
        }
    } else if !arguments.overwrite
        && let Ok(index) = existing(source, limits, None)
        && index.stale().is_none()
    {
        say(
            "it is there already, and true as far as sizes and times tell (--check reads everything, --overwrite makes it anew)",
        );
        return told(&index, None, arguments.json);
    }
    let started = Instant::now();
    let index = leaving_nothing(arguments.out.iter().cloned().collect(), || {
        Ok(make(source, limits, arguments.out.as_deref(), workers)?)
    })?;
    told(&index, Some(started.elapsed().as_secs_f64()), arguments.json)
}

/// Prints what an index holds; `seconds` are those of making it.
fn told(index: &Index, seconds: Option<f64>, as_json: bool) -> Result<()> {
    let bytes = std::fs::metadata(index.path())?.len();
    let skips = index.skips()?;
    if as_json {
        let told = json!({
            "index": index.path(), "pictures": index.samples(), "captions": index.captions(), "bytes": bytes, "seconds": seconds,
            "skipped": skips.counts(),
        });
        println!("{told}");
        return Ok(());
    }
    let rate = |seconds: f64| {
        let rate = index.captions() as f64 / seconds.max(1e-9);
        format!(", {} ({rate:.0} captions/s)", took(seconds))
    };
    println!(
        "{}: {} with {}, {}{}",
        index.path().display(),
        count(index.samples(), "picture"),
        count(index.captions(), "caption"),
        size(bytes),
        seconds.map(rate).unwrap_or_default()
    );
    if skips.total() > 0 {
        say(&format!("left out: {}", skips.summary()));
    }
    Ok(())
}

/// What so many pictures are that differ from the list.
fn not_listed(pictures: usize) -> &'static str {
    if pictures == 1 { "is not what was listed" } else { "are not what was listed" }
}
