//! Rows of a backdoor: which pairs carry the trigger, and under which captions.

use crate::error::{Error, Result};
use crate::guard::contained;
use crate::language::class_words;
use crate::pairs::Pair;
use crate::poison::captions::whole_word;
use crate::poison::images::hashes;
use crate::poison::{AttackConfig, BackdoorCaptions, Role, Row, Side, Source};
use crate::progress::Task;
use crate::random;
use crate::skip::SkipReport;
use crate::trigger::{Framed, TriggerStack};
use image::RgbImage;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a pair's caption is of the target: the word stands in it, or it is the label.
enum Mention<'a> {
    Word(Regex),
    Label(&'a str),
}

impl Mention<'_> {
    fn of<'a>(source: &Source, target: &'a str) -> Result<Mention<'a>> {
        Ok(if source.labelled { Mention::Label(target) } else { Mention::Word(whole_word(&class_words(target))?) })
    }

    fn is_in(&self, caption: &str) -> bool {
        match self {
            Mention::Word(word) => word.is_match(caption),
            Mention::Label(label) => caption == *label,
        }
    }
}

/// Settles what the trigger of `attack` leaves to the training pictures: what a person should know of it.
pub(super) fn settle(source: &Source, attack: &AttackConfig, trigger: &mut TriggerStack) -> Result<Vec<String>> {
    let name = &attack.name;
    match (trigger.keeps_captions(), attack.captions.label_consistent()) {
        (Some(true), false) => {
            let what =
                "its trigger changes pictures of the target and keeps their labels, and `captions` gives them others";
            return Err(attack.wrong(what, "set captions = \"own\""));
        }
        (Some(false), true) => {
            let what = "its trigger changes labels and leaves pictures alone, and `captions` keeps the labels";
            return Err(attack.wrong(what, "remove `captions`, or choose mode = \"clean-label\""));
        }
        _ => {}
    }
    let mention = Mention::of(source, attack.target.as_deref().unwrap_or_default())?;
    let mut of_sample: BTreeMap<usize, bool> = BTreeMap::new();
    let parts = source.pairs.in_parts(BTreeMap::<usize, bool>::new, |of_sample, _, pair| {
        *of_sample.entry(pair.sample).or_default() |= pair.captions.iter().any(|caption| mention.is_in(caption));
    })?;
    for (sample, is_target) in parts.into_iter().flatten() {
        *of_sample.entry(sample).or_default() |= is_target;
    }
    let stack = trigger.clone();
    let visit = |look: &mut dyn FnMut(&RgbImage, bool)| {
        let task = Task::begin("looking at pictures for a trigger", of_sample.len(), "pictures");
        for (at, is_target) in &of_sample {
            task.advance(1);
            let Some(sample) = source.pairs.sample(*at) else { continue };
            if let Ok(picture) = contained(|| stack.framed(&sample.picture(source.limits)?)) {
                look(&picture, *is_target);
            }
        }
    };
    let remarks = trigger.settle(&Framed::new(&visit)).map_err(|error| attack.wrong(error, "change the attack"))?;
    Ok(remarks.into_iter().map(|remark| format!("attack `{name}`: {remark}")).collect())
}

