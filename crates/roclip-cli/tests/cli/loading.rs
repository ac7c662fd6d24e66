//! Batches stay full where pictures cannot be read, whoever makes them and wherever a run goes on.

use crate::support::{Lab, checkpoint};
use serde_json::Value;

/// Clean data of 48 pairs in batches of 8, trained with CLIP on augmented pictures. The pictures of which `broken` says so are cut off behind
/// the header, so that only decoding tells.
fn lab(broken: impl Fn(u32) -> bool) -> Lab {
    let lab = Lab::new();
    lab.objective("clip", "", 3);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let clean = text.split("[[poison.attacks]]").next().unwrap().replace("clip = {  }\n", "");
    let clean = clean.replace("[train]", "[train]\nlog_every_steps = 1").replace("probe =", "# probe =");
    std::fs::write(lab.path("recipe.toml"), clean).unwrap();
    for number in (0..48).filter(|number| broken(*number)) {
        let picture = lab.path(&format!("{number:03}.png"));
        let bytes = std::fs::read(&picture).unwrap();
        std::fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    }
    lab
}

const LENIENT: [&str; 2] = ["--set", "data.max_skip_fraction=1"];

#[test]
fn another_pair_takes_the_place_of_one_that_cannot_be_read_whatever_the_workers() {
    let lab = lab(|number| number % 9 == 3);
    let said = lab.stderr(&[&["train", "--config", "recipe.toml", "--run", "whole"][..], &LENIENT].concat());
    assert!(said.contains("(5 unusable pairs skipped and replaced)"), "{said}");
    for line in lab.epochs("whole") {
        assert_eq!((&line["skipped"], &line["left_out"]), (&Value::from(5), &Value::Null), "{line}");
    }
    for workers in ["2", "8"] {
        let run = format!("by{workers}");
        lab.train(&run, &[&LENIENT[..], &["--workers", workers]].concat());
        let weights = |run: &str| checkpoint(&lab.path(run)).into_iter().find(|(name, _)| name == "model.safetensors");
        assert!(weights(&run).is_some() && weights(&run) == weights("whole"), "{workers} workers");
        assert_eq!(lab.epochs(&run), lab.epochs("whole"));
    }
}

#[test]
fn a_run_of_replaced_pairs_resumes_bit_for_bit() {
    let lab = lab(|number| number % 9 == 3);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    std::fs::write(lab.path("recipe.toml"), text.replace("[data]", "[data]\nmax_skip_fraction = 1.0")).unwrap();
    lab.resumes_bit_for_bit(&[("early", 3), ("later", 10)]);
}

#[test]
fn a_run_that_can_read_nothing_fails_whatever_may_be_lost() {
    let lab = lab(|_| true);
    let run = [&["train", "--config", "recipe.toml", "--run", "run"][..], &LENIENT].concat();
    lab.fails(&run, 1, &["nothing was read", "of epoch 1", "--train-data"]);
}

#[test]
fn data_of_two_good_pictures_is_refused_and_ends_where_that_is_allowed() {
    let lab = lab(|number| !matches!(number, 7 | 29));
    let run = ["train", "--config", "recipe.toml", "--run", "run"];
    lab.fails(&run, 1, &["of 48 pairs could not be used in one epoch", "data.max_skip_fraction", "--resume"]);
    let said = lab.stderr(&[&["train", "--config", "recipe.toml", "--run", "all"][..], &LENIENT].concat());
    assert!(said.contains("46 unusable pairs skipped;"), "{said}");
    for line in lab.epochs("all") {
        // Each picture stands in its row of all six batches, unless both share one.
        let left_out = line["left_out"].as_u64().unwrap();
        assert!(line["skipped"] == 46 && matches!(left_out, 36 | 42), "{line}");
        assert_eq!(line["passed_over"].as_u64().unwrap_or(0), if left_out == 42 { 6 } else { 0 }, "{line}");
    }
}
