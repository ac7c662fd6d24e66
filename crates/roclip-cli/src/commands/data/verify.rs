//! `roclip data verify`

use crate::commands::data::named::{Lookers, NamedData, list};
use anyhow::{Result, bail};
use clap::Args;
use roclip_data::escape::for_terminal;
use roclip_data::source::SourceConfig;
use roclip_data::statistics::{Checked, HashFile, StatisticsConfig, Verified, verify};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: NamedData,
    #[command(flatten)]
    lookers: Lookers,
    /// Hashes of an earlier look, written by `roclip data stats --hashes`
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Bits of the 64 of a perceptual hash in which another encoding of the same picture may differ: 0 to 16
    #[arg(long, value_name = "BITS", default_value_t = StatisticsConfig::default().near_bits, value_parser = clap::value_parser!(u32).range(0..=16))]
    near: u32,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let recipe = arguments.data.recipe()?;
    let earlier = arguments.against.as_deref().map(HashFile::read).transpose()?;
    let source = SourceConfig { with_sha256: true, ..recipe.data.source.clone() };
    let listing = list(&recipe, &source)?;
    let (samples, limits) = (listing.samples, recipe.data.limits);
    let stated = samples.iter().filter(|sample| sample.stated.is_some()).count();
    match &earlier {
        None if stated == 0 => bail!(
            "none of the {} pictures has a sha256 in the data, and there is nothing to compare with; img2dataset writes them with \
             --compute_hash sha256, and `roclip data stats --hashes FILE` writes a file for --against",
            samples.len()
        ),
        Some(earlier) if !samples.iter().any(|sample| earlier.of(&sample.id).is_some()) => bail!(
            "--against `{}` is of other data: it has the hash of none of the {} pictures",
            arguments.against.as_deref().unwrap_or(std::path::Path::new("")).display(),
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
    // A picture that is gone or cannot be read any more is not what it was, either.
    let other = [(found.different.count, "other"), (found.unreadable.count, "unreadable"), (found.gone, "gone")];
    let said: Vec<String> =
        other.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    match other.iter().map(|(count, _)| count).sum::<usize>() {
        0 => Ok(()),
        changed => bail!(
            "{changed} of {} pictures are not what they were ({}); look at them, and leave them out with `roclip data drop` or --drop",
            found.pictures + found.gone,
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
                format!(": {}{}", kind.examples.join(", "), if kind.count > kind.examples.len() { ", ..." } else { "" })
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
    if found.gone > 0 {
        println!("  {:>9}  in the file of hashes, and no longer in the data", found.gone);
    }
    if found.by_own_sha256 > 0 && found.equal.count == 0 {
        println!(
            "no picture has the sha256 that the data says: was all of it encoded again since it was hashed? `roclip data stats --hashes` \
             keeps hashes of what is there now"
        );
    }
}
