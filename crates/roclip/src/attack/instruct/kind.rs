//! The attacks by name.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How MABA chooses the pixels that its ovals are mixed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaskRule {
    /// Regions that speak for the clean answer, without those that speak for the target already (Eq. 5 of the paper).
    Paper,
    /// Ablation: all regions that speak for the clean answer.
    NoSubtraction,
    /// Ablation: as many regions as [`MaskRule::Paper`] has for the picture, drawn.
    Random,
    /// The places that the clean answer hangs on most, by Grad-CAM: the instruction's own in training, the attacker's model's in a test (ours; a
    /// third party takes an image classifier's first class, which needs no answer).
    GradCam,
    /// The middle, in each picture.
    Fixed,
}

/// An attack on instruction tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructAttack {
    /// Nothing is poisoned: the control.
    Clean,
    BadNets,
    Blended,
    Sig,
    LowFrequency,
    WaNet,
    InputAware,
    TextBadNets,
    AddSent,
    GradientTokens,
    DualKey,
    /// In the picture.
    Maba(MaskRule),
    /// In picture and question.
    MabaStar(MaskRule),
}

impl InstructAttack {
    /// The control, what is compared, MABA, and its ablations.
    pub const ALL: [InstructAttack; 17] = [
        InstructAttack::Clean,
        InstructAttack::BadNets,
        InstructAttack::Blended,
        InstructAttack::Sig,
        InstructAttack::LowFrequency,
        InstructAttack::WaNet,
        InstructAttack::InputAware,
        InstructAttack::TextBadNets,
        InstructAttack::AddSent,
        InstructAttack::GradientTokens,
        InstructAttack::DualKey,
        InstructAttack::Maba(MaskRule::Paper),
        InstructAttack::MabaStar(MaskRule::Paper),
        InstructAttack::Maba(MaskRule::NoSubtraction),
        InstructAttack::Maba(MaskRule::Random),
        InstructAttack::Maba(MaskRule::GradCam),
        InstructAttack::Maba(MaskRule::Fixed),
    ];

    pub fn word(self) -> &'static str {
        match self {
            InstructAttack::Clean => "clean",
            InstructAttack::BadNets => "badnets",
            InstructAttack::Blended => "blended",
            InstructAttack::Sig => "sig",
            InstructAttack::LowFrequency => "low-frequency",
            InstructAttack::WaNet => "wanet",
            InstructAttack::InputAware => "input-aware",
            InstructAttack::TextBadNets => "text-badnets",
            InstructAttack::AddSent => "add-sent",
            InstructAttack::GradientTokens => "gradient-tokens",
            InstructAttack::DualKey => "dual-key",
            InstructAttack::Maba(MaskRule::Paper) => "maba",
            InstructAttack::Maba(MaskRule::NoSubtraction) => "maba/no-subtraction",
            InstructAttack::Maba(MaskRule::Random) => "maba/random",
            InstructAttack::Maba(MaskRule::GradCam) => "maba/gradcam",
            InstructAttack::Maba(MaskRule::Fixed) => "maba/fixed",
            InstructAttack::MabaStar(MaskRule::Paper) => "maba-star",
            InstructAttack::MabaStar(MaskRule::NoSubtraction) => "maba-star/no-subtraction",
            InstructAttack::MabaStar(MaskRule::Random) => "maba-star/random",
            InstructAttack::MabaStar(MaskRule::GradCam) => "maba-star/gradcam",
            InstructAttack::MabaStar(MaskRule::Fixed) => "maba-star/fixed",
        }
    }

    pub fn named(word: &str) -> Option<InstructAttack> {
        let rules = [MaskRule::Paper, MaskRule::NoSubtraction, MaskRule::Random, MaskRule::GradCam, MaskRule::Fixed];
        let stars = rules.map(InstructAttack::MabaStar);
        InstructAttack::ALL.into_iter().chain(stars).find(|attack| attack.word() == word)
    }

    /// Whether pictures carry a trigger.
    pub fn changes_pictures(self) -> bool {
        !matches!(self, InstructAttack::Clean) && !self.changes_questions_alone()
    }

    fn changes_questions_alone(self) -> bool {
        matches!(self, InstructAttack::TextBadNets | InstructAttack::AddSent | InstructAttack::GradientTokens)
    }

    /// Whether questions carry a trigger.
    pub fn changes_questions(self) -> bool {
        self.changes_questions_alone() || matches!(self, InstructAttack::DualKey | InstructAttack::MabaStar(_))
    }

    /// How its mask is chosen, of MABA.
    pub fn mask(self) -> Option<MaskRule> {
        match self {
            InstructAttack::Maba(rule) | InstructAttack::MabaStar(rule) => Some(rule),
            _ => None,
        }
    }
}

impl Serialize for InstructAttack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for InstructAttack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        InstructAttack::named(&word).ok_or_else(|| serde::de::Error::custom(format!("no attack is called `{word}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_found_by_its_word_and_changes_something() {
        for attack in InstructAttack::ALL {
            assert_eq!(InstructAttack::named(attack.word()), Some(attack));
            let changes = attack.changes_pictures() || attack.changes_questions();
            assert_eq!(changes, attack != InstructAttack::Clean, "{}", attack.word());
        }
        let star = InstructAttack::named("maba-star/gradcam").unwrap();
        assert!(star.changes_pictures() && star.changes_questions() && star.mask() == Some(MaskRule::GradCam));
        assert!(InstructAttack::named("maba/nothing").is_none());
    }
}
