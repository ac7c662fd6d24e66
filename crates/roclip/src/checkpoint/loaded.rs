//! A model as it was read back, whoever wrote it.

use crate::checkpoint::state::{Origin, State};
use crate::error::{Error, Result};
use crate::model::Clip;
use roclip_data::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Who wrote a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A checkpoint of this program.
    Roclip,
    /// Weights under open_clip's names.
    OpenClip,
    /// Weights under the names of transformers' `CLIPModel`.
    Transformers,
}

/// A model read back, with what is needed to use it.
pub struct Loaded {
    pub model: Clip,
    pub tokenizer: Tokenizer,
    /// What a checkpoint of this program says of itself; none of a model that another one wrote.
    pub state: Option<State>,
    /// The checkpoint's folder, or the file of the weights.
    pub folder: PathBuf,
    pub origin: Origin,
    pub layout: Layout,
}

impl Loaded {
    /// What a run that begins with this model says of it. `path` is what the recipe calls it.
    pub fn origin(&self, path: &Path) -> Origin {
        Origin { path: path.display().to_string(), ..self.origin.clone() }
    }

    /// # Errors
    /// A classifier, of which no prompt and no caption can be asked: its text tower has learned nothing.
    pub fn must_read_captions(&self, remedy: &str) -> Result<()> {
        match self.state.as_ref().map_or(0, |state| state.classes.len()) {
            0 => Ok(()),
            classes => Err(Error::file(
                &self.folder,
                format!("is a classifier of {classes} classes, and no CLIP: its text tower has learned nothing"),
                remedy,
            )),
        }
    }

    /// What the model is, in a line.
    pub fn about(&self) -> String {
        let provenance = self.origin.provenance.about();
        match (&self.state, self.layout) {
            (Some(state), _) => {
                format!("{} model of step {}; {provenance}", state.objective, state.step)
            }
            (None, Layout::Transformers) => format!("a model in transformers' layout; {provenance}"),
            (None, _) => format!("a model in open_clip's layout; {provenance}"),
        }
    }
}
