//! `roclip caption write`

use crate::commands::caption::{DeviceFlags, SearchFlags, no_answering_run};
use crate::commands::next_steps::shell_word;
use crate::commands::progress::say;
use anyhow::{Result, bail};
use clap::Args;
use roclip::captions::{Captions, ModelCaptions};
use roclip::run::captioner_recipe;
use roclip_data::escape::for_terminal;
use roclip_data::picture::{ImageLimits, decode};
use roclip_data::plural::count;
use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// A run of `roclip caption train`, or one of its checkpoints
    #[arg(value_name = "RUN")]
    captioner: PathBuf,
    /// Pictures; their paths are read from standard input, one a line, when there are none, and each is answered at once with one line
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    on: DeviceFlags,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let instead = format!("ask it with `roclip caption answer {}`", shell_word(&arguments.captioner));
    no_answering_run(&arguments.captioner, &instead)?;
    let device = arguments.on.machine()?;
    let own = captioner_recipe(&arguments.captioner)?.map(|(_, caption)| caption.search).unwrap_or_default();
    let search = arguments.search.over(own);
    let mut captions = ModelCaptions::load(&arguments.captioner, search, device)?;
    write(&mut captions, asked(arguments.pictures), "captioned")
}

/// The `named` pictures, or where there are none those of the lines of standard input as they come.
pub(super) fn asked(named: Vec<PathBuf>) -> Box<dyn Iterator<Item = Result<PathBuf>>> {
    if named.is_empty() {
        let lines = std::io::stdin().lock().split(b'\n');
        return Box::new(lines.map(|line| Ok(PathBuf::from(OsStr::from_bytes(line?.trim_ascii())))));
    }
    Box::new(named.into_iter().map(Ok))
}

/// Answers each of `paths` when it comes; `done` is what is done with one, in words.
///
/// # Errors
/// At the end, where that could not be done with some.
pub(super) fn write(
    captions: &mut dyn Captions,
    paths: impl Iterator<Item = Result<PathBuf>>,
    done: &str,
) -> Result<()> {
    let (mut asked, mut unanswered) = (0, 0);
    for path in paths {
        asked += 1;
        unanswered += usize::from(!answer(captions, &path?)?);
    }
    if unanswered > 0 {
        bail!("{unanswered} of {} could not be {done}", count(asked, "picture"));
    }
    Ok(())
}

/// Prints one line, whatever comes: a picture without one would leave whoever asks waiting, and shift the others' lines. False where the
/// line is empty for want of a picture.
fn answer(captions: &mut dyn Captions, path: &Path) -> Result<bool> {
    let caption = caption(captions, path);
    if let Err(error) = &caption {
        say(&format!("warning: {}; the answer is an empty line", for_terminal(&format!("{error:#}"))));
    }
    println!("{}", caption.as_deref().unwrap_or_default());
    std::io::stdout().flush()?;
    Ok(caption.is_ok())
}

fn caption(captions: &mut dyn Captions, path: &Path) -> Result<String> {
    let bytes = roclip_data::artifact::read(path)?;
    let picture = match decode(&bytes, ImageLimits::default()) {
        Ok(picture) => picture,
        Err(skip) => bail!("`{}` cannot be used: {} ({})", path.display(), skip.reason, skip.detail),
    };
    let caption = captions.captions(&[picture])?.into_iter().next().unwrap_or_default();
    Ok(for_terminal(&caption).into_owned())
}
