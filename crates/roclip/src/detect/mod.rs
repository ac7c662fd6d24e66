//! Which pairs are suspicious, and which inputs carry a trigger: a score a file. All look at features of a model that saw the pairs or never did, and say more where something is more suspicious. Nothing here reads a poison mark; [`figures`] judges scores where a manifest says what was poison.

mod clip_score;
mod conformal;
mod density;
mod descriptions;
pub mod figures;
mod inputs;
mod isolation_forest;
#[cfg(test)]
pub(crate) mod known_features;
mod masks;
mod picture_copies;
pub mod plausibility;
mod ranks;
mod whitening;

pub use conformal::{MOST_SURELY_POISONED, p_values};
pub use descriptions::{ClassTexts, Descriptions};
pub use inputs::{InputFeatures, InputMethod, input_scores};
pub use ranks::combined;
pub use whitening::along_first_direction;

use crate::error::{Error, Result};
use crate::model::extent;
use density::Densities;
use plausibility::plausibility;
use rand::seq::SliceRandom;
use roclip_data::plural::count;
use roclip_data::random;
use serde::Serialize;
use std::cell::OnceCell;
use tch::Tensor;

/// Rows compared at a time: bounds the memory of matrices of distances.
const ROWS_AT_A_TIME: i64 = 1024;

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    ClipScore,
    KDistance,
    Slof,
    Lid,
    Dao,
    IsolationForest,
    Plausibility,
    PictureCopies,
    Conformal,
}

/// What is known of a method.
pub struct Known {
    pub method: Method,
    /// As flags and files spell it.
    pub name: &'static str,
    /// For help.
    pub about: &'static str,
    scores: fn(&Look) -> Result<Vec<f64>>,
}

impl Method {
    pub const ALL: [Known; 9] = [
        Known {
            method: Method::ClipScore,
            name: "clip-score",
            about: "how little an image resembles its caption",
            scores: |look| Ok(look.misfit()?.to_vec()),
        },
        Known {
            method: Method::KDistance,
            name: "k-dist",
            about: "distance to the k-th nearest image (arXiv 2502.01385); low density is suspicious",
            scores: |look| Ok(look.densities()?.k_distance.clone()),
        },
        Known {
            method: Method::Slof,
            name: "slof",
            about: "simplified local outlier factor of the image (arXiv 2502.01385)",
            scores: |look| Ok(look.densities()?.slof.clone()),
        },
        Known {
            method: Method::Lid,
            name: "lid",
            about: "local intrinsic dimensionality around the image (arXiv 2502.01385)",
            scores: |look| Ok(look.densities()?.lid.clone()),
        },
        Known {
            method: Method::Dao,
            name: "dao",
            about: "dimensionality-aware outlier score of the image (arXiv 2502.01385)",
            scores: |look| Ok(look.densities()?.dao.clone()),
        },
        Known {
            method: Method::IsolationForest,
            name: "isolation-forest",
            about: "how few random cuts set the image apart from the others",
            scores: |look| isolation_forest::scores(look.config, look.features),
        },
        Known {
            method: Method::Plausibility,
            name: "plausibility",
            about: "how little the neighbours of image and caption vouch for the pair (ours)",
            scores: |look| implausibility(look.config, look.features),
        },
        Known {
            method: Method::PictureCopies,
            name: "picture-copies",
            about: "how much the captions of copies of one picture disagree (ours)",
            scores: |look| picture_copies::scores(look.features),
        },
        Known {
            method: Method::Conformal,
            name: "conformal",
            about: "CASCADE's two stages (arXiv 2608.04052, after its abstract): like the captions of the pairs that fit least",
            scores: |look| conformal::scores(look.config, look.features, look.misfit()?),
        },
    ];

    pub fn known(self) -> Option<Known> {
        Method::ALL.into_iter().find(|known| known.method == self)
    }

    pub fn named(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|known| known.name == name).map(|known| known.method)
    }

    /// As flags and files spell it.
    pub fn name(self) -> &'static str {
        self.known().map_or("", |known| known.name)
    }

    /// How many neighbours it seeks around each of `pairs` pairs, and among how many; none where it seeks none. Fewer than are asked for where
    /// the references have no more.
    pub fn neighbourhood(self, config: &Config, pairs: usize) -> Option<Neighbourhood> {
        let (neighbours, references) = match self {
            Method::KDistance | Method::Slof | Method::Dao => (config.neighbours, config.references),
            Method::Lid => (config.dimension_neighbours, config.references),
            Method::Plausibility => (config.neighbours, plausibility::REFERENCES),
            Method::ClipScore | Method::IsolationForest | Method::PictureCopies | Method::Conformal => return None,
        };
        let references = references.min(pairs);
        Some(Neighbourhood { neighbours: neighbours.min(references.saturating_sub(1)), references })
    }
}

