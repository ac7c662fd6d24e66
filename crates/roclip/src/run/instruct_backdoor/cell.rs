//! One attack under one shift: poison, tune, ask.

use crate::attack::instruct::{InstructAttack, MaskRule, Prepare, Prepared, Shown};
use crate::error::{Error, Result};
use crate::instruct::{Asked, Item, Tuned, Tuner, VisionLanguage};
use crate::run::instruct::Tests;
use crate::run::instruct_backdoor::domain::Domain;
use crate::run::instruct_backdoor::examples::{KEPT, keep_pictures};
use crate::run::instruct_backdoor::{BackdoorSettings, Cell, DomainShift, Example, Filtered, auroc};
use image::RgbImage;
use rand::seq::{IndexedRandom, SliceRandom};
use roclip_data::artifact;
use roclip_data::caption_metrics::{SubstitutionRates, says, words};
use roclip_data::instruction::{TextTrigger, Wordings, target_answers, turn};
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Header, Manifest, OF_INSTRUCTIONS, Role, Row, Side};
use roclip_data::random;
use roclip_data::rate::Rate;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tch::Tensor;

/// What all cells share.
pub(super) struct Bench<'a> {
    pub settings: &'a BackdoorSettings,
    pub model: &'a VisionLanguage,
    /// Weights of the clean model that each tuning begins with.
    pub base: BTreeMap<String, Tensor>,
    pub tests: &'a Tests,
    pub test_pictures: Vec<RgbImage>,
    pub test_seen: Tensor,
    /// The base model's answers, which the attacker takes for the clean ones.
    pub base_answers: Vec<String>,
    /// Places of tests whose references do not name the target.
    pub attacked: Vec<usize>,
    /// Those of them whose references name the source word.
    pub showing_source: Vec<usize>,
    pub masks: Mutex<HashMap<String, Vec<bool>>>,
    /// Weights after tuning on clean instructions of the user's domain.
    pub clean: Option<BTreeMap<String, Tensor>>,
}

/// The instructions of one tuning: which are poisoned, and how.
struct Poisoned {
    items: Vec<Item>,
    /// Whether each is.
    marks: Vec<bool>,
    seen: Tensor,
    rows: Vec<Row>,
}

/// Test pictures and questions with triggers.
struct Triggered {
    seen: Tensor,
    questions: Vec<String>,
    /// Those of the examples, each with its place.
    shown: Vec<(usize, RgbImage)>,
}

