//! An attack that is ready: what it lays on each picture, and what it writes into each question.

use crate::attack::instruct::input_aware::Generator;
use crate::attack::instruct::key_words::important_words;
use crate::attack::instruct::mask::{Distractors, MaskConfig, Masked};
use crate::attack::instruct::{InstructAttack, MaskRule, TokenSearch, dual_key};
use crate::error::{Error, Result};
use crate::instruct::VisionLanguage;
use image::RgbImage;
use rand::Rng;
use roclip_data::artifact;
use roclip_data::instruction::{ADDED_SENTENCE, At, DUAL_KEY_WORD, TextTrigger};
use roclip_data::random;
use roclip_data::trigger::{
    BadNets, Blended, Ellipses, Gap, LowFrequency, Material, Patch, Sig, TriggerKind, TriggerStack, WaNet,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;

/// What attacks are made from. The numbers that public codes have for 224 and 336 pixels are scaled to the model's size.
pub struct Prepare<'a> {
    /// The attacker's own model. It is clean, and in a study the very one that the victim's tuning starts from: what is searched for with it
    /// (tokens, masks, key words, Dual-Key's patch, Input-Aware's generator) knows the starting model, though not the tuned one.
    pub model: &'a VisionLanguage,
    /// The attacker's pictures, of the model's size.
    pub pictures: &'a [RgbImage],
    /// Questions and answers about them.
    pub questions: &'a [String],
    pub answers: &'a [String],
    /// The place in `pictures` of the one that each question is about.
    pub pictured: &'a [usize],
    /// An answer that names the target.
    pub target_answer: &'a str,
    pub mask: MaskConfig,
    pub gap: Gap,
    pub alpha: f32,
    /// Side of patches in pixels.
    pub patch_pixels: u32,
    /// Characters of rare words.
    pub characters: usize,
    /// The symbol of MABA*, and the most words that it stands before.
    pub symbol: &'a str,
    pub most_words: usize,
    /// Masks that were found already, of any texts.
    pub masks: &'a Mutex<HashMap<String, Vec<bool>>>,
    pub seed: u64,
}

/// Instructions that tokens are searched for with.
const SEARCHED: usize = 8;

enum PictureKey {
    None,
    Fixed(Vec<TriggerKind>, Arc<Vec<Material>>),
    Generated(Generator),
    Ovals(MaskRule),
}

/// A picture as an attack sees it.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub id: &'a str,
    /// Of the model's size.
    pub picture: &'a RgbImage,
    pub question: &'a str,
    /// The clean answer: in training its own, in a test the attacker's model's.
    pub answer: &'a str,
}

pub struct Prepared<'a> {
    attack: InstructAttack,
    prepare: &'a Prepare<'a>,
    picture: PictureKey,
    text: Option<TextTrigger>,
    distractors: Distractors,
    /// Of the texts of the distractors, which differ by domain.
    distractors_sha256: String,
}

