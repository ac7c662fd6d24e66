//! The searches: proper differential evolution, the released one, and the controls, all within one budget of queries.

use crate::attack::aicattack::Budget;
use crate::attack::aicattack::individual::{Gene, Individual, applied, gaussian, uniform};
use crate::error::Result;
use image::RgbImage;
use rand::RngExt;
use roclip_data::random::Stream;
use serde::{Deserialize, Serialize};

/// How colours (and without attention, places) are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// Differential evolution: rand/1, a better trial replaces its member, colours keep their bounds of both signs.
    Proper,
    /// The released code, a version from before the paper: mutants of the first population only, colours cut to 0 to 255, so that mutants
    /// brighten. (Sums are clamped; there they wrap around.)
    AsReleased,
    /// First members only, as many as there are queries: a control.
    Random,
    /// One draw of Gaussian noise on as many pixels: a control with one query.
    Noise,
}

impl Search {
    pub const ALL: [Search; 4] = [Search::Proper, Search::AsReleased, Search::Random, Search::Noise];

    pub fn word(self) -> &'static str {
        match self {
            Search::Proper => "proper",
            Search::AsReleased => "as-released",
            Search::Random => "random",
            Search::Noise => "noise",
        }
    }

    pub fn named(word: &str) -> Option<Search> {
        Search::ALL.into_iter().find(|search| search.word() == word)
    }
}

/// What a search found.
pub(super) struct Best {
    pub picture: RgbImage,
    pub caption: String,
    pub cost: f64,
    /// Captions that were asked for, without that of the clean picture.
    pub queries: usize,
}

/// Captions of pictures and what they cost.
pub(super) type Ask<'a> = dyn FnMut(&[RgbImage]) -> Result<Vec<(String, f64)>> + 'a;

/// A slot of the population and the best that it has shown.
struct Slot {
    individual: Individual,
    caption: String,
    cost: f64,
}

pub(super) struct Searcher<'a> {
    pub budget: &'a Budget,
    pub picture: &'a RgbImage,
    /// Draws the pixels of a member; those of attention are the same for all.
    pub draw: &'a mut dyn FnMut(&mut Stream) -> Result<Vec<usize>>,
    pub random: Stream,
    /// What the clean caption costs.
    pub clean_cost: f64,
}

