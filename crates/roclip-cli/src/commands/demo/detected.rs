//! The row `detected`: the pairs that the model of another row finds suspicious are left out, and the undefended recipe is trained on the others.

use crate::commands::demo::{ROWS, with_values};
use crate::commands::detect::methods;
use crate::commands::grid::Planned;
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::Args;
use roclip::checkpoint::{Description, load_as};
use roclip::detect::{Config, Method};
use roclip::recipe::Recipe;
use roclip::report::{check_suspects_folder, write_suspects};
use roclip::run::{COMBINED, Drop, LookedAt, Methods, PairFeatures, Suspects, check_run_folder, machine, suspects};
use roclip_data::escape::for_terminal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The row's name.
pub const DETECTED: &str = "detected";

#[derive(Args)]
#[command(next_help_heading = "The row `detected`")]
pub struct Detection {
    /// The row whose finished model encodes the pairs. `clean-data` has never seen the poison, and a user has no such model [default:
    /// augmentation-only]
    #[arg(long, value_name = "ROW", value_parser = ROWS)]
    detect_with: Option<String>,
    /// What orders the pairs: methods of `roclip detect pairs`, or `combined` for the mean rank over all; each makes a row [default:
    /// plausibility]
    #[arg(long, value_name = "METHOD", value_delimiter = ',', value_parser = methods([COMBINED]))]
    detect_by: Vec<String>,
    /// Share of the pairs that is left out [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    drop_fraction: Option<f64>,
}

/// The pairs of an undefended run, which another row's model looks at.
pub struct Look {
    pub undefended: Recipe,
    /// The run of the model that encodes them.
    pub encoder: PathBuf,
    /// The values of a sweep that tell this look from others of the seed.
    pub values: String,
}

impl Detection {
    /// A flag of this row that was given.
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--detect-with", self.detect_with.is_some()),
            ("--detect-by", !self.detect_by.is_empty()),
            ("--drop-fraction", self.drop_fraction.is_some()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// The row whose model encodes the pairs.
    pub fn encoder_row(&self) -> &str {
        self.detect_with.as_deref().unwrap_or("augmentation-only")
    }

    fn methods(&self) -> BTreeSet<&str> {
        match self.detect_by.is_empty() {
            true => BTreeSet::from(["plausibility"]),
            false => self.detect_by.iter().map(String::as_str).collect(),
        }
    }

    fn drop(&self) -> Drop {
        Drop::Fraction(self.drop_fraction.unwrap_or(0.05))
    }

    /// What can be wrong before any of `rows` is trained.
    pub fn check(&self, base: &Recipe, rows: &[String], looks: &[Look]) -> Result<()> {
        if let Some(list) = &base.data.drop {
            bail!(
                "--rows {DETECTED}: the recipe leaves out pairs already (data.drop = `{}`); leave them out of the data with `roclip data drop`",
                list.display()
            );
        }
        self.drop().check()?;
        match rows.iter().any(|row| row == self.encoder_row()) {
            true => Ok(()),
            false => looks.iter().try_for_each(|look| self.has_encoder(look)),
        }
    }

    /// Rows a look: one a method.
    pub fn rows(&self) -> usize {
        self.methods().len()
    }

    /// Whether the run that encodes the pairs is finished.
    fn has_encoder(&self, look: &Look) -> Result<()> {
        let encoder = &look.encoder;
        if !encoder.join("summary.json").is_file() {
            bail!(
                "--rows {DETECTED}: `{}` holds no finished run that could encode the pairs; add {} to --rows, or name another row with --detect-with",
                encoder.display(),
                self.encoder_row()
            );
        }
        Ok(())
    }

    /// Looks at the pairs, and writes what is suspicious beside the runs in `out`: a run a method, which leaves these pairs out.
    pub fn planned(&self, look: &Look, out: &Path, overwrite: bool) -> Result<Vec<Planned>> {
        self.has_encoder(look)?;
        let Look { undefended, encoder, values } = look;
        let seed = undefended.seed;
        // The poison is the one that this row met.
        let kept = Some(encoder.join("manifest.jsonl")).filter(|kept| kept.is_file());
        let looked_at = Recipe { manifest: kept.or_else(|| undefended.manifest.clone()), ..undefended.clone() };
        say(&format!("looking for suspicious pairs with the model `{}`", encoder.display()));
        let loaded = load_as(encoder, Description::Beside, machine(&looked_at)?)?;
        loaded.must_read_captions("detect with a row that trains CLIP")?;
        let encoded = PairFeatures::encode(&looked_at, &loaded.model, &Arc::new(loaded.tokenizer))?;
        self.methods()
            .into_iter()
            .map(|by| {
                let methods = match Method::named(by) {
                    Some(method) => Methods::new(vec![method], None)?,
                    None => Methods::new(Method::ALL.map(|known| known.method).to_vec(), Some(by))?,
                };
                let config = Config { seed, ..Config::default() };
                let drop = (&self.drop(), None);
                let mut found = suspects(&config, &methods, drop, encoded.again())?;
                found.looked.model = Some(encoder.clone());
                found.looked_at = Some(LookedAt::of(&looked_at));
                let name = with_values(&format!("{DETECTED}-{by}"), values);
                let folder = out.join(format!("{name}-seed{seed}"));
                let place = out.join(format!("{}-seed{seed}", with_values(&format!("suspects-{by}"), values)));
                let list = write(&found, &place, &looked_at, &folder, overwrite)?;
                say(&format!("{}: {}", with_values(by, values), left(&found)));
                let mut recipe = undefended.clone();
                recipe.data.drop = Some(list);
                Ok(Planned { name: format!("{name} seed {seed}"), folder, recipe })
            })
            .collect()
    }
}

/// Writes scores, list and page to `place`, for the run in `folder`; gives the list's path.
fn write(found: &Suspects, place: &Path, recipe: &Recipe, folder: &Path, overwrite: bool) -> Result<PathBuf> {
    check_suspects_folder(place, "--out")?;
    let list = place.join("drop.txt");
    if found.list().is_empty() {
        bail!(
            "--detect-by {}: it has a score of no pair, so that there is nothing to leave out; name another method",
            found.looked.ordered_by()
        );
    }
    if folder.join("run.toml").is_file() {
        // Somebody's own file of that name is no run that could be trained anew.
        check_run_folder(folder, "--out")?;
    }
    // The list may have been made with other settings, and a run of the same name trained without what it names.
    let same = std::fs::read_to_string(&list).is_ok_and(|earlier| earlier == found.list());
    if folder.join("run.toml").is_file() && !same && !overwrite {
        bail!(
            "`{}` was trained without other pairs than those that are suspicious now; --overwrite trains it anew, or name another folder with --out",
            folder.display()
        );
    }
    found.write(place)?;
    write_suspects(found, recipe.data.limits, &place.join("detect.html"))?;
    Ok(list)
}

/// How many pairs go, and what poison stays.
fn left(found: &Suspects) -> String {
    let Some(dropped) = &found.dropped else { return "nothing is left out".to_owned() };
    let mut parts =
        vec![format!("{} of {} pairs are left out, {} of them clean", dropped.pairs, found.pairs, dropped.clean)];
    parts.extend(dropped.asked.map(|asked| format!("--drop-fraction asks for {asked}, and the others have no score")));
    parts.extend(
        dropped
            .left
            .iter()
            .map(|(attack, (all, left))| format!("{left} of {all} pairs of {} stay", for_terminal(attack))),
    );
    parts.join("; ")
}
