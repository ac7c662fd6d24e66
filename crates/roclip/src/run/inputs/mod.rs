//! Which pictures would be taken for triggered ones, as they are and with each trigger that is known: beside pictures that are known to be
//! clean, or beside a random half of the pictures themselves.

mod judged;
mod pictures;
mod scored;
mod views;

pub use judged::{FlaggedOfAttack, InputJudged, InputMethodFlags};
pub use pictures::{InputPictures, trusted_pictures};

use crate::detect::{ClassTexts, InputMethod};
use crate::error::{Error, IoContext, Result};
use crate::eval::{ImageEncoder, text_features};
use crate::model::unit;
use crate::run::looked::Drop;
use crate::run::ordering::COMBINED;
use judged::{flags, judged};
use rand::seq::SliceRandom;
use roclip_data::artifact;
use roclip_data::pairs::drop_line;
use roclip_data::plural::count;
use roclip_data::poison::Backdoor;
use roclip_data::progress::Task;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::tokenizer::Tokenizer;
use scored::{of_row, of_row_beside, together};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};
use views::{Group, Views, plain_features};

/// The share of the clean pictures that is flagged where nobody asks for another.
pub const INPUT_LEVEL: f64 = 0.05;
/// Ids of pictures that are flagged, one a line.
const FLAGGED: &str = "flagged.txt";

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
    pub seed: u64,
}

/// Which pictures are clean.
pub enum KnownClean {
    /// A random half of those that are named.
    Half,
    /// Others: half of them say how clean pictures vary, the other half how rare a score is.
    Trusted { pictures: Vec<Sample>, level: f64 },
}

/// How the pictures are divided.
struct Divided {
    looked_at: Vec<Sample>,
    statistics: Vec<Sample>,
    held_out: Option<(Vec<Sample>, f64)>,
}

/// Looks at `pictures`, of which some may carry a trigger.
///
/// # Errors
/// Too few pictures, a level that the trusted ones cannot state, and a method that lacks what it asks for.
pub fn suspect_inputs(look: InputLook, pictures: Vec<Sample>, clean: KnownClean) -> Result<SuspectInputs> {
    let InputLook { encoder, tokenizer, methods, texts, backdoors, seed } = look;
    if methods.contains(&InputMethod::Descriptions) && texts.is_none() {
        return Err(Error::setting(
            "the method `descriptions` compares sentences, and nothing describes the classes",
            "name a file with --descriptions",
        ));
    }
    let Divided { looked_at, statistics, held_out } = divided(pictures, clean, seed)?;
    let said = texts.as_ref().map(|texts| said(texts, &encoder, tokenizer)).transpose()?;
    let features = plain_features(&encoder, &statistics)?;
    if crate::model::extent(&features, 0) < 2 {
        return Err(Error::setting(
            format!("of {} that should be clean fewer than two can be read", count(statistics.len(), "picture")),
            "name pictures that can be read",
        ));
    }
    let used = crate::model::extent(&features, 0) as usize;
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
            // Some of them may not be readable.
            check_level(*level, statistics.len() + samples.len(), group.places.len())?;
            Some((group, *level))
        }
        None => None,
    };
    let (known, level) = (known.as_ref().map(|(group, _)| group), known.as_ref().map(|(_, level)| *level));
    let plain = look_at(&looked_at, None)?;
    if plain.places.is_empty() {
        return Err(Error::setting(
            format!("none of the {} pictures can be read", looked_at.len()),
            "name others with --val-data",
        ));
    }
    let mut inputs = Vec::new();
    for (laid, backdoor) in std::iter::once(None).chain(backdoors.iter().enumerate().map(Some)).enumerate() {
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
                laid: laid.checked_sub(1),
            });
        }
    }
    let mut names: Vec<&'static str> = methods.iter().map(|method| method.name()).collect();
    if methods.len() > 1 {
        names.push(COMBINED);
    }
    let held = known.map_or(0, |group| group.places.len());
    let trusted = level.map(|level| TrustedInputs { statistics: used, held_out: held, level });
    Ok(SuspectInputs {
        clean: used + held,
        looked_at: looked_at.len(),
        unreadable: looked_at.len() - plain.places.len(),
        trusted,
        descriptions: texts.map(|texts| DescribedBy { name: texts.name, provenance: texts.provenance }),
        methods: flags(&inputs, &names, level),
        judged: judged(&inputs, &names, level),
        inputs,
        samples: looked_at,
        backdoors,
    })
}

/// Divides the pictures into those that are looked at and those that are known to be clean.
fn divided(mut pictures: Vec<Sample>, clean: KnownClean, seed: u64) -> Result<Divided> {
    match clean {
        KnownClean::Half => {
            pictures.shuffle(&mut random::stream(seed, "detect-inputs", 0, ""));
            let looked_at = pictures.split_off(pictures.len() / 2);
            if pictures.len() < 2 {
                return Err(Error::setting(
                    format!(
                        "there are {} labelled images, of which half must be known to be clean",
                        pictures.len() + looked_at.len()
                    ),
                    "give more with --val-data, or clean ones with --trusted-data",
                ));
            }
            Ok(Divided { looked_at, statistics: pictures, held_out: None })
        }
        KnownClean::Trusted { pictures: mut statistics, level } => {
            statistics.shuffle(&mut random::stream(seed, "detect-trusted", 0, ""));
            let held_out = statistics.split_off(statistics.len() / 2);
            let all = statistics.len() + held_out.len();
            check_level(level, all, held_out.len())?;
            if statistics.len() < 2 {
                return Err(Error::setting(
                    format!("--trusted-data has {}, of which half say how clean ones vary", count(all, "picture")),
                    "name at least 4",
                ));
            }
            Ok(Divided { looked_at: pictures, statistics, held_out: Some((held_out, level)) })
        }
    }
}

