//! Which pairs are read, what is measured on, and whose poison is laid over them.

use crate::commands::overrides::{Overrides, set};
use anyhow::{Result, anyhow};
use clap::Args;
use roclip::eval::NO_IMAGES;
use roclip::recipe::{Recipe, flag_help, required_flag_help};
use roclip_data::source::SourceConfig;
use std::path::PathBuf;

/// Which pairs are read.
#[derive(Args, Clone, Default)]
pub struct SourceFlags {
    #[arg(help = required_flag_help("data.source.path"))]
    #[arg(long, value_name = "PATH")]
    train_data: Option<String>,
    #[command(flatten)]
    lists: ListFlags,
}

/// How lists of pictures are read.
#[derive(Args, Clone, Default)]
pub struct ListFlags {
    #[arg(help = flag_help("data.source.image_column"))]
    #[arg(long, value_name = "COLUMN")]
    csv_img_key: Option<String>,
    #[arg(help = flag_help("data.source.caption_column"))]
    #[arg(long, value_name = "COLUMN")]
    csv_caption_key: Option<String>,
    #[arg(help = flag_help("data.source.split_column"))]
    #[arg(long, value_name = "COLUMN")]
    csv_split_key: Option<String>,
    #[arg(help = flag_help("data.source.image_root"))]
    #[arg(long, value_name = "FOLDER")]
    image_root: Option<PathBuf>,
    #[arg(help = flag_help("data.source.csv_separator"))]
    #[arg(long, value_name = "CHARACTER", allow_hyphen_values = true)]
    csv_separator: Option<String>,
    #[arg(help = flag_help("data.source.csv_encoding"))]
    #[arg(long, value_name = "NAME")]
    csv_encoding: Option<String>,
}

impl ListFlags {
    /// The flags as they were given, each with its value.
    fn again(&self) -> Vec<(&'static str, String)> {
        let root = self.image_root.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("--csv-img-key", self.csv_img_key.clone()),
            ("--csv-caption-key", self.csv_caption_key.clone()),
            ("--csv-split-key", self.csv_split_key.clone()),
            ("--image-root", root),
            ("--csv-separator", self.csv_separator.clone()),
            ("--csv-encoding", self.csv_encoding.clone()),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }

    /// Where relative paths of pictures start.
    pub fn image_root(&self) -> Option<&PathBuf> {
        self.image_root.as_ref()
    }

    /// The same without a folder of pictures.
    #[must_use]
    pub fn without_root(&self) -> ListFlags {
        ListFlags { image_root: None, ..self.clone() }
    }

    /// Says of a source how its lists are read.
    pub fn describe(&self, source: &mut SourceConfig) {
        source.image_root = self.image_root.clone().or(source.image_root.take());
        source.image_column = self.csv_img_key.clone().or(source.image_column.take());
        source.caption_column = self.csv_caption_key.clone().or(source.caption_column.take());
        source.split_column = self.csv_split_key.clone().or(source.split_column.take());
        source.csv_separator = self.csv_separator.clone().or(source.csv_separator.take());
        source.csv_encoding = self.csv_encoding.clone().or(source.csv_encoding.take());
    }

    /// [`ListFlags::describe`] of a source that is read beside `pairs`, which these flags describe: folders of pictures that are named for
    /// each part of those are not of another source.
    pub fn describe_beside(&self, source: &mut SourceConfig, pairs: &SourceConfig) {
        let own = source.image_root.clone();
        self.describe(source);
        if self.image_root.is_some() {
            source.image_root = pairs.root_for(&source.path).cloned().or(own);
        }
    }
}

impl SourceFlags {
    /// Whether the pairs are named, whatever a recipe says.
    pub fn names_data(&self) -> bool {
        self.train_data.is_some()
    }

    /// The same of the data at `path`.
    #[must_use]
    pub fn naming(&self, path: &str) -> SourceFlags {
        SourceFlags { train_data: Some(path.to_owned()), ..self.clone() }
    }

    /// The pairs as they are named, whatever a recipe says.
    pub fn path(&self) -> Option<&str> {
        self.train_data.as_deref()
    }

    /// The flags as they were given, each with its value.
    pub fn again(&self) -> Vec<(&'static str, String)> {
        let data = self.train_data.clone().map(|path| ("--train-data", path));
        data.into_iter().chain(self.lists.again()).collect()
    }

    /// Says of a source how its lists are read.
    pub fn describe(&self, source: &mut SourceConfig) {
        self.lists.describe(source);
    }

    /// [`ListFlags::describe_beside`].
    pub fn describe_beside(&self, source: &mut SourceConfig, pairs: &SourceConfig) {
        self.lists.describe_beside(source, pairs);
    }
}

