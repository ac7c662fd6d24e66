//! Targeted data poisoning (Carlini and Terzis, arXiv 2106.09667; RoCLIP repository, `create_poison.ipynb`): an unmodified
//! picture is paired with real captions of another class until the model reads it as that class.

use crate::data::{Pairs, Sample};
use crate::error::{Error, Result};
use crate::poison::{Role, Row};
use crate::random;
use rand::seq::SliceRandom;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which captions count as captions of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionRule {
    /// As released: the class name stands in them as a whole word.
    #[default]
    Word,
    /// That, and the caption's own image is of the class (where the source knows classes). Without it a caption such as
    /// "tiger, cat, animal" would count for "cat".
    WordOfClass,
    /// No real captions: the class name in prompt templates. Ours, for comparison.
    Templates,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TargetedConfig {
    /// Distinct target images.
    pub targets: usize,
    /// Poisoned pairs for each of them.
    pub captions_per_target: usize,
    pub captions: CaptionRule,
}

impl Default for TargetedConfig {
    fn default() -> Self {
        TargetedConfig { targets: 16, captions_per_target: 100, captions: CaptionRule::Word }
    }
}

/// Labelled images outside the training data.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    pub samples: &'a [Sample],
    /// Ids of those that may become targets; all of them when absent.
    pub eligible: Option<&'a BTreeSet<String>>,
}

/// Draws targets among `candidates`, and their adversarial captions.
pub fn rows(
    config: &TargetedConfig,
    attack: &str,
    seed: u64,
    pairs: &Pairs,
    candidates: Candidates,
    templates: &[String],
) -> Result<Vec<Row>> {
    let mut random = random::stream(seed, "poison-targeted", 0, attack);
    let group_of: BTreeMap<&str, Option<&str>> =
        candidates.samples.iter().filter_map(|s| Some((s.class.as_deref()?, s.group.as_deref()))).collect();
    let captions = captions_by_class(&group_of, config.captions, pairs, templates)?;
    let mut classes: Vec<&str> = captions
        .iter()
        .filter(|(_, found)| found.len() >= config.captions_per_target)
        .map(|(class, _)| *class)
        .collect();
    let eligible = |sample: &&Sample| candidates.eligible.is_none_or(|ids| ids.contains(&sample.id));
    let mut images: Vec<&Sample> = candidates.samples.iter().filter(|s| s.class.is_some()).filter(eligible).collect();
    let drawn_from = images.len();
    images.shuffle(&mut random);
    classes.shuffle(&mut random);
    let mut rows = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut chosen = 0;
    for image in images {
        if chosen == config.targets {
            break;
        }
        let Some(own) = image.class.as_deref() else { continue };
        if used.contains(own) {
            continue;
        }
        let other = |class: &&&str| {
            **class != own && (image.group.is_none() || group_of.get(**class) != Some(&image.group.as_deref()))
        };
        let Some(target) = classes.iter().find(other).copied() else { continue };
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
        if drawn_from >= 4 * config.targets && group_of.len() >= 2 * config.targets {
            used.insert(own);
        }
        let Some(found) = captions.get(target) else { continue };
        let mut drawn: Vec<&String> = found.iter().collect();
        drawn.shuffle(&mut random);
        for (number, caption) in drawn.into_iter().take(config.captions_per_target).enumerate() {
            rows.push(Row {
                id: format!("poison/{attack}/{}/{number}", image.id),
                attack: attack.to_owned(),
                role: Role::Added,
                image: image.id.clone(),
                true_class: image.class.clone(),
                target: target.to_owned(),
                caption_before: None,
                caption_after: caption.clone(),
                trigger: None,
                sha256_before: String::new(),
                sha256_after: String::new(),
            });
        }
        chosen += 1;
    }
    if chosen < config.targets {
        return Err(Error::setting(
            format!(
                "only {chosen} of {} targets could be drawn: {drawn_from} labelled images{}, {} classes with at least {} captions",
                config.targets,
                if candidates.eligible.is_some() { " that poison.reference classifies rightly" } else { "" },
                captions.values().filter(|c| c.len() >= config.captions_per_target).count(),
                config.captions_per_target
            ),
            "lower targets or captions_per_target, or give evaluation data with more classes (or a better reference)",
        ));
    }
    Ok(rows)
}

/// Distinct captions of each class, sorted.
fn captions_by_class<'a>(
    classes: &BTreeMap<&'a str, Option<&str>>,
    rule: CaptionRule,
    pairs: &Pairs,
    templates: &[String],
) -> Result<BTreeMap<&'a str, BTreeSet<String>>> {
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for class in classes.keys() {
        if rule == CaptionRule::Templates {
            found.insert(class, templates.iter().map(|t| t.replace("{}", class)).collect());
            continue;
        }
        let pattern = whole_word(class)?;
        for pair in &pairs.pairs {
            let of_class = pairs.sample_of(pair).is_some_and(|s| s.class.as_deref() == Some(*class));
            if rule == CaptionRule::Word || of_class {
                found.entry(class).or_default().extend(pair.captions.iter().filter(|c| pattern.is_match(c)).cloned());
            }
        }
    }
    Ok(found)
}

/// Matches `class` as a whole word, in any case.
pub fn whole_word(class: &str) -> Result<Regex> {
    Regex::new(&format!(r"(?i)(^|\W){}(\W|$)", regex::escape(class))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        let cat = whole_word("cat").unwrap();
        assert!(cat.is_match("A Cat sleeps") && cat.is_match("cat, grinning"));
        assert!(!cat.is_match("catalogue") && !cat.is_match("tomcat"));
    }
}
