//! Which pictures a recipe names to be looked at, what is known of them, and which are trusted beside them.

use crate::error::{Error, Result};
use crate::eval::{Classes, Evaluator, Labelled, NO_IMAGES, Templates};
use crate::recipe::Recipe;
use crate::run::prepare::{Prepared, manifest_file, prepare_data};
use roclip_data::plural::count;
use roclip_data::poison::{Backdoor, Manifest};
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::source::SourceConfig;
use std::collections::HashSet;

/// Pictures that are looked at.
pub struct InputPictures {
    pub pictures: Vec<Sample>,
    /// Their classes, each with the words that stand for it in a prompt; none where nobody says.
    pub classes: Vec<(String, String)>,
    pub templates: Templates,
    /// The triggers that the recipe knows of.
    pub backdoors: Vec<Backdoor>,
    /// What a person should know before the work.
    pub warnings: Vec<String>,
    /// What was left out of the pictures, where they are read for this look alone.
    pub skips: SkipReport,
}

impl InputPictures {
    /// The labelled images of the recipe's evaluation.
    ///
    /// # Errors
    /// Those that a run of the recipe would begin with.
    pub fn labelled(recipe: &Recipe) -> Result<Self> {
        let Prepared { evaluator, manifest, warnings, .. } = match prepare_data(recipe) {
            Ok(prepared) => prepared,
            Err(_) if is_unlabelled(recipe) => {
                return Err(Error::setting(
                    format!(
                        "no picture of `{}` has a class, and half of the labelled ones are to be clean",
                        recipe.eval.source.path
                    ),
                    "name clean pictures with --trusted-data: then all others are looked at, with or without a label",
                ));
            }
            Err(error) => return Err(error),
        };
        let classes = evaluator.class_words();
        let Evaluator { samples, templates, .. } = evaluator;
        let backdoors = manifest.map(|manifest| manifest.backdoors()).unwrap_or_default();
        let skips = SkipReport::default();
        Ok(InputPictures { pictures: samples, classes, templates, backdoors, warnings, skips })
    }

    /// All images of the recipe's evaluation, whether they have a label or not. The data that a model was trained on is not read, unless the
    /// recipe draws its attacks anew.
    ///
    /// # Errors
    /// A source that cannot be read, and a manifest that is none.
    pub fn all(recipe: &Recipe) -> Result<Self> {
        let source = &recipe.eval.source;
        if source.path == NO_IMAGES {
            return Err(Error::setting(
                format!("there are no pictures to look at: eval.source.path is `{NO_IMAGES}`"),
                "name some with --val-data",
            ));
        }
        let found = recipe.data.reading().labelled(source)?;
        let mut warnings: Vec<String> = found.note.into_iter().collect();
        if found.skips.total() > 0 {
            warnings.push(format!("left out: {}", found.skips.summary()));
        }
        let classes = match recipe.eval.class_list() {
            Some(name) => Classes::named(&name)?,
            None => Classes::of_images(&found.samples)?,
        };
        let is_labelled = found.samples.iter().any(|sample| sample.class.is_some());
        let manifest = match manifest_file(recipe) {
            Some(path) => {
                let manifest = Manifest::read(&path, recipe.data.limits)?;
                manifest.check_is_of_pairs()?;
                Some(manifest)
            }
            None if recipe.poison.attacks.is_empty() => None,
            None if is_labelled => prepare_data(recipe)?.manifest,
            None => {
                warnings.push(
                    "the recipe's attacks are drawn for labelled images, and these have no labels: none is laid on them; \
                     name a manifest with --manifest"
                        .to_owned(),
                );
                None
            }
        };
        Ok(InputPictures {
            pictures: found.samples,
            classes: classes.names.into_iter().zip(classes.words).collect(),
            templates: Templates::named(&recipe.eval.templates)?,
            backdoors: manifest.map(|manifest| manifest.backdoors()).unwrap_or_default(),
            warnings,
            skips: found.skips,
        })
    }

    /// How many of `trusted` are among the pictures, by their bytes.
    pub fn also_among(&self, trusted: &[Sample]) -> usize {
        let own: HashSet<_> = self.pictures.iter().filter_map(|sample| sample.digest).collect();
        trusted.iter().filter(|sample| sample.digest.is_some_and(|digest| own.contains(&digest))).count()
    }
}

