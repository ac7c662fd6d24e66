//! `roclip data concepts`

use crate::commands::numbers::up_to;
use crate::commands::overrides::{BaseFlags, DataFlags};
use crate::commands::progress::say;
use crate::commands::width::{columns, wrapped};
use anyhow::{Result, bail};
use clap::Args;
use roclip::eval::{NO_IMAGES, foreign_evaluation};
use roclip::recipe::Recipe;
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::language::{ConceptConfig, Concepts};
use roclip_data::plural;
use roclip_data::sample::Sample;
use roclip_data::source::{LabelFile, SourceConfig, list_samples};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: BaseFlags,
    #[command(flatten)]
    data: DataFlags,
    /// The labels file to write (JSON)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Share of an image's captions that must have the noun; 0.8 is four of five
    #[arg(long, default_value_t = ConceptConfig::default().agreement)]
    agreement: f64,
    /// Training images of which a noun must be so said to be a class
    #[arg(long, default_value_t = ConceptConfig::default().min_images, value_parser = up_to::<usize>(1_000_000_000))]
    min_images: usize,
    /// Share of the training images that a class may have at most
    #[arg(long, default_value_t = ConceptConfig::default().max_share)]
    max_share: f64,
    /// Nouns that are no classes, as in air,wall,side: captions name many things that a picture is not of
    #[arg(long, value_name = "NOUN,NOUN", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Print JSON on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    artifact::check_file_writable(&arguments.out)?;
    if !arguments.recipe.names_data() && !arguments.data.names_training_data() {
        bail!("nothing says whose captions to read; name your pairs with --train-data, or a recipe with --config");
    }
    let recipe = arguments.recipe.resolve(Recipe::default(), &[&arguments.data])?;
    // The classes that the recipe may name are those to be made.
    let mut left_out = Vec::new();
    let mut read = |source: &SourceConfig| -> Result<Vec<Sample>> {
        let listing = list_samples(&SourceConfig { labels: None, ..source.clone() }, recipe.data.limits)?;
        if listing.skips.total() > 0 {
            say(&format!("`{}` leaves out: {}", for_terminal(&source.path), listing.skips.summary()));
        }
        left_out.push(json!({"data": source.path, "left_out": listing.skips.counts()}));
        Ok(listing.samples)
    };
    let training = read(&recipe.data.source)?;
    let uncaptioned = training.iter().filter(|sample| sample.captions.is_empty()).count();
    if uncaptioned > 0 {
        say(&format!(
            "{uncaptioned} of {} have no caption to take a class from, and training would leave them out: write one for each, or drop \
             them with `roclip data drop`",
            plural::count(training.len(), "training image")
        ));
    }
    let Arguments { agreement, min_images, max_share, mut exclude, .. } = arguments;
    exclude.retain(|noun| !noun.is_empty());
    let concepts = Concepts::new(&training, ConceptConfig { agreement, min_images, max_share, exclude })?;
    let mut samples = training;
    // The built-in pictures that a recipe has by default are not the user's.
    let own =
        foreign_evaluation(&recipe.data.source, &recipe.eval.source).is_none() && recipe.eval.source.path != NO_IMAGES;
    let evaluation = own.then_some(&recipe.eval.source);
    for source in [evaluation, recipe.eval.class_captions.as_ref()].into_iter().flatten() {
        samples.extend(read(source)?);
    }
    // Split to image to class; an image may be named by two sources.
    let mut splits: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::new();
    for sample in samples {
        let concept = concepts.of(&sample);
        splits.entry(sample.split.unwrap_or_else(|| "all".into())).or_default().insert(sample.id, concept);
    }
    let counts: Vec<usize> = splits.values().map(BTreeMap::len).collect();
    let labelled = |images: BTreeMap<String, Option<String>>| images.into_iter().filter_map(|(id, c)| Some((id, c?)));
    let images = splits.into_iter().map(|(split, images)| (split, labelled(images).collect())).collect();
    let file = LabelFile { classes: concepts.images().keys().cloned().collect(), images };
    artifact::write_json(&arguments.out, &file)?;
    if arguments.json {
        let splits: BTreeMap<&String, serde_json::Value> = file
            .images
            .iter()
            .zip(&counts)
            .map(|((split, labels), count)| (split, json!({"labelled": labels.len(), "images": count})))
            .collect();
        let found = json!({
            "out": arguments.out, "classes": file.classes, "splits": splits, "without_caption": uncaptioned, "left_out": left_out,
        });
        println!("{found}");
    } else {
        println!("{}: {}", arguments.out.display(), plural::count(file.classes.len(), "class"));
        let counted = concepts.images().iter().map(|(noun, images)| format!("{noun} {images}"));
        let line = format!("  images that agree on each: {}", counted.collect::<Vec<_>>().join(", "));
        println!("{}", wrapped(&for_terminal(&line), columns()));
        println!("  --exclude NOUN,NOUN leaves out what is no thing of its own");
        for ((split, labels), images) in file.images.iter().zip(counts) {
            println!("  {split}: {} of {} have a class", labels.len(), plural::count(images, "image"));
        }
    }
    Ok(())
}
