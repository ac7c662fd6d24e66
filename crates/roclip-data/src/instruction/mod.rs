//! Instruction data: a question about a picture, and the answer that is learned. It is built from captions by templates, or read in LLaVA's
//! conversation layout.

mod conversation;
mod domain;
mod files;
mod shards;
mod text_trigger;
mod wording;

pub use domain::{PictureShift, Strength};
pub use files::read_instructions;
pub use text_trigger::{ADDED_SENTENCE, At, DUAL_KEY_WORD, SYMBOLS, TextTrigger, target_answers, texts_of_attacks};
pub use wording::{Wording, Wordings};

use crate::artifact;
use crate::caption_metrics::words;
use crate::error::{Error, Result};
use crate::sample::Sample;
use crate::skip::{Skip, SkipReason, SkipReport};

/// Where the layout of LLaVA and Otter says that the picture stands.
pub const PICTURE_SLOT: &str = "<image>";

/// One question about one picture, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The sample's id and the number of the turn or caption, or the id of a record.
    pub id: String,
    /// Index of its sample.
    pub sample: usize,
    /// Without the slot for the picture.
    pub question: String,
    pub answer: String,
}

impl Instruction {
    /// Question and answer in Otter's layout, as manifests keep them.
    pub fn turn(&self) -> String {
        turn(&self.question, &self.answer)
    }
}

/// A question and an answer in Otter's layout (VL-Trojan's `pipeline`).
pub fn turn(question: &str, answer: &str) -> String {
    format!("{PICTURE_SLOT}User: {question} GPT:<answer> {answer}")
}

/// Instructions with their pictures.
#[derive(Debug, Clone, Default)]
pub struct Instructions {
    pub samples: Vec<Sample>,
    pub items: Vec<Instruction>,
    pub skips: SkipReport,
    pub listed: Listed,
}

/// What a source of instructions names, before anything was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// Instructions, or captions that become some; records that cannot be read count as one.
    pub instructions: usize,
    /// Those of them whose text cannot be used.
    pub unusable: usize,
    /// Pictures of those that can.
    pub pictures: usize,
}

impl Instructions {
    /// One instruction for each caption of `samples`, at most `per_picture` a picture, with the question and the answer worded as `wordings`
    /// say.
    ///
    /// # Errors
    /// Samples without a single caption.
    pub fn from_captions(samples: Vec<Sample>, per_picture: usize, wordings: Wordings, seed: u64) -> Result<Self> {
        let (mut items, mut skips) = (Vec::new(), SkipReport::default());
        let mut listed = Listed { pictures: samples.len(), ..Listed::default() };
        for (at, sample) in samples.iter().enumerate() {
            if sample.captions.is_empty() {
                (listed.instructions, listed.unusable) = (listed.instructions + 1, listed.unusable + 1);
                skips.add(&sample.id, Skip::new(SkipReason::NoCaption, "the source gives it none"));
            }
            for (number, caption) in sample.captions.iter().take(per_picture).enumerate() {
                let id = format!("{}#{number}", sample.id);
                let (question, answer) = wordings.word(caption, seed, &id);
                listed.instructions += 1;
                match words(&answer).is_empty() {
                    true => {
                        listed.unusable += 1;
                        skips.add(&id, Skip::new(SkipReason::AnswerEmpty, "its caption has no word"));
                    }
                    false => items.push(Instruction { id, sample: at, question, answer }),
                }
            }
        }
        if items.is_empty() {
            return Err(Error::setting(
                format!("none of {} pictures has a caption that could be an answer", samples.len()),
                "name pictures with captions, or instructions in LLaVA's layout",
            ));
        }
        Ok(Instructions { samples, items, skips, listed })
    }

    /// A digest of ids, questions, answers and pictures.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let picture = self.samples.get(item.sample).and_then(|sample| sample.digest).unwrap_or_default();
            text += &format!("{}\u{0}{}\u{0}{}\u{0}{}\n", item.id, item.question, item.answer, artifact::hex(&picture));
        }
        artifact::sha256_hex(text.as_bytes())
    }
}

/// The question of a turn without its slot for the picture.
///
/// # Errors
/// Where it has none, or several.
pub fn without_slot(value: &str) -> std::result::Result<String, Skip> {
    match value.matches(PICTURE_SLOT).count() {
        1 => Ok(value.replacen(PICTURE_SLOT, " ", 1).split_whitespace().collect::<Vec<_>>().join(" ")),
        found => Err(Skip::new(
            SkipReason::QuestionWithoutPicture,
            format!("it has {found} of `{PICTURE_SLOT}`, and one says where the picture stands"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;

    #[test]
    fn captions_become_instructions_and_empty_ones_are_counted() {
        let mut sample = Sample::new("s".into(), "a", ImageBytes::Memory(Vec::new().into()));
        sample.captions = vec!["a red square".into(), " , ".into(), "a box".into()];
        let made = |per_picture| {
            Instructions::from_captions(vec![sample.clone()], per_picture, Wordings::default(), 0).unwrap()
        };
        assert_eq!(made(1).items.len(), 1);
        let all = made(9);
        assert_eq!(all.items.iter().map(|item| item.answer.as_str()).collect::<Vec<_>>(), ["a red square", "a box"]);
        assert_eq!(all.skips.counts().get("answer-empty"), Some(&1));
        assert!(all.items[0].turn().starts_with("<image>User: ") && all.items[0].turn().ends_with("a red square"));
        assert_ne!(all.fingerprint(), made(1).fingerprint());
        assert_eq!(all.listed, Listed { instructions: 3, unusable: 1, pictures: 1 });
        let mut mute = sample.clone();
        mute.captions.clear();
        let both = Instructions::from_captions(vec![sample.clone(), mute], 9, Wordings::default(), 0).unwrap();
        assert_eq!(both.listed, Listed { instructions: 4, unusable: 2, pictures: 2 });
        assert_eq!(both.skips.counts().get("no-caption"), Some(&1));
        sample.captions.clear();
        assert!(Instructions::from_captions(vec![sample], 1, Wordings::default(), 0).is_err());
    }

    #[test]
    fn a_question_has_one_slot() {
        assert_eq!(without_slot("<image>\nwhat is it?").unwrap(), "what is it?");
        assert_eq!(without_slot("what is <image> here").unwrap(), "what is here");
        for wrong in ["what is it?", "<image> and <image>"] {
            assert_eq!(without_slot(wrong).unwrap_err().reason, SkipReason::QuestionWithoutPicture);
        }
    }
}
