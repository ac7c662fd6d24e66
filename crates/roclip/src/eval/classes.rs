//! Class names and prompt templates, read as data: JSON or text, never code.

use crate::error::{Error, Result};
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::language::{class_words, wnid_of};
use roclip_data::sample::Sample;
use roclip_data::source::Labels;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const OPENAI: &str = include_str!("templates/openai-80.json");
/// open_clip's `IMAGENET_CLASSNAMES` (MIT), in ImageNet's order (tests/golden/imagenet.py). "missile" and "sunglasses" stand in it
/// twice; here they are one class each, since nothing could tell equal prompts apart.
const IMAGENET: &str = include_str!("templates/imagenet-1k.json");
/// WordNet ids of the same classes in the same order, one a line (tests/golden/imagenet_wnids.py).
const IMAGENET_WNIDS: &str = include_str!("templates/imagenet-wnids.txt");
const EMOJI: &str = include_str!("templates/emoji.json");
/// Ours: words that captions of photographs are made of. 40 of OpenAI's 80 templates have a word that Flickr8k's 30,000 training captions
/// have less than ten times ("itap", "origami", "pixelated"), so a model trained there never learned it.
const CAPTIONS: &str = include_str!("templates/captions.json");

/// Prompts with `{}` in the place of the class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates(pub Vec<String>);

impl Templates {
    /// `openai-80`, `emoji`, `captions`, or a file.
    pub fn named(name: &str) -> Result<Templates> {
        let built_in = match name {
            "openai-80" => Some(OPENAI),
            "emoji" => Some(EMOJI),
            "captions" => Some(CAPTIONS),
            _ => None,
        };
        let list = match built_in {
            Some(text) => serde_json::from_str(text).map_err(|e| Error::internal(format!("templates {name}: {e}")))?,
            // CLIP_benchmark writes `{c}`.
            None => read_list(Path::new(name))?.into_iter().map(|line| line.replace("{c}", "{}")).collect(),
        };
        let list: Vec<String> = list;
        if list.is_empty() || list.iter().any(|t| !t.contains("{}")) {
            return Err(Error::setting(
                format!("the templates `{name}` are empty, or one has no {{}}"),
                "write one template a line with {} for the class",
            ));
        }
        Ok(Templates(list))
    }

    pub fn fill(&self, class: &str) -> Vec<String> {
        self.0.iter().map(|template| template.replace("{}", class)).collect()
    }
}

/// The class names of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Distinct, in the order of the list.
    pub names: Vec<String>,
    /// The names as they stand in a prompt; no two are equal.
    pub words: Vec<String>,
    /// Labels whose words another class has, and that class.
    same: BTreeMap<String, String>,
    /// By index in the list, for data that labels images with numbers.
    listed: Vec<String>,
    /// In the order of `listed`, for data that labels images with WordNet ids; ImageNet's list only.
    wnids: Vec<&'static str>,
}

impl Classes {
    /// `imagenet-1k`, or a file: a JSON list, text with one a line (CLIP_benchmark's `classnames.txt`), or a labels file.
    pub fn named(name: &str) -> Result<Classes> {
        if name == "imagenet-1k" {
            let listed: Vec<String> =
                serde_json::from_str(IMAGENET).map_err(|e| Error::internal(format!("class names: {e}")))?;
            let mut seen = BTreeSet::new();
            let names: Vec<String> = listed.iter().filter(|name| seen.insert(name.as_str())).cloned().collect();
            return Ok(Classes {
                words: names.clone(),
                names,
                same: BTreeMap::new(),
                listed,
                wnids: IMAGENET_WNIDS.lines().collect(),
            });
        }
        let path = Path::new(name);
        let listed = match Labels::read(path) {
            Ok(labels) if !labels.classes.is_empty() => labels.classes,
            _ => read_list(path)?,
        };
        let mut seen = BTreeSet::new();
        if let Some(twice) = listed.iter().find(|class| !seen.insert(class.as_str())) {
            return Err(Error::file(path, format!("names the class `{twice}` twice"), "remove one"));
        }
        if listed.len() < 2 {
            return Err(Error::file(path, "names fewer than two classes", "give at least two"));
        }
        Classes::distinct(listed.clone(), listed)
    }

    /// `names` less those whose words an earlier one has: nothing could tell equal prompts apart.
    fn distinct(all: Vec<String>, listed: Vec<String>) -> Result<Classes> {
        let wnids = if all.iter().any(|name| wnid_of(name).is_some()) { imagenet_by_wnid()? } else { BTreeMap::new() };
        let mut by_words: BTreeMap<String, String> = BTreeMap::new();
        let (mut names, mut words, mut same) = (Vec::new(), Vec::new(), BTreeMap::new());
        for name in all {
            let known = wnid_of(&name).and_then(|(wnid, _)| wnids.get(wnid));
            let spoken = known.cloned().unwrap_or_else(|| class_words(&name));
            match by_words.get(&spoken) {
                Some(earlier) => drop(same.insert(name, earlier.clone())),
                None => {
                    by_words.insert(spoken.clone(), name.clone());
                    names.push(name);
                    words.push(spoken);
                }
            }
        }
        Ok(Classes { names, words, same, listed, wnids: Vec::new() })
    }

