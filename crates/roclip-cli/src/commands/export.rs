//! `roclip export`

use anyhow::Result;
use clap::{Args, ValueEnum};
use roclip::checkpoint::{ExportFormat, export};
use roclip_data::artifact;
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
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    artifact::check_file_writable(&arguments.out)?;
    let loaded = roclip::checkpoint::load(&arguments.checkpoint, tch::Device::Cpu)?;
    let format = match arguments.format {
        Format::OpenClip => ExportFormat::OpenClip,
        Format::HuggingFace => ExportFormat::HuggingFace,
    };
    export(&loaded, format, &arguments.out)?;
    let (provenance, step) = (&loaded.state.provenance, loaded.state.step);
    if arguments.json {
        println!("{}", serde_json::json!({"out": arguments.out, "provenance": provenance.to_string(), "step": step}));
    } else {
        println!("{} ({provenance} model of step {step})", arguments.out.display());
    }
    Ok(())
}
