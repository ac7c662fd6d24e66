//! `roclip data stats`

use crate::commands::data::named::{
    Lookers, NamedData, check_different, check_new, check_no_input, check_no_picture, list, write_ids,
};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::numbers::up_to;
use crate::commands::signals::leaving_nothing;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip::report::{statistics_lines, write_statistics};
use roclip_data::artifact;
use roclip_data::error::{Error, IoContext};
use roclip_data::escape::for_terminal;
use roclip_data::source::check_outside;
use roclip_data::statistics::{HashFile, Statistics, StatisticsConfig};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: NamedData,
    #[command(flatten)]
    lookers: Lookers,
    /// Page with pictures of the largest groups of copies to write (HTML)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File of every picture's sha256 and perceptual hash to write, for `roclip data verify --against`
    #[arg(long, value_name = "FILE")]
    hashes: Option<PathBuf>,
    /// File of the ids of all near-copies but the first of each group to write, for `roclip data drop --ids` and `train --drop`
    #[arg(long, value_name = "FILE")]
    copies: Option<PathBuf>,
    /// Replace the files of --out, --hashes and --copies where they are there
    #[arg(long)]
    overwrite: bool,
    /// Bits of the 64 of a perceptual hash in which near-copies may differ: 0 to 16
    #[arg(long, value_name = "BITS", default_value_t = StatisticsConfig::default().near_bits, value_parser = clap::value_parser!(u32).range(0..=16))]
    near: u32,
    /// Near-copies that a group needs to be looked at as a natural backdoor
    #[arg(long, value_name = "PICTURES", default_value_t = StatisticsConfig::default().min_copies, value_parser = at_least_two)]
    min_copies: usize,
    /// Groups and captions that are listed
    #[arg(long, value_name = "COUNT", default_value_t = StatisticsConfig::default().listed, value_parser = up_to::<usize>(1_000_000))]
    listed: usize,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let named = [("--out", &arguments.out), ("--hashes", &arguments.hashes), ("--copies", &arguments.copies)];
    let outputs: Vec<(&str, &Path)> =
        named.into_iter().filter_map(|(flag, file)| Some((flag, file.as_deref()?))).collect();
    for (flag, file) in &outputs {
        check_new(file, flag, Some(arguments.overwrite))?;
    }
    check_different(&named.map(|(flag, file)| (flag, file.as_deref())))?;
    let recipe = arguments.data.recipe()?;
    for (flag, file) in &outputs {
        check_no_input(file, flag, &[Path::new(&recipe.data.source.path)])?;
        check_outside(&recipe.data.source, recipe.data.limits, file).context(*flag)?;
    }
    let listing = list(&recipe, &recipe.data.source)?;
    for (flag, file) in &outputs {
        check_no_picture(file, flag, &listing.samples)?;
    }
    let config = StatisticsConfig {
        limits: recipe.data.limits,
        workers: arguments.lookers.of(&recipe),
        near_bits: arguments.near,
        min_copies: arguments.min_copies,
        listed: arguments.listed,
    };
    let samples = listing.samples;
    let mut has_list = false;
    let places = outputs.iter().map(|(_, file)| file.to_path_buf()).collect();
    let found = leaving_nothing(places, || {
        let found = match &arguments.hashes {
            None => Ok(Statistics::of(&samples, listing.skips, config, |_, _| Ok(()))?),
            Some(file) => artifact::write_with(file, |out| {
                HashFile::begin(out).io("write", file)?;
                let found = Statistics::of(&samples, listing.skips, config, |sample, look| match look {
                    Ok(look) => HashFile::add(out, sample, look).io("write", file),
                    Err(_) => Ok(()),
                })?;
                HashFile::end(out, found.usable).io("write", file)?;
                if found.usable == 0 { Err(Unwritten::NothingUsable(Box::new(found))) } else { Ok(found) }
            }),
        };
        let found = match found {
            Err(Unwritten::Failed(error)) => return Err(error.into()),
            Err(Unwritten::NothingUsable(found)) => *found,
            Ok(found) => found,
        };
        // What is there of an earlier look is worth more than files of nothing.
        if found.usable == 0 {
            return Ok(found);
        }
        if let Some(file) = &arguments.copies {
            let copies = found.copies.but_first.iter().filter_map(|at| samples.get(*at as usize));
            has_list = write_ids(file, ("--copies", "near-copies"), copies)?;
        }
        if let Some(file) = &arguments.out {
            write_statistics(&found, &samples, &recipe.data.source.path, recipe.data.limits, file)?;
        }
        Ok(found)
    })?;
    match arguments.json {
        true => println!(
            "{}",
            serde_json::to_string_pretty(&json!({"data": recipe.data.source.path, "statistics": found}))?
        ),
        false => {
            for line in statistics_lines(&found) {
                println!("{}", for_terminal(&line));
            }
        }
    }
    if found.usable == 0 {
        bail!(
            "no picture of `{}` can be used: {}; repair the data, or name other data{}",
            recipe.data.source.path,
            found.left_out_in_words,
            if outputs.is_empty() { "" } else { " (no file is written)" }
        );
    }
    if let Some(file) = &arguments.out {
        say_next(file, "the page, with pictures", &[]);
    }
    if let Some(file) = &arguments.hashes {
        let data = arguments.data.again();
        let command = format!("roclip data verify {data} --against {}", shell_word(file));
        say_next(file, "the hashes of all pictures that can be used", &[command]);
    }
    if let Some(file) = arguments.copies.as_ref().filter(|_| has_list) {
        let command = arguments.data.without(&recipe, file);
        say_next(file, "the ids of near-copies but the first of each group", command.as_slice());
    }
    Ok(())
}

/// Why no file of hashes is written.
enum Unwritten {
    NothingUsable(Box<Statistics>),
    Failed(Error),
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Unwritten::Failed(error)
    }
}

fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pictures) if (2..=1_000_000_000).contains(&pictures) => Ok(pictures),
        _ => Err("give a whole number of at least 2 (one picture is no copy) and at most 1000000000".to_owned()),
    }
}
