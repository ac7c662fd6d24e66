//! How pairs were looked at, and which were to be left out.

use crate::detect::{Config, MOST_SURELY_POISONED, Method};
use crate::error::{Error, Result};
use crate::run::earlier_list::EarlierList;
use crate::run::ordering::{COMBINED, Methods};
use roclip_data::artifact;
use roclip_data::pairs::LeftOutByList;
use roclip_data::plural::count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Ids to leave out, one a line.
pub(super) const LIST: &str = "drop.txt";
pub(super) const SUMMARY: &str = "detect.json";

/// Which pairs are to be left out.
pub enum Drop {
    Nothing,
    /// This share of the pairs, the most suspicious by what orders them.
    Fraction(f64),
    /// Pairs whose conformal p-value is at most this beside pairs that are known to be clean: about this share of the clean pairs goes,
    /// where the trusted ones are such as they are.
    Level(f64),
}

impl Drop {
    /// # Errors
    /// A share that is none, all or no number.
    pub fn check(&self) -> Result<()> {
        let (what, share) = match self {
            Drop::Nothing => return Ok(()),
            Drop::Fraction(share) => ("--drop-fraction", *share),
            Drop::Level(level) => ("--level", *level),
        };
        match share > 0.0 && share < 1.0 {
            true => Ok(()),
            false => Err(Error::setting(format!("{what} {share}"), "choose more than 0 and less than 1")),
        }
    }

    /// Whether a level can be reached beside so many `trusted` pairs: the least p-value is that of a pair beyond all of them.
    ///
    /// # Errors
    /// A level that no pair reaches, whatever it is: that nothing is left out would say nothing of the data.
    pub fn check_reached(&self, trusted: usize) -> Result<()> {
        match self {
            Drop::Level(level) if *level < 1.0 / (trusted + 1) as f64 => Err(Error::setting(
                format!(
                    "--level {level} of {}: no pair can be so suspicious, since the least p-value of a pair beside them is 1/{}",
                    count(trusted, "trusted pair"),
                    trusted + 1
                ),
                format!("name at least {:.0} with --trusted-data, or raise --level", (1.0 / level).ceil() - 1.0),
            )),
            _ => Ok(()),
        }
    }

    fn words(&self) -> String {
        match self {
            Drop::Nothing => "nothing".to_owned(),
            Drop::Fraction(share) => format!("fraction {share}"),
            Drop::Level(level) => format!("level {level}"),
        }
    }
}

/// How pairs were looked at. Lists that were made in one way, for several seeds, make one experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// What encoded the pairs; none where the features came from a folder.
    pub model: Option<PathBuf>,
    pub methods: Vec<String>,
    /// The one of several methods that orders the pairs; where none is named, as in older files, their mean rank does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub neighbours: usize,
    pub references: usize,
    #[serde(default)]
    pub settings: Settings,
    /// `fraction 0.02`, `level 0.01` or `nothing`, and whether the list names what an earlier one does, too.
    pub drop: String,
    /// What that earlier list was; older files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Before>,
}

/// What no flag says of the methods. Older files do not have it, and were made with these defaults, but for the bound on `conformal`, which
/// they did not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Of LID.
    pub dimension_neighbours: usize,
    /// Of the isolation forest.
    pub trees: usize,
    /// Shares that the conformal method takes for poison, and for clean.
    pub surely_poisoned: f64,
    pub surely_clean: f64,
    /// Pairs that it takes for poison, at most.
    pub most_surely_poisoned: usize,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            dimension_neighbours: config.dimension_neighbours,
            trees: config.trees,
            surely_poisoned: config.surely_poisoned,
            surely_clean: config.surely_clean,
            most_surely_poisoned: MOST_SURELY_POISONED,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::from(&Config::default())
    }
}

/// What an earlier list was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Before {
    /// One of another look: each seed has its own.
    Look(Box<Looked>),
    /// The digest of any other.
    List(String),
}

/// What is read of the summary beside a list.
#[derive(Deserialize)]
struct Summary {
    looked: Looked,
    dropped: Option<Named>,
    earlier: Option<Joined>,
}

#[derive(Deserialize)]
struct Named {
    /// By attack: its pairs, and how many of them were not named.
    left: BTreeMap<String, (usize, usize)>,
}

/// The earlier list whose lines stand in this one, too.
#[derive(Deserialize)]
struct Joined {
    ids: usize,
    #[serde(default)]
    names_poison: bool,
}

