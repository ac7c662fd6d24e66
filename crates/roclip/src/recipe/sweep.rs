//! A grid of recipes: every combination of the values that some keys are given.

use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// A key with the values that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    key: String,
    /// The last words of the key, as many as tell it from the other keys.
    word: String,
    values: Vec<Value>,
}

/// One of a key's values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    text: String,
    /// What files call it: itself, or its number where it has signs that names of files should not have.
    name: String,
}

/// Keys with their values, as in `objective.roclip.period=1,2,4`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    axes: Vec<Axis>,
}

/// One combination of values: one for each of the sweep's keys, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    values: Vec<Value>,
}

impl Sweep {
    /// Reads one text a key, `KEY=VALUE,VALUE`. Commas within brackets, braces and quotes do not part values.
    ///
    /// # Errors
    /// No `=`, no values, an empty value, a value that stands twice, or two texts for one key.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Sweep> {
        let mut axes: Vec<Axis> = Vec::new();
        for text in texts {
            let axis = axis(text.as_ref())?;
            if axes.iter().any(|known| known.key == axis.key) {
                return Err(Error::setting(
                    format!("--sweep names `{}` twice", axis.key),
                    "give all values of a key in one --sweep",
                ));
            }
            axes.push(axis);
        }
        let keys: Vec<String> = axes.iter().map(|axis| axis.key.clone()).collect();
        for axis in &mut axes {
            axis.word = telling_end(&axis.key, &keys);
        }
        Ok(Sweep { axes })
    }

    /// How many combinations there are.
    pub fn len(&self) -> usize {
        self.axes.iter().fold(1, |cells, axis| cells.saturating_mul(axis.values.len()))
    }

    /// Whether it varies nothing; its only cell is the recipe itself.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// The keys, in the order that they were given in.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().map(|axis| axis.key.as_str())
    }

    /// The last words of the keys: what folders and tables call them.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().map(|axis| axis.word.as_str())
    }

    /// All combinations; values of the last key vary first.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![Cell { values: Vec::new() }];
        for axis in &self.axes {
            let longer = |cell: &Cell| {
                let with = |value: &Value| Cell { values: [cell.values.clone(), vec![value.clone()]].concat() };
                axis.values.iter().map(with).collect::<Vec<_>>()
            };
            cells = cells.iter().flat_map(longer).collect();
        }
        cells
    }

    /// `base` with the values of `cell`.
    ///
    /// # Errors
    /// A key that the recipe does not have, or a value that it cannot have.
    pub fn recipe(&self, base: &Recipe, cell: &Cell) -> Result<Recipe> {
        let assignments =
            self.axes.iter().zip(&cell.values).map(|(axis, value)| format!("{}={}", axis.key, value.text));
        assignments.into_iter().try_fold(base.clone(), |recipe, assignment| recipe.assign(&assignment))
    }

    /// What a folder calls `cell`: `period-2,captions_per_target-7`. Only the keys of which `named` says so are in it.
    pub fn name(&self, cell: &Cell, named: impl Fn(usize) -> bool) -> String {
        let parts = self.axes.iter().zip(&cell.values).enumerate().filter(|(at, _)| named(*at));
        parts.map(|(_, (axis, value))| format!("{}-{}", axis.word, value.name)).collect::<Vec<_>>().join(",")
    }

    /// For each key whether it changes what `made` of a cell is. A control's training knows nothing of a defence's settings.
    pub fn changing<T: PartialEq>(&self, cells: &[Cell], made: &[T]) -> Vec<bool> {
        let pairs = || {
            let others = |at: usize| cells.iter().zip(made).skip(at + 1);
            cells.iter().zip(made).enumerate().flat_map(move |(at, one)| others(at).map(move |other| (one, other)))
        };
        let only = |at: usize, one: &Cell, other: &Cell| {
            one.values.iter().zip(&other.values).enumerate().all(|(key, (a, b))| (a != b) == (key == at))
        };
        let changes = |at: usize| pairs().any(|((one, a), (other, b))| only(at, one, other) && a != b);
        (0..self.axes.len()).map(changes).collect()
    }
}

impl Cell {
    /// One value a key, as it was given.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| value.text.as_str())
    }
}

fn axis(text: &str) -> Result<Axis> {
    let refuse = |what: String| {
        Error::setting(format!("--sweep {text}: {what}"), "give KEY=VALUE,VALUE, as in objective.roclip.period=1,2,4")
    };
    let (key, list) = text.split_once('=').ok_or_else(|| refuse("there is no `=`".to_owned()))?;
    let key = key.trim();
    if key.is_empty() {
        return Err(refuse("there is no key".to_owned()));
    }
    if list.trim().is_empty() {
        return Err(refuse("the list of values is empty".to_owned()));
    }
    let values: Vec<String> = parted(list).iter().map(|value| value.trim().to_owned()).collect();
    if values.iter().any(String::is_empty) {
        return Err(refuse("a value is empty".to_owned()));
    }
    let repeated = values.iter().enumerate().find(|(at, value)| values.iter().take(*at).any(|other| other == *value));
    if let Some((_, value)) = repeated {
        return Err(refuse(format!("`{value}` stands twice")));
    }
    let values =
        values.into_iter().zip(1..).map(|(text, number)| Value { name: in_a_name(&text, number), text }).collect();
    Ok(Axis { key: key.to_owned(), word: String::new(), values })
}

