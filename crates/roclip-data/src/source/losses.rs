//! Shards that are lost, wholly or from a place on, and about how many samples with them.
//!
//! Nothing says how many samples a damaged shard had. Whole shards of the same data do: they have so many samples each, and so many in so many
//! bytes. The larger of both estimates is taken, for a shard that was cut off while it was copied is short, too.

use crate::escape::for_terminal;
use crate::plural::count;
use crate::skip::Skip;

/// Letters of a detail.
const DETAIL_LIMIT: usize = 300;

/// A shard, or a file of a table, as far as it was read.
#[derive(Debug)]
pub(super) struct ReadShard {
    /// As it stands in the report of what was left out.
    pub name: String,
    pub split: Option<String>,
    /// That were found in it, usable or not.
    pub samples: usize,
    /// Of the file.
    pub length_bytes: u64,
    /// Before the place from which on it is lost; the file's length where nothing is.
    pub read_bytes: u64,
    /// Samples behind that place, where the file itself says so.
    pub stated: Option<usize>,
    /// Why the rest is lost; none for a whole one.
    pub lost: Option<Skip>,
}

/// A shard that is lost, wholly or from a place on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostShard {
    pub name: String,
    /// The split that its samples would have been in, where its place says so.
    pub split: Option<String>,
    pub skip: Skip,
    /// About how many samples.
    pub samples: usize,
}

impl LostShard {
    /// Whether its samples may have been in `split`.
    pub fn may_be_of(&self, split: &str) -> bool {
        self.split.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(split))
    }
}

/// A detail without what a damaged file may have put into it: cut, and safe to print.
fn bounded(detail: &str) -> String {
    let start: String = detail.chars().take(DETAIL_LIMIT).collect();
    let cut = if start.len() < detail.len() { "..." } else { "" };
    format!("{}{cut}", for_terminal(&start))
}

/// Those of `shards` that are lost, each with the number of its samples, which the skip's detail says, too.
pub(super) fn lost_of(shards: Vec<ReadShard>) -> Vec<LostShard> {
    let typical = |of: &ReadShard| {
        let whole = |same_split: bool| -> Vec<usize> {
            let whole = shards.iter().filter(|shard| shard.lost.is_none() && (!same_split || shard.split == of.split));
            whole.map(|shard| shard.samples).collect()
        };
        let mut counts = whole(true);
        if counts.is_empty() {
            counts = whole(false);
        }
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or(0)
    };
    let (samples, bytes) = shards
        .iter()
        .filter(|shard| shard.samples > 0)
        .fold((0.0, 0.0), |(samples, bytes), s| (samples + s.samples as f64, bytes + s.read_bytes as f64));
    let in_bytes = |count: u64| if bytes > 0.0 { (count as f64 * samples / bytes).round() as usize } else { 0 };
    let estimates: Vec<usize> = shards
        .iter()
        .map(|shard| {
            let by_length = in_bytes(shard.length_bytes.saturating_sub(shard.read_bytes));
            shard.stated.unwrap_or_else(|| by_length.max(typical(shard).saturating_sub(shard.samples)))
        })
        .collect();
    let lost = shards.into_iter().zip(estimates).filter_map(|(shard, samples)| {
        let Skip { reason, detail } = shard.lost?;
        let detail = bounded(&detail);
        let about = if shard.stated.is_some() { "" } else { "about " };
        let detail = match samples {
            0 => detail,
            _ => format!("{detail}; {about}{} with it", count(samples, "sample")),
        };
        Some(LostShard { name: shard.name, split: shard.split, skip: Skip::new(reason, detail), samples })
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::SkipReason;

    fn shard(name: &str, samples: usize, length_bytes: u64, read_bytes: u64) -> ReadShard {
        let lost = (read_bytes < length_bytes || samples == 0).then(|| Skip::new(SkipReason::ShardTruncated, "cut"));
        ReadShard { name: name.into(), split: None, samples, length_bytes, read_bytes, stated: None, lost }
    }

    fn lost(shards: Vec<ReadShard>) -> Vec<(String, usize)> {
        lost_of(shards).into_iter().map(|lost| (lost.name, lost.samples)).collect()
    }

    #[test]
    fn a_lost_shard_is_as_many_samples_as_its_bytes_or_its_like_had() {
        let whole = |name: &str| shard(name, 100, 1000, 1000);
        // By its bytes, by the others where nothing is left of it, and by what is missing of a cut one.
        assert_eq!(lost(vec![whole("0"), shard("1", 0, 5000, 0)]), [("1".to_owned(), 500)]);
        assert_eq!(lost(vec![whole("0"), shard("1", 0, 0, 0), whole("2")]), [("1".to_owned(), 100)]);
        assert_eq!(lost(vec![whole("0"), shard("1", 30, 305, 300)]), [("1".to_owned(), 70)]);
        // Alone, by what was read of it; and nothing where nothing was.
        assert_eq!(lost(vec![shard("0", 10, 1000, 250)]), [("0".to_owned(), 30)]);
        assert_eq!(lost(vec![shard("0", 0, 1000, 0)]), [("0".to_owned(), 0)]);
        let mut stated = shard("1", 30, 305, 300);
        stated.stated = Some(3);
        assert_eq!(lost_of(vec![whole("0"), stated])[0].skip.detail, "cut; 3 samples with it");
        assert_eq!(lost_of(vec![whole("0"), shard("1", 0, 0, 0)])[0].skip.detail, "cut; about 100 samples with it");
    }

    #[test]
    fn shards_of_the_same_split_say_more() {
        let of = |split: &str, shard: ReadShard| ReadShard { split: Some(split.into()), ..shard };
        let shards = vec![
            of("train", shard("a", 100, 1000, 1000)),
            of("test", shard("b", 10, 100, 100)),
            of("test", shard("c", 0, 0, 0)),
        ];
        let lost = lost_of(shards);
        assert_eq!((lost[0].samples, lost[0].may_be_of("TEST"), lost[0].may_be_of("train")), (10, true, false));
    }
}