/// Among how many pairs a method seeks how many neighbours of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Neighbourhood {
    pub neighbours: usize,
    pub references: usize,
}

/// Settings of the methods.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub seed: u64,
    /// Neighbours of k-dist, SLOF and DAO, and for each caption and image of plausibility (k).
    pub neighbours: usize,
    /// Neighbours of LID where it is a score of its own; as many as there are where the references have no more.
    pub dimension_neighbours: usize,
    /// Pairs, drawn at random, among which the methods of density seek neighbours; all where there are fewer. 1,024 as the released batch. More
    /// of them hold more copies of the same poison, which then are each other's neighbours. Plausibility, where copies do not vouch for each
    /// other, has [`plausibility::REFERENCES`].
    pub references: usize,
    /// Of the isolation forest.
    pub trees: usize,
    /// Share of the pairs, those that fit least, that the conformal method takes for poison outright, [`MOST_SURELY_POISONED`] at most. Ours.
    pub surely_poisoned: f64,
    /// Share of the pairs, those that fit best, that it takes for clean and calibrates on. Ours.
    pub surely_clean: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 0,
            neighbours: 16,
            dimension_neighbours: 64,
            references: 1024,
            trees: 100,
            surely_poisoned: 0.01,
            surely_clean: 0.5,
        }
    }
}

/// What a model makes of pairs that can be read.
pub struct Features {
    /// Unit features `[pairs, dim]`.
    pub image: Tensor,
    /// Lengths of the image features before they were made unit ones, `[pairs]`.
    pub image_norms: Tensor,
    /// Unit features `[pairs, dim]`.
    pub text: Tensor,
    /// Numbers the pictures: copies of one have one number.
    pub pictures: Vec<i64>,
}

impl Features {
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// # Errors
    /// Features that are no numbers, and fewer pairs than neighbours.
    pub fn check(&self, config: &Config) -> Result<()> {
        let odd = |tensor: &Tensor| first_without_numbers(tensor).is_some();
        if [&self.image, &self.image_norms, &self.text].into_iter().any(odd) {
            return Err(Error::setting(
                "the features of these pairs have values that are no numbers",
                "use a model whose training did not diverge (`roclip doctor` says so of a run)",
            ));
        }
        let empty = |tensor: &Tensor| chunks(tensor).all(|(_, rows)| rows.eq(0).all().int64_value(&[]) == 1);
        if [&self.image, &self.text].into_iter().any(empty) {
            return Err(Error::setting(
                "the features of these pairs are zeros",
                "encode the pairs with a model that was trained",
            ));
        }
        let needed = config.neighbours.max(1) + 1;
        if self.len() <= needed {
            return Err(Error::setting(
                format!(
                    "{} can be read, and {} sought around each",
                    count(self.len(), "pair"),
                    match config.neighbours {
                        1 => "1 neighbour is".to_owned(),
                        many => format!("{many} neighbours are"),
                    }
                ),
                "lower --neighbours, or give more data",
            ));
        }
        if config.neighbours == 0 || config.references <= config.neighbours {
            return Err(Error::setting(
                format!("{} neighbours of {} references", config.neighbours, config.references),
                "ask at least 1 neighbour, and seek it among more references (--neighbours, --references)",
            ));
        }
        Ok(())
    }

    /// Rows among which neighbours are sought, ascending.
    fn references(&self, config: &Config) -> Vec<i64> {
        let mut rows: Vec<i64> = (0..self.len() as i64).collect();
        rows.shuffle(&mut random::stream(config.seed, "detect-references", 0, ""));
        rows.truncate(config.references);
        rows.sort_unstable();
        rows
    }
}

/// Some rows at a time, with the place of the first: bounds the memory of what is made of them.
fn chunks(rows: &Tensor) -> impl Iterator<Item = (i64, Tensor)> {
    let count = extent(rows, 0);
    let some = move |from: i64| (from, rows.narrow(0, from, ROWS_AT_A_TIME.min(count - from)));
    (0..count).step_by(ROWS_AT_A_TIME as usize).map(some)
}

/// The first of `rows` with a value that is no number, or infinite.
pub(crate) fn first_without_numbers(rows: &Tensor) -> Option<i64> {
    chunks(rows).find_map(|(from, some)| {
        let odd = some.reshape([extent(&some, 0), -1]).isfinite().all_dim(1, false).logical_not();
        (odd.any().int64_value(&[]) == 1).then(|| from + odd.nonzero().int64_value(&[0, 0]))
    })
}

/// What several methods ask of the same features, found once.
struct Look<'a> {
    config: &'a Config,
    features: &'a Features,
    misfit: OnceCell<Vec<f64>>,
    densities: OnceCell<Densities>,
}

