//! The data that `stats`, `verify` and `drop` are about.

use crate::commands::overrides::{BaseFlags, Overrides, SourceFlags};
use crate::commands::signals::before_leaving;
use anyhow::{Result, bail};
use clap::Args;
use roclip::recipe::{Recipe, flag_help};
use roclip_data::artifact;
use std::path::{Path, PathBuf};

/// Which data, and how many threads look at it.
#[derive(Args, Clone)]
pub struct NamedData {
    #[command(flatten)]
    base: BaseFlags,
    #[command(flatten)]
    source: SourceFlags,
    #[arg(help = flag_help("data.workers"))]
    #[arg(long)]
    workers: Option<usize>,
}

impl NamedData {
    /// A recipe whose `data` section says what to read.
    pub fn recipe(&self) -> Result<Recipe> {
        if !self.base.names_data() && !self.source.names_data() {
            bail!("nothing says which data; name it with --train-data, or a recipe with --config");
        }
        let mut recipe = self.base.resolve(Recipe::default(), &[&self.source as &dyn Overrides])?;
        if let Some(workers) = self.workers {
            recipe.data.workers = workers;
        }
        recipe.check()?;
        Ok(recipe)
    }
}

/// Whether `out` may be written: never over something that is there, unless asked.
pub fn check_new(out: &Path, flag: &str, overwrite: bool) -> Result<()> {
    if !overwrite && out.symlink_metadata().is_ok() {
        bail!("{flag} `{}` exists already; name another place, or add --overwrite", out.display());
    }
    artifact::check_file_writable(out)?;
    Ok(())
}

/// Does `work`, and takes away what it has written of `places` where a signal ends the process before it is done.
pub fn leaving_nothing<T>(places: Vec<PathBuf>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    before_leaving(Some(Box::new(move || places.iter().for_each(|place| artifact::abandon(place)))));
    let done = work();
    before_leaving(None);
    done
}