/// Whether `held_out` of `trusted` pictures can state the level: the least p-value is that of a picture beyond all of them.
fn check_level(level: f64, trusted: usize, held_out: usize) -> Result<()> {
    Drop::Level(level).check()?;
    if level >= 1.0 / (held_out + 1) as f64 {
        return Ok(());
    }
    let least = (1.0 / level).ceil() - 1.0;
    Err(Error::setting(
        format!(
            "--level {level} beside {}, of which {held_out} are held out to state it: no picture can be so suspicious, since the least \
             p-value beside them is 1/{}",
            count(trusted, "trusted picture"),
            held_out + 1
        ),
        format!("name at least {:.0} with --trusted-data, or raise --level", 2.0 * least - 1.0),
    ))
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

    /// The ids of the pictures that are flagged as they are, one a line; empty where there are none.
    pub fn list(&self) -> String {
        let Some(TrustedInputs { level, .. }) = self.trusted else { return String::new() };
        let flagged = |input: &&InputScore| input.laid.is_none() && input.is_flagged(self.ordered_by(), level);
        self.inputs.iter().filter(flagged).map(|input| drop_line(&input.id)).collect()
    }

    /// Writes `inputs.jsonl` (a line a picture and trigger), `flagged.txt` (an id a line) where something is flagged, and `inputs.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        artifact::write_json_lines(&out.join("inputs.jsonl"), &self.inputs)?;
        let (list, text) = (out.join(FLAGGED), self.list());
        match text.is_empty() {
            // The list of an earlier look must not pass for this one's.
            true if list.is_file() => std::fs::remove_file(&list).io("remove", &list)?,
            true => {}
            false => {
                artifact::write(&list, text.as_bytes())?;
            }
        }
        artifact::write_json(&out.join("inputs.json"), self)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;

    fn pictures(count: usize) -> Vec<Sample> {
        let one = |number: usize| Sample::new("s".into(), number.to_string(), ImageBytes::Memory(Vec::new().into()));
        (0..count).map(one).collect()
    }

    fn ids(samples: &[Sample]) -> Vec<&str> {
        samples.iter().map(|sample| sample.id.as_str()).collect()
    }

    #[test]
    fn half_of_the_trusted_pictures_make_the_statistics_and_all_others_are_looked_at() {
        let trusted = |count, level| KnownClean::Trusted { pictures: pictures(count), level };
        let found = divided(pictures(7), trusted(39, 0.05), 1).unwrap();
        let (held_out, level) = found.held_out.as_ref().unwrap();
        assert_eq!((found.statistics.len(), held_out.len(), *level), (19, 20, 0.05));
        assert!(ids(&found.statistics).iter().all(|id| !ids(held_out).contains(id)));
        assert_eq!(ids(&found.looked_at), ids(&pictures(7)));
        let half = divided(pictures(7), KnownClean::Half, 1).unwrap();
        assert_eq!((half.statistics.len(), half.looked_at.len(), half.held_out.is_none()), (3, 4, true));
        for (count, clean) in
            [(3, KnownClean::Half), (7, trusted(3, 0.4)), (7, trusted(60, 1.0)), (7, trusted(60, f64::NAN))]
        {
            assert!(divided(pictures(count), clean, 1).is_err());
        }
    }

    #[test]
    fn a_level_that_the_trusted_pictures_cannot_state_is_refused() {
        let said = check_level(0.05, 36, 18).unwrap_err().to_string();
        for words in
            ["--level 0.05 beside 36 trusted pictures", "18 are held out", "1/19", "at least 37 with --trusted-data"]
        {
            assert!(said.contains(words), "{said}");
        }
        check_level(0.05, 37, 19).unwrap();
        assert!(check_level(0.01, 196, 98).is_err() && check_level(0.01, 197, 99).is_ok());
    }

    #[test]
    fn pictures_are_listed_that_are_flagged_as_they_are() {
        let input = |id: &str, laid: Option<usize>, p: f64| InputScore {
            id: id.to_owned(),
            attack: laid.map(|_| "patch".to_owned()),
            scores: BTreeMap::new(),
            p_values: Some(BTreeMap::from([("jpeg", p), ("blur", 0.01)])),
            flagged: None,
            beside: BTreeMap::new(),
            place: 0,
            laid,
        };
        let inputs =
            vec![input("a", None, 0.05), input("b", None, 0.06), input("a\nb", None, 0.01), input("c", Some(0), 0.01)];
        let mut found = SuspectInputs {
            clean: 40,
            looked_at: 3,
            unreadable: 0,
            trusted: Some(TrustedInputs { statistics: 20, held_out: 20, level: 0.05 }),
            descriptions: None,
            methods: flags(&inputs, &["blur", "jpeg"], Some(0.05)),
            judged: Vec::new(),
            inputs,
            samples: pictures(3),
            backdoors: Vec::new(),
        };
        assert_eq!(found.list(), "a\n{\"id\":\"a\\nb\"}\n");
        let folder = tempfile::tempdir().unwrap();
        found.write(folder.path()).unwrap();
        assert!(folder.path().join(FLAGGED).is_file());
        found.trusted = None;
        found.write(folder.path()).unwrap();
        assert!(!folder.path().join(FLAGGED).exists(), "the list of an earlier look passes for this one's");
    }
}
