use super::*;
use crate::sample::ImageBytes;
use crate::skip::SkipReason;
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

fn picture(shift: f32, format: ImageFormat) -> Vec<u8> {
    let level = |x: f32, y: f32| 120.0 + 60.0 * (x * 9.0 + shift).sin() + 50.0 * (x * y * 12.0 + 3.0 * shift).cos();
    let picture = RgbImage::from_fn(90, 70, |x, y| Rgb([level(x as f32 / 90.0, y as f32 / 70.0) as u8; 3]));
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn sample(id: &str, bytes: Vec<u8>, captions: &[&str]) -> Sample {
    Sample {
        captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
        split: Some("train".into()),
        ..Sample::new("data".into(), id, ImageBytes::Memory(bytes.into()))
    }
}

fn statistics(samples: &[Sample], config: StatisticsConfig) -> (Statistics, Vec<String>) {
    let mut skips = SkipReport::default();
    skips.add("row 3", Skip::new(SkipReason::NoCaption, "c.jpg"));
    let mut told = Vec::new();
    let found = Statistics::of(samples, skips, config, |sample, look| {
        told.push(format!("{} {}", sample.id, look.is_ok()));
        Ok(())
    });
    (found.unwrap(), told)
}

/// Six near-copies of one cake (two with equal bytes), three other pictures, one that is broken, and two flat ones.
fn cakes() -> Vec<Sample> {
    let png = picture(0.0, ImageFormat::Png);
    let mut samples: Vec<Sample> = (0..4)
        .map(|number| {
            let mut bytes = png.clone();
            bytes.extend([number; 3]); // What stands behind the picture is not looked at.
            sample(
                &format!("cake {number}"),
                bytes,
                &["Birthday cake with candles", &format!("birthday cake {number}")],
            )
        })
        .collect();
    samples.push(sample("equal", png.clone(), &["a birthday cake"]));
    samples.push(sample("equal too", png, &["a Birthday  cake"]));
    samples.extend((1..4).map(|number| {
        let caption = if number == 1 { "the birthday cake of a dog" } else { "a dog" };
        sample(&format!("other {number}"), picture(number as f32, ImageFormat::Jpeg), &[caption])
    }));
    samples.push(sample("broken", b"no picture".to_vec(), &["a dog"]));
    let mut flat = Cursor::new(Vec::new());
    RgbImage::from_pixel(30, 20, Rgb([9, 9, 200])).write_to(&mut flat, ImageFormat::Png).unwrap();
    samples.extend(["flat", "flat too"].map(|id| sample(id, flat.get_ref().clone(), &[])));
    samples
}

#[test]
fn pictures_captions_and_what_is_lost_are_counted() {
    let samples = cakes();
    for workers in [1, 3] {
        let (found, told) = statistics(&samples, StatisticsConfig { workers, ..StatisticsConfig::default() });
        assert_eq!((found.pictures, found.usable, found.pairs), (12, 11, 13));
        assert_eq!(found.formats, BTreeMap::from([("jpeg", 3), ("png", 8)]));
        assert_eq!(found.width.map(|width| (width.min, width.max)), Some((30, 90)));
        assert_eq!(found.splits, BTreeMap::from([("train".to_owned(), 12)]));
        assert_eq!((found.captions.pictures_without, found.repeated_keys), (2, 0));
        assert_eq!(found.captions.most_repeated[0].pairs, 4);
        let reasons: Vec<_> = found.left_out.iter().map(|(reason, left)| (reason.as_str(), left.count)).collect();
        assert_eq!(reasons, [("image-undecodable", 1), ("no-caption", 1)]);
        assert_eq!(found.left_out["image-undecodable"].examples[0].0, "broken");
        assert_eq!((told.len(), told[9].as_str()), (12, "broken false"));
    }
}

#[test]
fn a_natural_backdoor_is_found_with_what_its_captions_say() {
    let (found, _) = statistics(&cakes(), StatisticsConfig::default());
    let copies = &found.copies;
    assert_eq!((copies.equal_groups, copies.equal_copies, copies.flat), (2, 2, 2));
    assert_eq!(
        (copies.near_groups, copies.near_copies, copies.but_first.as_slice()),
        (2, 6, [1, 2, 3, 4, 5, 11].as_slice())
    );
    assert_eq!((copies.suspects.len(), copies.suspected, copies.looked_at), (1, 1, 1));
    let cake = &copies.suspects[0];
    assert_eq!((cake.pictures, cake.captions, cake.equal_bytes, cake.widest_bits), (6, 10, 2, 0));
    assert_eq!(cake.distinct_captions, 6);
    let phrase = SharedPhrase { words: "birthday cake".into(), captions: 10, elsewhere: 1, others: 3 };
    assert_eq!(cake.phrase, Some(phrase));
    assert_eq!(copies.largest.len(), 2);
    // Fewer copies than asked for are no suspects.
    let (found, _) = statistics(&cakes(), StatisticsConfig { min_copies: 7, ..StatisticsConfig::default() });
    assert!(found.copies.suspects.is_empty() && found.copies.looked_at == 0 && found.copies.near_groups == 2);
}

#[test]
fn nothing_is_counted_as_nothing() {
    let (found, _) = statistics(&[sample("a", b"x".to_vec(), &["a"])], StatisticsConfig::default());
    assert_eq!((found.usable, found.pairs, found.width, found.captions.tokens), (0, 0, None, None));
    assert!(found.copies.largest.is_empty());
}
