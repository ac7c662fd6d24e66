//! Shards that are cut off or damaged.

use super::*;
use tempfile::TempDir;

/// A folder with these shards, by their paths in it.
fn with_shards(shards: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in shards {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

#[test]
fn a_shard_that_is_cut_or_broken_is_a_counted_loss_and_the_others_are_used() {
    let whole = tar(&WHOLE);
    // Each member takes two blocks of 512 bytes; the end mark follows.
    for (name, bytes, expected, reason) in [
        ("0.tar", whole[..2048].to_vec(), vec!["a"], SkipReason::ShardTruncated),
        ("0.tar", whole[..2048 + 512].to_vec(), vec!["a"], SkipReason::ShardTruncated),
        ("0.tar", whole[..4096].to_vec(), vec!["a", "b"], SkipReason::ShardTruncated),
        ("0.tar", b"this is no tar at all".repeat(100), vec![], SkipReason::ShardUnreadable),
        ("0.tar", Vec::new(), vec![], SkipReason::ShardTruncated),
        ("0.tar.gz", gzip(&whole)[..60].to_vec(), vec![], SkipReason::ShardUnreadable),
        ("0.tar.gz", gzip(&whole[..2048]), vec!["a"], SkipReason::ShardTruncated),
        ("0.tar.gz", whole.clone(), vec![], SkipReason::ShardUnreadable),
    ] {
        let listing = list(&[(name, bytes.clone()), ("1.tar", tar(&[("z.png", b"Z"), ("z.txt", b"three")]))]);
        let found = ids(&listing);
        assert_eq!(found, [expected.as_slice(), &["z"]].concat(), "{name} {reason}");
        assert_eq!(listing.skips.count(|r| r == reason), 1, "{}", listing.skips.to_jsonl());
        assert!(listing.skips.names(name), "{}", listing.skips.to_jsonl());
        assert_eq!(listing.shards, 2);
    }
}

#[test]
fn samples_of_a_damaged_shard_count_against_the_share_that_may_be_lost() {
    let folder = with_shards(&[
        ("0.tar", shard_of("a", 30)),
        ("1.tar", b"no tar".repeat(5_000)),
        ("2.tar", shard_of("c", 30)[..20_000].to_vec()),
    ]);
    let path = folder.path().display().to_string();
    let config = SourceConfig { path, ..SourceConfig::default() };
    let listing = list_samples(&config, Default::default()).unwrap();
    // As many as the whole shard has, and the 20 that are missing of the one that was cut off.
    let said = listing.check_losses(0.05, "data.source").unwrap_err().to_string();
    assert!(said.contains("about 50 of 90 samples could not be used"), "{said}");
    assert!(said.contains("1.tar") && said.contains("2.tar"), "{said}");
    listing.check_losses(0.5, "data.source").unwrap_err();
    listing.check_losses(0.7, "data.source").unwrap();
}

/// As an interrupted download leaves a file whose room was taken at first.
#[test]
fn zeros_where_members_were_are_a_loss_and_the_end_of_an_archive_is_not() {
    let lost = |second: Vec<u8>| {
        let listing = list(&[("0.tar", shard_of("a", 30)), ("1.tar", second)]);
        (listing.samples.len(), listing.check_losses(0.0, "data.source").err().map(|e| e.to_string()))
    };
    let whole = shard_of("b", 30);
    let with_zeros = |range: std::ops::Range<usize>| {
        let mut bytes = whole.clone();
        bytes[range].fill(0);
        bytes
    };
    // Two blocks a member, two members a sample.
    for (zeros, samples) in [(0..whole.len(), 30), (20_480..whole.len(), 40), (20_480..40_960, 50)] {
        let (found, said) = lost(with_zeros(zeros.clone()));
        assert_eq!(found, samples, "{zeros:?}");
        let said = said.unwrap_or_default();
        assert!(said.contains("bytes of zeros") && said.contains("1.tar"), "{zeros:?}: {said}");
    }
    // Archives behind each other, and the record of 20 blocks that tar ends with.
    let padded = |bytes: &[u8]| [bytes, &vec![0; 10_240]].concat();
    assert_eq!(lost([padded(&whole), shard_of("c", 5)].concat()), (65, None));
    assert_eq!(lost(padded(&whole)), (60, None));
    assert_eq!(lost(vec![0; 10_240]), (30, None), "an empty archive");
}

#[test]
fn a_damaged_shard_of_another_split_is_none_of_this_one() {
    let folder = with_shards(&[
        ("train/0.tar", shard_of("a", 30)),
        ("train/1.tar", Vec::new()),
        ("test/0.tar", shard_of("c", 10)),
        ("test/1.tar", shard_of("d", 10)),
    ]);
    let path = folder.path().display().to_string();
    let of = |split: &str| {
        let config = SourceConfig { path: path.clone(), split: Some(split.into()), ..SourceConfig::default() };
        list_samples(&config, Default::default()).unwrap()
    };
    let (train, test) = (of("train"), of("test"));
    assert_eq!((test.skips.total(), test.lost_samples), (0, 0), "{}", test.skips.to_jsonl());
    test.check_losses(0.0, "eval.source").unwrap();
    assert_eq!(train.lost_samples, 30);
    assert!(train.skips.to_jsonl().contains("about 30 samples with it"), "{}", train.skips.to_jsonl());
    // Half of the split, though a third of all samples.
    train.check_losses(0.4, "data.source").unwrap_err();
    train.check_losses(0.5, "data.source").unwrap();
}

#[test]
fn where_the_only_shard_of_a_split_is_damaged_the_error_says_so() {
    let folder = with_shards(&[("train/0.tar", shard_of("a", 3)), ("test/0.tar", b"no tar at all".repeat(100))]);
    let path = folder.path().display().to_string();
    let of = |split: &str| {
        let config = SourceConfig { path: path.clone(), split: Some(split.into()), ..SourceConfig::default() };
        list_samples(&config, Default::default()).map(|listing| listing.samples.len()).map_err(|e| e.to_string())
    };
    assert_eq!(of("train"), Ok(3));
    let said = of("test").unwrap_err();
    assert!(said.contains("in split `test` can be read") && said.contains("`test/0.tar` is lost"), "{said}");
    // Nothing is damaged of a split that is not there.
    let said = of("val").unwrap_err();
    assert!(said.contains("in split `val`: it has `train`"), "{said}");
}

/// The reader of tars quotes what stands where a number should be.
#[test]
fn what_is_said_of_a_shard_of_noise_quotes_none_of_it() {
    let mut state = 7u32;
    let mut noise = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noisy: Vec<u8> = (0..4_096).map(&mut noise).collect();
    let whole = tar(&WHOLE);
    let behind = [&whole[..4 * 1_024], &noisy].concat();
    for (bytes, members) in [(noisy, 0), (b"words that are a text ".repeat(100), 0), (behind, 4)] {
        let listing = list(&[("0.tar", bytes)]);
        let said = listing.skips.to_jsonl();
        assert!(said.contains("what stands there is no header of a member") && said.len() < 200, "{said}");
        assert!(members == 0 || said.contains("after 4 members"), "{said}");
    }
}

/// As the listing counts a shard that is cut off, so much of it is written again.
#[test]
fn what_is_whole_of_a_shard_that_is_cut_is_written_again_without_what_is_left_out() {
    let whole = tar(&[&WHOLE[..], &[("c.jpg", b"C"), ("c.txt", b"three")]].concat());
    // In the text of `c`, before its last block, and behind the last member.
    for (end, kept) in [(11 * 512 + 2, vec!["b"]), (9 * 512, vec!["b"]), (12 * 512, vec!["b", "c"])] {
        for (name, bytes) in [("0.tar", whole[..end].to_vec()), ("0.tar.gz", gzip(&whole[..end]))] {
            let folder = tempfile::tempdir().unwrap();
            let (path, out) = (folder.path().join(name), folder.path().join(format!("kept-{name}")));
            std::fs::write(&path, bytes).unwrap();
            let config = |path: &Path| SourceConfig { path: path.display().to_string(), ..SourceConfig::default() };
            let listing = list_samples(&config(&path), Default::default()).unwrap();
            assert!(listing.skips.count(SkipReason::loses_shard) == 1, "{}", listing.skips.to_jsonl());
            let leaving = |sample: &Sample| if sample.id == "a" { Leaving::Whole } else { Leaving::Nothing };
            write_kept(&config(&path), Default::default(), &listing.samples, &leaving, &out).unwrap();
            let again = list_samples(&config(&out), Default::default()).unwrap();
            assert_eq!(ids(&again), kept, "{name} {end}");
            assert_eq!(again.skips.count(SkipReason::loses_shard), 0, "{}", again.skips.to_jsonl());
        }
    }
}