/// The parts of a list between its own commas, those that are in no brackets, braces or quotes.
fn parted(list: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, letter) in list.char_indices() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(letter),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.extend(list.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(list.get(begin..));
    parts
}

/// The shortest end of `key`, in whole words and beginning with no number, that no other of `keys` has.
pub(crate) fn telling_end(key: &str, keys: &[String]) -> String {
    let words: Vec<&str> = key.split('.').collect();
    let ends =
        (1..=words.len()).map(|count| words.iter().skip(words.len() - count).copied().collect::<Vec<_>>().join("."));
    let tells = |end: &String| {
        let others = keys.iter().filter(|other| *other != key);
        let number = end.split('.').next().is_some_and(|word| word.chars().all(|letter| letter.is_ascii_digit()));
        !number && !others.into_iter().any(|other| other == end || other.ends_with(&format!(".{end}")))
    };
    ends.into_iter().find(tells).unwrap_or_else(|| key.to_owned())
}

/// Letters of a value that names of files take.
const LONGEST_NAME: usize = 48;

/// `value` as a part of a file's name, or `number` where it has other signs than names should have, as a path or a section has.
fn in_a_name(value: &str, number: usize) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._+-".contains(letter);
    match value.len() <= LONGEST_NAME && value.chars().all(fits) {
        true => value.to_owned(),
        false => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sweep: &Sweep) -> Vec<String> {
        sweep.cells().iter().map(|cell| sweep.name(cell, |_| true)).collect()
    }

    #[test]
    fn a_grid_has_every_combination_named_by_its_keys() {
        let sweep = Sweep::parse(&["objective.roclip.period=1,2", "train.epochs= 3 , 4"]).unwrap();
        assert_eq!(names(&sweep), ["period-1,epochs-3", "period-1,epochs-4", "period-2,epochs-3", "period-2,epochs-4"]);
        assert_eq!(sweep.len(), 4);
        let recipe = sweep.recipe(&Recipe::default(), &sweep.cells()[3]).unwrap();
        assert_eq!((recipe.objective.roclip.period, recipe.train.epochs), (2, 4));
        let nothing = Sweep::parse::<&str>(&[]).unwrap();
        assert!(nothing.is_empty());
        assert_eq!(nothing.recipe(&Recipe::default(), &nothing.cells()[0]).unwrap(), Recipe::default());
    }

    #[test]
    fn keys_with_one_last_word_are_told_apart() {
        let sweep = Sweep::parse(&["train.learning_rate=1", "clean.abd.patch_learning_rate=2", "x.learning_rate=3"]);
        let sweep = sweep.unwrap();
        assert_eq!(names(&sweep), ["train.learning_rate-1,patch_learning_rate-2,x.learning_rate-3"]);
    }

    #[test]
    fn commas_within_values_part_nothing_and_names_fit_a_file_system() {
        let sweep = Sweep::parse(&["augment.image={ hue = 0.1, blur_kernel = 3 },{}", "a='x,y/z',[1,2],3e-4"]).unwrap();
        assert_eq!(sweep.len(), 6);
        assert_eq!(names(&sweep)[0], "image-1,a-1");
        assert_eq!(names(&sweep)[5], "image-2,a-3e-4");
    }

    #[test]
    fn what_is_no_sweep_is_refused_by_its_words() {
        for (texts, words) in [
            (vec!["train.epochs"], "no `=`"),
            (vec!["=1,2"], "no key"),
            (vec!["train.epochs="], "list of values is empty"),
            (vec!["train.epochs= "], "list of values is empty"),
            (vec!["train.epochs=1,,2"], "a value is empty"),
            (vec!["train.epochs=1,2,1"], "`1` stands twice"),
            (vec!["train.epochs=1", "train.epochs=2"], "names `train.epochs` twice"),
        ] {
            let error = Sweep::parse(&texts).unwrap_err().to_string();
            assert!(error.contains(words), "{texts:?}: {error}");
        }
        let sweep = Sweep::parse(&["train.epoch=1"]).unwrap();
        let error = sweep.recipe(&Recipe::default(), &sweep.cells()[0]).unwrap_err().to_string();
        assert!(error.contains("train.epoch=1"), "{error}");
    }

    #[test]
    fn keys_that_change_nothing_are_known() {
        let sweep = Sweep::parse(&["a=1,2", "b=3,4"]).unwrap();
        let cells = sweep.cells();
        let of =
            |at: usize| -> Vec<String> { cells.iter().map(|cell| cell.values().nth(at).unwrap().to_owned()).collect() };
        assert_eq!(sweep.changing(&cells, &of(1)), [false, true]);
        assert_eq!(sweep.changing(&cells, &of(0)), [true, false]);
    }
}
