//! The texts that stand for a class.

use crate::error::{Error, Result};
use crate::eval::Templates;

/// As many prompts as all of ImageNet-21k has under OpenAI's 80 templates. More would be a mistake, and cost hours and all memory.
const MOST: usize = 2_000_000;

/// The prompts of each class, in the order of the class list.
#[derive(PartialEq, Eq)]
pub enum Prompts {
    /// Every template with every name; made when asked for, since a long list would fill the memory.
    Filled { templates: Templates, names: Vec<String> },
    /// What people wrote about images of the class.
    Captions(Vec<Vec<String>>),
}

impl Prompts {
    /// # Errors
    /// When there are more than two million.
    pub fn filled(templates: Templates, names: Vec<String>) -> Result<Prompts> {
        let count = templates.0.len().saturating_mul(names.len());
        if count > MOST {
            return Err(Error::setting(
                format!(
                    "{} classes with {} templates make {count} prompts, more than {MOST}",
                    names.len(),
                    templates.0.len()
                ),
                "shorten eval.classes or eval.templates",
            ));
        }
        Ok(Prompts::Filled { templates, names })
    }

    pub fn classes(&self) -> usize {
        match self {
            Prompts::Filled { names, .. } => names.len(),
            Prompts::Captions(lists) => lists.len(),
        }
    }

    /// The prompts of the class at `index`; none where there is no such class.
    pub fn of(&self, index: usize) -> Vec<String> {
        match self {
            Prompts::Filled { templates, names } => {
                names.get(index).map(|name| templates.fill(name)).unwrap_or_default()
            }
            Prompts::Captions(lists) => lists.get(index).cloned().unwrap_or_default(),
        }
    }

    /// The number of all prompts.
    pub fn count(&self) -> usize {
        match self {
            Prompts::Filled { templates, names } => templates.0.len() * names.len(),
            Prompts::Captions(lists) => lists.iter().map(Vec::len).sum(),
        }
    }

    /// Every prompt.
    pub fn all(&self) -> impl Iterator<Item = String> {
        (0..self.classes()).flat_map(|index| self.of(index))
    }

    /// The classes in their order, in chunks of at most `count` prompts (one class may have more).
    pub fn chunks(&self, count: usize) -> impl Iterator<Item = Vec<Vec<String>>> {
        let mut waiting = (0..self.classes()).map(|index| self.of(index)).peekable();
        std::iter::from_fn(move || {
            let mut chunk = vec![waiting.next()?];
            let mut size = chunk.first().map_or(0, Vec::len);
            while let Some(class) = waiting.next_if(|class| size + class.len() <= count) {
                size += class.len();
                chunk.push(class);
            }
            Some(chunk)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_the_order_and_too_many_are_refused() {
        let templates = Templates(vec!["a {}".into(), "the {}".into()]);
        let names: Vec<String> = (0..5).map(|n| format!("c{n}")).collect();
        let prompts = Prompts::filled(templates.clone(), names).unwrap();
        let chunks: Vec<Vec<Vec<String>>> = prompts.chunks(5).collect();
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(chunks.concat().concat(), prompts.all().collect::<Vec<_>>());
        let many: Vec<String> = (0..1_000_001).map(|n| n.to_string()).collect();
        let error = Prompts::filled(templates, many).err().unwrap().to_string();
        assert!(error.contains("1000001 classes with 2 templates") && error.contains("eval.classes"), "{error}");
    }
}
