//! `roclip detect inputs`

use crate::commands::detect_common::{Common, say_also_looked_at, say_left_out};
use crate::commands::detect_print::print_inputs;
use crate::commands::next_steps::{say_next, shell_word};
use crate::commands::progress::say;
use crate::commands::signals::leaving_nothing;
use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use roclip::checkpoint::{load_as, run_of};
use roclip::detect::{ClassTexts, Descriptions, InputMethod};
use roclip::eval::{FeatureKind, ImageEncoder};
use roclip::model::Clip;
use roclip::recipe::Recipe;
use roclip::report::{check_inputs_folder, inputs_page};
use roclip::run::{Drop, INPUT_LEVEL, InputLook, InputPictures, KnownClean, machine, suspect_inputs, trusted_pictures};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::plural::count;
use std::path::PathBuf;

/// Pictures encoded at a time.
const BATCH: usize = 128;

#[derive(Args)]
pub struct InputsArguments {
    /// The model whose inputs they are: a run, a checkpoint, or a folder or safetensors file in open_clip's or transformers' layout. The
    /// pictures are those of --val-data, or the labelled images of the run
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder for inputs.jsonl, inputs.json, inputs.html and, where pictures are flagged, flagged.txt
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Methods, by whose mean rank the pictures are ordered (default: all)
    #[arg(long, value_delimiter = ',', hide_possible_values = true, value_parser = methods().try_map(|given| InputMethod::named(&given).ok_or("not a method")), help = methods_help())]
    methods: Vec<InputMethod>,
    /// Pictures that are known to be clean, such as the others are where they carry no trigger: half of them say how clean ones vary, the
    /// other half how rare a score is. With them all other pictures are looked at, whether they have a label or not; without them a random
    /// half of the labelled ones is taken for clean, and nothing is flagged
    #[arg(long, value_name = "PATH")]
    trusted_data: Option<String>,
    /// Flag pictures that are more suspicious than all but this share of the held-out half of --trusted-data: about this share of the clean
    /// pictures is flagged [default: 0.05]
    #[arg(long, value_name = "SHARE", requires = "trusted_data")]
    level: Option<f64>,
    /// What the classes look like, for the method `descriptions`: a JSON file of {class: [text, ...]} [default: the program's own, for the
    /// concepts of the demo and the classes of recipes/flickr8k-concepts.toml]
    #[arg(long, value_name = "FILE")]
    descriptions: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

fn methods() -> PossibleValuesParser {
    PossibleValuesParser::new(InputMethod::ALL.map(|known| PossibleValue::new(known.name).help(known.about)))
}

/// A line a method.
fn methods_help() -> String {
    let lines = InputMethod::ALL.map(|known| format!("{}: {}", known.name, known.about));
    format!("Methods, by whose mean rank the pictures are ordered (default: all)\n{}", lines.join("\n"))
}

/// Pictures as they are, and with the triggers that the recipe knows of.
pub fn run(arguments: &InputsArguments) -> Result<()> {
    let Common { described, json, .. } = &arguments.common;
    let level = arguments.level.unwrap_or(INPUT_LEVEL);
    Drop::Level(level).check()?;
    let asks_for_words = arguments.methods.is_empty() || arguments.methods.contains(&InputMethod::Descriptions);
    if let (Some(file), false) = (&arguments.descriptions, asks_for_words) {
        bail!("--descriptions `{}` is for the method `descriptions`, which --methods does not name", file.display());
    }
    let run = run_of(&arguments.model);
    let recipe = arguments.common.recipe(Some(&arguments.model), run.as_deref(), "detect inputs")?;
    check_inputs_folder(&arguments.out, "--out")?;
    artifact::check_writable(&arguments.out)?;
    let named = arguments.descriptions.as_deref().map(Descriptions::read).transpose()?;
    let loaded = load_as(&arguments.model, described.description(), machine(&recipe)?)?;
    let (found, clean) = match &arguments.trusted_data {
        None => (InputPictures::labelled(&recipe)?, KnownClean::Half),
        Some(path) => {
            let found = InputPictures::all(&recipe)?;
            let trusted = trusted_pictures(&recipe, path)?;
            say_left_out("--trusted-data: ", &trusted.skips);
            if trusted.copies > 0 {
                say(&format!(
                    "--trusted-data: left out: {} of others ({} stay)",
                    count(trusted.copies, "copy"),
                    trusted.pictures.len()
                ));
            }
            say_also_looked_at(found.also_among(&trusted.pictures));
            (found, KnownClean::Trusted { trusted, level })
        }
    };
    for warning in &found.warnings {
        say(&format!("warning: {}", for_terminal(warning)));
    }
    let texts = match asks_for_words {
        true => words(named, &found, !arguments.methods.is_empty())?,
        false => None,
    };
    let mut methods = arguments.methods.clone();
    if methods.is_empty() {
        methods = InputMethod::ALL.map(|known| known.method).into();
        methods.retain(|method| texts.is_some() || *method != InputMethod::Descriptions);
    }
    let InputPictures { pictures, backdoors, skips, .. } = found;
    let (encoder, tokenizer) = (encoder(&recipe, &loaded.model), &loaded.tokenizer);
    let (max_skip_fraction, seed) = (recipe.data.max_skip_fraction, recipe.seed);
    let look = InputLook { encoder, tokenizer, methods, texts, backdoors, skips, max_skip_fraction, seed };
    let found = suspect_inputs(look, pictures, clean)?;
    for warning in &found.warnings {
        say(&format!("warning: {warning}; inputs.jsonl names all of them"));
    }
    let page = arguments.out.join("inputs.html");
    let written = ["inputs.jsonl", "flagged.txt", "inputs.json", "inputs.html"].map(|name| arguments.out.join(name));
    leaving_nothing(written.into(), || {
        let drawn = inputs_page(&found, recipe.data.limits)?;
        Ok(found.write(&arguments.out, &drawn)?)
    })?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print_inputs(&found),
    }
    let holds = match found.list().is_empty() {
        true => "inputs.jsonl, inputs.json, inputs.html",
        false => "inputs.jsonl, flagged.txt, inputs.json, inputs.html",
    };
    say_next(&arguments.out, holds, &[format!("open {}", shell_word(&page))]);
    Ok(())
}

