//! Which inputs carry a trigger? Scores of single pictures at test time, from what a model makes of them as they are and changed.

use crate::detect::{masks, whitening};
use crate::error::{Error, Result, TorchContext};
use tch::{Kind, Tensor};

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputMethod {
    WhitenedNorm,
    WhitenedDirection,
    GrowingMasks,
    Jpeg,
    Blur,
    Descriptions,
}

/// What is known of a method.
pub struct KnownInput {
    pub method: InputMethod,
    /// As flags and files spell it.
    pub name: &'static str,
    /// For help.
    pub about: &'static str,
    scores: fn(&InputFeatures) -> Result<Vec<f64>>,
}

impl InputMethod {
    pub const ALL: [KnownInput; 6] = [
        KnownInput {
            method: InputMethod::WhitenedNorm,
            name: "whitened-norm",
            about: "length of the features whitened by those of clean pictures (after LoREx; for single inputs, ours)",
            scores: |seen| whitening::norms(&seen.plain, &seen.clean),
        },
        KnownInput {
            method: InputMethod::WhitenedDirection,
            name: "whitened-direction",
            about: "the same along the direction in which all inputs together differ most (LoREx); needs many at once",
            scores: |seen| whitening::along_first_direction(&seen.plain, &seen.clean),
        },
        KnownInput {
            method: InputMethod::GrowingMasks,
            name: "growing-masks",
            about: "clusters of the features under a growing mask (after BackdoorIDS)",
            scores: |seen| masks::scores(&seen.masked),
        },
        KnownInput {
            method: InputMethod::Jpeg,
            name: "jpeg",
            about: "how far JPEG moves the features",
            scores: |seen| moved(&seen.plain, seen.jpeg.as_ref()),
        },
        KnownInput {
            method: InputMethod::Blur,
            name: "blur",
            about: "how far a blur moves the features",
            scores: |seen| moved(&seen.plain, seen.blurred.as_ref()),
        },
        KnownInput {
            method: InputMethod::Descriptions,
            name: "descriptions",
            about: "how little it matters what is said of the classes (BDetCLIP, ICML 2025); needs sentences that describe them",
            scores: by_descriptions,
        },
    ];

    pub fn known(self) -> Option<KnownInput> {
        InputMethod::ALL.into_iter().find(|known| known.method == self)
    }

    pub fn named(name: &str) -> Option<InputMethod> {
        InputMethod::ALL.into_iter().find(|known| known.name == name).map(|known| known.method)
    }

    /// As flags and files spell it.
    pub fn name(self) -> &'static str {
        self.known().map_or("", |known| known.name)
    }
}

/// What a model makes of pictures. All features are unit ones, `[pictures, dim]`, of the same pictures in the same order. What no method asks
/// for need not be there.
pub struct InputFeatures {
    pub plain: Tensor,
    /// Of other pictures, which are known to be clean.
    pub clean: Tensor,
    pub jpeg: Option<Tensor>,
    pub blurred: Option<Tensor>,
    /// Under masks of growing size, the smallest first; the first is no mask.
    pub masked: Vec<Tensor>,
    /// Sums over classes of the mean of unit text features, `[dim]`: of descriptions of the class, and of the class in a template with words
    /// that have nothing to do with it.
    pub said: Option<[Tensor; 2]>,
}

/// The score of each picture, more where it is more suspicious.
///
/// # Errors
/// A method that lacks what it needs.
pub fn input_scores(method: InputMethod, seen: &InputFeatures) -> Result<Vec<f64>> {
    let known = method.known().ok_or_else(|| Error::internal("this method is not registered"))?;
    (known.scores)(seen)
}

/// One less the cosine of each row before and after.
fn moved(before: &Tensor, after: Option<&Tensor>) -> Result<Vec<f64>> {
    let after = after.ok_or_else(|| Error::internal("nothing was encoded for this method"))?;
    let cosines = (before * after).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    Vec::try_from(cosines * -1.0 + 1.0).torch("reading similarities")
}

/// BDetCLIP (arXiv 2405.15269): the sum over classes of the cosine with a fitting description less that with an unrelated text. A triggered
/// picture does not mind, so that a low sum is suspicious; the score is its negative.
fn by_descriptions(seen: &InputFeatures) -> Result<Vec<f64>> {
    let Some([described, unrelated]) = &seen.said else {
        return Err(Error::setting(
            "the method `descriptions` compares sentences, and nothing describes the classes",
            "name a file with --descriptions",
        ));
    };
    let contrast = seen.plain.matmul(&(described - unrelated));
    Vec::try_from((contrast * -1.0).to_kind(Kind::Double)).torch("reading similarities")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::known_features::concepts;

    #[test]
    fn a_picture_that_a_blur_changes_and_words_do_not_is_suspicious() {
        let plain = concepts(&[0, 1, 3]);
        let seen = InputFeatures {
            clean: concepts(&[0, 1, 2]),
            jpeg: Some(concepts(&[0, 1, 2])),
            blurred: Some(concepts(&[0, 1, 3])),
            masked: Vec::new(),
            // Classes 0 and 1 are described; class 3 is what the trigger says.
            said: Some([concepts(&[0]).squeeze() + concepts(&[1]).squeeze(), concepts(&[3]).squeeze()]),
            plain,
        };
        assert_eq!(input_scores(InputMethod::Jpeg, &seen).unwrap(), [0.0, 0.0, 1.0]);
        assert_eq!(input_scores(InputMethod::Blur, &seen).unwrap(), [0.0; 3]);
        assert_eq!(input_scores(InputMethod::Descriptions, &seen).unwrap(), [-1.0, -1.0, 1.0]);
        let silent = InputFeatures { said: None, ..seen };
        assert!(input_scores(InputMethod::Descriptions, &silent).unwrap_err().to_string().contains("--descriptions"));
    }

    #[test]
    fn every_method_is_listed_once_under_its_name() {
        for known in InputMethod::ALL {
            assert_eq!(InputMethod::named(known.name), Some(known.method));
        }
        assert_eq!(InputMethod::named("combined"), None, "that is all of them");
    }
}
