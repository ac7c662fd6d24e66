//! SafeCLIP through the binary: its phases, its split on disk, resuming in each phase, and data that does not separate.

use crate::support::Lab;
use serde_json::Value;

/// Six steps an epoch: unimodal 1 to 6, slow 7 to 15 (a budget of nine), then risky and safe passes.
fn lab(settings: &str) -> Lab {
    let lab = Lab::new();
    lab.objective(
        "safeclip",
        &format!("unimodal_epochs = 1, slow_steps = 9, slow_learning_rate = 1e-3, pool_size = 24, {settings}"),
        5,
    );
    lab
}

#[test]
fn the_split_is_written_and_measured_each_epoch() {
    let lab = lab("split = { min_separation = 0.0, dip_test = false }");
    let summary: Value = serde_json::from_str(&lab.train("run", &["--json"])).unwrap();
    assert_eq!(summary["objective"], "safeclip");
    let epochs = lab.epochs("run");
    let phases: Vec<_> = epochs.iter().map(|e| e["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["unimodal", "slow-clip", "safe", "safe", "safe"]);
    let slow: Vec<_> = epochs[1]["passes"].as_array().unwrap().iter().map(|p| p["steps"].as_u64().unwrap()).collect();
    assert_eq!(slow, [6, 3], "a budget of nine steps is a pass and a half");
    for (epoch, number) in epochs.iter().zip(1..).skip(2) {
        let lines = std::fs::read_to_string(lab.path(&format!("run/splits/epoch_{number}.jsonl"))).unwrap();
        let safe = lines.lines().filter(|line| line.contains("\"safe\":true")).count();
        assert_eq!((lines.lines().count(), safe as u64), (54, epoch["split"]["safe"].as_u64().unwrap()));
        assert_eq!(epoch["split"]["poison_in_safe"]["badnets"]["n"], 3);
    }
    lab.ok(&["report", "run", "--out", "report"]);
    assert!(std::fs::read_to_string(lab.path("report/report.html")).unwrap().contains("The safe set"));
    let said = lab.ok(&["doctor", "run"]);
    assert!(said.contains("(safe, slow-clip)") && said.contains("highest logged"), "{said}");
}

#[test]
fn it_resumes_bit_for_bit_in_every_phase() {
    let lab = lab("split = { min_separation = 0.0, dip_test = false }");
    lab.resumes_bit_for_bit(&[("unimodal", 3), ("slow", 14), ("split", 18)]);
}

#[test]
fn it_splits_by_plausibility_and_resumes_there() {
    let plausible = lab("split = { min_separation = 0.0, dip_test = false }, plausibility = { neighbours = 3 }");
    plausible.resumes_bit_for_bit(&[("split", 18)]);
    let similar = lab("split = { min_separation = 0.0, dip_test = false }");
    similar.train("whole", &[]);
    let scores = |lab: &Lab| std::fs::read_to_string(lab.path("whole/splits/epoch_3.jsonl")).unwrap();
    assert_ne!(scores(&plausible), scores(&similar));
    let arguments = ["train", "--config", "recipe.toml", "--run", "run"];
    lab("score_augmented = true, plausibility = {}").fails(&arguments, 1, &["score_augmented", "remove one"]);
}

#[test]
fn data_that_does_not_separate_stops_or_falls_back() {
    let strict = lab("split = { min_separation = 1000.0, unseparated = \"stop\" }");
    let arguments = ["train", "--config", "recipe.toml", "--run", "run"];
    strict.fails(&arguments, 1, &["do not fall into two groups", "slow_steps", "fallback"]);
    let lenient = lab("split = { min_separation = 1000.0 }");
    lenient.ok(&arguments);
    let metrics = std::fs::read_to_string(lenient.path("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"fell_back\":true"), "the metrics must say that the fallback decided");
    let few = lab("split = {}");
    let text = std::fs::read_to_string(few.path("recipe.toml")).unwrap().replace("epochs = 5", "epochs = 2");
    std::fs::write(few.path("recipe.toml"), text).unwrap();
    few.fails(&arguments, 1, &["2 epochs end before the first split", "more than 2"]);
}