fn encoder<'a>(recipe: &Recipe, model: &'a Clip) -> ImageEncoder<'a> {
    let (limits, workers) = (recipe.data.limits, recipe.data.workers);
    ImageEncoder { model, limits, workers, batch_size: BATCH, kind: FeatureKind::Projected, world: None }
}

/// What the method `descriptions` compares: the sentences of a file that is `named`, or of one that comes with the program. None where nothing
/// describes the classes, which is an error where the method `is_asked` for by name.
fn words(named: Option<Descriptions>, found: &InputPictures, is_asked: bool) -> Result<Option<ClassTexts>> {
    let names: Vec<String> = found.classes.iter().map(|(class, _)| class.clone()).collect();
    let is_named = named.is_some();
    let file = match named {
        Some(file) => Some(file),
        None => Descriptions::shipped_for(&names)?,
    };
    let Some(file) = file else {
        let why = match names.is_empty() {
            true => "the pictures have no classes that could be described",
            false => "none come with the program for these classes",
        };
        if is_asked {
            bail!(
                "the method `descriptions` compares sentences, and nothing describes the classes: {why}; name a file with --descriptions"
            );
        }
        say(&format!("descriptions: {why}; the method is left out without --descriptions"));
        return Ok(None);
    };
    match file.beyond(&names) {
        _ if !is_named => say(&format!("descriptions: those of {}, which come with the program", file.name)),
        _ if names.is_empty() => {
            say("descriptions: the pictures have no classes; those that the file describes are taken")
        }
        0 => {}
        beyond => say(&format!("descriptions: {beyond} of their classes are not evaluated, and are left out")),
    }
    let classes = match names.is_empty() {
        true => file.classes().map(|class| (class.clone(), class.clone())).collect(),
        false => found.classes.clone(),
    };
    Ok(Some(file.texts(&classes, &found.templates.0)?))
}
