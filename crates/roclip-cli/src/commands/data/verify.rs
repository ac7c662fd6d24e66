//! `roclip data verify`

use crate::commands::data::named::{Lookers, NamedData, check_new, check_no_input, check_no_picture, write_ids};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::progress::say;
use crate::commands::signals::leaving_nothing;
use anyhow::{Context, Result, bail};
use clap::Args;
use roclip_data::escape::for_terminal;
use roclip_data::pairs::DropList;
use roclip_data::plural::count;
use roclip_data::sample::Sample;
use roclip_data::source::{Listing, SourceConfig, check_outside, list_samples};
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
    /// List of what was left out of the data on purpose, as `roclip data drop --ids` and `train --drop` read it: what it names is not looked at,
    /// and where the data no longer has it, it is not counted as gone [recipe key: data.drop]
    #[arg(long, value_name = "FILE")]
    drop: Option<PathBuf>,
    /// File of the ids of the pictures in the data that are not what they were to write, for `roclip data drop --ids` and `train --drop`
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
    let dropped = arguments.drop.as_ref().or(recipe.data.drop.as_ref());
    if let Some(file) = &arguments.changed {
        check_new(file, "--changed", Some(arguments.overwrite))?;
        let data = [Path::new(&recipe.data.source.path)];
        let inputs: Vec<&Path> =
            data.into_iter().chain(arguments.against.as_deref()).chain(dropped.map(PathBuf::as_path)).collect();
        check_no_input(file, "--changed", &inputs)?;
        check_outside(&recipe.data.source, recipe.data.limits, file).context("--changed")?;
    }
    let earlier = arguments.against.as_deref().map(HashFile::read).transpose()?;
    let source = SourceConfig { with_sha256: true, ..recipe.data.source.clone() };
    let limits = recipe.data.limits;
    let Listing { mut samples, skips, .. } = list_samples(&source, limits)?;
    let dropped = dropped.map(|path| DropList::read(path)).transpose()?;
    let known = samples.iter().map(|sample| sample.id.as_str()).chain(earlier.iter().flat_map(HashFile::ids));
    let dropped = dropped.map(|list| list.among(known));
    if let Some(list) = &dropped {
        leave_out(list, &mut samples, earlier.as_ref())?;
    }
    if let Some(file) = &arguments.changed {
        check_no_picture(file, "--changed", &samples)?;
    }
    let stated = samples.iter().filter(|sample| sample.stated.is_some()).count();
    match &earlier {
        None if stated == 0 => bail!(
            "none of the {} has a sha256 in the data, and there is nothing to compare with; img2dataset writes them with \
             --compute_hash sha256, and `roclip data stats --hashes FILE` writes a file for --against",
            count(samples.len(), "picture")
        ),
        Some(earlier) if !samples.iter().any(|sample| earlier.of(&sample.id).is_some()) => bail!(
            "--against `{}` is of other data: it has the hash of none of the {}",
            arguments.against.as_deref().unwrap_or(Path::new("")).display(),
            count(samples.len(), "picture")
        ),
        _ => {}
    }
    let (found, unreadable) =
        verify(&samples, (earlier.as_ref(), dropped.as_ref()), limits, arguments.lookers.of(&recipe), arguments.near)?;
    match arguments.json {
        true => {
            let left_out = skips.counts();
            let reasons = unreadable.counts();
            let found =
                json!({"data": source.path, "verified": found, "unreadable_by_reason": reasons, "left_out": left_out});
            println!("{}", serde_json::to_string_pretty(&found)?);
        }
        false => {
            print(&found);
            if skips.total() > 0 {
                println!("not looked at, since the source leaves it out: {}", skips.summary());
            }
        }
    }
    if let Some(file) = &arguments.changed {
        let changed = found.changed.iter().filter_map(|place| samples.get(*place));
        let what = ("--changed", "pictures in the data that are not what they were");
        if leaving_nothing(vec![file.clone()], || write_ids(file, what, changed))? {
            let command = arguments.data.without(&recipe, file);
            say_next(file, "the ids of the pictures in the data that are not what they were", command.as_slice());
        }
    }
    // A picture that is gone or cannot be read any more is not what it was, either.
    let other = [(&found.different, "other"), (&found.unreadable, "unreadable"), (&found.gone, "gone")];
    let other = other.iter().filter(|(kind, _)| kind.count > 0);
    let said: Vec<String> = other.map(|(kind, what)| format!("{} {what}", kind.count)).collect();
    let changed = found.not_what_they_were();
    if changed == 0 {
        return Ok(());
    }
    // Those that are in the data and those that it does not name any more.
    let of = count(found.pictures + changed - found.changed.len(), "picture");
    let are = if changed == 1 { "is not what it was" } else { "are not what they were" };
    bail!("{changed} of {of} {are} ({}); {}", said.join(", "), arguments.advice(&found))
}

impl Arguments {
    /// What to do about what `found` is not what it was.
    fn advice(&self, found: &Verified) -> String {
        match (&self.changed, found.changed.is_empty(), &self.against) {
            // Nothing is left that could be left out.
            (_, true, Some(against)) => format!(
                "bring back what is gone; where it was left out on purpose, name the list of it with --drop FILE, or keep new hashes: roclip data \
                 stats {} --hashes {} --overwrite",
                self.data.again(),
                shell_word(against)
            ),
            (Some(_), ..) => "look at them, and leave them out as above".to_owned(),
            (None, ..) => "look at them, and leave them out with `roclip data drop --ids` or `train --drop`, for which --changed FILE writes \
                           their ids"
                .to_owned(),
        }
    }
}

/// Takes what `list` names out of `samples`.
///
/// # Errors
/// A list of other data: neither these nor the file of hashes have any of its ids. One that leaves nothing.
fn leave_out(list: &DropList, samples: &mut Vec<Sample>, earlier: Option<&HashFile>) -> Result<()> {
    let all = samples.len();
    // What `roclip data drop` has taken out is in the earlier hashes alone.
    if !earlier.is_some_and(|earlier| earlier.ids().any(|id| list.names_absent(id))) {
        list.found_in(samples)?;
    }
    list.leave_out_samples(samples);
    if samples.is_empty() {
        return Err(list.of_everything().into());
    }
    let named = all - samples.len();
    if named > 0 {
        say(&format!("{} not looked at: the list of what is left out names {}", count(named, "picture"), them(named)));
    }
    Ok(())
}

/// So many pictures, once more.
fn them(pictures: usize) -> &'static str {
    if pictures == 1 { "it" } else { "them" }
}

fn print(found: &Verified) {
    println!("{}", count(found.pictures, "picture"));
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
    if found.left_out.count > 0 {
        let them = them(found.left_out.count);
        line(&format!("left out on purpose: the list of what is left out names {them}"), &found.left_out);
    }
    if found.by_own_sha256 > 0 && found.equal.count == 0 {
        println!(
            "no picture has the sha256 that the data says: was all of it encoded again since it was hashed? `roclip data stats --hashes` \
             keeps hashes of what is there now"
        );
    }
}