impl Look<'_> {
    /// Of each image with its caption.
    fn misfit(&self) -> Result<&[f64]> {
        found_once(&self.misfit, || clip_score::scores(self.features)).map(Vec::as_slice)
    }

    fn densities(&self) -> Result<&Densities> {
        found_once(&self.densities, || density::scores(self.config, self.features))
    }
}

fn found_once<T>(cell: &OnceCell<T>, find: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(found) => Ok(found),
        None => find().map(|found| cell.get_or_init(|| found)),
    }
}

/// The score of each row of `features` by each of `methods`, more where it is more suspicious; not finite where a method has nothing to say.
///
/// # Errors
/// What [`Features::check`] refuses.
pub fn scores(methods: &[Method], config: &Config, features: &Features) -> Result<Vec<Vec<f64>>> {
    features.check(config)?;
    let look = Look { config, features, misfit: OnceCell::new(), densities: OnceCell::new() };
    let by = |method: &Method| {
        let known = method.known().ok_or_else(|| Error::internal("this method is not registered"))?;
        (known.scores)(&look)
    };
    methods.iter().map(by).collect()
}

fn implausibility(config: &Config, features: &Features) -> Result<Vec<f64>> {
    // More references only help it: copies of a picture do not vouch for each other.
    let references: Vec<i64> = (0..features.len() as i64).collect();
    let wide = Config { references: plausibility::REFERENCES, ..config.clone() };
    let references = if references.len() > wide.references { features.references(&wide) } else { references };
    let (image, text, copies) = (&features.image, &features.text, &features.pictures);
    let plausible = plausibility(image, text, copies, &references, config.neighbours as i64)?;
    Ok(plausible.into_iter().map(|score| -score).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_listed_once_under_its_name() {
        for known in Method::ALL {
            assert_eq!(Method::named(known.name), Some(known.method));
        }
        assert_eq!(Method::named("no"), None);
    }

    #[test]
    fn neighbours_are_sought_among_the_references_of_each_method() {
        let of = |method: Method, pairs| {
            let found = method.neighbourhood(&Config::default(), pairs)?;
            Some((found.neighbours, found.references))
        };
        assert_eq!(of(Method::Slof, 1_000_000), Some((16, 1024)));
        assert_eq!(of(Method::Plausibility, 1_000_000), Some((16, plausibility::REFERENCES)));
        // LID asks 64, and forty pairs have 39 others.
        assert_eq!((of(Method::Lid, 1_000_000), of(Method::Lid, 40)), (Some((64, 1024)), Some((39, 40))));
        assert_eq!(of(Method::ClipScore, 40), None);
    }

    #[test]
    fn the_first_row_without_numbers_is_found() {
        let rows = Tensor::ones([ROWS_AT_A_TIME + 3, 2], (tch::Kind::Float, tch::Device::Cpu));
        assert_eq!(first_without_numbers(&rows), None);
        let _ = rows.get(ROWS_AT_A_TIME + 2).fill_(f64::NAN);
        assert_eq!(first_without_numbers(&rows), Some(ROWS_AT_A_TIME + 2));
        let _ = rows.get(ROWS_AT_A_TIME + 1).get(1).fill_(f64::INFINITY);
        assert_eq!(first_without_numbers(&rows), Some(ROWS_AT_A_TIME + 1));
        assert_eq!(first_without_numbers(&rows.select(1, 0)), Some(ROWS_AT_A_TIME + 2));
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let features = |value: f64| Features {
            image: Tensor::full([40, 4], value, (tch::Kind::Float, tch::Device::Cpu)),
            image_norms: Tensor::ones([40], (tch::Kind::Float, tch::Device::Cpu)),
            text: Tensor::ones([40, 4], (tch::Kind::Float, tch::Device::Cpu)),
            pictures: (0..40).collect(),
        };
        let refused = |config: Config, value: f64| {
            scores(&[Method::KDistance], &config, &features(value)).unwrap_err().to_string()
        };
        assert!(refused(Config::default(), f64::NAN).contains("no numbers"));
        assert!(
            refused(Config { neighbours: 50, ..Config::default() }, 1.0).contains("40 pairs can be read, and 50 neigh")
        );
        let single = Features { pictures: vec![0], ..features(1.0) };
        let said = single.check(&Config { neighbours: 1, ..Config::default() }).unwrap_err().to_string();
        assert!(said.contains("1 pair can be read, and 1 neighbour is sought"), "{said}");
        assert!(refused(Config { neighbours: 0, ..Config::default() }, 1.0).contains("--neighbours"));
        assert!(refused(Config { references: 5, ..Config::default() }, 1.0).contains("--references"));
    }
}
