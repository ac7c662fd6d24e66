//! Which pictures would be taken for triggered ones, as they are and with each trigger that is known: beside pictures that are known to be
//! clean, or beside a random half of the pictures themselves.

mod judged;
mod known_clean;
mod pictures;
mod scored;
mod unread;
mod views;
mod written;

pub use judged::{FlaggedOfAttack, InputJudged, InputMethodFlags};
pub use known_clean::KnownClean;
pub use pictures::{InputPictures, TrustedPictures, trusted_pictures};
pub use unread::Unread;

use crate::attack::distinct;
use crate::detect::{ClassTexts, InputMethod};
use crate::error::{Error, Result};
use crate::eval::{ImageEncoder, text_features};
use crate::model::unit;
use crate::run::ordering::COMBINED;
use judged::{flags, judged};
use known_clean::{Divided, check_level, divided};
use roclip_data::plural::count;
use roclip_data::poison::Backdoor;
use roclip_data::progress::Task;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;
use roclip_data::tokenizer::Tokenizer;
use scored::{depends_on_others, of_row, of_row_beside, together};
use serde::Serialize;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use unread::{check_read, unread};
use views::{Group, Views, plain_features};

/// The share of the clean pictures that is flagged where nobody asks for another.
pub const INPUT_LEVEL: f64 = 0.05;

/// What the pictures that are looked at are named by, and the trusted ones.
const NAMED: &str = "evaluation (eval.source)";
const TRUSTED_NAMED: &str = "--trusted-data";

/// What a picture scores beside those of an attack.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Beside {
    #[serde(flatten)]
    pub scores: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_values: Option<BTreeMap<&'static str, f64>>,
}

/// What is said of one picture.
#[derive(Debug, Clone, Serialize)]
pub struct InputScore {
    pub id: String,
    /// The attack whose trigger it carries; none of a clean one.
    pub attack: Option<String>,
    pub scores: BTreeMap<&'static str, f64>,
    /// Of trusted pictures and this one, the share that is at least as suspicious; where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_values: Option<BTreeMap<&'static str, f64>>,
    /// The methods whose p-value is at most the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<Vec<&'static str>>,
    /// Of a picture as it is, by attack: what differs where it is looked at together with that attack's pictures.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, Beside>,
    /// Its place among [`SuspectInputs::samples`].
    #[serde(skip)]
    pub place: usize,
    /// Which of [`SuspectInputs::backdoors`] was laid on it.
    #[serde(skip)]
    pub laid: Option<usize>,
}

impl InputScore {
    /// The score by `method`, beside the pictures of `attack` where that makes a difference; not a number where there is none.
    pub fn score(&self, method: &str, attack: &str) -> f64 {
        let beside = self.beside.get(attack).and_then(|beside| beside.scores.get(method));
        beside.or_else(|| self.scores.get(method)).copied().unwrap_or(f64::NAN)
    }

    /// The p-value in the same way.
    fn p_value(&self, method: &str, attack: &str) -> Option<f64> {
        let beside = self.beside.get(attack).and_then(|beside| beside.p_values.as_ref()?.get(method));
        beside.or_else(|| self.p_values.as_ref()?.get(method)).copied()
    }

    /// Whether `method` flags it at `level`, beside nothing else.
    pub fn is_flagged(&self, method: &str, level: f64) -> bool {
        self.p_values.as_ref().and_then(|p| p.get(method)).is_some_and(|p| *p <= level)
    }
}

/// Which texts about the classes were taken.
#[derive(Debug, Clone, Serialize)]
pub struct DescribedBy {
    pub name: String,
    pub provenance: String,
}

/// What was made of trusted pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrustedInputs {
    /// Pictures that could be read, whose features say how clean ones vary.
    pub statistics: usize,
    /// Others, which say how rare a score is.
    pub held_out: usize,
    /// Further ones that are copies of these and are left out: a picture counts once.
    pub copies: usize,
    /// About this share of the clean pictures is flagged, on average, where the trusted ones are such as they are.
    pub level: f64,
}

