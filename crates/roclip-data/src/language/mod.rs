//! Words: stop words, WordNet's synonyms and parts of speech, and classes derived from captions.

mod class_words;
mod concepts;
mod stop_words;
mod wordnet;

pub use class_words::{class_words, wnid_of};
pub use concepts::{ConceptConfig, Concepts};
pub use stop_words::STOP_WORDS;
pub use wordnet::{PartOfSpeech, PartsOfSpeech, Synonyms};
