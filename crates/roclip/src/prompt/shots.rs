//! Which classes prompts are learned on, which are only measured, and the few pictures.

use crate::error::{Error, Result};
use rand::seq::SliceRandom;
use roclip_data::escape::for_terminal;
use roclip_data::random;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Classes by name: `(label, words of a prompt)`.
pub type ClassWords = Vec<(String, String)>;

/// Of a list of classes so many are named.
const NAMED: usize = 8;

/// Seen and unseen classes, each in the order of the class list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub seen: ClassWords,
    /// Without the target, unless it is one of them.
    pub unseen: ClassWords,
}

impl Split {
    /// The first half of `classes` (one more where their number is odd) and the rest, or the lists that are given.
    ///
    /// # Errors
    /// Fewer than two classes on either side, a class that the list lacks, or two lists that are the same.
    pub fn new(classes: &ClassWords, seen: Option<&[String]>, unseen: Option<&[String]>) -> Result<Split> {
        let known: BTreeMap<&str, &(String, String)> = classes.iter().map(|class| (class.0.as_str(), class)).collect();
        let listed = |names: &[String], key: &str| -> Result<ClassWords> {
            let mut taken = BTreeSet::new();
            names
                .iter()
                .map(|name| match known.get(name.as_str()) {
                    Some(class) if taken.insert(name) => Ok((*class).clone()),
                    Some(_) => Err(Error::setting(
                        format!("{key} names the class `{}` twice", for_terminal(name)),
                        "remove one",
                    )),
                    None => Err(Error::setting(
                        format!(
                            "{key} names the class `{}`, which is not among the {} classes of the pictures",
                            for_terminal(name),
                            classes.len()
                        ),
                        "correct the name, or add the class to --classes",
                    )),
                })
                .collect()
        };
        let half = classes.len().div_ceil(2);
        let given = seen.map(|names| listed(names, "prompt.seen")).transpose()?;
        let seen = given.unwrap_or_else(|| match unseen {
            None => classes.iter().take(half).cloned().collect(),
            Some(unseen) => classes.iter().filter(|class| !unseen.contains(&class.0)).cloned().collect(),
        });
        let unseen = match unseen {
            Some(names) => listed(names, "prompt.unseen")?,
            None => classes.iter().filter(|class| !seen.contains(class)).cloned().collect(),
        };
        if seen.len() == unseen.len() && seen.iter().all(|class| unseen.contains(class)) {
            return Err(Error::setting(
                "the seen classes and the unseen ones are the same",
                "give lists that differ in prompt.seen and prompt.unseen, or leave both out",
            ));
        }
        for (side, list) in [("seen", &seen), ("unseen", &unseen)] {
            if list.len() < 2 {
                return Err(Error::setting(
                    format!("there is {} {side} class: of one class, every picture is read rightly", list.len()),
                    "give a class list of at least four classes, half of them seen and half unseen",
                ));
            }
        }
        Ok(Split { seen, unseen })
    }

    /// Of prompts that were learned on `learned` before: those classes, and the others of `classes`, or the ones that `unseen` names. What is
    /// to be known of the two lists is said, too.
    ///
    /// # Errors
    /// Data that share no class with the prompts, or have fewer than two others; and those of [`Split::new`] for `unseen`.
    pub fn of_learned(
        classes: &ClassWords,
        learned: &ClassWords,
        unseen: Option<&[String]>,
    ) -> Result<(Split, Vec<String>)> {
        let is_in = |list: &ClassWords, class: &(String, String)| list.iter().any(|other| other.0 == class.0);
        let shared: Vec<String> = classes.iter().filter(|class| is_in(learned, class)).map(|c| c.0.clone()).collect();
        if shared.is_empty() {
            return Err(Error::setting(
                format!(
                    "the prompts were learned on {}, and none of them is among the {} classes of the pictures ({})",
                    named(learned),
                    classes.len(),
                    named(classes)
                ),
                "measure them on pictures of classes that they were learned on (--val-data, --classes), and on others beside them (--on)",
            ));
        }
        let mut said = Vec::new();
        let others = match unseen {
            Some(names) => {
                let split = Split::new(classes, Some(&shared), Some(names))?;
                let both: ClassWords = split.unseen.iter().filter(|class| is_in(learned, class)).cloned().collect();
                if !both.is_empty() {
                    said.push(format!(
                        "prompt.unseen names classes that the prompts were learned on: {}",
                        named(&both)
                    ));
                }
                split.unseen
            }
            None => classes.iter().filter(|class| !is_in(learned, class)).cloned().collect(),
        };
        if others.len() < 2 {
            return Err(Error::setting(
                format!(
                    "of the {} classes of the pictures {} {} none that the prompts were learned on",
                    classes.len(),
                    others.len(),
                    if others.len() == 1 { "is" } else { "are" }
                ),
                "give pictures of at least two other classes (--val-data, --classes): what prompts do to unseen classes is half of the measurement",
            ));
        }
        let lacking: ClassWords = learned.iter().filter(|class| !is_in(classes, class)).cloned().collect();
        if !lacking.is_empty() {
            said.push(format!(
                "{} of the {} classes that the prompts were learned on are not among those of the pictures, and stand for choice only: {}",
                lacking.len(),
                learned.len(),
                named(&lacking)
            ));
        }
        Ok((Split { seen: learned.clone(), unseen: others }, said))
    }