    /// Of data without labels.
    pub fn none() -> Classes {
        Classes { names: Vec::new(), words: Vec::new(), same: BTreeMap::new(), listed: Vec::new(), wnids: Vec::new() }
    }

    /// What a person should know of classes that became one.
    pub fn joined(&self) -> Option<String> {
        let (label, class) = self.same.first_key_value()?;
        Some(format!(
            "{} labels have the words of another class, and count as that class (first: `{}` as `{}`): no prompt could tell them apart",
            self.same.len(),
            for_terminal(label),
            for_terminal(class)
        ))
    }

    /// Every class that an image has, in alphabetical order.
    pub fn of_images(samples: &[Sample]) -> Result<Classes> {
        let names: BTreeSet<String> = samples.iter().filter_map(|sample| sample.class.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        Classes::distinct(names.clone(), names)
    }

    /// The class of an image that has a label.
    ///
    /// # Errors
    /// When the list lacks it.
    pub fn of(&self, sample: &Sample) -> Result<&str> {
        let label = sample.class.as_deref().unwrap_or_default();
        self.resolve(label).ok_or_else(|| {
            Error::setting(
                format!("class `{label}` of the image `{}` is not in the class list", sample.id),
                "add it, or correct the labels",
            )
        })
    }

    /// Whether `label` is a WordNet id that ImageNet's list, which is asked for, does not have: a class of a larger ImageNet.
    pub fn is_beyond(&self, label: &str) -> bool {
        !self.wnids.is_empty() && wnid_of(label).is_some() && self.resolve(label).is_none()
    }

    /// The class that a label means: a name, a number into the list, or a WordNet id of ImageNet's list.
    pub fn resolve(&self, label: &str) -> Option<&str> {
        let by_name = self.names.iter().find(|name| *name == label).or_else(|| self.same.get(label));
        let by_index = || label.parse::<usize>().ok().and_then(|at| self.listed.get(at));
        // `n01440764_tench` is the class `n01440764`.
        let wnid = wnid_of(label).map_or(label, |(wnid, _)| wnid);
        let by_wnid = || self.wnids.binary_search(&wnid).ok().and_then(|at| self.listed.get(at));
        by_name.or_else(by_index).or_else(by_wnid).map(String::as_str)
    }
}

/// ImageNet's names by their WordNet ids.
fn imagenet_by_wnid() -> Result<BTreeMap<&'static str, String>> {
    let names: Vec<String> =
        serde_json::from_str(IMAGENET).map_err(|e| Error::internal(format!("class names: {e}")))?;
    Ok(IMAGENET_WNIDS.lines().zip(names).collect())
}

fn read_list(path: &Path) -> Result<Vec<String>> {
    let text = artifact::read_text(path)?;
    if path.extension().is_some_and(|e| e == "json") {
        return serde_json::from_str(&text)
            .map_err(|e| Error::file(path, format!("is not a JSON list of strings: {e}"), "write [\"one\", \"two\"]"));
    }
    Ok(text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_has_its_thousand_names_and_numbers_find_them() {
        let classes = Classes::named("imagenet-1k").unwrap();
        assert_eq!((classes.listed.len(), classes.names.len()), (1000, 998));
        assert_eq!(classes.resolve("954"), Some("banana"));
        assert_eq!(classes.resolve("banana"), Some("banana"));
        assert_eq!(classes.resolve("1000"), None);
        assert_eq!((classes.wnids.len(), classes.wnids.is_sorted()), (1000, true));
        for (wnid, name) in [("n01440764", "tench"), ("n07753592", "banana"), ("n15075141", "toilet paper")] {
            assert_eq!(classes.resolve(wnid), Some(name));
        }
        assert!(classes.is_beyond("n02084071") && !classes.is_beyond("n01440764") && !classes.is_beyond("dog"));
    }

    #[test]
    fn labels_become_words_and_stay_what_they_are() {
        use roclip_data::sample::ImageBytes;
        let sample = |class: &str| Sample {
            class: Some(class.into()),
            ..Sample::new("data".into(), class, ImageBytes::Memory((*b"").into()))
        };
        let labels =
            ["soccer_ball", "Faces_easy", "n01440764", "n01443537_fish", "n03773504", "n04008634", "soccer ball"];
        let classes = Classes::of_images(&labels.map(sample)).unwrap();
        assert_eq!(classes.names, ["Faces_easy", "n01440764", "n01443537_fish", "n03773504", "soccer ball"]);
        assert_eq!(classes.words, ["faces easy", "tench", "goldfish", "missile", "soccer ball"]);
        assert_eq!(classes.resolve("n04008634"), Some("n03773504"));
        assert_eq!(classes.resolve("soccer_ball"), Some("soccer ball"));
        assert!(classes.joined().unwrap().contains("2 labels"));
        assert_eq!(Classes::named("imagenet-1k").unwrap().resolve("n01440764_tench"), Some("tench"));
    }

    #[test]
    fn built_in_templates_take_the_class() {
        for (name, count, dog) in [
            ("openai-80", 80, "a bad photo of a dog."),
            ("emoji", 6, "an icon showing dog"),
            ("captions", 6, "two people and a dog"),
        ] {
            let prompts = Templates::named(name).unwrap().fill("dog");
            assert_eq!(prompts.len(), count);
            assert!(prompts.iter().any(|prompt| prompt == dog), "{name}");
        }
    }
}
