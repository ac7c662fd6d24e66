//! From the user's domain to the attacker's.

use roclip_data::instruction::{PictureShift, Strength, Wording, Wordings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How the attacker's tuning data differ from the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DomainShift {
    /// Not at all.
    None,
    /// They are other pictures: of other styles, or another source.
    Data,
    Picture(PictureShift),
    Question(Wording),
    Answer(Wording),
}

impl DomainShift {
    pub const ALL: [DomainShift; 10] = [
        DomainShift::None,
        DomainShift::Data,
        DomainShift::Picture(PictureShift::Expressionism(Strength::Weak)),
        DomainShift::Picture(PictureShift::Expressionism(Strength::Strong)),
        DomainShift::Picture(PictureShift::Realism(Strength::Weak)),
        DomainShift::Picture(PictureShift::Realism(Strength::Strong)),
        DomainShift::Question(Wording::Expansion),
        DomainShift::Question(Wording::Summary),
        DomainShift::Answer(Wording::Expansion),
        DomainShift::Answer(Wording::Summary),
    ];

    pub fn word(self) -> &'static str {
        match self {
            DomainShift::None => "none",
            DomainShift::Data => "data",
            DomainShift::Picture(PictureShift::Expressionism(Strength::Weak)) => "expressionism-weak",
            DomainShift::Picture(PictureShift::Expressionism(Strength::Strong)) => "expressionism",
            DomainShift::Picture(PictureShift::Realism(Strength::Weak)) => "realism-weak",
            DomainShift::Picture(PictureShift::Realism(Strength::Strong)) => "realism",
            DomainShift::Question(Wording::Expansion) => "question-expansion",
            DomainShift::Question(Wording::Summary) => "question-summary",
            DomainShift::Question(_) => "question",
            DomainShift::Answer(Wording::Expansion) => "answer-expansion",
            DomainShift::Answer(Wording::Summary) => "answer-summary",
            DomainShift::Answer(_) => "answer",
        }
    }

    pub fn named(word: &str) -> Option<DomainShift> {
        DomainShift::ALL.into_iter().find(|shift| shift.word() == word)
    }

    pub(super) fn wordings(self) -> Wordings {
        match self {
            DomainShift::Question(question) => Wordings { question, answer: Wording::Plain },
            DomainShift::Answer(answer) => Wordings { question: Wording::Plain, answer },
            _ => Wordings::default(),
        }
    }

    pub(super) fn picture(self) -> Option<PictureShift> {
        match self {
            DomainShift::Picture(shift) => Some(shift),
            _ => None,
        }
    }
}

impl Serialize for DomainShift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for DomainShift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        DomainShift::named(&word).ok_or_else(|| serde::de::Error::custom(format!("no shift is called `{word}`")))
    }
}

/// The two-sample Kolmogorov-Smirnov statistic: the largest distance between the two shares of values up to any point.
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let (a, b) = (sorted(a), sorted(b));
    let share = |values: &[f64], point: f64| {
        values.partition_point(|value| *value <= point) as f64 / values.len().max(1) as f64
    };
    a.iter().chain(&b).map(|point| (share(&a, *point) - share(&b, *point)).abs()).fold(0.0, f64::max)
}

/// The chance that a poisoned item has the higher score than a clean one; ties count half. None where either is absent.
pub fn auroc(scores: &[(f64, bool)]) -> Option<f64> {
    let of = |poisoned: bool| scores.iter().filter(move |(_, own)| *own == poisoned).map(|(score, _)| *score);
    let (hits, all) = of(true).flat_map(|poison| of(false).map(move |clean| (poison, clean))).fold(
        (0.0, 0.0),
        |(hits, all), (poison, clean)| {
            let hit = if poison > clean {
                1.0
            } else if poison == clean {
                0.5
            } else {
                0.0
            };
            (hits + hit, all + 1.0)
        },
    );
    (all > 0.0).then(|| hits / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_those_of_known_cases() {
        assert_eq!(kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(kolmogorov_smirnov(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        // scipy.stats.ks_2samp([1, 2, 3, 4], [2.5, 3.5, 4.5]).statistic
        assert!((kolmogorov_smirnov(&[1.0, 2.0, 3.0, 4.0], &[2.5, 3.5, 4.5]) - 0.5).abs() < 1e-12);
        assert_eq!(auroc(&[(1.0, true), (0.5, false), (2.0, true)]), Some(1.0));
        assert_eq!(auroc(&[(1.0, true), (1.0, false), (0.0, true), (2.0, false)]), Some(0.125));
        assert_eq!(auroc(&[(1.0, true)]), None);
    }

    #[test]
    fn every_shift_is_found_by_its_word() {
        for shift in DomainShift::ALL {
            assert_eq!(DomainShift::named(shift.word()), Some(shift));
        }
    }
}