/// Whether the recipe's evaluation has images, and no class for any.
fn is_unlabelled(recipe: &Recipe) -> bool {
    let source = &recipe.eval.source;
    let unlabelled = |found: Labelled| found.samples.iter().all(|sample| sample.class.is_none());
    source.path != NO_IMAGES && recipe.data.reading().labelled(source).is_ok_and(unlabelled)
}

/// Pictures that are known to be clean, each once.
#[derive(Debug)]
pub struct TrustedPictures {
    pub pictures: Vec<Sample>,
    /// Further ones with the same bytes, which are left out: a copy says nothing new of how clean pictures vary, and would stand in both halves.
    pub copies: usize,
    /// What else was left out.
    pub skips: SkipReport,
}

impl TrustedPictures {
    /// The first of `samples` with the same bytes each.
    fn distinct(mut samples: Vec<Sample>, skips: SkipReport) -> Self {
        let (mut seen, all) = (HashSet::new(), samples.len());
        samples.retain(|sample| sample.digest.is_none_or(|digest| seen.insert(digest)));
        TrustedPictures { copies: all - samples.len(), pictures: samples, skips }
    }
}

/// The pictures at `path`, which are known to be clean, read as the images of the recipe's evaluation are.
///
/// # Errors
/// A source that cannot be read, and pictures that say themselves that they are poison.
pub fn trusted_pictures(recipe: &Recipe, path: &str) -> Result<TrustedPictures> {
    let (samples, skips) =
        recipe.data.reading().samples(&trusted_source(&recipe.eval.source, path), "--trusted-data")?;
    let poison = samples.iter().filter(|sample| sample.poison.is_some()).count();
    if poison > 0 {
        return Err(Error::setting(
            format!(
                "--trusted-data `{path}`: {} of them were written by `roclip poison make` as poison",
                count(poison, "picture")
            ),
            "name pictures that are clean",
        ));
    }
    Ok(TrustedPictures::distinct(samples, skips))
}

/// What is named is trusted whole, whatever is chosen of the pictures beside it.
fn trusted_source(source: &SourceConfig, path: &str) -> SourceConfig {
    let image_root = source.root_for(path).cloned();
    SourceConfig { path: path.to_owned(), image_root, split: None, labels: None, ..source.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_need_no_labels_and_trusted_ones_no_split() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("own")).unwrap();
        for number in 0..3u8 {
            let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([number; 3]));
            picture.save(folder.path().join(format!("own/{number}.png"))).unwrap();
        }
        let rows = [
            "image,caption,split,class",
            "own/0.png,a red square,test,red",
            "own/1.png,nothing,test,",
            "own/2.png,b,train,red",
        ];
        std::fs::write(folder.path().join("list.csv"), rows.join("\n")).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut recipe = Recipe::default();
        recipe.poison.attacks.clear();
        recipe.eval.source =
            SourceConfig { path: path("list.csv"), split: Some("test".into()), ..SourceConfig::default() };
        let found = InputPictures::all(&recipe).unwrap();
        assert_eq!(found.pictures.len(), 2, "one of them has no class");
        assert_eq!(found.classes, [("red".to_owned(), "red".to_owned())]);
        let trusted = trusted_pictures(&recipe, &path("list.csv")).unwrap();
        assert_eq!((trusted.pictures.len(), trusted.copies, trusted.skips.total()), (3, 0, 0));
        assert_eq!(found.also_among(&trusted.pictures), 2);
        // The first of its copies stands for all of them.
        std::fs::copy(path("own/1.png"), path("own/9.png")).unwrap();
        std::fs::copy(path("own/1.png"), path("own/8.png")).unwrap();
        let copied = trusted_pictures(&recipe, &path("own")).unwrap();
        let ids: Vec<&str> = copied.pictures.iter().map(|sample| sample.id.as_str()).collect();
        assert_eq!((ids, copied.copies), (vec!["0.png", "1.png", "2.png"], 2));
        std::fs::remove_file(path("own/8.png")).unwrap();
        std::fs::remove_file(path("own/9.png")).unwrap();
        recipe.eval.source = SourceConfig { path: path("own"), ..SourceConfig::default() };
        let found = InputPictures::all(&recipe).unwrap();
        assert_eq!((found.pictures.len(), found.classes.len(), found.backdoors.len()), (3, 0, 0));
        recipe.eval.source.path = NO_IMAGES.to_owned();
        let said = InputPictures::all(&recipe).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("--val-data"), "{said}");
    }
}
