//! Objectives through the binary: data of which some pictures cannot be read, and settings that make no sense.

use crate::support::Lab;

/// A lab on clean data whose pictures `broken` are cut off behind the header, for 4 epochs of six steps.
fn lab(objective: &str, settings: &str, broken: &[usize]) -> Lab {
    let lab = Lab::new();
    lab.objective(objective, settings, 4);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let clean = text.split("[[poison.attacks]]").next().unwrap();
    let lenient = clean.replace("workers = 1", "workers = 1\nmax_skip_fraction = 0.5");
    std::fs::write(lab.path("recipe.toml"), lenient).unwrap();
    for number in broken {
        let picture = lab.path(&format!("{number:03}.png"));
        let bytes = std::fs::read(&picture).unwrap();
        std::fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    }
    lab
}

#[test]
fn a_pool_of_captions_does_not_need_their_pictures_and_resumes() {
    // The pool holds 39 of 48 captions, so some of these are among them.
    let broken: Vec<usize> = (0..9).map(|at| at * 5).collect();
    let lab = lab("roclip", "period = 2, pool_size = 39", &broken);
    lab.resumes_bit_for_bit(&[("matching", 8), ("later", 14)]);
    let matches = &lab.epochs("whole")[1]["matches"];
    assert!(matches.is_object(), "{matches}");
    // Another objective on the same data.
    lab.ok(&["train", "--config", "recipe.toml", "--preset", "clip", "--run", "clip"]);
}

#[test]
fn a_split_of_unreadable_pairs_is_reported_the_same_after_a_resume() {
    let phases = "unimodal_epochs = 1, slow_steps = 6, slow_learning_rate = 1e-3, pool_size = 24";
    for split in ["split = { min_separation = 0.0, dip_test = false }", "split = {}"] {
        let lab = lab("safeclip", &format!("{phases}, {split}"), &[3, 17, 30]);
        lab.resumes_bit_for_bit(&[("split", 14)]);
        assert!(lab.epochs("whole")[2]["split"]["fell_back"].is_boolean());
        assert!(std::fs::read_to_string(lab.path("whole/skips.jsonl")).unwrap().contains("017.png"));
    }
}

#[test]
fn what_no_objective_can_train_with_is_refused_before_anything_is_written() {
    let lab = Lab::new();
    for (assignment, word) in [
        ("objective.roclip.period=0", "roclip.period"),
        ("objective.roclip.pool_size=1", "pool_size"),
        ("objective.roclip.pool_fraction=nan", "pool_fraction"),
        ("objective.roclip.pool_fraction=0.5", "pool_size and pool_fraction"),
        ("objective.roclip.max_match_similarity=2", "max_match_similarity"),
        ("objective.roclip.match_learning_rate_scale=-1", "match_learning_rate_scale"),
    ] {
        lab.fails(&["train", "--config", "recipe.toml", "--run", "run", "--set", assignment], 1, &[word]);
        assert!(!lab.path("run").exists(), "{assignment}");
    }
}

#[test]
fn models_that_no_machine_can_hold_are_refused_before_anything_is_made() {
    let lab = Lab::new();
    let large = ["train", "--config", "recipe.toml", "--run", "huge", "--model", "RN50", "--batch-size", "1000000"];
    for command in [&large[..], &[&large[..], &["--dry-run"]].concat()] {
        lab.fails(command, 1, &["a batch of 1000000 pictures of 224 x 224", "GiB of memory are free", "--batch-size"]);
    }
    assert!(!lab.path("huge").exists());
    let model = std::fs::read_to_string(lab.path("model.json")).unwrap();
    for (from, to, word) in [
        ("\"embed_dim\": 16", "\"embed_dim\": 1000000000", "embed_dim"),
        ("\"vocab_size\": 49408", "\"vocab_size\": 1000000000", "vocab_size"),
        ("\"image_size\": 32", "\"image_size\": 3200000000", "image_size"),
        ("[1, 1, 1, 1], \"width\": 4", "[1, 1, 1, 1], \"width\": 4000000", "width"),
        ("[1, 1, 1, 1]", "[1, 1, 1000000000, 1]", "layers"),
        ("\"heads\": 2, \"layers\": 1", "\"heads\": 2, \"layers\": 1000000000", "layers"),
        ("[1, 1, 1, 1], \"width\": 4", "[1, 1, 1, 1], \"width\": 16384", "weights"),
    ] {
        assert!(model.contains(from), "{from}");
        std::fs::write(lab.path("huge.json"), model.replace(from, to)).unwrap();
        lab.fails(&["train", "--config", "recipe.toml", "--model", "huge.json", "--run", "run"], 1, &[word]);
        assert!(!lab.path("run").exists(), "{to}");
    }
}
