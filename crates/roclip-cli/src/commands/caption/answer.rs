//! `roclip caption answer`

use crate::commands::caption::write::{asked, write};
use crate::commands::caption::{DeviceFlags, SearchFlags};
use crate::commands::progress::say;
use anyhow::Result;
use clap::Args;
use roclip::instruct::ModelAnswers;
use roclip::instruct::{Stored, load};
use roclip::model::captioner::SearchConfig;
use roclip_data::instruction::Wordings;
use std::path::{Path, PathBuf};
use tch::Device;

#[derive(Args)]
pub struct Arguments {
    /// A model of `roclip caption instruct`
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// Pictures; their paths are read from standard input, one a line, when there are none, and each is answered at once with one line
    #[arg(value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// The question
    #[arg(long, default_value = Wordings::test_question())]
    question: String,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    on: DeviceFlags,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, pictures, question, search, on } = arguments;
    let mut answers = answering(&model, &question, search.over(SearchConfig::default()), on.machine()?)?;
    write(&mut answers, asked(pictures), "answered")
}

/// The model in the folder `run`, which is asked `question` of every picture. Says where it is not trained to its end.
///
/// # Errors
/// A folder without such a model, and a question or a search that it cannot do.
pub(super) fn answering(run: &Path, question: &str, search: SearchConfig, device: Device) -> Result<ModelAnswers> {
    let stored = load(run, device)?;
    let Stored { training, .. } = &stored;
    if !training.is_finished() {
        say(&format!(
            "`{}` is not trained to its end: it is at step {} of {}; go on with the command that began it and --resume",
            run.display(),
            training.step,
            training.steps
        ));
    }
    Ok(ModelAnswers::new(stored, run, question, search)?)
}