impl Overrides for SourceFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if self.train_data.is_some() {
            // The split and columns of the recipe belong to the recipe's data, as do what is left out of it and its weights.
            recipe.data.source = SourceConfig::default();
            recipe.data.drop = None;
            recipe.data.weights = None;
        }
        set(&mut recipe.data.source.path, &self.train_data);
        self.describe(&mut recipe.data.source);
        Ok(())
    }
}

/// What is read.
#[derive(Args, Clone, Default)]
pub struct DataFlags {
    #[command(flatten)]
    source: SourceFlags,
    #[arg(help = flag_help("data.weights"))]
    #[arg(long, value_name = "WEIGHT::WEIGHT")]
    train_data_upsampling_factors: Option<String>,
    #[arg(help = flag_help("data.drop"))]
    #[arg(long, value_name = "FILE")]
    drop: Option<PathBuf>,
    #[arg(help = flag_help("data.index"))]
    #[arg(long, value_name = "WHEN|FILE")]
    index: Option<String>,
    #[arg(help = flag_help("eval.source.path"))]
    #[arg(long, value_name = "PATH")]
    val_data: Option<String>,
}

impl DataFlags {
    /// Whether the pairs are named, whatever a recipe says.
    pub fn names_training_data(&self) -> bool {
        self.source.names_data()
    }

    /// The flags as they were given, each with its value, but for --drop.
    pub fn again(&self) -> Vec<(&'static str, String)> {
        let mut flags = self.source.again();
        let others = [
            ("--train-data-upsampling-factors", &self.train_data_upsampling_factors),
            ("--index", &self.index),
            ("--val-data", &self.val_data),
        ];
        flags.extend(others.into_iter().filter_map(|(flag, value)| Some((flag, value.clone()?))));
        flags
    }

    /// Whether pairs or labelled images are named.
    pub fn names_data(&self) -> bool {
        self.names_training_data() || self.names_evaluation_data()
    }

    /// Whether the labelled images are named, whatever a recipe says.
    pub fn names_evaluation_data(&self) -> bool {
        self.val_data.is_some()
    }
}

impl Overrides for DataFlags {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        self.source.apply(recipe)?;
        if let Some(text) = &self.train_data_upsampling_factors {
            let weights = text.split("::").map(|weight| weight.trim().parse::<f64>());
            let weights = weights.collect::<Result<Vec<f64>, _>>();
            recipe.data.weights = Some(weights.map_err(|_| {
                anyhow!("--train-data-upsampling-factors `{text}`: give a number for each part of --train-data, as in 1::2.5")
            })?);
        }
        recipe.data.drop = self.drop.clone().or(recipe.data.drop.take());
        set(&mut recipe.data.index, &self.index);
        if self.val_data.is_some() {
            recipe.eval.source = SourceConfig::default();
            recipe.eval.class_captions = None;
            if self.val_data.as_deref() == Some(NO_IMAGES) {
                // A probe has nothing to be measured on.
                recipe.eval.probe = None;
            }
        }
        set(&mut recipe.eval.source.path, &self.val_data);
        self.source.describe_beside(&mut recipe.eval.source, &recipe.data.source);
        Ok(())
    }
}

#[derive(Args, Clone, Default)]
pub struct ManifestFlag {
    #[arg(help = flag_help("manifest"))]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

impl ManifestFlag {
    /// The flag as it was given, with its value.
    pub fn again(&self) -> Option<(&'static str, String)> {
        Some(("--manifest", self.manifest.as_ref()?.display().to_string()))
    }
}

impl Overrides for ManifestFlag {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        recipe.manifest = self.manifest.clone().or(recipe.manifest.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_pictures_for_each_part_are_of_those_parts_alone() {
        let roots = |pairs: &str, root: &str, labelled: &str| {
            let lists = ListFlags { image_root: Some(root.into()), ..ListFlags::default() };
            let source = SourceFlags { train_data: Some(pairs.into()), lists };
            let flags = DataFlags { source, val_data: Some(labelled.into()), ..DataFlags::default() };
            let mut recipe = Recipe::default();
            flags.apply(&mut recipe).unwrap();
            let said = |source: SourceConfig| source.image_root.map(|root| root.display().to_string());
            (said(recipe.data.source), said(recipe.eval.source))
        };
        let some = |root: &str| Some(root.to_owned());
        assert_eq!(roots("a.csv::b.csv", ".::other", "val.csv"), (some(".::other"), None));
        assert_eq!(roots("a.csv::b.csv", ".::other", "c.csv::d.csv::e.csv"), (some(".::other"), None));
        // The same lists, of which other splits may be read, and one folder for all.
        assert_eq!(roots("a.csv::b.csv", ".::other", "a.csv::b.csv"), (some(".::other"), some(".::other")));
        assert_eq!(roots("a.csv::b.csv", "other", "val.csv"), (some("other"), some("other")));
        assert_eq!(roots("a.csv", "one::name", "val.csv"), (some("one::name"), some("one::name")));
    }
}