impl Summary {
    /// Where `list` is a `drop.txt` of this program beside its `detect.json`.
    fn beside(list: &Path) -> Option<Summary> {
        let summary = list.file_name().is_some_and(|name| name == LIST).then(|| list.with_file_name(SUMMARY))?;
        artifact::read_json(&summary).ok()
    }
}

impl Looked {
    /// What a look with these settings is; what encoded the pairs is to be said beside.
    pub fn by(config: &Config, methods: &Methods, drop: &Drop) -> Looked {
        Looked {
            model: None,
            methods: methods.list().iter().map(|method| method.name().to_owned()).collect(),
            by: methods.order().map(|method| method.name().to_owned()),
            neighbours: config.neighbours,
            references: config.references,
            settings: Settings::from(config),
            drop: drop.words(),
            earlier: None,
        }
    }

    /// The same look at pairs that an earlier list, if there is one, had left.
    #[must_use]
    pub fn after(mut self, earlier: Option<&EarlierList>) -> Looked {
        if let Some(earlier) = earlier {
            self.drop.push_str(", and an earlier list");
            self.earlier = Some(match Looked::beside(&earlier.list) {
                Some(look) => Before::Look(Box::new(look)),
                None => Before::List(earlier.digest.clone()),
            });
        }
        self
    }

    /// What ordered the pairs, as a demo's `--detect-by` names it: a method, or [`COMBINED`] for the mean rank over all. That of some by their
    /// names.
    pub fn ordered_by(&self) -> String {
        if let Some(by) = &self.by {
            return by.clone();
        }
        let all = Method::ALL.iter().all(|known| self.methods.iter().any(|method| method == known.name));
        if all { COMBINED.to_owned() } else { self.methods.join(" + ") }
    }

    /// How `list` was made, where it is a `drop.txt` of this program beside its `detect.json`.
    pub fn beside(list: &Path) -> Option<Looked> {
        Summary::beside(list).map(|summary| summary.looked)
    }

    /// Whether `list` was made so, and names pairs that were known to be poison.
    pub fn names_poison(list: &Path) -> bool {
        let own = |named: Named| named.left.values().any(|(all, kept)| kept < all);
        Summary::beside(list).is_some_and(|summary| {
            summary.earlier.is_some_and(|earlier| earlier.names_poison) || summary.dropped.is_some_and(own)
        })
    }
}

/// Of so many ids of a list one may be gone since the pairs were looked at.
const GONE: usize = 10;