/// Pictures with their scores.
#[derive(Serialize)]
pub struct SuspectInputs {
    /// Pictures that are known, or taken, to be clean.
    pub clean: usize,
    /// Pictures that were looked at without a trigger.
    pub looked_at: usize,
    /// Of these, those that cannot be read.
    pub unreadable: usize,
    /// None where a random half of the pictures was taken for clean.
    pub trusted: Option<TrustedInputs>,
    /// Whose texts the method `descriptions` took.
    pub descriptions: Option<DescribedBy>,
    /// Where there are several, what they say together is the last.
    pub methods: Vec<InputMethodFlags>,
    pub judged: Vec<InputJudged>,
    /// As they are, then with each trigger.
    #[serde(skip)]
    pub inputs: Vec<InputScore>,
    #[serde(skip)]
    pub samples: Vec<Sample>,
    #[serde(skip)]
    pub backdoors: Vec<Backdoor>,
    /// What could not be read, of these and of the clean ones.
    #[serde(skip)]
    pub unread: Vec<Unread>,
    /// The same counted by reason, of what was found out while the pictures were read.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// What looks at pictures, and what is asked.
pub struct InputLook<'a> {
    pub encoder: ImageEncoder<'a>,
    pub tokenizer: &'a Tokenizer,
    pub methods: Vec<InputMethod>,
    /// What the method `descriptions` asks for.
    pub texts: Option<ClassTexts>,
    /// Triggers that the pictures are looked at with, too.
    pub backdoors: Vec<Backdoor>,
    /// What was left out when the pictures were listed.
    pub skips: SkipReport,
    /// More than this share of the pictures that cannot be read is an error.
    pub max_skip_fraction: f64,
    pub seed: u64,
}

/// Looks at `pictures`, of which some may carry a trigger.
///
/// # Errors
/// Too few pictures, too many that cannot be read, a level that the trusted ones cannot state, and a method that lacks what it asks for.
pub fn suspect_inputs(look: InputLook, pictures: Vec<Sample>, clean: KnownClean) -> Result<SuspectInputs> {
    let InputLook { encoder, tokenizer, methods, texts, backdoors, mut skips, max_skip_fraction, seed } = look;
    let methods = distinct(&methods);
    if methods.contains(&InputMethod::Descriptions) && texts.is_none() {
        return Err(Error::setting(
            "the method `descriptions` compares sentences, and nothing describes the classes",
            "name a file with --descriptions",
        ));
    }
    let Divided { looked_at, statistics, held_out, copies, mut trusted_skips } = divided(pictures, clean, seed)?;
    let said = texts.as_ref().map(|texts| said(texts, &encoder, tokenizer)).transpose()?;
    let (features, unread_clean) = plain_features(&encoder, &statistics)?;
    let used = crate::model::extent(&features, 0) as usize;
    let clean_named = if held_out.is_some() { TRUSTED_NAMED } else { NAMED };
    check_read(clean_named, statistics.len() - used, statistics.len(), &unread_clean, max_skip_fraction)?;
    if used < 2 {
        return Err(Error::setting(
            format!("of {} that should be clean fewer than two can be read", count(statistics.len(), "picture")),
            "name pictures that can be read",
        ));
    }
    let views = Views { encoder, methods: &methods, said, clean: features };
    let kinds = 1 + backdoors.len() + usize::from(held_out.is_some());
    let task = Task::begin("looking at inputs", kinds, "kinds");
    let look_at = |samples: &[Sample], backdoor: Option<&Backdoor>| -> Result<Group> {
        let group = views.of(samples, backdoor)?;
        task.advance(1);
        Ok(group)
    };
    let known = match &held_out {
        Some((samples, level)) => {
            let group = look_at(samples, None)?;
            let lost = samples.len() - group.places.len();
            check_read(TRUSTED_NAMED, lost, samples.len(), &group.skips, max_skip_fraction)?;
            // Some of them may not be readable.
            check_level(*level, statistics.len() + samples.len(), group.places.len(), copies)?;
            Some((group, *level))
        }
        None => None,
    };
    let (known, level) = (known.as_ref().map(|(group, _)| group), known.as_ref().map(|(_, level)| *level));
    let plain = look_at(&looked_at, None)?;
    let unreadable = looked_at.len() - plain.places.len();
    check_read(NAMED, unreadable, looked_at.len(), &plain.skips, max_skip_fraction)?;
    if plain.places.is_empty() {
        return Err(Error::setting(
            format!("none of the {} pictures can be read", looked_at.len()),
            "name others with --val-data",
        ));
    }
    let mut inputs = Vec::new();
    for backdoor in std::iter::once(None).chain(backdoors.iter().enumerate().map(Some)) {
        let triggered = backdoor.map(|(_, backdoor)| look_at(&looked_at, Some(backdoor))).transpose()?;
        let groups: Vec<&Group> = [Some(&plain), triggered.as_ref()].into_iter().flatten().collect();
        let found = together(&methods, &groups, known, &views.clean)?;
        if let (Some((_, backdoor)), Some(beside)) = (backdoor, found.first()) {
            for (row, input) in inputs.iter_mut().take(plain.places.len()).enumerate() {
                let input: &mut InputScore = input;
                let p_values = beside.p_values.as_ref().map(|p| of_row_beside(p, row));
                let beside = Beside { scores: of_row_beside(&beside.scores, row), p_values };
                if !beside.scores.is_empty() {
                    input.beside.insert(backdoor.attack.clone(), beside);
                }
            }
        }
        // The last group is the one that is new.
        let (Some(group), Some(scored)) = (groups.last(), found.last()) else { continue };
        for (row, place) in group.places.iter().enumerate() {
            let Some(sample) = looked_at.get(*place) else { continue };
            let written = sample.poison.as_ref().map(|mark| mark.attack.clone());
            let p_values = scored.p_values.as_ref().map(|p| of_row(p, row));
            let flagged = p_values.as_ref().zip(level).map(|(p, level)| {
                p.iter().filter(|(_, p)| **p <= level).map(|(method, _)| *method).collect::<Vec<_>>()
            });
            inputs.push(InputScore {
                id: sample.id.clone(),
                attack: backdoor.map(|(_, backdoor)| backdoor.attack.clone()).or(written),
                scores: of_row(&scored.scores, row),
                p_values,
                flagged,
                beside: BTreeMap::new(),
                place: *place,
                laid: backdoor.map(|(laid, _)| laid),
            });
        }
    }
    let mut names: Vec<&'static str> = methods.iter().map(|method| method.name()).collect();
    if methods.len() > 1 {
        names.push(COMBINED);
    }
    let held = known.map_or(0, |group| group.places.len());
    let trusted = level.map(|level| TrustedInputs { statistics: used, held_out: held, copies, level });
    let mut unread_trusted = known.map(|group| group.skips.clone()).unwrap_or_default();
    let mut unread_named = plain.skips;
    match trusted {
        Some(_) => unread_trusted.merge(unread_clean),
        None => unread_named.merge(unread_clean),
    }
    let warnings = [("", &unread_named), ("--trusted-data: ", &unread_trusted)]
        .into_iter()
        .filter(|(_, skips)| skips.total() > 0)
        .map(|(of, skips)| format!("{of}left out: {}", skips.summary()))
        .collect();
    skips.merge(unread_named);
    trusted_skips.merge(unread_trusted);
    Ok(SuspectInputs {
        clean: used + held,
        looked_at: looked_at.len(),
        unreadable,
        trusted,
        descriptions: texts.map(|texts| DescribedBy { name: texts.name, provenance: texts.provenance }),
        methods: flags(&inputs, &names, level),
        judged: judged(&inputs, &names, level),
        inputs,
        samples: looked_at,
        backdoors,
        unread: unread(&skips, false).chain(unread(&trusted_skips, true)).collect(),
        warnings,
    })
}

