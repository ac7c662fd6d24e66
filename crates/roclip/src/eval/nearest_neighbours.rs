//! k-nearest-neighbour accuracy on image features alone: whether the image tower itself, and not only its alignment with the
//! text, is sound. (attack-cleanclip repository, `src/results.txt`, uses it to tell the two apart.)

use crate::error::{Result, TorchContext};
use crate::eval::features::{ImageEncoder, unaltered};
use crate::model::unit;
use roclip_data::rate::Rate;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Majority of the `k` most similar training images (the nearest decides a tie); classes that training lacks
/// and images that cannot be read are left out.
pub fn nearest_neighbours<'a>(
    encoder: &ImageEncoder,
    train: &[&'a Sample],
    test: &[&'a Sample],
    k: usize,
) -> Result<Rate> {
    let train: Vec<&Sample> = train.iter().copied().filter(|s| s.class.is_some()).collect();
    let known: BTreeSet<&str> = train.iter().filter_map(|s| s.class.as_deref()).collect();
    let is_known = |s: &Sample| s.class.as_deref().is_some_and(|class| known.contains(class));
    let test: Vec<&Sample> = test.iter().copied().filter(|s| is_known(s)).collect();
    if test.is_empty() {
        return Ok(Rate::new(0, 0));
    }
    let (stored, asked) = (encoder.encode(&train, &unaltered)?, encoder.encode(&test, &unaltered)?);
    let of = |samples: &[&'a Sample], places: &[usize]| -> Vec<&'a Sample> {
        places.iter().filter_map(|at| samples.get(*at).copied()).collect()
    };
    let (train, test) = (of(&train, &stored.readable), of(&test, &asked.readable));
    if train.is_empty() || test.is_empty() {
        return Ok(Rate::new(0, 0));
    }
    let (stored, asked) = (unit(&stored.features), unit(&asked.features));
    let (_, best) = asked.matmul(&stored.transpose(0, 1)).topk((k as i64).min(train.len() as i64), 1, true, true);
    let best: Vec<Vec<i64>> = Vec::try_from(best).torch("reading neighbours")?;
    let named = |rows: &Vec<i64>| {
        let mut votes: BTreeMap<&str, (usize, std::cmp::Reverse<usize>)> = BTreeMap::new();
        for (rank, row) in rows.iter().enumerate() {
            let Some(class) = train.get(*row as usize).and_then(|s| s.class.as_deref()) else { continue };
            votes.entry(class).or_insert((0, std::cmp::Reverse(rank))).0 += 1;
        }
        votes.into_iter().max_by_key(|(_, vote)| *vote).map(|(class, _)| class)
    };
    let hits = best.iter().zip(&test).filter(|(rows, sample)| named(rows) == sample.class.as_deref()).count();
    Ok(Rate::new(hits, test.len()))
}
