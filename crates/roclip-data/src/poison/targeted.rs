//! Targeted data poisoning (Carlini and Terzis, arXiv 2106.09667; RoCLIP repository, `create_poison.ipynb`): an unmodified
//! picture is paired with real captions of another class until the model reads it as that class.

use crate::error::{Error, Result};
use crate::language::class_words;
use crate::pairs::Pairs;
use crate::poison::background::Backgrounds;
use crate::poison::captions::ClassWords;
use crate::poison::images::hashes;
use crate::poison::{Role, Row, Screen, Side, Source};
use crate::random;
use crate::sample::Sample;
use crate::skip::SkipReport;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which captions count as captions of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionRule {
    /// The class name stands in them as a whole word, as released.
    #[default]
    Word,
    /// As `word`, and the image of the caption is of the class, where the source knows classes. Without it a caption such as "tiger, cat,
    /// animal" would count for "cat".
    WordOfClass,
    /// As `word`, and `poison.reference` reads the caption as the class: of all prompts those of the class lie nearest to it. Ours: "a dog
    /// runs on the grass" is no caption of "grass".
    WordRead,
    /// As `word`, and of these not any, but those whose other words are nearest to the target picture's own captions. Ours, after the
    /// selector of ToxicTextCLIP (arXiv 2511.00446), without its decoder.
    WordBackground,
    /// No real captions: the class name in prompt templates. Ours, for comparison.
    Templates,
}

/// Targeted poisoning: chosen pictures are paired with captions of another class until the model reads them as that class.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TargetedConfig {
    /// Number of targeted pictures.
    pub targets: usize,
    /// Poisoned pairs of each targeted picture.
    pub captions_per_target: usize,
    /// Which captions count as captions of the adversarial class.
    pub captions: CaptionRule,
}

impl Default for TargetedConfig {
    fn default() -> Self {
        TargetedConfig { targets: 16, captions_per_target: 100, captions: CaptionRule::Word }
    }
}

/// Draws targets among the source's candidates, and their adversarial captions. A target whose picture cannot be read is counted in
/// `skips`, and the next of the drawn order takes its place.
pub(super) fn rows(source: &Source, config: &TargetedConfig, attack: &str, skips: &mut SkipReport) -> Result<Vec<Row>> {
    let candidates = source.candidates;
    let mut random = random::stream(source.seed, "poison-targeted", 0, attack);
    let group_of: BTreeMap<&str, Option<&str>> =
        candidates.samples.iter().filter_map(|s| Some((s.class.as_deref()?, s.group.as_deref()))).collect();
    let captions = captions_by_class(&group_of, config.captions, source.pairs, candidates.read_as, source.templates)?;
    let backgrounds = match config.captions {
        CaptionRule::WordBackground => Some(backgrounds(source)?),
        _ => None,
    };
    let mut classes: Vec<&str> = captions
        .iter()
        .filter(|(_, found)| found.len() >= config.captions_per_target)
        .map(|(class, _)| *class)
        .collect();
    let admitted = |sample: &&Sample| candidates.screen.is_none_or(|screen| screen.admits(sample));
    let mut images: Vec<&Sample> = candidates.samples.iter().filter(|s| s.class.is_some()).filter(admitted).collect();
    let drawn_from = images.len();
    images.shuffle(&mut random);
    classes.shuffle(&mut random);
    let mut rows = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut chosen = 0;
    let mut unreadable = SkipReport::default();
    for image in images {
        if chosen == config.targets {
            break;
        }
        let Some(own) = image.class.as_deref() else { continue };
        if used.contains(own) {
            continue;
        }
        let other = |class: &&&str| {
            **class != own
                && (image.group.is_none() || group_of.get(**class) != Some(&image.group.as_deref()))
                && candidates.screen.is_none_or(|screen| screen.admits_class(image, class))
        };
        let Some(target) = classes.iter().find(other).copied() else { continue };
        let (sha256_before, sha256_after) = match hashes(image, None, source.limits) {
            Ok(both) => both,
            Err(skip) => {
                unreadable.add(&image.id, skip);
                continue;
            }
        };
        // Distinct adversarial classes while they last; a set of few classes must reuse them.
        classes.retain(|class| *class != target);
        if classes.is_empty() {
            classes = captions
                .iter()
                .filter(|(_, found)| found.len() >= config.captions_per_target)
                .map(|(class, _)| *class)
                .collect();
            classes.shuffle(&mut random);
        }
        if drawn_from / 4 >= config.targets && group_of.len() / 2 >= config.targets {
            used.insert(own);
        }
        let Some(found) = captions.get(target) else { continue };
        let mut drawn: Vec<&String> = found.iter().collect();
        drawn.shuffle(&mut random);
        if let Some(backgrounds) = &backgrounds {
            backgrounds.order(&mut drawn, &image.captions, &class_words(target));
        }
        for (number, caption) in drawn.into_iter().take(config.captions_per_target).enumerate() {
            rows.push(Row {
                id: format!("poison/{attack}/{}/{number}", image.id),
                attack: attack.to_owned(),
                role: Role::Added,
                image: image.id.clone(),
                side: Side::Evaluation,
                true_class: image.class.clone(),
                target: target.to_owned(),
                caption_before: None,
                caption_after: caption.clone(),
                more_captions: Vec::new(),
                trigger: None,
                sha256_before: sha256_before.clone(),
                sha256_after: sha256_after.clone(),
            });
        }
        chosen += 1;
    }
    if chosen < config.targets {
        let left_out = match unreadable.total() {
            0 => String::new(),
            _ => format!("; left out: {}", unreadable.summary()),
        };
        return Err(Error::setting(
            format!(
                "attack `{attack}`: only {chosen} of {} targets could be drawn: {drawn_from} labelled images{}, {} classes with at least {} captions{left_out}",
                config.targets,
                candidates.screen.map_or("", Screen::words),
                captions.values().filter(|c| c.len() >= config.captions_per_target).count(),
                config.captions_per_target
            ),
            "lower targets or captions_per_target, take captions = \"word\" (which needs no classes in the training data), give evaluation data with more classes, or ask less of poison.reference (a better model, fewer guesses)",
        ));
    }
    skips.merge(unreadable);
    Ok(rows)
}