/// Sums over the classes of unit text features, of which all sentences of a class count as one: of the descriptions, and of what stands
/// beside them.
fn said(texts: &ClassTexts, encoder: &ImageEncoder, tokenizer: &Tokenizer) -> Result<[Tensor; 2]> {
    let device = encoder.model.scale().device();
    let shares = Tensor::from_slice(&texts.shares).to_device(device).unsqueeze(1);
    let sum = |of: &[String]| -> Result<Tensor> {
        let features = unit(&text_features(encoder.model, tokenizer, of, 256, device)?) * &shares;
        Ok(features.sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
    };
    Ok([sum(&texts.described)?, sum(&texts.beside)?])
}

impl SuspectInputs {
    /// By what the pictures are ordered, and which are listed: the mean rank, or the one method.
    pub fn ordered_by(&self) -> &'static str {
        self.methods.last().map_or("", |method| method.method)
    }

    /// That some methods say two things of a picture as it is, where triggers were laid on the pictures: without it their counts seem to
    /// contradict themselves.
    pub fn scored_twice(&self) -> Option<String> {
        let names = self.methods.iter().map(|method| method.method).filter(|method| depends_on_others(method));
        let names: Vec<&str> = names.collect();
        (!self.backdoors.is_empty() && !names.is_empty()).then(|| {
            let (are, say) = if names.len() > 1 { ("are", "they say") } else { ("is", "it says") };
            format!(
                "{} {are} scored twice, alone and beside each attack's pictures: what {say} of a picture depends on those that it is looked \
                 at with.",
                names.join(" and ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_is_named_twice_counts_once() {
        use InputMethod::{Blur, Jpeg};
        assert_eq!(distinct(&[Jpeg, Blur, Jpeg, Jpeg]), [Jpeg, Blur]);
    }
}