    /// The attacker's class and its place among the seen ones; the first where none is asked for.
    ///
    /// # Errors
    /// A target that is no seen class: the attacker learns on these alone.
    pub fn target(&self, asked: Option<&str>) -> Result<(usize, String)> {
        let Some(asked) = asked else {
            return Ok((0, self.seen.first().map(|class| class.0.clone()).unwrap_or_default()));
        };
        match self.seen.iter().position(|class| class.0 == asked) {
            Some(place) => Ok((place, asked.to_owned())),
            None => {
                let where_it_is = match self.unseen.iter().any(|class| class.0 == asked) {
                    true => "is an unseen class",
                    false => "is not among the classes",
                };
                let first: Vec<String> =
                    self.seen.iter().take(4).map(|class| for_terminal(&class.0).into_owned()).collect();
                Err(Error::setting(
                    format!("the target `{}` {where_it_is}", for_terminal(asked)),
                    format!(
                        "set --target (prompt.target) to one of the {} seen classes: {}, ...",
                        self.seen.len(),
                        first.join(", ")
                    ),
                ))
            }
        }
    }
}

/// Classes in words, the first few by name.
fn named(classes: &ClassWords) -> String {
    let shown: Vec<String> = classes.iter().take(NAMED).map(|class| for_terminal(&class.0).into_owned()).collect();
    let more = if classes.len() > shown.len() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// `classes` with `target` in front where they lack it, and its place: without it, no picture could be read as the target.
pub fn with_target(classes: &ClassWords, target: &(String, String)) -> (ClassWords, usize) {
    match classes.iter().position(|class| class.0 == target.0) {
        Some(place) => (classes.clone(), place),
        None => (std::iter::once(target.clone()).chain(classes.iter().cloned()).collect(), 0),
    }
}

/// `shots` pictures of every seen class, drawn by the seed: `(sample, label)`, the places in `samples` and among `seen`.
///
/// # Errors
/// A class with fewer pictures.
pub fn draw_shots(samples: &[Sample], seen: &ClassWords, shots: usize, seed: u64) -> Result<Vec<(usize, i64)>> {
    let mut by_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, sample) in samples.iter().enumerate() {
        by_class.entry(sample.class.as_deref().unwrap_or_default()).or_default().push(place);
    }
    let mut drawn = Vec::with_capacity(seen.len() * shots);
    for ((class, _), label) in seen.iter().zip(0i64..) {
        let mut own = by_class.remove(class.as_str()).unwrap_or_default();
        if own.len() < shots {
            return Err(Error::setting(
                format!(
                    "the class `{}` has {} pictures, and {shots} shots are asked for",
                    for_terminal(class),
                    own.len()
                ),
                "lower --shots (prompt.shots), or give data with more pictures of each class",
            ));
        }
        own.shuffle(&mut random::stream(seed, "prompt-shots", 0, class));
        own.truncate(shots);
        own.sort_unstable();
        drawn.extend(own.into_iter().map(|place| (place, label)));
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;

    fn classes(names: &[&str]) -> ClassWords {
        names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect()
    }

    fn names(list: &ClassWords) -> Vec<&str> {
        list.iter().map(|class| class.0.as_str()).collect()
    }

    #[test]
    fn the_first_half_is_seen_and_the_target_stands_before_the_rest() {
        let split = Split::new(&classes(&["a", "b", "c", "d", "e"]), None, None).unwrap();
        assert_eq!((names(&split.seen), names(&split.unseen)), (vec!["a", "b", "c"], vec!["d", "e"]));
        assert_eq!(split.target(None).unwrap(), (0, "a".into()));
        assert_eq!(split.target(Some("c")).unwrap().0, 2);
        let (unseen, place) = with_target(&split.unseen, &split.seen[2]);
        assert_eq!((names(&unseen), place), (vec!["c", "d", "e"], 0));
        assert_eq!(with_target(&unseen, &split.unseen[1]).1, 2);
    }

    #[test]
    fn lists_that_cannot_be_are_refused() {
        let all = classes(&["a", "b", "c", "d"]);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let refused = |seen: Option<&[&str]>, unseen: Option<&[&str]>| {
            let (seen, unseen) = (seen.map(list), unseen.map(list));
            Split::new(&all, seen.as_deref(), unseen.as_deref()).unwrap_err().to_string()
        };
        assert!(refused(Some(&["a", "b"]), Some(&["b", "a"])).contains("the same"));
        assert!(refused(Some(&["a", "x"]), None).contains("`x`"));
        assert!(refused(Some(&["a", "a"]), None).contains("twice"));
        assert!(refused(Some(&["a"]), None).contains("1 seen class"));
        assert!(refused(None, Some(&["a"])).contains("1 unseen class"));
        assert!(Split::new(&classes(&["a"]), None, None).unwrap_err().to_string().contains("seen class"));
        let split = Split::new(&all, None, None).unwrap();
        assert!(split.target(Some("d")).unwrap_err().to_string().contains("unseen class"));
        assert!(split.target(Some("x")).unwrap_err().to_string().contains("not among"));
    }

    #[test]
    fn seen_are_the_classes_that_the_prompts_were_learned_on() {
        let (all, list) = (classes(&["a", "b", "c", "d", "e"]), |names: &[&str]| classes(names));
        let of = |learned: &[&str], unseen: Option<&[String]>| Split::of_learned(&all, &list(learned), unseen);
        let (split, said) = of(&["d", "b"], None).unwrap();
        assert_eq!((names(&split.seen), names(&split.unseen)), (vec!["d", "b"], vec!["a", "c", "e"]));
        assert!(said.is_empty(), "{said:?}");
        // A class that the pictures lack stays a choice, and is told.
        let (split, said) = of(&["b", "x", "y"], None).unwrap();
        assert_eq!((names(&split.seen), names(&split.unseen)), (vec!["b", "x", "y"], vec!["a", "c", "d", "e"]));
        assert!(said.len() == 1 && said[0].starts_with("2 of the 3") && said[0].contains("x, y"), "{said:?}");
        let refused = |learned: &[&str]| of(learned, None).unwrap_err().to_string();
        assert!(refused(&["x", "y"]).contains("none of them is among the 5 classes"), "{}", refused(&["x", "y"]));
        assert!(refused(&["a", "b", "c", "d"]).contains("1 is none that"), "{}", refused(&["a", "b", "c", "d"]));
        let both = ["c".to_owned(), "a".to_owned(), "b".to_owned()];
        let (split, said) = of(&["a", "b"], Some(&both)).unwrap();
        assert_eq!(names(&split.unseen), ["c", "a", "b"]);
        assert!(said[0].contains("prompt.unseen names classes") && said[0].contains("a, b"), "{said:?}");
    }

    #[test]
    fn shots_are_of_each_class_and_by_the_seed_alone() {
        let sample = |(class, number): (&str, usize)| Sample {
            class: Some(class.into()),
            ..Sample::new("data".into(), format!("{class}{number}"), ImageBytes::Memory((*b"").into()))
        };
        let samples: Vec<Sample> = (0..8).flat_map(|n| [("a", n), ("b", n)]).map(sample).collect();
        let seen = classes(&["b", "a"]);
        let drawn = draw_shots(&samples, &seen, 3, 7).unwrap();
        assert_eq!(drawn.len(), 6);
        assert!(
            drawn
                .iter()
                .all(|(place, label)| samples[*place].class.as_deref() == Some(if *label == 0 { "b" } else { "a" }))
        );
        assert_eq!(drawn, draw_shots(&samples, &seen, 3, 7).unwrap());
        assert_ne!(drawn, draw_shots(&samples, &seen, 3, 8).unwrap());
        let said = draw_shots(&samples, &seen, 9, 7).unwrap_err().to_string();
        assert!(said.contains("`b` has 8 pictures") && said.contains("--shots"), "{said}");
    }
}