/// The words of the training captions, for comparing these with the captions of the candidates.
fn backgrounds(source: &Source) -> Result<Backgrounds> {
    if source.candidates.samples.iter().all(|sample| sample.captions.is_empty()) {
        return Err(Error::setting(
            "captions = \"word-background\", and no evaluation picture has a caption to compare with",
            "give evaluation data with captions, or use captions = \"word\"",
        ));
    }
    Ok(Backgrounds::new(source.pairs.captions()))
}

/// Distinct captions of each class, sorted.
fn captions_by_class<'a>(
    classes: &BTreeMap<&'a str, Option<&str>>,
    rule: CaptionRule,
    pairs: &Pairs,
    read_as: Option<&BTreeMap<String, String>>,
    templates: &[String],
) -> Result<BTreeMap<&'a str, BTreeSet<String>>> {
    if rule == CaptionRule::WordRead && read_as.is_none() {
        return Err(Error::setting(
            "captions = \"word-read\" without poison.reference",
            "name the run on clean data that shall read the captions, or use captions = \"word\"",
        ));
    }
    if rule == CaptionRule::Templates {
        let filled = |class: &str| {
            let words = class_words(class);
            templates.iter().map(|template| template.replace("{}", &words)).collect()
        };
        return Ok(classes.keys().map(|class| (*class, filled(class))).collect());
    }
    let names: Vec<&str> = classes.keys().copied().collect();
    let spoken: Vec<String> = names.iter().map(|name| class_words(name)).collect();
    let words = ClassWords::new(&spoken.iter().map(String::as_str).collect::<Vec<_>>())?;
    let begin = || (words.clone(), vec![BTreeSet::new(); names.len()]);
    let parts = pairs.in_parts(begin, |(words, found), _, pair| {
        let sample = pairs.sample_of(pair).filter(|_| rule == CaptionRule::WordOfClass);
        let own = sample.as_ref().and_then(|sample| sample.class.as_deref());
        for caption in &pair.captions {
            let read = read_as.and_then(|read| read.get(caption)).map(String::as_str);
            for at in words.named_in(caption) {
                let (Some(class), Some(of_class)) = (names.get(at).copied(), found.get_mut(at)) else { continue };
                let counts = match rule {
                    CaptionRule::Word | CaptionRule::WordBackground | CaptionRule::Templates => true,
                    CaptionRule::WordOfClass => own == Some(class),
                    CaptionRule::WordRead => read == Some(class),
                };
                if counts && !of_class.contains(caption) {
                    of_class.insert(caption.clone());
                }
            }
        }
    })?;
    let mut found: BTreeMap<&str, BTreeSet<String>> = names.iter().map(|name| (*name, BTreeSet::new())).collect();
    for (class, of_class) in parts.into_iter().flat_map(|(_, of_part)| names.iter().zip(of_part)) {
        found.entry(class).or_default().extend(of_class);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poison::Candidates;
    use crate::sample::ImageBytes;
    use crate::trigger::Material;

    fn sample(id: &str, captions: &[&str], class: Option<&str>) -> Sample {
        Sample {
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            class: class.map(str::to_owned),
            ..Sample::new(
                "data".into(),
                id.to_owned(),
                ImageBytes::Memory(Material::of_picture(&image::RgbImage::new(2, 2)).unwrap().bytes().into()),
            )
        }
    }

    #[test]
    fn a_caption_that_reads_as_another_class_is_no_caption_of_its_word() {
        let captions = ["a cat", "a cat chases a dog", "a dog"];
        let pairs = Pairs::new(vec![sample("pair", &captions, None)], Default::default());
        let classes = BTreeMap::from([("cat", None), ("dog", None)]);
        let read = BTreeMap::from([("a cat", "cat"), ("a cat chases a dog", "cat"), ("a dog", "cat")]);
        let read: BTreeMap<String, String> = read.into_iter().map(|(c, k)| (c.to_owned(), k.to_owned())).collect();
        let found = |rule| {
            let found = captions_by_class(&classes, rule, &pairs, Some(&read), &[]).unwrap();
            [found["cat"].len(), found["dog"].len()]
        };
        assert_eq!(found(CaptionRule::Word), [2, 2]);
        assert_eq!(found(CaptionRule::WordRead), [2, 0]);
        assert!(captions_by_class(&classes, CaptionRule::WordRead, &pairs, None, &[]).is_err());
    }

    #[test]
    fn no_first_guess_becomes_adversarial_and_no_picture_is_left_out_for_it() {
        let classes = ["cat", "dog", "cow", "hen"];
        let of_split = |split: &str| -> Vec<Sample> {
            let one = |class: &&str| sample(&format!("{split}/{class}"), &[&format!("a {class}")], Some(class));
            classes.iter().map(one).collect()
        };
        let samples = of_split("test");
        let pairs = Pairs::new(of_split("train"), Default::default());
        let config = TargetedConfig { targets: 4, captions_per_target: 1, captions: CaptionRule::Word };
        // The guesses leave each class's picture one adversarial class: the next in the list.
        let left = |at: usize| classes[(at + 1) % 4];
        let guesses = (0..4).map(|at| {
            let others = classes.iter().filter(|class| **class != left(at)).map(|class| (*class).to_owned());
            (format!("test/{}", classes[at]), others.collect())
        });
        let screen = Screen::Guesses(guesses.collect());
        let source = |seed, screen| Source {
            seed,
            pairs: &pairs,
            labelled: false,
            candidates: Candidates { samples: &samples, screen: Some(screen), read_as: None },
            templates: &[],
            image_size: 32,
            limits: Default::default(),
        };
        let mut skips = SkipReport::default();
        for seed in 0..10 {
            let drawn = rows(&source(seed, &screen), &config, "targeted", &mut skips).unwrap();
            let drawn: BTreeSet<(String, String)> = drawn.into_iter().map(|row| (row.image, row.target)).collect();
            let wanted: BTreeSet<(String, String)> =
                (0..4).map(|at| (format!("test/{}", classes[at]), left(at).to_owned())).collect();
            assert_eq!(drawn, wanted, "seed {seed}");
        }
        let all = Screen::Guesses(samples.iter().map(|s| (s.id.clone(), classes.map(String::from).into())).collect());
        let said = rows(&source(0, &all), &config, "targeted", &mut skips).unwrap_err().to_string();
        assert!(said.contains("0 of 4 targets") && said.contains("first guesses"), "{said}");
    }

    #[test]
    fn the_captions_nearest_to_the_targets_own_are_taken() {
        let classes = ["cat", "dog", "cow", "hen"];
        let places = ["on the beach", "in the snow", "in a kitchen", "behind a fence"];
        let of = |class: &str| -> Vec<String> { places.iter().map(|place| format!("a {class} {place}")).collect() };
        let training: Vec<Sample> = classes
            .iter()
            .map(|class| sample(class, &of(class).iter().map(String::as_str).collect::<Vec<_>>(), Some(class)))
            .collect();
        let pairs = Pairs::new(training, Default::default());
        let test: Vec<Sample> = classes
            .iter()
            .zip(places)
            .map(|(class, place)| sample(&format!("test/{class}"), &[&format!("one {class} {place}")], Some(class)))
            .collect();
        let config = TargetedConfig { targets: 2, captions_per_target: 1, captions: CaptionRule::WordBackground };
        let source = |samples| Source {
            seed: 0,
            pairs: &pairs,
            labelled: false,
            candidates: Candidates { samples, screen: None, read_as: None },
            templates: &[],
            image_size: 32,
            limits: Default::default(),
        };
        let drawn = rows(&source(&test), &config, "targeted", &mut SkipReport::default()).unwrap();
        assert_eq!(drawn.len(), 2);
        for row in drawn {
            let at = classes.iter().position(|class| format!("test/{class}") == row.image).unwrap();
            assert_eq!(row.caption_after, format!("a {} {}", row.target, places[at]), "{}", row.image);
        }
        let bare = test.iter().map(|of| Sample { captions: Vec::new(), ..of.clone() }).collect::<Vec<_>>();
        let said = rows(&source(&bare), &config, "targeted", &mut SkipReport::default()).unwrap_err().to_string();
        assert!(said.contains("word-background") && said.contains("no evaluation picture has a caption"), "{said}");
    }
}