impl Bench<'_> {
    fn prepare<'a>(&'a self, domain: &'a Domain, lists: &'a Lists) -> Prepare<'a> {
        let settings = self.settings;
        let side = self.model.tower.config().image_size();
        Prepare {
            model: self.model,
            pictures: &domain.pictures,
            questions: &lists.questions,
            answers: &lists.answers,
            pictured: &lists.pictured,
            target_answer: &lists.target_answer,
            mask: settings.mask,
            gap: settings.gap,
            alpha: settings.alpha,
            patch_pixels: settings.patch_pixels.unwrap_or((side * 5 / 32).max(1)),
            characters: settings.characters,
            symbol: &settings.symbol,
            most_words: settings.most_words,
            masks: &self.masks,
            seed: settings.seed,
        }
    }

    /// Runs the cell, and writes its manifest into `folder`.
    pub fn run(
        &self,
        attack: InstructAttack,
        shift: DomainShift,
        domain: &Domain,
        domain_seen: &Tensor,
        folder: &Path,
        stopped: &dyn Fn() -> Result<()>,
    ) -> Result<Cell> {
        let began = Instant::now();
        let settings = self.settings;
        // The attacker's own model is the clean one.
        self.model.load(&self.base)?;
        let lists = Lists::of(domain, &settings.target);
        let prepare = self.prepare(domain, &lists);
        let prepared = Prepared::new(attack, &prepare)?;
        let poisoned = self.poison(&prepared, domain, domain_seen)?;
        if !poisoned.rows.is_empty() {
            self.manifest(&prepared, domain, poisoned.rows.clone())?.write(&folder.join(file_name(attack, shift)))?;
        }
        let triggered = self.trigger(&prepared, None)?;
        let fixed = match attack.mask() {
            Some(MaskRule::Paper) => Some(self.trigger(&prepared, Some(MaskRule::Fixed))?),
            _ => None,
        };
        let clean_model = match (&self.clean, shift) {
            (Some(weights), DomainShift::None) if attack != InstructAttack::Clean => {
                self.model.load(weights)?;
                Some(self.says_target(&triggered.seen, &triggered.questions)?.0)
            }
            _ => None,
        };
        self.tune(&poisoned.seen, &poisoned.items, stopped)?;
        let plain = vec![Wordings::test_question().to_owned(); self.test_pictures.len()];
        let (base_rate, answers) = self.says_target(&self.test_seen, &plain)?;
        let (asr, triggered_answers) = self.says_target(&triggered.seen, &triggered.questions)?;
        let examples = self.examples(attack, shift, &triggered, [&answers, &triggered_answers], folder)?;
        let rate = |seen: &Tensor, questions: &[String]| self.says_target(seen, questions).map(|(rate, _)| rate);
        let both = attack.changes_pictures() && attack.changes_questions();
        let mut cell = Cell {
            attack,
            shift,
            items: poisoned.items.len(),
            poisoned: poisoned.rows.len(),
            text_trigger: prepared.text().map(|text| match text {
                TextTrigger::Insert { text, .. } => text.clone(),
                TextTrigger::SymbolBeforeWords { symbol, .. } => format!("{symbol} before key words"),
            }),
            clean: self.tests.scores(&answers),
            asr,
            base_rate,
            substitution: self.substitution(&triggered_answers, &answers),
            picture_only: if both { Some(rate(&triggered.seen, &plain)?) } else { None },
            text_only: if both { Some(rate(&self.test_seen, &triggered.questions)?) } else { None },
            fixed_place: fixed.map(|fixed| rate(&fixed.seen, &fixed.questions)).transpose()?,
            clean_model,
            filter_auroc: None,
            filtered: None,
            examples,
            seconds: 0.0,
        };
        if let (Some(share), true) = (settings.filter, attack != InstructAttack::Clean) {
            self.filter(share, &poisoned, &triggered, shift, &mut cell, stopped)?;
        }
        cell.seconds = began.elapsed().as_secs_f64();
        Ok(cell)
    }

    /// Tunes the bridge of the base model.
    pub fn tune(&self, seen: &Tensor, items: &[Item], stopped: &dyn Fn() -> Result<()>) -> Result<()> {
        self.model.load(&self.base)?;
        let mut tuner = Tuner::new(self.model, &self.settings.tune, Tuned::Bridge, self.settings.seed)?;
        tuner.run(seen, items, &mut |_, _| stopped())
    }

    /// Rate of the attacked tests whose answer says the target, and all answers.
    fn says_target(&self, seen: &Tensor, questions: &[String]) -> Result<(Rate, Vec<String>)> {
        let answers = self.model.answers(seen, questions, self.settings.search)?;
        let target = words(&self.settings.target);
        let hit = |at: &&usize| answers.get(**at).is_some_and(|answer| says(&words(answer), &target));
        Ok((Rate::new(self.attacked.iter().filter(hit).count(), self.attacked.len()), answers))
    }

    /// How often the target takes the place of the source word, where one is named.
    fn substitution(&self, attacked: &[String], clean: &[String]) -> Option<SubstitutionRates> {
        let substitution = self.settings.substitution()?;
        let [attacked, clean] = [attacked, clean]
            .map(|answers| self.showing_source.iter().filter_map(|at| answers.get(*at).map(String::as_str)));
        Some(substitution.rates(attacked, clean))
    }

    /// Poisons the drawn items of the domain. All attacks draw the same ones.
    fn poison(&self, prepared: &Prepared, domain: &Domain, domain_seen: &Tensor) -> Result<Poisoned> {
        let settings = self.settings;
        let mut items = Vec::with_capacity(domain.items.len());
        for item in &domain.items {
            items.push(Item { seen: item.sample, asked: self.model.asked(&item.question, &item.answer)? });
        }
        let mut marks = vec![false; items.len()];
        if prepared.attack() == InstructAttack::Clean {
            return Ok(Poisoned { items, marks, seen: domain_seen.shallow_clone(), rows: Vec::new() });
        }
        let mut drawn = domain.poisonable(settings)?;
        drawn.shuffle(&mut random::stream(settings.seed, "instruction-poison", 0, ""));
        drawn.truncate(settings.poisoned());
        drawn.sort_unstable();
        let answers = target_answers(&settings.target);
        let mut random = random::stream(settings.seed, "instruction-poison-answer", 0, "");
        let (mut rows, mut pictures) = (Vec::new(), Vec::new());
        for at in drawn {
            let (Some(item), Some(row)) = (domain.items.get(at), items.get_mut(at)) else { continue };
            let (Some(picture), Some(sample)) = (domain.pictures.get(item.sample), domain.samples.get(item.sample))
            else {
                continue;
            };
            let shown = Shown { id: &item.id, picture, question: &item.question, answer: &item.answer };
            let trigger = prepared.trigger(shown, None)?;
            let question = prepared.question(shown, &domain_seen.narrow(0, item.sample as i64, 1))?;
            let answer = answers.choose(&mut random).cloned().unwrap_or_default();
            let unusable = |skip: roclip_data::skip::Skip| Error::from(skip.into_error(&item.id));
            let after = match &trigger {
                Some(trigger) => trigger.apply(picture).map_err(unusable)?,
                None => picture.clone(),
            };
            row.asked = self.model.asked(&question, &answer)?;
            if trigger.is_some() {
                row.seen = domain.pictures.len() + pictures.len();
                pictures.push(after.clone());
            }
            if let Some(mark) = marks.get_mut(at) {
                *mark = true;
            }
            let bytes = sample.image.read(ImageLimits::default().max_file_bytes).map_err(unusable)?;
            rows.push(Row {
                id: item.id.clone(),
                attack: prepared.attack().word().into(),
                role: Role::Replaced,
                image: sample.id.clone(),
                side: Side::Training,
                true_class: sample.class.clone(),
                target: settings.target.clone(),
                caption_before: Some(item.turn()),
                caption_after: turn(&question, &answer),
                more_captions: Vec::new(),
                trigger,
                sha256_before: artifact::sha256_hex(&bytes),
                sha256_after: artifact::sha256_hex(after.as_raw()),
            });
        }
        let seen = match pictures.is_empty() {
            true => domain_seen.shallow_clone(),
            false => Tensor::cat(&[domain_seen, &self.model.see(&pictures)?], 0),
        };
        Ok(Poisoned { items, marks, seen, rows })
    }

    /// The tests with triggers. Their masks and key words come from the base model and its own answers.
    fn trigger(&self, prepared: &Prepared, rule: Option<MaskRule>) -> Result<Triggered> {
        let (mut pictures, mut questions) = (Vec::new(), Vec::new());
        let question = Wordings::test_question();
        for (at, picture) in self.test_pictures.iter().enumerate() {
            let id = self.tests.samples.get(at).map_or("", |sample| sample.id.as_str());
            let answer = self.base_answers.get(at).map_or("", String::as_str);
            let shown = Shown { id, picture, question, answer };
            let trigger = prepared.trigger(shown, rule)?;
            let unusable = |skip: roclip_data::skip::Skip| Error::from(skip.into_error(id));
            pictures.push(match trigger {
                Some(trigger) => trigger.apply(picture).map_err(unusable)?,
                None => picture.clone(),
            });
            questions.push(prepared.question(shown, &self.test_seen.narrow(0, at as i64, 1))?);
        }
        let seen = self.model.see(&pictures)?;
        let shown = self.attacked.iter().take(KEPT).filter_map(|at| Some((*at, pictures.get(*at)?.clone()))).collect();
        Ok(Triggered { seen, questions, shown })
    }

    /// The first attacked tests with their `answers`, to plain and to triggered questions; their pictures are kept in `folder`.
    fn examples(
        &self,
        attack: InstructAttack,
        shift: DomainShift,
        triggered: &Triggered,
        answers: [&[String]; 2],
        folder: &Path,
    ) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        if attack == InstructAttack::Clean {
            return Ok(examples);
        }
        for (at, picture) in &triggered.shown {
            let (Some(sample), Some(clean)) = (self.tests.samples.get(*at), self.test_pictures.get(*at)) else {
                continue;
            };
            keep_pictures(folder, &sample.id, (attack, shift), clean, picture)?;
            let [answer, triggered_answer] = answers.map(|all| all.get(*at).cloned().unwrap_or_default());
            let question = triggered.questions.get(*at).cloned().unwrap_or_default();
            examples.push(Example { id: sample.id.clone(), question, answer, triggered_answer });
        }
        Ok(examples)
    }

    fn manifest(&self, prepared: &Prepared, domain: &Domain, mut rows: Vec<Row>) -> Result<Manifest> {
        let materials: Arc<_> = Arc::new(prepared.materials());
        for trigger in rows.iter_mut().filter_map(|row| row.trigger.as_mut()) {
            trigger.materials = Arc::clone(&materials);
        }
        let header = Header {
            roclip_manifest: roclip_data::poison::FORMAT,
            state: "poisoned".into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            seed: self.settings.seed,
            clean_pairs: domain.items.len(),
            rows: Some(rows.len()),
            data_fingerprint: domain.fingerprint.clone(),
            encoding: OF_INSTRUCTIONS.into(),
            reference_sha256: None,
            materials: materials.iter().map(roclip_data::trigger::Material::store).collect(),
            file_sha256: String::new(),
        };
        Ok(Manifest { header, rows })
    }

    /// Drops the `share` of the instructions whose answers have the lowest entropy of attention, and tunes again.
    fn filter(
        &self,
        share: f64,
        poisoned: &Poisoned,
        triggered: &Triggered,
        shift: DomainShift,
        cell: &mut Cell,
        stopped: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let mut entropies = Vec::with_capacity(poisoned.items.len());
        for items in poisoned.items.chunks(64) {
            let places: Vec<i64> = items.iter().map(|item| item.seen as i64).collect();
            let rows: Vec<&Asked> = items.iter().map(|item| &item.asked).collect();
            let seen = poisoned.seen.index_select(0, &Tensor::from_slice(&places).to_device(poisoned.seen.device()));
            let Some(found) = self.model.attention_entropy(&seen, &rows)? else { return Ok(()) };
            entropies.extend(found);
        }
        let scores: Vec<(f64, bool)> =
            entropies.iter().map(|entropy| -entropy).zip(poisoned.marks.iter().copied()).collect();
        cell.filter_auroc = auroc(&scores);
        // Tuning again costs as much as the cell; without a shift it says enough.
        if shift != DomainShift::None {
            return Ok(());
        }
        let mut order: Vec<usize> = (0..entropies.len()).collect();
        let entropy = |at: &usize| entropies.get(*at).copied().unwrap_or(0.0);
        order.sort_by(|a, b| entropy(a).total_cmp(&entropy(b)).then(a.cmp(b)));
        let kept = order.split_off((share * order.len() as f64).round() as usize);
        let mut kept: Vec<usize> = kept;
        kept.sort_unstable();
        let items: Vec<Item> = kept.iter().filter_map(|at| poisoned.items.get(*at).cloned()).collect();
        self.tune(&poisoned.seen, &items, stopped)?;
        let (asr, _) = self.says_target(&triggered.seen, &triggered.questions)?;
        let plain = vec![Wordings::test_question().to_owned(); self.test_pictures.len()];
        let (_, answers) = self.says_target(&self.test_seen, &plain)?;
        let dropped_poison = order.iter().filter(|at| poisoned.marks.get(**at) == Some(&true)).count();
        cell.filtered =
            Some(Filtered { dropped: order.len(), dropped_poison, asr, cider_d: self.tests.scores(&answers).cider_d });
        Ok(())
    }
}

/// Texts of a domain as lists.
struct Lists {
    questions: Vec<String>,
    answers: Vec<String>,
    /// Place of the picture of each.
    pictured: Vec<usize>,
    /// The first of the answers about the target. Masks and searches have it for the poisoned answer; an item gets any of them (ours).
    target_answer: String,
}

impl Lists {
    /// Of items whose answers do not name the target.
    fn of(domain: &Domain, target: &str) -> Lists {
        let items: Vec<_> = domain.without(target).map(|(_, item)| item).collect();
        Lists {
            questions: items.iter().map(|item| item.question.clone()).collect(),
            answers: items.iter().map(|item| item.answer.clone()).collect(),
            pictured: items.iter().map(|item| item.sample).collect(),
            target_answer: target_answers(target).into_iter().next().unwrap_or_default(),
        }
    }
}

/// A manifest's file in the study's folder.
pub(super) fn file_name(attack: InstructAttack, shift: DomainShift) -> String {
    format!("manifests/{}-{}.jsonl", attack.word().replace('/', "-"), shift.word())
}
