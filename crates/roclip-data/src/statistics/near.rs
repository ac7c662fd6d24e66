//! Groups of near-equal hashes among millions, without comparing each with each.
//!
//! Multi-index hashing (Norouzi, Punjani and Fleet 2012): of two hashes that differ in at most `r` bits, cut into `r + 1` pieces, one piece at
//! least is equal. Hashes are sorted by each piece in turn, and compared only where that piece is equal; where many share it, the rest
//! of their bits is cut again.

use crate::statistics::perceptual::PerceptualHash;

/// So few are compared each with each.
const FEW: usize = 48;
/// Times that what shares a piece is cut again.
const DEEPEST: u32 = 6;

/// Groups of two or more hashes of which each is within `radius` bits of another one of its group; members are places in `hashes`, ascending,
/// and groups stand in the order of their first members. What has no hash is in no group.
pub fn groups(hashes: &[Option<PerceptualHash>], radius: u32) -> Vec<Vec<u32>> {
    let mut order: Vec<(u64, u32)> =
        hashes.iter().zip(0..).filter_map(|(hash, at)| hash.map(|hash| (hash.0, at))).collect();
    order.sort_unstable();
    let mut distinct: Vec<u64> = order.iter().map(|(hash, _)| *hash).collect();
    distinct.dedup();
    let mut places: Vec<u32> = (0..distinct.len() as u32).collect();
    let mut search = Search { groups: Groups::new(distinct.len()), hashes: distinct, radius };
    search.join(&mut places, u64::MAX, 0);
    let Search { hashes: distinct, groups: mut joined, .. } = search;
    // By the group's root: members.
    let mut by_root: Vec<(u32, u32)> = Vec::with_capacity(order.len());
    let mut number = 0;
    for (hash, at) in order {
        while distinct.get(number).is_some_and(|known| *known != hash) {
            number += 1;
        }
        by_root.push((joined.root(number as u32), at));
    }
    by_root.sort_unstable();
    let mut found: Vec<Vec<u32>> = by_root
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|group| group.len() > 1)
        .map(|group| group.iter().map(|(_, at)| *at).collect())
        .collect();
    found.sort_unstable();
    found
}

struct Search {
    hashes: Vec<u64>,
    radius: u32,
    groups: Groups,
}

impl Search {
    fn hash(&self, place: u32) -> u64 {
        self.hashes.get(place as usize).copied().unwrap_or(0)
    }

    /// Joins those of `places` that are near. They agree in all bits outside of `free`.
    fn join(&mut self, places: &mut [u32], free: u64, depth: u32) {
        let Some(first) = places.first().copied() else { return };
        let root = self.groups.root(first);
        // Of a large group nothing is left to be found.
        if places.iter().all(|place| self.groups.root(*place) == root) {
            return;
        }
        if places.len() <= FEW || depth == DEEPEST || free.count_ones() <= self.radius + 1 {
            self.compare(places);
            return;
        }
        for piece in pieces(free, self.radius + 1) {
            let Search { hashes, .. } = &*self;
            let key = |place: &u32| hashes.get(*place as usize).copied().unwrap_or(0) & piece;
            places.sort_unstable_by_key(key);
            let mut rest = &mut *places;
            while let Some(first) = rest.first().copied() {
                let shared = self.hash(first) & piece;
                let end = rest.iter().position(|place| self.hash(*place) & piece != shared).unwrap_or(rest.len());
                let (run, after) = rest.split_at_mut(end);
                if run.len() > 1 {
                    self.join(run, free & !piece, depth + 1);
                }
                rest = after;
            }
        }
    }

    fn compare(&mut self, places: &[u32]) {
        for (number, one) in places.iter().enumerate() {
            for other in places.iter().skip(number + 1) {
                if (self.hash(*one) ^ self.hash(*other)).count_ones() <= self.radius {
                    self.groups.join(*one, *other);
                }
            }
        }
    }
}

/// The bits of `mask` in `count` parts of about equal size.
fn pieces(mask: u64, count: u32) -> Vec<u64> {
    let bits: Vec<u32> = (0..64).filter(|bit| mask >> bit & 1 == 1).collect();
    let size = bits.len().div_ceil(count.max(1) as usize).max(1);
    bits.chunks(size).map(|part| part.iter().fold(0, |piece, bit| piece | 1 << bit)).collect()
}

/// Which group each of so many things is in.
struct Groups {
    parent: Vec<u32>,
}

impl Groups {
    fn new(count: usize) -> Self {
        Groups { parent: (0..count as u32).collect() }
    }

    fn parent(&self, of: u32) -> u32 {
        self.parent.get(of as usize).copied().unwrap_or(of)
    }

    fn set_parent(&mut self, of: u32, parent: u32) {
        if let Some(slot) = self.parent.get_mut(of as usize) {
            *slot = parent;
        }
    }

    fn root(&mut self, mut of: u32) -> u32 {
        while self.parent(of) != of {
            let next = self.parent(self.parent(of));
            self.set_parent(of, next);
            of = next;
        }
        of
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.set_parent(one.max(other), one.min(other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use rand::{Rng, RngExt};
    use std::time::Instant;

    /// Each with each.
    fn compared(hashes: &[Option<PerceptualHash>], radius: u32) -> Vec<Vec<u32>> {
        let mut groups = Groups::new(hashes.len());
        for (one, a) in hashes.iter().enumerate() {
            for (other, b) in hashes.iter().enumerate().skip(one + 1) {
                if a.zip(*b).is_some_and(|(a, b)| a.distance(b) <= radius) {
                    groups.join(one as u32, other as u32);
                }
            }
        }
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); hashes.len()];
        for place in 0..hashes.len() as u32 {
            let root = groups.root(place) as usize;
            found[root].push(place);
        }
        found.retain(|group| group.len() > 1);
        found.sort();
        found
    }

    #[test]
    fn finds_what_comparing_each_with_each_finds() {
        let mut random = random::stream(0, "test", 0, "");
        for radius in [0, 1, 4, 9] {
            let centres: Vec<u64> = (0..40).map(|_| random.next_u64()).collect();
            let mut hashes: Vec<Option<PerceptualHash>> = (0..600)
                .map(|_| {
                    let changed =
                        (0..random.random_range(0..8)).fold(0, |bits, _| bits ^ 1u64 << random.random_range(0..64));
                    Some(PerceptualHash(centres[random.random_range(0..centres.len())] ^ changed))
                })
                .collect();
            // Many that share most of their bits, as pictures of one kind do.
            hashes.extend((0..400).map(|_| Some(PerceptualHash(random.next_u64() & 0xffff_0000))));
            hashes.extend([None, None]);
            assert_eq!(groups(&hashes, radius), compared(&hashes, radius), "radius {radius}");
        }
        assert!(groups(&[], 4).is_empty());
    }

    #[test]
    fn many_take_moments_even_when_they_are_much_alike() {
        let mut random = random::stream(1, "test", 0, "");
        // Some hundred million comparisons each with each.
        let hashes: Vec<_> =
            (0..30_000).map(|_| Some(PerceptualHash(random.next_u64() & 0x0fff_ffff_0000_ffff))).collect();
        let begun = Instant::now();
        groups(&hashes, 4);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