/// Whether what `list` had in common with data, `found`, can be all that it has: `detect pairs` names pairs of the data that it looked at
/// alone, and under the same ids other data may have other pictures. Those of an earlier list, whose lines stand in it, too, may be absent.
///
/// # Errors
/// A list of `detect pairs` of other data.
pub fn check_list(list: &Path, found: &LeftOutByList) -> Result<()> {
    if found.absent * GONE <= found.named {
        return Ok(());
    }
    let Some(summary) = Summary::beside(list) else { return Ok(()) };
    let earlier = summary.earlier.map_or(0, |earlier| earlier.ids);
    // All of the earlier ones may be among those that are absent.
    let (absent, named) = (found.absent.saturating_sub(earlier), found.named.saturating_sub(earlier));
    if absent * GONE <= named {
        return Ok(());
    }
    let beside = if earlier > 0 { " behind those of an earlier list" } else { "" };
    Err(Error::file(
        list,
        format!(
            "was made by `roclip detect pairs` of other data: {absent} of its {}{beside} are not in these, and the others may be other \
             pictures of the same name",
            count(named, "id")
        ),
        "name the data that were looked at, with their manifest, or look at these",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Methods {
        Methods::new(vec![Method::ClipScore], None).unwrap()
    }

    #[test]
    fn a_list_beside_an_earlier_one_was_made_in_another_way() {
        let looked = || Looked::by(&Config::default(), &one(), &Drop::Fraction(0.1));
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("ids.txt");
        std::fs::write(&list, "{\"id\": \"a\", \"reason\": \"blurred\"}\nb").unwrap();
        let earlier = EarlierList::read(&list).unwrap();
        assert_eq!((earlier.ids, earlier.lines()), (2, "{\"id\": \"a\", \"reason\": \"blurred\"}\nb\n"));
        let after = looked().after(Some(&earlier));
        assert_eq!(
            (after.drop.as_str(), &after.earlier),
            ("fraction 0.1, and an earlier list", &Some(Before::List(earlier.digest)))
        );
        // That of another look is what it was made by, whatever it names.
        let list = folder.path().join(LIST);
        std::fs::write(&list, "a\n").unwrap();
        std::fs::write(folder.path().join(SUMMARY), serde_json::json!({"looked": after}).to_string()).unwrap();
        let further = looked().after(Some(&EarlierList::read(&list).unwrap()));
        assert_eq!(further.earlier, Some(Before::Look(Box::new(after))));
        let read: Looked = serde_json::from_str(&serde_json::to_string(&further).unwrap()).unwrap();
        assert_eq!(read, further);
        assert_eq!(looked().after(None), looked());
    }

    #[test]
    fn a_list_of_a_look_is_of_the_data_that_were_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join(LIST);
        std::fs::write(&list, "a\n").unwrap();
        let found = |absent, named| LeftOutByList { absent, named, ..LeftOutByList::default() };
        // Nobody knows where a list of one's own comes from.
        check_list(&list, &found(21, 46)).unwrap();
        let looked = Looked::by(&Config::default(), &one(), &Drop::Fraction(0.1));
        let write = |left: serde_json::Value| {
            let summary = serde_json::json!({"looked": looked, "dropped": {"pairs": 1, "left": left}});
            std::fs::write(folder.path().join(SUMMARY), summary.to_string()).unwrap();
        };
        write(serde_json::json!({}));
        let said = check_list(&list, &found(21, 46)).unwrap_err().to_string();
        assert!(said.contains("21 of its 46 ids") && said.contains("drop.txt"), "{said}");
        check_list(&list, &found(4, 46)).unwrap();
        assert!(!Looked::names_poison(&list));
        write(serde_json::json!({"patch": [8, 2], "word": [3, 3]}));
        assert!(Looked::names_poison(&list) && !Looked::names_poison(&folder.path().join("other.txt")));
        write(serde_json::json!({"patch": [8, 8]}));
        assert!(!Looked::names_poison(&list), "all poison stayed");
    }

    #[test]
    fn what_an_earlier_list_names_is_no_part_of_what_a_look_found() {
        let folder = tempfile::tempdir().unwrap();
        let (own, list) = (folder.path().join("mine.txt"), folder.path().join(LIST));
        std::fs::write(&own, (0..100).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
        std::fs::write(&list, "a\n").unwrap();
        let mut earlier = EarlierList::read(&own).unwrap();
        let looked = Looked::by(&Config::default(), &one(), &Drop::Fraction(0.1)).after(Some(&earlier));
        earlier.names_poison = true;
        let summary = serde_json::json!({"looked": looked, "dropped": {"pairs": 54, "left": {}}, "earlier": earlier});
        std::fs::write(folder.path().join(SUMMARY), summary.to_string()).unwrap();
        let found = |absent| LeftOutByList { absent, named: 154, ..LeftOutByList::default() };
        check_list(&list, &found(50)).unwrap();
        check_list(&list, &found(105)).unwrap();
        let said = check_list(&list, &found(130)).unwrap_err().to_string();
        assert!(said.contains("30 of its 54 ids behind those of an earlier list"), "{said}");
        // The lines of that list stand here, too, and so does its poison.
        assert!(Looked::names_poison(&list));
    }

    #[test]
    fn what_ordered_the_pairs_is_a_method_or_all_of_them() {
        let look = |methods: &[Method], order: Option<&str>| {
            Looked::by(&Config::default(), &Methods::new(methods.to_vec(), order).unwrap(), &Drop::Nothing)
        };
        let by = |methods: &[Method], order| look(methods, order).ordered_by();
        let all = Method::ALL.map(|known| known.method);
        assert_eq!(by(&[Method::ClipScore], None), "clip-score");
        assert_eq!((by(&all, None), by(&all, Some(COMBINED))), ("plausibility".to_owned(), COMBINED.to_owned()));
        let both = [Method::ClipScore, Method::Plausibility];
        assert_eq!((by(&both, None), by(&both, Some("clip-score"))), ("plausibility".into(), "clip-score".into()));
        assert_eq!(by(&both, Some(COMBINED)), "clip-score + plausibility");
        // Older files name neither what ordered the pairs, which their mean rank did, nor what no flag says.
        let mut older = serde_json::to_value(look(&all, Some(COMBINED))).unwrap();
        let settings = older.as_object_mut().unwrap().remove("settings").unwrap();
        assert_eq!((&settings["dimension_neighbours"], &settings["surely_poisoned"]), (&64.into(), &0.01.into()));
        assert_eq!(serde_json::from_value::<Looked>(older).unwrap(), look(&all, Some(COMBINED)));
    }
}
