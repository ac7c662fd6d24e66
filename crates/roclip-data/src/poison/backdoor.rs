//! Rows of a backdoor: which pairs carry the trigger, and under which captions.

use crate::error::{Error, Result};
use crate::language::class_words;
use crate::pairs::Pair;
use crate::poison::captions::whole_word;
use crate::poison::images::hashes;
use crate::poison::{AttackConfig, BackdoorCaptions, Role, Row, Side, Source};
use crate::progress::Task;
use crate::random;
use crate::skip::SkipReport;
use crate::trigger::TriggerStack;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::BTreeSet;

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
    let word = whole_word(&spoken)?;
    let mentions = |pair: &Pair| pair.captions.iter().any(|c| word.is_match(c));
    let captions: BTreeSet<String> = match attack.captions {
        BackdoorCaptions::Templates => source.templates.iter().map(|t| t.replace("{}", &spoken)).collect(),
        BackdoorCaptions::Real => {
            pairs.pairs.iter().flat_map(|p| &p.captions).filter(|c| word.is_match(c)).cloned().collect()
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
        BackdoorCaptions::OwnSubstring => caption.contains(target),
        _ => word.is_match(caption),
    };
    let eligible = |pair: &&Pair| {
        let suits = if label_consistent { pair.captions.iter().any(|c| keeps(&c)) } else { !mentions(pair) };
        suits && !taken.contains(&pair.id)
    };
    let mut victims: Vec<&Pair> = pairs.pairs.iter().filter(eligible).collect();
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
    let mut unreadable = SkipReport::default();
    let task = Task::begin("drawing poison", count, "pairs");
    for pair in victims {
        if rows.len() == count {
            break;
        }
        let sample =
            pairs.sample_of(pair).ok_or_else(|| Error::internal(format!("pair `{}` has no sample", pair.id)))?;
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
