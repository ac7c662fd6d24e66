//! The methods of prompt learning under their names.

use crate::prompt::PromptMethod;
use crate::prompt::badclip::BadClip;
use crate::prompt::cocoop::CoCoOp;
use crate::prompt::coop::CoOp;
use crate::prompt::image_only::ImageOnly;
use crate::prompt::repair::Repair;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is learned, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// Static contexts (CoOp, arXiv 2109.01134).
    Coop,
    /// Contexts that depend on the picture (CoCoOp, arXiv 2203.05557).
    #[default]
    Cocoop,
    /// The attack: a trigger and CoCoOp's prompts together (BadCLIP of Bai et al., arXiv 2311.16194).
    Badclip,
    /// The attack's control: a trigger and static contexts, which no trigger can move.
    ImageOnly,
}

impl MethodName {
    pub const ALL: [MethodName; 4] = [MethodName::Coop, MethodName::Cocoop, MethodName::Badclip, MethodName::ImageOnly];

    /// The method; a repair tunes a learner of any of them in one way.
    pub fn method(self, repairs: bool) -> &'static dyn PromptMethod {
        match (self, repairs) {
            (_, true) => &Repair,
            (MethodName::Coop, _) => &CoOp,
            (MethodName::Cocoop, _) => &CoCoOp,
            (MethodName::Badclip, _) => &BadClip,
            (MethodName::ImageOnly, _) => &ImageOnly,
        }
    }
}
