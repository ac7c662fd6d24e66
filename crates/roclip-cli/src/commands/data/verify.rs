//! `roclip data verify`

use crate::commands::data::named::{Lookers, NamedData, check_new, check_no_input, check_no_picture, list, write_ids};
use crate::commands::next_steps::say_next;
use crate::commands::signals::leaving_nothing;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip_data::escape::for_terminal;
use roclip_data::source::{SourceConfig, check_outside};
use roclip_data::statistics::{Checked, HashFile, StatisticsConfig, Verified, verify};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: NamedData,
    #[command(flatten)]
    lookers: Lookers,
    /// Hashes of an earlier look, written by `roclip data stats --hashes`
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// File of the ids of the pictures that are not what they were to write, for `roclip data drop --ids` and `train --drop`
    #[arg(long, value_name = "FILE")]
    changed: Option<PathBuf>,
    /// Replace the file of --changed where it is there
    #[arg(long, requires = "changed")]
    overwrite: bool,
    /// Bits of the 64 of a perceptual hash in which another encoding of the same picture may differ: 0 to 16
    #[arg(long, value_name = "BITS", default_value_t = StatisticsConfig::default().near_bits, value_parser = clap::value_parser!(u32).range(0..=16))]
    near: u32,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let recipe = arguments.data.recipe()?;
    if let Some(file) = &arguments.changed {
        check_new(file, "--changed", Some(arguments.overwrite))?;
        let data = [Path::new(&recipe.data.source.path)];
        let inputs: Vec<&Path> = data.into_iter().chain(arguments.against.as_deref()).collect();
        check_no_input(file, "--changed", &inputs)?;
        check_outside(&recipe.data.source, recipe.data.limits, file).context("--changed")?;
    }
    let earlier = arguments.against.as_deref().map(HashFile::read).transpose()?;
    let source = SourceConfig { with_sha256: true, ..recipe.data.source.clone() };
    let listing = list(&recipe, &source)?;
    let (samples, limits) = (listing.samples, recipe.data.limits);
    if let Some(file) = &arguments.changed {
        check_no_picture(file, "--changed", &samples)?;
    }
    let stated = samples.iter().filter(|sample| sample.stated.is_some()).count();
    match &earlier {
        None if stated == 0 => bail!(
            "none of the {} pictures has a sha256 in the data, and there is nothing to compare with; img2dataset writes them with \
             --compute_hash sha256, and `roclip data stats --hashes FILE` writes a file for --against",
            samples.len()
        ),
        Some(earlier) if !samples.iter().any(|sample| earlier.of(&sample.id).is_some()) => bail!(
            "--against `{}` is of other data: it has the hash of none of the {} pictures",
            arguments.against.as_deref().unwrap_or(Path::new("")).display(),
            samples.len()
        ),
        _ => {}
    }
    let (found, unreadable) =
        verify(&samples, earlier.as_ref(), limits, arguments.lookers.of(&recipe), arguments.near)?;
    match arguments.json {
        true => {
            let left_out = listing.skips.counts();
            let reasons = unreadable.counts();
            let found =
                json!({"data": source.path, "verified": found, "unreadable_by_reason": reasons, "left_out": left_out});
            println!("{}", serde_json::to_string_pretty(&found)?);
        }
        false => {
            print(&found);
            if listing.skips.total() > 0 {
                println!("not looked at, since the source leaves it out: {}", listing.skips.summary());
            }
        }
    }
    if let Some(file) = &arguments.changed {
        let changed = found.changed.iter().filter_map(|place| samples.get(*place));
        let what = ("--changed", "pictures that are not what they were");
        if leaving_nothing(vec![file.clone()], || write_ids(file, what, changed))? {
            let command = arguments.data.without(&recipe, file);
            say_next(file, "the ids of the pictures that are not what they were", command.as_slice());
        }
    }
    // A picture that is gone or cannot be read any more is not what it was, either.
    let other = [(&found.different, "other"), (&found.unreadable, "unreadable"), (&found.gone, "gone")];
    let other = other.iter().filter(|(kind, _)| kind.count > 0);
    let said: Vec<String> = other.map(|(kind, what)| format!("{} {what}", kind.count)).collect();
    let list = match &arguments.changed {
        Some(_) => "leave them out as above",
        None => {
            "leave them out with `roclip data drop --ids` or `train --drop`, for which --changed FILE writes their ids"
        }
    };
    match found.not_what_they_were() {
        0 => Ok(()),
        changed => bail!(
            "{changed} of {} pictures are not what they were ({}); look at them, and {list}",
            // Those that are in the data and those that it does not name any more.
            found.pictures + changed - found.changed.len(),
            said.join(", ")
        ),
    }
}

fn print(found: &Verified) {
    println!("{} pictures", found.pictures);
    let line = |what: &str, kind: &Checked| {
        let examples = match kind.examples.is_empty() {
            true => String::new(),
            false => {
                let examples: Vec<String> = kind.examples.iter().map(ToString::to_string).collect();
                format!(": {}{}", examples.join(", "), if kind.count > examples.len() { ", ..." } else { "" })
            }
        };
        println!("{}", for_terminal(&format!("  {:>9}  {what}{examples}", kind.count)));
    };
    println!("  {:>9}  equal, byte by byte", found.equal.count);
    if found.equal_by_own_sha256 > 0 {
        println!(
            "  {:>9}  of these by the data's own sha256 alone: the file of hashes does not have them",
            found.equal_by_own_sha256
        );
    }
    line("encoded again, the same picture", &found.encoded_again);
    line("DIFFERENT", &found.different);
    if found.hash_of_download.count > 0 {
        println!(
            "  {:>9}  cannot be compared: the data's sha256 is of the download, and img2dataset stored another encoding of it \
             (--disable_all_reencoding keeps the bytes; --against compares with an earlier look)",
            found.hash_of_download.count
        );
    }
    line("without a hash to compare with", &found.without_hash);
    line("unreadable", &found.unreadable);
    if found.unreadable_before.count > 0 {
        line(
            "unreadable, and not in the file of hashes: unreadable then, too, or new; they count as unchanged",
            &found.unreadable_before,
        );
    }
    if found.gone.count > 0 {
        line("gone: in the file of hashes, and no longer in the data", &found.gone);
    }
    if found.by_own_sha256 > 0 && found.equal.count == 0 {
        println!(
            "no picture has the sha256 that the data says: was all of it encoded again since it was hashed? `roclip data stats --hashes` \
             keeps hashes of what is there now"
        );
    }
}