impl Searcher<'_> {
    fn side(&self) -> u32 {
        self.picture.width()
    }

    fn member(&mut self, noise: bool) -> Result<Individual> {
        let pixels = (self.draw)(&mut self.random)?;
        let (side, amplitude) = (self.side(), self.budget.amplitude);
        let draw = if noise { gaussian } else { uniform };
        Ok(draw(&pixels, side, amplitude, &mut self.random))
    }

    fn slots(&mut self, search: Search, count: usize, ask: &mut Ask) -> Result<Vec<Slot>> {
        let members = (0..count).map(|_| self.member(search == Search::Noise)).collect::<Result<Vec<_>>>()?;
        self.asked(search, members, ask)
    }

    /// The picture with a member's changes. The released code has no bound on the sum of two changes of one pixel.
    fn changed(&self, search: Search, member: &[Gene]) -> RgbImage {
        let most = (search != Search::AsReleased).then(|| f64::from(self.budget.amplitude));
        applied(self.picture, member, most)
    }

    fn asked(&self, search: Search, members: Vec<Individual>, ask: &mut Ask) -> Result<Vec<Slot>> {
        let pictures: Vec<RgbImage> = members.iter().map(|member| self.changed(search, member)).collect();
        let answers = ask(&pictures)?;
        let slot = |(individual, (caption, cost))| Slot { individual, caption, cost };
        Ok(members.into_iter().zip(answers).map(slot).collect())
    }

    /// The best picture within the budget.
    ///
    /// # Errors
    /// Those of the victim.
    pub fn run(mut self, search: Search, ask: &mut Ask) -> Result<Option<Best>> {
        let (population, queries) = (self.budget.population, self.budget.queries - 1);
        let mut asked = population;
        let slots = match search {
            Search::Noise => {
                asked = 1;
                self.slots(search, 1, ask)?
            }
            Search::Random => {
                let mut slots = Vec::with_capacity(queries);
                while slots.len() < queries {
                    let count = population.min(queries - slots.len());
                    slots.extend(self.slots(search, count, ask)?);
                }
                asked = queries;
                slots
            }
            Search::Proper | Search::AsReleased => {
                let mut slots = self.slots(search, population, ask)?;
                let first: Vec<Individual> = slots.iter().map(|slot| slot.individual.clone()).collect();
                while asked < queries {
                    let count = population.min(queries - asked);
                    let trials = (0..count).map(|j| match search {
                        Search::Proper => self.trial(&slots, j),
                        _ => self.released_trial(&first),
                    });
                    let trials = trials.collect();
                    for (slot, trial) in slots.iter_mut().zip(self.asked(search, trials, ask)?) {
                        let better = match search {
                            Search::Proper => trial.cost <= slot.cost,
                            _ => trial.cost < slot.cost && trial.cost < self.clean_cost,
                        };
                        if better {
                            *slot = trial;
                        }
                    }
                    asked += count;
                }
                slots
            }
        };
        let best = slots.into_iter().min_by(|a, b| a.cost.total_cmp(&b.cost));
        Ok(best.map(|Slot { individual, caption, cost }| Best {
            picture: self.changed(search, &individual),
            caption,
            cost,
            queries: asked,
        }))
    }

    /// Three different numbers below `count`.
    fn three(&mut self, count: usize, without: Option<usize>) -> [usize; 3] {
        let mut chosen = [usize::MAX; 3];
        for at in 0..3 {
            loop {
                let number = self.random.random_range(0..count);
                if !chosen.contains(&number) && Some(number) != without {
                    if let Some(slot) = chosen.get_mut(at) {
                        *slot = number;
                    }
                    break;
                }
            }
        }
        chosen
    }

    fn mutant(&self, of: [Option<&Individual>; 3], low: f64, high: f64) -> Individual {
        let [Some(a), Some(b), Some(c)] = of else { return Vec::new() };
        let genes = a.iter().zip(b).zip(c);
        genes.map(|((a, b), c)| Gene::mutated(a, b, c, self.budget.factor).bounded(self.side(), low, high)).collect()
    }

    /// rand/1 among the other members, with binomial crossover where it is asked for.
    fn trial(&mut self, slots: &[Slot], j: usize) -> Individual {
        let most = f64::from(self.budget.amplitude);
        let of = self.three(slots.len(), Some(j)).map(|at| slots.get(at).map(|slot| &slot.individual));
        let mutant = self.mutant(of, -most, most);
        let (Some(share), Some(own)) = (self.budget.crossover, slots.get(j).map(|slot| &slot.individual)) else {
            return mutant;
        };
        let certain = self.random.random_range(0..mutant.len().max(1));
        let crossed = mutant.into_iter().zip(own).enumerate().map(|(at, (new, old))| {
            if at == certain || self.random.random_range(0.0..1.0) < share { new } else { *old }
        });
        crossed.collect()
    }

    /// A mutant of the first population, in which the member itself may take part.
    fn released_trial(&mut self, first: &[Individual]) -> Individual {
        let of = self.three(first.len(), None).map(|at| first.get(at));
        self.mutant(of, 0.0, 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::random;

    /// Runs a search on `pixels` against a victim whose cost is the mean of red in the picture, 100 at the clean one.
    fn found_on(pixels: [usize; 6], search: Search, queries: usize) -> (Best, usize) {
        let picture = RgbImage::from_pixel(8, 8, image::Rgb([100, 100, 100]));
        let budget = Budget { queries, pixels: 6, ..Budget::default() };
        let mut asked = 0;
        let mut draw = |_: &mut Stream| Ok(pixels.to_vec());
        let searcher = Searcher {
            budget: &budget,
            picture: &picture,
            draw: &mut draw,
            random: random::stream(3, "test", 0, ""),
            clean_cost: 100.0,
        };
        let mut ask = |pictures: &[RgbImage]| {
            asked += pictures.len();
            let red = |picture: &RgbImage| picture.pixels().map(|pixel| f64::from(pixel.0[0])).sum::<f64>() / 64.0;
            Ok(pictures.iter().map(|picture| ("caption".to_owned(), red(picture))).collect())
        };
        let best = searcher.run(search, &mut ask).unwrap().unwrap();
        (best, asked)
    }

    fn found(search: Search, queries: usize) -> (Best, usize) {
        found_on([1, 9, 17, 25, 33, 41], search, queries)
    }

    #[test]
    fn every_search_keeps_to_the_budget_and_evolution_goes_further_than_chance() {
        for search in [Search::Proper, Search::AsReleased, Search::Random] {
            for queries in [121, 130, 42] {
                let (best, asked) = found(search, queries);
                assert_eq!((best.queries, asked), (queries - 1, queries - 1), "{search:?}");
            }
        }
        assert_eq!(found(Search::Noise, 121).1, 1);
        let cost = |search| found(search, 401).0.cost;
        assert!(cost(Search::Proper) < cost(Search::Random), "{} {}", cost(Search::Proper), cost(Search::Random));
        // Mutants of the released code cannot darken: what is darker is one of the first members.
        assert!((cost(Search::AsReleased) - found(Search::AsReleased, 42).0.cost).abs() < 1e-9);
    }

    #[test]
    fn proper_evolution_keeps_the_bounds_and_only_the_chosen_pixels() {
        let (best, _) = found(Search::Proper, 401);
        let clean = RgbImage::from_pixel(8, 8, image::Rgb([100, 100, 100]));
        let change = crate::attack::aicattack::change_between(&clean, &best.picture);
        assert!(change.l0 <= 6 && change.l_inf <= 40, "{change:?}");
        // A pixel that is drawn three times is one pixel still.
        for search in [Search::Proper, Search::Random] {
            let (best, _) = found_on([1, 9, 9, 9, 33, 41], search, 401);
            let change = crate::attack::aicattack::change_between(&clean, &best.picture);
            assert!(change.l0 <= 4 && change.l_inf <= 40, "{search:?}: {change:?}");
        }
    }
}
