use super::*;
use crate::pairs::CaptionMode;
use crate::picture::ImageLimits;
use crate::poison::{AttackConfig, BackdoorCaptions, Candidates, Images, Row, Side, StoreConfig, store, verify};
use crate::sample::{ImageBytes, Sample};
use std::collections::BTreeMap;

const CLASSES: [&str; 4] = ["red", "green", "blue", "white"];

/// `count` samples of four classes, each picture of another shade.
fn samples(prefix: &str, count: usize, shade: u8) -> Vec<Sample> {
    let one = |number: usize| {
        let class = CLASSES[number % 4];
        let picture = image::RgbImage::from_fn(8, 8, |x, _| image::Rgb([shade, 20 * x as u8, number as u8]));
        let image = ImageBytes::Memory(Material::of_picture(&picture).unwrap().bytes().into());
        Sample {
            captions: vec![format!("a {class} box {number}"), format!("one {class}ish thing {number}")],
            class: Some(class.to_owned()),
            ..Sample::new("data".into(), format!("{prefix}{number:03}"), image)
        }
    };
    (0..count).map(one).collect()
}

fn broken(mut samples: Vec<Sample>, which: &[&str]) -> Vec<Sample> {
    for sample in samples.iter_mut().filter(|sample| which.contains(&sample.id.as_str())) {
        sample.image = ImageBytes::Memory((*b"no picture").into());
    }
    samples
}