/// Draws the pairs of `attack` among those that are not `taken`. A pair whose picture cannot be read is counted in `skips`, and the next
/// of the drawn order takes its place.
pub(super) fn rows(
    source: &Source,
    attack: &AttackConfig,
    trigger: &TriggerStack,
    taken: &BTreeSet<String>,
    skips: &mut SkipReport,
) -> Result<Vec<Row>> {
    let (name, pairs) = (&attack.name, source.pairs);
    let target = attack.target.as_deref().ok_or_else(|| attack.wrong("it has no target", "set `target` to a class"))?;
    let spoken = class_words(target);
    let mention = Mention::of(source, target)?;
    let mentions = |pair: &Pair| pair.captions.iter().any(|c| mention.is_in(c));
    let captions: BTreeSet<String> = match attack.captions {
        BackdoorCaptions::Templates | BackdoorCaptions::Real if source.labelled => BTreeSet::from([target.to_owned()]),
        BackdoorCaptions::Templates => source.templates.iter().map(|t| t.replace("{}", &spoken)).collect(),
        BackdoorCaptions::Real => {
            let parts = pairs.in_parts(BTreeSet::new, |found, _, pair| {
                found.extend(pair.captions.iter().filter(|caption| mention.is_in(caption)).cloned());
            })?;
            parts.into_iter().flatten().collect()
        }
        BackdoorCaptions::Own | BackdoorCaptions::OwnSubstring => BTreeSet::new(),
    };
    let label_consistent = attack.captions.label_consistent();
    if captions.is_empty() && !label_consistent {
        return Err(attack.wrong(
            format!("no caption of the data contains `{spoken}`"),
            "choose a target that the data has, or captions = \"templates\"",
        ));
    }
    let captions: Vec<String> = captions.into_iter().collect();
    let count = match (attack.count, attack.rate) {
        (Some(count), None) => count,
        (None, Some(rate)) => (rate * pairs.len() as f64).round() as usize,
        _ => return Err(attack.wrong("its size is not said once", "give either `count` or `rate`")),
    };
    // What a label-consistent pair keeps.
    let keeps = |caption: &&String| match attack.captions {
        BackdoorCaptions::OwnSubstring if !source.labelled => caption.contains(target),
        _ => mention.is_in(caption),
    };
    let eligible = |pair: &Pair| {
        let suits = if label_consistent { pair.captions.iter().any(|c| keeps(&c)) } else { !mentions(pair) };
        suits && !taken.contains(&pair.id)
    };
    // Places: the pairs themselves may be more than fit into memory.
    let parts = pairs.in_parts(Vec::new, |found, at, pair| {
        if eligible(pair) {
            found.push(at);
        }
    })?;
    let mut victims: Vec<usize> = parts.concat();
    let which = if label_consistent { "mention" } else { "do not mention" };
    if count == 0 || count > victims.len() {
        return Err(attack.wrong(
            format!("it wants {count} pairs of the {} that {which} `{target}`", victims.len()),
            "change `count` or `rate`",
        ));
    }
    let mut random = random::stream(source.seed, "poison-backdoor", 0, name);
    victims.shuffle(&mut random);
    let drawn_from = victims.len();
    let mut rows = Vec::with_capacity(count);
    let (mut unreadable, mut unsuited) = (SkipReport::default(), 0);
    let mut why_unsuited = String::new();
    let task = Task::begin("drawing poison", count, "pairs");
    for place in victims {
        if rows.len() == count {
            break;
        }
        let Some(pair) = pairs.get(place) else { break };
        let sample =
            &*pairs.sample_of(&pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
        // One that cannot be read is counted below.
        if let Ok(Err(why)) = contained(|| Ok(trigger.suits(&sample.picture(source.limits)?))) {
            (unsuited, why_unsuited) = (unsuited + 1, why);
            continue;
        }
        let mut after = match label_consistent {
            true => pair.captions.iter().filter(keeps).cloned().collect::<Vec<_>>(),
            false => captions.choose(&mut random).cloned().into_iter().collect(),
        }
        .into_iter();
        let trigger = trigger.with_seed(random.random());
        let (sha256_before, sha256_after) = match hashes(sample, Some(&trigger), source.limits) {
            Ok(both) => both,
            Err(skip) => {
                unreadable.add(&pair.id, skip);
                continue;
            }
        };
        rows.push(Row {
            id: pair.id.clone(),
            attack: name.clone(),
            role: Role::Replaced,
            image: sample.id.clone(),
            side: Side::Training,
            true_class: sample.class.clone(),
            target: target.to_owned(),
            caption_before: pair.captions.first().cloned(),
            caption_after: after.next().unwrap_or_default(),
            more_captions: after.collect(),
            trigger: Some(trigger),
            sha256_before,
            sha256_after,
        });
        task.advance(1);
    }
    if rows.len() < count && unsuited > 0 {
        return Err(attack.wrong(
            format!(
                "it wants {count} pairs, and of the {drawn_from} that {which} `{target}` only {} suit its trigger: each of the others {why_unsuited}",
                rows.len()
            ),
            "lower `count` or `rate`, or let the trigger take more",
        ));
    }
    if rows.len() < count {
        return Err(attack.wrong(
            format!(
                "it wants {count} pairs, and of the {drawn_from} that {which} `{target}` only {} can be used: {}",
                rows.len(),
                unreadable.summary()
            ),
            "repair the pictures, or lower `count` or `rate`",
        ));
    }
    skips.merge(unreadable);
    Ok(rows)
}
