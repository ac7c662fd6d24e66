//! `roclip export`

use crate::commands::described_model::{DescribedModel, say_which_weights};
use crate::commands::next_steps::say_next;
use anyhow::Result;
use clap::{Args, ValueEnum};
use roclip::checkpoint::{ExportFormat, export, load_as};
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
    /// A run folder (its newest checkpoint), one of its checkpoints/step_N, or a folder or safetensors file in open_clip's or
    /// transformers' layout
    #[arg(value_name = "MODEL")]
    source: PathBuf,
    #[command(flatten)]
    described: DescribedModel,
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
    say_which_weights(&arguments.source)?;
    let loaded = load_as(&arguments.source, arguments.described.description(), tch::Device::Cpu)?;
    let format = match arguments.format {
        Format::OpenClip => ExportFormat::OpenClip,
        Format::HuggingFace => ExportFormat::HuggingFace,
    };
    let holds = match format {
        ExportFormat::OpenClip => "open_clip_model.safetensors, open_clip_config.json, README.md",
        ExportFormat::HuggingFace => "model.safetensors, config.json, README.md, tokenizer and preprocessor files",
    };
    export(&loaded, format, &arguments.out)?;
    let about = loaded.about();
    if arguments.json {
        let step = loaded.state.as_ref().map(|state| state.step);
        let provenance = loaded.origin.provenance.to_string();
        println!("{}", serde_json::json!({"out": arguments.out, "provenance": provenance, "step": step}));
    } else {
        println!("{} ({about})", arguments.out.display());
    }
    say_next(&arguments.out, holds, &[]);
    Ok(())
}
