//! Sifting through the binary: halves that share no picture, resuming in every phase, and settings that cannot work.

use crate::support::Lab;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Six steps an epoch: one epoch on each half, then two on what is accepted.
fn lab(settings: &str) -> Lab {
    let lab = Lab::new();
    lab.objective("sift", settings, 4);
    lab
}

const SETTINGS: &str = "round_epochs = 1, shares = [0.7, 0.7], plausibility = { neighbours = 3 }";

/// Ids that an epoch trained on.
fn trained(lab: &Lab, run: &str, epoch: u32) -> BTreeSet<String> {
    let lines = std::fs::read_to_string(lab.path(&format!("{run}/splits/epoch_{epoch}.jsonl"))).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["safe"] == true).map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn halves_share_no_picture_and_the_last_epochs_train_on_both() {
    let lab = lab(SETTINGS);
    let summary: Value = serde_json::from_str(&lab.train("run", &["--json"])).unwrap();
    assert_eq!(summary["objective"], "sift");
    let [first, second, both] = [1, 2, 3].map(|epoch| trained(&lab, "run", epoch));
    assert!(first.len() >= 8 && second.len() >= 8 && first.is_disjoint(&second));
    assert!(second.is_subset(&both) && both.len() > second.len() && both.len() < 54);
    // All three pairs of a target show one picture: the first half has all of them or none.
    let manifest = std::fs::read_to_string(lab.path("run/manifest.jsonl")).unwrap();
    let mut copies: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for row in manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if row["attack"] == "targeted" {
            let held = first.contains(row["id"].as_str().unwrap());
            copies.entry(row["image"].to_string()).or_default().push(held);
        }
    }
    assert_eq!(copies.len(), 2);
    assert!(copies.values().all(|held| held.len() == 3 && held.iter().all(|h| h == &held[0])));
    lab.ok(&["report", "run", "--out", "report"]);
    assert!(std::fs::read_to_string(lab.path("report/report.html")).unwrap().contains("The safe set"));
}

#[test]
fn it_resumes_bit_for_bit_in_a_round_and_after() {
    let lab = lab(SETTINGS);
    lab.resumes_bit_for_bit(&[("first", 3), ("second", 9), ("after", 16)]);
}

#[test]
fn settings_that_cannot_work_are_named_before_training() {
    let arguments = ["train", "--config", "recipe.toml", "--run", "run"];
    lab("shares = [0.5]").fails(&arguments, 1, &["sift.shares", "at least two"]);
    lab("round_epochs = 2, shares = [0.5, 0.5]").fails(&arguments, 1, &["4 epochs", "more than 4"]);
    lab("round_epochs = 1, shares = [0.2, 0.2]").fails(&arguments, 1, &["fewer than a batch", "raise sift.shares"]);
}
