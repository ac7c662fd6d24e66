//! `roclip caption answer`

use crate::commands::caption::{DeviceFlag, SearchFlags};
use crate::commands::progress::say;
use anyhow::{Context, Result};
use clap::Args;
use roclip::instruct::{Stored, load};
use roclip::run::device;
use roclip_data::escape::for_terminal;
use roclip_data::instruction::Wordings;
use roclip_data::picture::{ImageLimits, decode};
use roclip_data::sample::ImageBytes;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A model of `roclip caption instruct`
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// Pictures
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    /// The question
    #[arg(long, default_value = Wordings::test_question())]
    question: String,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    on: DeviceFlag,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Stored { model, training, .. } = load(&arguments.model, device(&arguments.on.device)?)?;
    if !training.is_finished() {
        say(&format!(
            "`{}` is not trained to its end: it is at step {} of {}; go on with the command that began it and --resume",
            arguments.model.display(),
            training.step,
            training.steps
        ));
    }
    let limits = ImageLimits::default();
    let mut pictures = Vec::new();
    for path in &arguments.pictures {
        let bytes = ImageBytes::File(path.clone()).read(limits.max_file_bytes);
        let picture = bytes.and_then(|bytes| decode(&bytes, limits));
        pictures
            .push(picture.map_err(|skip| skip.into_error(&path.display().to_string())).context("reading pictures")?);
    }
    let seen = model.see(&pictures)?;
    let questions = vec![arguments.question.clone(); pictures.len()];
    for answer in model.answers(&seen, &questions, arguments.search.over(Default::default()))? {
        println!("{}", for_terminal(&answer));
    }
    Ok(())
}
