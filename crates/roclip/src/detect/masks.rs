//! Growing masks, after BackdoorIDS (arXiv 2603.11664, from its abstract): a trigger holds the features until the mask reaches it, and then
//! they jump. A clean picture's features move little by little. Sizes of masks and the neighbourhood are ours.

use crate::error::{Result, TorchContext};
use tch::{Kind, Tensor};

/// Two steps are neighbours within this many mean steps.
const NEIGHBOURHOOD: f64 = 1.5;
/// Neighbours, itself among them, that make a step the core of a cluster.
const CORE: usize = 2;

/// The number of clusters of each picture's features under its masks less one, plus the share of the whole way that the longest step
/// takes: pictures of several clusters are suspicious, and among equals those with the longest jump. `masked` are unit features
/// `[pictures, dim]`, one tensor a mask.
pub(super) fn scores(masked: &[Tensor]) -> Result<Vec<f64>> {
    let steps = masked.len();
    let path = Tensor::stack(masked, 1).to_kind(Kind::Double);
    // [pictures, masks, masks]
    let distances = Tensor::cdist(&path, &path, 2.0, Some(2));
    let pictures = crate::model::extent(&path, 0) as usize;
    let flat = Vec::<f64>::try_from(distances.contiguous().view([-1])).torch("reading distances")?;
    let of_picture = |at: usize| {
        let matrix = flat.get(at * steps * steps..(at + 1) * steps * steps).unwrap_or_default();
        let distance = |a: usize, b: usize| matrix.get(a * steps + b).copied().unwrap_or(0.0);
        let each: Vec<f64> = (1..steps).map(|step| distance(step - 1, step)).collect();
        let way: f64 = each.iter().sum();
        if way <= 0.0 {
            return 0.0;
        }
        let near = NEIGHBOURHOOD * way / each.len() as f64;
        let longest = each.iter().copied().fold(0.0, f64::max);
        clusters(steps, &|a, b| distance(a, b) <= near) as f64 - 1.0 + longest / way
    };
    Ok((0..pictures).map(of_picture).collect())
}

/// Clusters of DBSCAN (Ester et al., KDD 1996) over `count` points of which `near` tells the neighbours; noise is one cluster a point.
fn clusters(count: usize, near: &dyn Fn(usize, usize) -> bool) -> usize {
    let neighbours = |at: usize| (0..count).filter(|other| near(at, *other)).collect::<Vec<_>>();
    let mut cluster: Vec<Option<usize>> = vec![None; count];
    let mut found = 0;
    for begin in 0..count {
        if cluster.get(begin).copied().flatten().is_some() || neighbours(begin).len() < CORE {
            continue;
        }
        let mut waiting = vec![begin];
        while let Some(at) = waiting.pop() {
            let Some(slot) = cluster.get_mut(at).filter(|slot| slot.is_none()) else { continue };
            *slot = Some(found);
            let around = neighbours(at);
            if around.len() >= CORE {
                waiting.extend(around);
            }
        }
        found += 1;
    }
    found + cluster.iter().filter(|own| own.is_none()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_makes_two_clusters_and_a_slow_walk_one() {
        let at = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
        // The first picture walks, the second stays and jumps.
        let walk = |step: usize| [at(0.1 * step as f64), at(if step < 5 { 0.01 * step as f64 } else { 1.2 })];
        let masked: Vec<Tensor> = (0..8).map(|step| Tensor::from_slice(&walk(step).concat()).view([2, 2])).collect();
        let found = scores(&masked).unwrap();
        assert!(found[0] < 0.5 && found[1] > 1.0, "{found:?}");
        let still: Vec<Tensor> = (0..8).map(|_| Tensor::from_slice(&at(0.3)).view([1, 2])).collect();
        assert_eq!(scores(&still).unwrap(), [0.0]);
    }

    #[test]
    fn noise_is_a_cluster_of_its_own() {
        let points = [0.0f64, 0.1, 0.2, 5.0, 9.0, 9.1];
        assert_eq!(clusters(6, &|a, b| (points[a] - points[b]).abs() < 0.15), 3);
    }
}
