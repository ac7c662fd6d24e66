//! The data that `stats`, `verify` and `drop` are about.

use crate::commands::next_steps::shell_word;
use crate::commands::numbers::of_key;
use crate::commands::overrides::{BaseFlags, Overrides, SourceFlags, typed};
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::{Recipe, flag_help};
use roclip_data::artifact::{self, unused_name};
use roclip_data::error::{Error, IoContext};
use roclip_data::pairs::DropList;
use roclip_data::sample::{ImageBytes, Sample};
use roclip_data::source::{Listing, SourceConfig, list_samples, place_of_kept};
use serde_json::json;
use std::path::Path;

/// Which data.
#[derive(Args, Clone)]
pub struct NamedData {
    /// The data, as --train-data names it
    #[arg(value_name = "DATA", conflicts_with = "train_data")]
    named: Option<String>,
    #[command(flatten)]
    base: BaseFlags,
    #[command(flatten)]
    source: SourceFlags,
}

impl NamedData {
    /// A recipe whose `data` section says what to read.
    pub fn recipe(&self) -> Result<Recipe> {
        let source = self.source();
        if !self.base.names_data() && !source.names_data() {
            bail!("nothing says which data; name it (as `DATA`, or with --train-data DATA), or a recipe with --config");
        }
        let recipe = self.base.resolve(Recipe::default(), &[&source as &dyn Overrides])?;
        recipe.check()?;
        Ok(recipe)
    }

    /// With the data, however it was named.
    fn source(&self) -> SourceFlags {
        match &self.named {
            None => self.source.clone(),
            Some(path) => self.source.naming(path),
        }
    }

    /// The flags that name the same data in another command, as a shell reads them.
    pub fn again(&self) -> String {
        typed(self.base.again().into_iter().chain(self.source().again()))
    }

    /// The command that leaves what `list` names out of the data: it is written again, or, where it cannot be, trained on without.
    pub fn without(&self, recipe: &Recipe, list: &Path) -> Option<String> {
        let place = place_of_kept(&recipe.data.source, recipe.data.limits).ok()?;
        let (data, list) = (self.again(), shell_word(list));
        Some(match place {
            Some(out) => format!("roclip data drop {data} --ids {list} --out {}", shell_word(&out)),
            None => {
                let run = unused_name(Path::new("runs/without"), "");
                format!("roclip train {data} --drop {list} --run {}", shell_word(&run))
            }
        })
    }
}

/// What looks at every picture.
#[derive(Args, Clone)]
pub struct Lookers {
    #[arg(help = flag_help("data.workers"))]
    #[arg(long, value_parser = of_key::<usize>("data.workers"))]
    workers: Option<usize>,
}

impl Lookers {
    /// Threads, where they are named.
    pub fn named(&self) -> Option<usize> {
        self.workers.map(|workers| workers.max(1))
    }

    /// Threads, at least one.
    pub fn of(&self, recipe: &Recipe) -> usize {
        self.workers.unwrap_or(recipe.data.workers).max(1)
    }
}

/// The samples of `source`, without what the recipe's `data.drop` names.
pub fn list(recipe: &Recipe, source: &SourceConfig) -> Result<Listing> {
    let mut listing = list_samples(source, recipe.data.limits)?;
    if let Some(path) = &recipe.data.drop {
        let list = DropList::read(path)?.among(listing.samples.iter().map(|sample| sample.id.as_str()));
        let left_out = list.found_in(&listing.samples)?;
        list.leave_out_samples(&mut listing.samples);
        list.leave_out_captions(&mut listing.samples);
        say(&format!("{} left out by data.drop", left_out.words()));
    }
    Ok(listing)
}

/// Whether `out` may be written: never over something that is there, unless asked. `overwrite` is none where a command has no such flag.
pub fn check_new(out: &Path, flag: &str, overwrite: Option<bool>) -> Result<()> {
    if overwrite != Some(true) && out.symlink_metadata().is_ok() {
        let or = if overwrite.is_some() { ", or add --overwrite" } else { "" };
        bail!("{flag} `{}` exists already; name another place{or}", out.display());
    }
    artifact::check_file_writable(out)?;
    Ok(())
}

/// Whether `out` is none of the files that are read: with --overwrite it would be lost before the data without it are known.
pub fn check_no_input(out: &Path, flag: &str, inputs: &[&Path]) -> Result<()> {
    let place = out.canonicalize().ok();
    if let Some(input) = inputs.iter().find(|input| place.is_some() && place == input.canonicalize().ok()) {
        bail!("{flag} `{}` is what is read (`{}`); name another place", out.display(), input.display());
    }
    Ok(())
}

/// Whether `out` is none of the pictures that were listed: with --overwrite it would be lost.
pub fn check_no_picture(out: &Path, flag: &str, samples: &[Sample]) -> Result<()> {
    let place = artifact::place_of_new(out);
    let is_out = |path: &Path| path.file_name() == place.file_name() && artifact::place_of_new(path) == place;
    if samples.iter().any(|sample| matches!(&sample.image, ImageBytes::File(path) if is_out(path))) {
        bail!("{flag} `{}` is a picture of the data; name another place", out.display());
    }
    Ok(())
}

/// Whether outputs of one command are different files, however they are written: the last would be left of several.
pub fn check_different(outputs: &[(&str, Option<&Path>)]) -> Result<()> {
    let named = outputs.iter().filter_map(|(flag, out)| Some((flag, artifact::place_of_new((*out)?))));
    let named: Vec<_> = named.collect();
    for (number, (flag, place)) in named.iter().enumerate() {
        if let Some((other, _)) = named.iter().take(number).find(|(_, earlier)| earlier == place) {
            bail!("{flag} and {other} name one file, `{}`; give each its own", place.display());
        }
    }
    Ok(())
}

/// Writes the ids of `samples` to `file`, as JSON lines, since an id may hold any character; `(flag, what)` are the flag that asks for the list
/// and what the samples are. Whether there is such a list: where there is nothing to name, an older one in its place would be of other data.
pub fn write_ids<'a>(
    file: &Path,
    (flag, what): (&str, &str),
    samples: impl Iterator<Item = &'a Sample>,
) -> Result<bool> {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        let older = file.symlink_metadata().is_ok();
        if older {
            std::fs::remove_file(file).io("remove the older list", file)?;
        }
        let removed = if older { "; the older one is removed" } else { "" };
        say(&format!("{flag} `{}`: there are no {what}, and no list of them is written{removed}", file.display()));
        return Ok(false);
    }
    artifact::write_with(file, |out| {
        for sample in samples {
            writeln!(out, "{}", json!({"id": sample.id})).io("write", file)?;
        }
        Ok::<(), Error>(())
    })?;
    Ok(true)
}
