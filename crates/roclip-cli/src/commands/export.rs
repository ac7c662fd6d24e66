//! `roclip export`

use anyhow::Result;
use clap::{Args, ValueEnum};
use roclip::checkpoint::{ExportFormat, export};
use std::path::PathBuf;

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For open_clip.create_model("local-dir:FOLDER")
    OpenClip,
    /// For transformers' CLIPModel.from_pretrained("FOLDER"); ViT only
    HuggingFace,
}

#[derive(Args)]
pub struct Arguments {
    /// A run folder (its newest checkpoint) or one of its checkpoints/step_N
    #[arg(value_name = "RUN")]
    checkpoint: PathBuf,
    #[arg(long, value_enum)]
    format: Format,
    /// The new folder to write
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let loaded = roclip::checkpoint::load(&arguments.checkpoint, tch::Device::Cpu)?;
    let format = match arguments.format {
        Format::OpenClip => ExportFormat::OpenClip,
        Format::HuggingFace => ExportFormat::HuggingFace,
    };
    export(&loaded, format, &arguments.out)?;
    println!("{} ({} model of step {})", arguments.out.display(), loaded.state.provenance, loaded.state.step);
    Ok(())
}