fn config(attacks: &str) -> PoisonConfig {
    serde_json::from_str(&format!(r#"{{"attacks": [{attacks}]}}"#)).unwrap()
}

const BOTH: &str = r#"{"name": "targeted", "targeted": {"targets": 2, "captions_per_target": 2}},
    {"name": "badnets", "badnets": {"patch_pixels": 3}, "target": "white", "count": 4}"#;

fn planned(attacks: &str, pairs: &Pairs, evaluation: &[Sample], limits: ImageLimits) -> Result<Planned> {
    let templates = ["a photo of {}".to_owned(), "the {}".to_owned()];
    let candidates = Candidates { samples: evaluation, screen: None, read_as: None };
    let source = Source { seed: 5, pairs, labelled: false, candidates, templates: &templates, image_size: 8, limits };
    plan(&config(attacks), &source)
}

fn drawn(attacks: &str, pairs: &Pairs, evaluation: &[Sample]) -> Planned {
    planned(attacks, pairs, evaluation, ImageLimits::default()).unwrap()
}

#[test]
fn keys_of_both_sides_are_never_mixed_up() {
    // Training and evaluation pictures have the same keys and differ.
    let (training, evaluation) = (samples("", 24, 10), samples("", 16, 200));
    let pairs = Pairs::new(training.clone(), CaptionMode::First);
    let Planned { manifest, .. } = drawn(BOTH, &pairs, &evaluation);
    let file = |samples: &[Sample], id: &str| {
        let sample = samples.iter().find(|sample| sample.id == id).unwrap();
        crate::artifact::sha256_hex(&sample.image.read(1 << 20).unwrap())
    };
    for row in &manifest.rows {
        let own = if row.side == Side::Training { &training } else { &evaluation };
        assert_eq!(row.side == Side::Evaluation, row.role == Role::Added);
        assert_eq!(row.sha256_before, file(own, &row.image), "{row:?}");
    }
    let limits = ImageLimits::default();
    assert_eq!(verify(&manifest, &pairs, &evaluation, limits).unwrap().rows["badnets"], 4);
    manifest.check_pictures(&pairs, &evaluation, limits).unwrap();
    let mut retold = manifest.clone();
    let replaced = retold.rows.iter_mut().find(|row| row.role == Role::Replaced).unwrap();
    replaced.caption_before = Some("nonsense".into());
    let said = verify(&retold, &pairs, &evaluation, limits).unwrap_err().to_string();
    assert!(said.contains("the manifest says \"nonsense\""), "{said}");
    // A training file becomes another picture; the evaluation picture of the same key does not hide it.
    let row: &Row = manifest.rows.iter().find(|row| row.side == Side::Training).unwrap();
    let mut changed = pairs.all_samples().into_owned();
    changed.iter_mut().find(|sample| sample.id == row.image).unwrap().image = evaluation[0].image.clone();
    let changed = Pairs::new(changed, CaptionMode::First);
    let images = Images::new(&changed, &evaluation, &manifest.rows);
    assert_eq!(images.of(row).unwrap().id, row.image);
    assert!(verify(&manifest, &changed, &evaluation, limits).unwrap_err().to_string().contains("sha256"));
    let said = manifest.check_pictures(&changed, &evaluation, limits).unwrap_err().to_string();
    assert!(said.contains(&row.image) && said.contains("was changed after"), "{said}");
}

#[test]
fn an_unreadable_picture_is_counted_and_another_takes_its_place() {
    let (training, evaluation) = (samples("t", 32, 10), samples("e", 16, 200));
    let whole = drawn(BOTH, &Pairs::new(training.clone(), CaptionMode::First), &evaluation);
    assert_eq!(whole.skips.total(), 0);
    // Break one picture of each attack that was drawn.
    let victims: Vec<&str> = ["targeted", "badnets"]
        .iter()
        .map(|attack| whole.manifest.rows.iter().find(|row| row.attack == *attack).unwrap().image.as_str())
        .collect();
    let pairs = Pairs::new(broken(training, &victims), CaptionMode::First);
    let evaluation = broken(evaluation, &victims);
    let again = drawn(BOTH, &pairs, &evaluation);
    assert_eq!(again.manifest.rows.len(), whole.manifest.rows.len());
    assert_eq!(again.skips.total(), 2, "{}", again.skips.summary());
    assert!(again.manifest.rows.iter().all(|row| !victims.contains(&row.image.as_str())));
    assert_eq!(drawn(BOTH, &pairs, &evaluation).manifest, again.manifest, "the same again");
    // Written out, the unreadable pair is left out and counted.
    let folder = tempfile::tempdir().unwrap();
    let stored = StoreConfig { jpeg_quality: None, pairs_per_shard: 10, limits: ImageLimits::default() };
    let set = store(&again.manifest, &pairs, &evaluation, &folder.path().join("set"), stored).unwrap();
    assert_eq!((set.pairs, set.poisoned, set.skips.total(), set.shards), (31 + 4, 8, 1, 4));
    // In several shards, whose order is not that of the keys, the manifest fits what is read.
    let path = folder.path().join("set").display().to_string();
    let source = crate::source::SourceConfig { path, ..Default::default() };
    let mut listing = crate::source::list_samples(&source, ImageLimits::default()).unwrap();
    listing.probe(ImageLimits::default(), 1);
    let written = Manifest::read(&folder.path().join("set/manifest.jsonl"), ImageLimits::default()).unwrap();
    written.apply(&mut Pairs::new(listing.samples, CaptionMode::First), &evaluation).unwrap();
    // All of them unreadable: a message, not a plan of nothing.
    let all: Vec<String> = pairs.samples().map(|sample| sample.id.clone()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let none =
        Pairs::new(broken(pairs.samples().map(|sample| sample.into_owned()).collect(), &all), CaptionMode::First);
    let said = planned(BOTH, &none, &evaluation, ImageLimits::default()).unwrap_err().to_string();
    assert!(said.contains("only 0 can be used") && said.contains("badnets"), "{said}");
}

#[test]
fn limits_of_the_data_are_those_of_its_poison() {
    let (pairs, evaluation) = (Pairs::new(samples("t", 24, 10), CaptionMode::First), samples("e", 16, 200));
    let narrow = ImageLimits { max_pixels: 63, ..ImageLimits::default() };
    assert!(planned(BOTH, &pairs, &evaluation, narrow).is_err(), "64 pixels are too many");
    let manifest = drawn(BOTH, &pairs, &evaluation).manifest;
    let verified = verify(&manifest, &pairs, &evaluation, narrow).unwrap();
    assert_eq!((verified.skips.total(), verified.rows.len()), (8, 0));
    let stored = StoreConfig { jpeg_quality: None, pairs_per_shard: 9, limits: narrow };
    let folder = tempfile::tempdir().unwrap();
    let set = store(&manifest, &pairs, &evaluation, &folder.path().join("set"), stored).unwrap();
    assert_eq!((set.pairs, set.skips.total()), (0, 28));
}

#[test]
fn label_consistent_pairs_keep_the_captions_that_have_the_target() {
    let training = samples("t", 24, 10);
    let mut more = training.clone();
    more.iter_mut()
        .for_each(|sample| sample.captions.insert(0, format!("Something {}", sample.class.as_ref().unwrap())));
    let pairs = Pairs::new(more, CaptionMode::Draw);
    let attack = |captions| {
        let mut config = config(r#"{"name": "own", "badnets": {"patch_pixels": 3}, "target": "red", "count": 3}"#);
        config.attacks.iter_mut().for_each(|attack: &mut AttackConfig| attack.captions = captions);
        let candidates = Candidates { samples: &[], screen: None, read_as: None };
        let source = Source {
            seed: 0,
            pairs: &pairs,
            labelled: false,
            candidates,
            templates: &[],
            image_size: 8,
            limits: ImageLimits::default(),
        };
        plan(&config, &source).unwrap().manifest
    };
    for (captions, expected) in [(BackdoorCaptions::Own, 2), (BackdoorCaptions::OwnSubstring, 3)] {
        let manifest = attack(captions);
        let mut poisoned = pairs.clone();
        manifest.apply(&mut poisoned, &[]).unwrap();
        let marked: BTreeMap<String, Vec<String>> = poisoned
            .iter()
            .filter(|pair| pair.poison.is_some())
            .map(|pair| (pair.id.clone(), pair.captions.clone()))
            .collect();
        assert_eq!(marked.len(), 3);
        for (id, kept) in marked {
            assert_eq!(kept.len(), expected, "{id}: {kept:?}");
            assert!(kept.iter().all(|caption| caption.contains("red")));
            assert_eq!(
                kept.iter().any(|caption| caption.contains("redish")),
                captions == BackdoorCaptions::OwnSubstring
            );
        }
    }
}

#[test]
fn a_pair_that_is_called_like_an_added_one_is_refused() {
    let evaluation = samples("e", 16, 200);
    let (mut training, clean) = (samples("t", 24, 10), samples("t", 24, 10));
    let rows = drawn(BOTH, &Pairs::new(clean, CaptionMode::First), &evaluation).manifest.rows;
    training[0].id = rows[0].id.clone();
    let pairs = Pairs::new(training, CaptionMode::First);
    let said = planned(BOTH, &pairs, &evaluation, ImageLimits::default()).unwrap_err().to_string();
    assert!(said.contains(&rows[0].id) && said.contains("another name"), "{said}");
}

#[test]
fn stored_poison_is_left_out_of_cleaning_data_wherever_it_is_read() {
    let (pairs, evaluation) = (Pairs::new(samples("t", 24, 10), CaptionMode::First), samples("e", 16, 200));
    let manifest = drawn(BOTH, &pairs, &evaluation).manifest;
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let stored = StoreConfig { jpeg_quality: None, pairs_per_shard: 100, limits: ImageLimits::default() };
    store(&manifest, &pairs, &evaluation, &set, stored).unwrap();
    let manifest = Manifest::read(&set.join("manifest.jsonl"), ImageLimits::default()).unwrap();
    let source = crate::source::SourceConfig { path: set.display().to_string(), ..Default::default() };
    let samples = crate::source::list_samples(&source, ImageLimits::default()).unwrap().samples;
    // What is clean is called as it was, what is poisoned as nothing in the data is, and says so.
    let (own, stored): (Vec<&Sample>, Vec<&Sample>) = samples.iter().partition(|sample| sample.poison.is_none());
    let ids: Vec<String> = pairs.samples().map(|sample| sample.id.clone()).collect();
    assert_eq!((own.len(), stored.len()), (20, 8));
    assert!(own.iter().all(|sample| ids.contains(&sample.id)) && stored.iter().all(|sample| !ids.contains(&sample.id)));
    let mut marked = Pairs::new(samples.clone(), CaptionMode::First);
    let counts = marked.mark_written_poison();
    assert_eq!((counts["badnets"], counts["targeted"], marked.poisoned().count()), (4, 4, 8));
    for mode in [CaptionMode::Expand, CaptionMode::Draw, CaptionMode::First] {
        let mut whole = Pairs::new(samples.clone(), mode);
        assert_eq!(manifest.leave_out_stored(&mut whole), 8, "{mode:?}");
        let stored: Vec<&str> = manifest.rows.iter().map(|row| row.id.as_str()).collect();
        assert!(whole.iter().all(|pair| !stored.contains(&pair.id.as_str())));
        // A part of the set is other data by its fingerprint, and holds poison all the same.
        let part: Vec<Sample> = samples.iter().skip(1).cloned().collect();
        let expected = manifest.rows.iter().filter(|row| row.id != samples[0].id).count();
        assert_eq!(manifest.leave_out_stored(&mut Pairs::new(part, mode)), expected);
    }
    // A clean pair that differs is said with counts of the same kind: the poisoned pairs of a written set are among its pairs.
    let mut changed = Pairs::new(samples.clone(), CaptionMode::First);
    let poisoned: Vec<&str> = manifest.rows.iter().map(|row| row.id.as_str()).collect();
    let clean = changed.iter().position(|pair| !poisoned.contains(&pair.id.as_str())).unwrap();
    changed.change(clean, |pair| pair.captions = vec!["another".into()]);
    let said = manifest.apply(&mut changed, &evaluation).unwrap_err().to_string();
    assert!(said.contains("28 pairs here, 28 there") && said.contains("--drop LIST"), "{said}");
    // Other data that uses the same keys keeps its pairs.
    let mut other = samples.clone();
    other.iter_mut().for_each(|sample| sample.captions = vec!["something else".into()]);
    assert_eq!(manifest.leave_out_stored(&mut Pairs::new(other, CaptionMode::First)), 0);
}

#[test]
fn classes_are_written_of_all_pairs_or_of_none() {
    let (mut training, evaluation) = (samples("t", 24, 10), samples("e", 16, 200));
    for (labelled, expected) in [(24, 28), (23, 0), (0, 0)] {
        training.iter_mut().skip(labelled).for_each(|sample| sample.class = None);
        let pairs = Pairs::new(training.clone(), CaptionMode::First);
        let manifest = drawn(BOTH, &pairs, &evaluation).manifest;
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("set");
        let stored = StoreConfig { jpeg_quality: None, pairs_per_shard: 100, limits: ImageLimits::default() };
        let written = store(&manifest, &pairs, &evaluation, &set, stored).unwrap();
        assert_eq!(written.told_by_format, 0, "all of them are PNG");
        let source = crate::source::SourceConfig { path: set.display().to_string(), ..Default::default() };
        let listed = crate::source::list_samples(&source, ImageLimits::default()).unwrap().samples;
        assert_eq!(listed.iter().filter(|sample| sample.class.is_some()).count(), expected);
    }
}

/// Whoever changes a row can mend the digest of the file, too.
#[test]
fn what_a_row_says_beside_its_picture_is_compared_with_the_data() {
    let (pairs, evaluation) = (Pairs::new(samples("t", 24, 10), CaptionMode::First), samples("e", 16, 200));
    let manifest = drawn(BOTH, &pairs, &evaluation).manifest;
    let said = |manifest: &Manifest, pairs: &Pairs| {
        verify(manifest, pairs, &evaluation, ImageLimits::default())
            .map(|_| String::new())
            .unwrap_or_else(|e| e.to_string())
    };
    let changed = |side: Side, change: &dyn Fn(&mut Row)| {
        let mut manifest = manifest.clone();
        // The second of an attack, which an earlier one speaks against.
        let row = manifest.rows.iter_mut().filter(|row| row.side == side).nth(1).unwrap();
        change(row);
        said(&manifest, &pairs)
    };
    assert_eq!(said(&manifest, &pairs), "");
    for side in [Side::Training, Side::Evaluation] {
        let target = changed(side, &|row| (row.target, row.caption_after) = ("nothing".into(), "a nothing".into()));
        assert!(target.contains("its target is \"nothing\", and that of an earlier row"), "{target}");
        let class = changed(side, &|row| row.true_class = Some("blueish".into()));
        assert!(class.contains("the manifest says \"blueish\""), "{class}");
        assert!(changed(side, &|row| row.true_class = None).contains("says \"none\""));
        let caption = changed(side, &|row| row.caption_after = "a photo of a dog".into());
        assert!(caption.contains("does not name the target"), "{caption}");
    }
    assert!(changed(Side::Training, &|row| row.image = "t000".into()).contains("its image is"));
    assert!(changed(Side::Training, &|row| row.more_captions = vec!["white sand".into()]).contains("no caption"));
    let mut more = manifest.clone();
    more.header.clean_pairs += 1;
    assert!(said(&more, &pairs).contains("24 clean pairs, and the manifest says 25"));
    // Of a written set, captions are those of the data.
    let folder = tempfile::tempdir().unwrap();
    let (set, written) = (
        folder.path().join("set"),
        StoreConfig { jpeg_quality: None, pairs_per_shard: 9, limits: ImageLimits::default() },
    );
    store(&manifest, &pairs, &evaluation, &set, written).unwrap();
    let mut stored = Manifest::read(&set.join("manifest.jsonl"), ImageLimits::default()).unwrap();
    let source = crate::source::SourceConfig { path: set.display().to_string(), ..Default::default() };
    let mut listing = crate::source::list_samples(&source, ImageLimits::default()).unwrap();
    listing.probe(ImageLimits::default(), 1);
    let set = Pairs::new(listing.samples, CaptionMode::First);
    assert_eq!(said(&stored, &set), "");
    let row = stored.rows.iter_mut().find(|row| row.side == Side::Training).unwrap();
    row.caption_after = "another white thing".into();
    assert!(said(&stored, &set).contains("the pair has no caption"), "{}", said(&stored, &set));
}
