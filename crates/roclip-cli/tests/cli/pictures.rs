//! Pictures that are thin, cut or damaged, batches that lose them, and settings of augmentations that make no sense.

use crate::support::Lab;
use std::path::Path;

/// A PNG of these sides in a few kilobytes.
fn thin(path: &Path, width: u32, height: u32) {
    image::GrayImage::from_pixel(width, height, image::Luma([99])).save(path).unwrap();
}

fn jpeg() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8]));
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// Adds training pairs of these pictures, trains an epoch on all, and gives what was skipped.
fn skips(lab: &Lab, names: &[&str]) -> String {
    let mut csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    names.iter().for_each(|name| csv += &format!("{name},a picture,train,red\n"));
    std::fs::write(lab.path("pairs.csv"), csv).unwrap();
    let recipe = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    std::fs::write(lab.path("recipe.toml"), recipe.replace("workers = 1", "workers = 1\nmax_skip_fraction = 1.0"))
        .unwrap();
    lab.train("run", &["--epochs", "1"]);
    std::fs::read_to_string(lab.path("run/skips.jsonl")).unwrap()
}

#[test]
fn thin_and_cut_pictures_are_counted_skips() {
    let lab = Lab::new();
    thin(&lab.path("line.png"), 500_000, 1);
    thin(&lab.path("column.png"), 1, 500_000);
    let whole = jpeg();
    std::fs::write(lab.path("whole.jpg"), &whole).unwrap();
    std::fs::write(lab.path("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    let mut claims = whole.clone();
    let header = claims.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    claims[header + 5..header + 9].copy_from_slice(&[0x10, 0, 0x10, 0]);
    std::fs::write(lab.path("claims.jpg"), claims).unwrap();
    let skips = skips(&lab, &["line.png", "column.png", "whole.jpg", "cut.jpg", "claims.jpg"]);
    for (name, reason) in [
        ("line.png", "image-too-thin"),
        ("column.png", "image-too-thin"),
        ("cut.jpg", "image-truncated"),
        ("claims.jpg", "image-truncated"),
    ] {
        let line = skips.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {skips}");
    }
    assert!(!skips.contains("whole.jpg"), "{skips}");
}

#[test]
fn batches_without_two_good_pictures_are_passed_over_and_counted() {
    let lab = Lab::new();
    // Batches of 8 with three good pictures among 349 bad ones: some find fewer than two to fill their rows with. Headers are well, so that
    // only decoding tells.
    let mut bad = std::fs::read(lab.path("000.png")).unwrap();
    bad.truncate(bad.len() / 2);
    let names: Vec<String> = (0..304).map(|number| format!("bad{number}.png")).collect();
    for name in &names {
        std::fs::write(lab.path(name), &bad).unwrap();
    }
    for number in 3..48 {
        std::fs::write(lab.path(&format!("{number:03}.png")), &bad).unwrap();
    }
    let skipped = skips(&lab, &names.iter().map(String::as_str).collect::<Vec<_>>());
    // The epoch's last batch is incomplete, and is not looked at.
    let count = skipped.lines().count();
    assert!((342..=349).contains(&count), "{count}");
    let passed_over = lab.epochs("run")[0]["passed_over"].as_u64().unwrap();
    assert!(passed_over > 0, "{passed_over}");
    // Of the first epoch's 44 batches 26 are passed over before the first one that is trained.
    lab.objective("clip", "", 2);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap().replace("clip = {  }\n", "");
    let text = text.split("[[poison").next().unwrap().replace("probe =", "# probe =");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
    lab.resumes_bit_for_bit(&[("resumed", 28)]);
    let resumed = lab.epochs("resumed");
    assert!(resumed.iter().all(|epoch| epoch["passed_over"].as_u64().unwrap() > 0), "{resumed:?}");
}

#[test]
fn augmentations_that_make_no_sense_are_refused_before_any_work() {
    let lab = Lab::new();
    for (setting, key) in [
        ("augment.image.blur_sigma_min=3.0", "augment.image.blur_sigma_min"),
        ("augment.image.crop_min_area=1.5", "augment.image.crop_min_area"),
        ("augment.image.hue=-0.1", "augment.image.hue"),
        ("augment.image.blur_kernel=4", "augment.image.blur_kernel"),
        ("augment.image.flip_probability=nan", "augment.image.flip_probability"),
    ] {
        lab.fails(&["train", "--config", "recipe.toml", "--run", "run", "--set", setting], 1, &[key]);
        assert!(!lab.path("run").exists(), "{setting} left a run behind");
    }
}