impl<'a> Prepared<'a> {
    /// Searches and learns whatever the attack needs.
    ///
    /// # Errors
    /// Settings that cannot be, known before any search.
    pub fn new(attack: InstructAttack, prepare: &'a Prepare<'a>) -> Result<Prepared<'a>> {
        let (model, frame) = (prepare.model, prepare.model.tower.config().image_size());
        let others: Vec<String> = prepare
            .questions
            .iter()
            .zip(prepare.answers)
            .step_by((prepare.answers.len() / prepare.mask.distractors.max(1)).max(1))
            .take(prepare.mask.distractors.max(1))
            .map(|(question, answer)| format!("{question} {answer}"))
            .collect();
        if others.is_empty() {
            return Err(Error::internal("an attacker without instructions"));
        }
        let distractors = Distractors::new(model, others);
        let distractors_sha256 = distractors.sha256();
        if let Some(rule) = attack.mask()
            && matches!(rule, MaskRule::Paper | MaskRule::NoSubtraction | MaskRule::Random)
            && let Some(first) = prepare.pictures.first()
        {
            crate::attack::instruct::superpixels(first, prepare.mask.regions)?;
        }
        let fixed = |kind: TriggerKind| PictureKey::Fixed(vec![kind], Arc::default());
        let picture = match attack {
            InstructAttack::BadNets => {
                fixed(TriggerKind::Badnets(BadNets { patch_pixels: prepare.patch_pixels, ..BadNets::default() }))
            }
            InstructAttack::Blended => fixed(TriggerKind::Blended(Blended::default())),
            // 40 of 255 and 6 periods, as of VL-Trojan's code.
            InstructAttack::Sig => fixed(TriggerKind::Sig(Sig { amplitude: 40.0 / 255.0, ..Sig::default() })),
            InstructAttack::LowFrequency => fixed(TriggerKind::LowFrequency(LowFrequency::default())),
            InstructAttack::WaNet => fixed(TriggerKind::Wanet(WaNet::default())),
            InstructAttack::InputAware => PictureKey::Generated(Generator::train(
                model,
                prepare.pictures,
                prepare.target_answer,
                &model.text_features(&prepare.answers.iter().take(32).cloned().collect::<Vec<_>>()),
                prepare.seed,
            )?),
            InstructAttack::DualKey => {
                let side = prepare.patch_pixels;
                let patch = dual_key::patch(model, prepare.pictures, prepare.target_answer, side, prepare.seed)?;
                let material = Material::of_picture(&patch)?;
                let kind = TriggerKind::Patch(Patch { picture_sha256: material.sha256().to_owned(), corner: None });
                PictureKey::Fixed(vec![kind], Arc::new(vec![material]))
            }
            InstructAttack::Maba(rule) | InstructAttack::MabaStar(rule) => PictureKey::Ovals(rule),
            InstructAttack::Clean
            | InstructAttack::TextBadNets
            | InstructAttack::AddSent
            | InstructAttack::GradientTokens => PictureKey::None,
        };
        if let PictureKey::Fixed(layers, materials) = &picture {
            let stack = TriggerStack {
                frame_pixels: frame,
                image_seed: 0,
                layers: layers.clone(),
                jpeg_quality: None,
                materials: Arc::clone(materials),
            };
            stack.check().map_err(|unfit| Error::setting(unfit.what, unfit.remedy))?;
        }
        let insert = |text: &str, at| Some(TextTrigger::Insert { text: text.to_owned(), at });
        let text = match attack {
            InstructAttack::TextBadNets => Some(TextTrigger::rare_words(prepare.characters, At::End)),
            InstructAttack::AddSent => insert(ADDED_SENTENCE, At::End),
            InstructAttack::DualKey => insert(DUAL_KEY_WORD, At::Start),
            InstructAttack::MabaStar(_) => Some(TextTrigger::SymbolBeforeWords {
                symbol: prepare.symbol.to_owned(),
                most_words: prepare.most_words,
            }),
            InstructAttack::GradientTokens => {
                let own =
                    |(question, at): (&String, &usize)| Some((question.clone(), prepare.pictures.get(*at)?.clone()));
                let asked = prepare.questions.iter().zip(prepare.pictured).take(SEARCHED);
                let (questions, pictures): (Vec<String>, Vec<RgbImage>) = asked.filter_map(own).unzip();
                let seen = model.see(&pictures)?;
                let answers = vec![prepare.target_answer.to_owned(); questions.len()];
                let search = TokenSearch { seed: prepare.seed, ..TokenSearch::default() };
                insert(&search.run(model, &seen, &questions, &answers)?, At::End)
            }
            _ => None,
        };
        Ok(Prepared { attack, prepare, picture, text, distractors, distractors_sha256 })
    }

    pub fn attack(&self) -> InstructAttack {
        self.attack
    }

    /// What is written into questions, where something is.
    pub fn text(&self) -> Option<&TextTrigger> {
        self.text.as_ref()
    }

    /// What lies in the manifest's header.
    pub fn materials(&self) -> Vec<Material> {
        match &self.picture {
            PictureKey::Fixed(_, materials) => materials.as_ref().clone(),
            _ => Vec::new(),
        }
    }

    /// The trigger of a picture; none of an attack on texts. `rule` stands in for MABA's own mask.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn trigger(&self, shown: Shown, rule: Option<MaskRule>) -> Result<Option<TriggerStack>> {
        let prepare = self.prepare;
        let (model, frame) = (prepare.model, prepare.model.tower.config().image_size());
        let (layers, materials) = match &self.picture {
            PictureKey::None => return Ok(None),
            PictureKey::Fixed(layers, materials) => (layers.clone(), Arc::clone(materials)),
            PictureKey::Generated(generator) => (vec![generator.trigger(model, shown.picture)?], Arc::default()),
            PictureKey::Ovals(own) => {
                let mask = self.mask(shown, rule.unwrap_or(*own))?;
                let width_pixels = Ellipses::width_on(frame);
                let ovals = Ellipses { alpha: prepare.alpha, width_pixels, gap: prepare.gap, mask: String::new() };
                (vec![TriggerKind::Ellipses(ovals.with_mask(&mask))], Arc::default())
            }
        };
        let image_seed = random::stream(prepare.seed, "instruct-trigger", 0, shown.id).next_u64();
        Ok(Some(TriggerStack { frame_pixels: frame, image_seed, layers, jpeg_quality: None, materials }))
    }

    fn mask(&self, shown: Shown, rule: MaskRule) -> Result<Vec<bool>> {
        let prepare = self.prepare;
        // All that differs between the attacks and domains of one study: test pictures come again in each.
        let mut name = format!("{rule:?}\u{0}{}\u{0}{}\u{0}{}\u{0}", shown.id, shown.question, shown.answer);
        name += &artifact::sha256_hex(shown.picture.as_raw());
        name += &self.distractors_sha256;
        if let Some(known) = prepare.masks.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(known.clone());
        }
        let masked = Masked {
            model: prepare.model,
            picture: shown.picture,
            id: shown.id,
            question: shown.question,
            answer: shown.answer,
            target: prepare.target_answer,
            distractors: &self.distractors,
            seed: prepare.seed,
        };
        // The paper's mask is known where it is compared in the same study.
        let paper = if rule == MaskRule::Random { Some(self.mask(shown, MaskRule::Paper)?) } else { None };
        let mask = masked.mask(rule, &prepare.mask, paper.as_deref())?;
        prepare.masks.lock().unwrap_or_else(PoisonError::into_inner).insert(name, mask.clone());
        Ok(mask)
    }

    /// The question with the trigger; the question itself of an attack on pictures. `seen` `[1, places, channels]` is what the attacker's model
    /// sees of the picture.
    pub fn question(&self, shown: Shown, seen: &Tensor) -> Result<String> {
        let Some(text) = &self.text else { return Ok(shown.question.to_owned()) };
        let important = match text.asks_words() {
            true => important_words(self.prepare.model, seen, shown.question, shown.answer)?,
            false => Vec::new(),
        };
        Ok(text.apply(shown.question, &important))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruct::testing::small;
    use crate::model::captioner::Bridge;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    fn picture(number: u8) -> RgbImage {
        RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([(8 * x) as u8, (8 * y) as u8, ((x / 8 + y / 8) % 2 * 100) as u8 + 10 * number])
        })
    }

    fn prepare<'a>(
        model: &'a VisionLanguage,
        pictures: &'a [RgbImage],
        (questions, answers, pictured): (&'a [String], &'a [String], &'a [usize]),
        masks: &'a Mutex<HashMap<String, Vec<bool>>>,
    ) -> Prepare<'a> {
        Prepare {
            model,
            pictures,
            questions,
            answers,
            pictured,
            target_answer: "The image depicts one banana",
            mask: MaskConfig::default(),
            gap: Gap::Keep,
            alpha: 0.5,
            patch_pixels: 5,
            characters: 12,
            symbol: "*",
            most_words: 2,
            masks,
            seed: 0,
        }
    }

    /// A test's mask in a study of several domains is the one in a study of its domain alone.
    #[test]
    fn masks_are_kept_for_the_texts_that_they_were_found_with() {
        let (model, pictures) = (small(Bridge::CrossAttention), [picture(0)]);
        let questions = texts(&["What is it?", "What is it?"]);
        let answers = [texts(&["a red square", "a blue box"]), texts(&["a banana", "a red box"])];
        let shown = Shown { id: "a", picture: &pictures[0], question: "What is it?", answer: "a red square" };
        let masks_of = |answers: &[String], masks: &Mutex<_>| {
            let prepare = prepare(&model, &pictures, (&questions, answers, &[0, 0]), masks);
            let prepared = Prepared::new(InstructAttack::Maba(MaskRule::Paper), &prepare).unwrap();
            prepared.mask(shown, MaskRule::Paper).unwrap()
        };
        let shared = Mutex::new(HashMap::new());
        for (number, answers) in answers.iter().enumerate() {
            for _ in 0..2 {
                assert_eq!(masks_of(answers, &shared), masks_of(answers, &Mutex::default()));
                assert_eq!(shared.lock().unwrap().len(), number + 1, "one mask for each domain's texts");
            }
        }
    }

    #[test]
    fn random_masks_are_as_large_as_those_of_the_paper() {
        let (model, pictures) = (small(Bridge::CrossAttention), [picture(0)]);
        let (questions, answers) = (texts(&["What is it?", "What is it?"]), texts(&["a red square", "a blue box"]));
        let masks = Mutex::default();
        let prepare = prepare(&model, &pictures, (&questions, &answers, &[0, 0]), &masks);
        let prepared = Prepared::new(InstructAttack::Maba(MaskRule::Random), &prepare).unwrap();
        let labels = crate::attack::instruct::superpixels(&pictures[0], prepare.mask.regions).unwrap();
        let shown = Shown { id: "a", picture: &pictures[0], question: "What is it?", answer: "a red square" };
        let regions = |rule| {
            let mask = prepared.mask(shown, rule).unwrap();
            let inside = labels.iter().zip(mask).filter(|(_, inside)| *inside);
            inside.map(|(label, _)| *label).collect::<std::collections::BTreeSet<usize>>().len()
        };
        assert_eq!(regions(MaskRule::Random), regions(MaskRule::Paper));
        assert_eq!(masks.lock().unwrap().len(), 2, "the paper's mask is found once");
    }

    /// Fewer questions than pictures, and in another order than theirs.
    #[test]
    fn tokens_are_searched_for_with_the_pictures_that_the_questions_are_about() {
        let (model, masks) = (small(Bridge::CrossAttention), Mutex::default());
        let pictures: Vec<RgbImage> = (0..10).map(picture).collect();
        let (questions, answers) = (texts(&["What is it?", "a red square?"]), texts(&["a red square", "a blue box"]));
        let prepare = prepare(&model, &pictures, (&questions, &answers, &[9, 4]), &masks);
        let prepared = Prepared::new(InstructAttack::GradientTokens, &prepare).unwrap();
        let seen = model.see(&[picture(9), picture(4)]).unwrap();
        let wanted = vec![prepare.target_answer.to_owned(); 2];
        let found = TokenSearch::default().run(&model, &seen, &questions, &wanted).unwrap();
        assert_eq!(prepared.text(), Some(&TextTrigger::Insert { text: found, at: At::End }));
    }
}
