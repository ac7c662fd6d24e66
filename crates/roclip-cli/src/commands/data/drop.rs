//! `roclip data drop`

use crate::commands::data::named::{NamedData, check_new, check_no_input};
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::progress::say;
use crate::commands::signals::leaving_nothing;
use anyhow::{Result, bail};
use clap::Args;
use roclip::run::{Looked, check_list};
use roclip_data::escape::{for_shell, for_terminal};
use roclip_data::pairs::{DropList, LIKE_OTHER_DATA, LeftOutByList};
use roclip_data::plural::count;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReason;
use roclip_data::source::{Kept, Leaving, Listing, SourceConfig, list_samples, write_kept};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: NamedData,
    /// What is left out: ids, one a line, or JSON lines with an `id` (skips.jsonl, manifests, `roclip data stats --copies`)
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// The file or new folder to write
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Replace the file OUT where it is there
    #[arg(long)]
    overwrite: bool,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { out, .. } = &arguments;
    if arguments.overwrite && out.is_dir() {
        bail!("--out `{}` is a folder; name a new one (--overwrite replaces files only)", out.display());
    }
    check_new(out, "--out", Some(arguments.overwrite))?;
    let recipe = arguments.data.recipe()?;
    check_no_input(out, "--out", &[&arguments.ids])?;
    let list = DropList::read(&arguments.ids)?;
    // All of the data, whatever a recipe would train on.
    let source = SourceConfig { split: None, labels: None, ..recipe.data.source };
    let limits = recipe.data.limits;
    let listing = list_samples(&source, limits)?;
    if listing.skips.count(SkipReason::loses_shard) > 0 {
        // What is lost of a shard is not written again.
        listing.check_shares(recipe.data.max_skip_fraction, "data.source")?;
    }
    let Listing { samples, skips, .. } = listing;
    let list = list.among(samples.iter().map(|sample| sample.id.as_str()));
    let found = list.found_in(&samples)?;
    check_list(&arguments.ids, &found)?;
    if Looked::names_poison(&arguments.ids) && samples.iter().all(|sample| sample.poison.is_none()) {
        bail!(
            "`{}` names pairs of data with poison laid over them, and these data are without it: what it calls poison is a clean picture here; leave it out while training (`roclip train --manifest MANIFEST --drop {}`)",
            arguments.ids.display(),
            shell_word(&arguments.ids)
        );
    }
    let leaving = |sample: &Sample| {
        let captions = list.captions_of(sample);
        match list.names(&sample.id) || !captions.is_empty() && captions.len() == sample.captions.len() {
            true => Leaving::Whole,
            false if captions.is_empty() => Leaving::Nothing,
            false => Leaving::Captions(captions),
        }
    };
    let written = leaving_nothing(vec![out.clone()], || Ok(write_kept(&source, limits, &samples, &leaving, out)?))?;
    let kept = samples.len() - found.pictures;
    let LeftOutByList { pictures, captions, absent, first_absent, .. } = &found;
    let Kept { path, files, not_copied, former_encoding, image_root } = &written;
    // Where the list lies beside the pictures still, its paths lead to them.
    let folder = if out.is_dir() { Some(out.as_path()) } else { out.parent() };
    let beside = |root: &PathBuf| folder.is_some_and(|folder| same(folder, root));
    let image_root = image_root.as_ref().filter(|root| !beside(root));
    match arguments.json {
        true => println!(
            "{}",
            json!({
                "out": out, "train_data": path, "files": files, "kept_pictures": kept, "dropped_pictures": pictures, "dropped_captions": captions,
                "ids_not_in_the_data": absent, "not_copied": not_copied.counts(), "image_root": image_root,
                "left_out": skips.counts(),
            })
        ),
        false => {
            let (all, are) = (count(samples.len(), "picture"), |number| if number == 1 { "is" } else { "are" });
            println!("{}: {kept} of {all} {} kept, {pictures} {} dropped", out.display(), are(kept), are(*pictures));
            if *captions > 0 {
                let single = count(*captions, "single caption");
                println!("{single} of pictures that are kept {} dropped", are(*captions));
            }
        }
    }
    if skips.total() > 0 {
        say(&format!("the data leaves out, before anything is dropped: {}", skips.summary()));
    }
    if skips.count(SkipReason::loses_shard) > 0 {
        say(&format!(
            "`{}` does not show any more that shards were lost or cut off: fetch them again and drop from the whole ones, where you can",
            out.display()
        ));
    }
    if let Some(first) = first_absent {
        let are = if *absent == 1 { "is" } else { "are" };
        let of = count(list.len(), "id");
        let doubt = if found.fits_badly() { format!("; {LIKE_OTHER_DATA}") } else { String::new() };
        let warning = if found.fits_badly() { "warning: " } else { "" };
        say(&format!("{warning}{absent} of {of} {are} not in the data (first: {}){doubt}", for_terminal(first)));
    }
    if not_copied.total() > 0 {
        say(&format!("not copied, since it is of no sample: {}", not_copied.summary()));
    }
    if let Some(encoding) = former_encoding {
        say(&format!("the text was {encoding} and is UTF-8 now"));
    }
    let root = image_root.map(|root| format!(" --image-root {}", shell_word(root))).unwrap_or_default();
    if let Some(root) = image_root {
        let each = if root.to_string_lossy().contains("::") { " (each joined part from its own)" } else { "" };
        say(&format!("the paths in it start from `{}`{each}, as before", root.display()));
    }
    let data = for_shell(path);
    say_next(out, "the data without what was dropped", &[format!("roclip data stats --train-data {data}{root}")]);
    Ok(())
}

/// Whether both are one folder.
fn same(one: &std::path::Path, other: &std::path::Path) -> bool {
    let place = |path: &std::path::Path| {
        let path = if path.as_os_str().is_empty() { std::path::Path::new(".") } else { path };
        path.canonicalize().ok()
    };
    place(one).is_some() && place(one) == place(other)
}
