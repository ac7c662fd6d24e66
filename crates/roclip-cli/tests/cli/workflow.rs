//! What users do, from data to report.

use crate::support::{Lab, checkpoint, names};
use serde_json::Value;

fn json(lab: &Lab, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(name)).unwrap()).unwrap()
}

#[test]
fn train_eval_and_report_agree_with_each_other() {
    let lab = Lab::new();
    lab.train("run", &[]);
    let summary = json(&lab, "run/summary.json");
    assert_eq!(summary["evaluation"]["psr"]["n"], 2);
    assert_eq!(
        summary["evaluation"]["asr"]["badnets"]["success"]["n"], 11,
        "16 test images less 2 targets and the white ones"
    );
    assert_eq!(summary["poisoned_pairs"], 9);
    // Whatever a run writes, it writes over nobody's.
    for entry in std::fs::read_dir(lab.path("run")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        lab.leaves_alone(&name, &["train", "--config", "recipe.toml", "--run"]);
    }
    let last = lab.epochs("run").pop().unwrap();
    let scored = |kind: &str| -> u64 {
        last["similarity"]["bins"][kind].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    assert_eq!((scored("badnets"), scored("targeted")), (3, 6), "every poisoned pair is scored");
    assert!(scored("clean") > 0);
    assert_eq!(summary["after"].as_object().unwrap().len(), 2, "one evaluation after each kind of epoch");
    let printed: Value = serde_json::from_str(&lab.ok(&["eval", "run", "--neighbours", "5", "--json"])).unwrap();
    let (thorough, last) = (&printed["evaluation"], &summary["evaluation"]);
    assert_eq!((&thorough["zero_shot_top1"], &thorough["psr"]), (&last["zero_shot_top1"], &last["psr"]));
    assert_eq!(thorough["asr"]["badnets"]["success"], last["asr"]["badnets"]["success"]);
    assert_eq!(thorough["asr"]["badnets"]["after"]["jpeg-75"]["n"], 11);
    let (turned, base) = (&last["asr"]["badnets"]["turned"], &last["asr"]["badnets"]["base_rate"]);
    assert_eq!(turned["n"].as_u64().zip(base["hits"].as_u64()).map(|(others, base)| others + base), Some(11));
    assert_eq!(printed["nearest_neighbours"]["n"], 14);
    assert_eq!(printed["provenance"], "defended");
    lab.ok(&["report", "run", "--out", "report"]);
    let results = json(&lab, "report/results.json");
    for key in [
        "objective",
        "control",
        "seed",
        "epoch",
        "zero_shot_top1",
        "zero_shot_top5",
        "mean_per_class_recall",
        "linear_probe",
        "linear_probe_mean_per_class_recall",
        "psr",
        "asr",
        "asr_base_rate",
        "asr_turned",
        "poisoned_accuracy",
        "seconds",
        "peak_memory_bytes",
    ] {
        assert!(results[0].get(key).is_some(), "results.json lacks {key}");
    }
    assert_eq!(results[0]["asr"]["badnets"]["n"], 11);
    let html = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("data:image/png;base64,"));
    assert!(html.contains(">without the trigger<") && html.contains(">turned<"));
    assert!(html.contains("Similarity as a detector"));
    assert!(!html.contains("Clean data is measured"), "no such row here");
    let remote = html.replace("http://www.w3.org", "");
    assert!(!remote.contains("http://") && !remote.contains("https://"), "the report must need no network");
}

#[test]
fn captions_of_another_split_name_the_classes_and_those_of_the_same_split_are_refused() {
    let lab = Lab::new();
    lab.train("run", &[]);
    let prompts = |split: &str| {
        format!("eval.class_captions={{ path = '{}', split = '{split}' }}", lab.path("pairs.csv").display())
    };
    let predicted = |flags: &[&str]| -> Value {
        let printed = lab.ok(&[&["eval", "run", "--json"], flags].concat());
        serde_json::from_str::<Value>(&printed).unwrap()["evaluation"].clone()
    };
    let (templates, captions) = (predicted(&[]), predicted(&["--set", &prompts("train")]));
    assert_eq!(captions["zero_shot_top1"]["n"], templates["zero_shot_top1"]["n"]);
    assert_ne!(captions, templates, "another classifier, other guesses");
    lab.fails(&["eval", "run", "--set", &prompts("test")], 1, &["048.png", "eval.class_captions", "another split"]);
}

#[test]
fn a_probe_of_its_own_data_trains_and_tests_there() {
    let lab = Lab::new();
    lab.train("run", &[]);
    let path = lab.path("pairs.csv").display().to_string();
    let data = |train: &str, test: &str| {
        let of = |split: &str| format!("{{ path = '{path}', split = '{split}' }}");
        format!("eval.probe={{ data = {{ train = {}, test = {} }}, epochs = 4 }}", of(train), of(test))
    };
    let probe = |flags: &[&str]| -> Value {
        let printed = lab.ok(&[&["eval", "run", "--linear-probe", "--json"], flags].concat());
        serde_json::from_str::<Value>(&printed).unwrap()["linear_probe"]["n"].clone()
    };
    assert_eq!(probe(&[]), 14, "the test pictures less the two targets");
    assert_eq!(probe(&["--set", &data("test", "train")]), 48);
    lab.fails(&["eval", "run", "--set", &data("test", "test")], 1, &["048.png", "eval.probe.data", "two splits"]);
}

/// Half of the captions say "picture" and "square", half "box" and "number"; of equally rare nouns the first is taken.
#[test]
fn classes_derived_from_captions_can_be_evaluated() {
    let lab = Lab::new();
    let concepts = |least: &'static str| {
        let command = ["data", "concepts", "--config", "recipe.toml", "--out", "concepts.json"];
        [&command[..], &["--max-share", "0.5", "--min-images", least]].concat()
    };
    lab.fails(&concepts("25"), 1, &["at least 25 images", "at most 24 may", "of the 48", "lower --min-images"]);
    assert!(!lab.path("concepts.json").exists());
    let printed = lab.ok(&concepts("24"));
    assert!(printed.contains("4 classes") && printed.contains("train: 48 of 48") && printed.contains("test: 16 of 16"));
    let file = json(&lab, "concepts.json");
    assert_eq!(file["classes"], serde_json::json!(["box", "number", "picture", "square"]));
    assert_eq!(file["images"]["test"]["048.png"], "picture");
    assert_eq!(file["images"]["train"]["004.png"], "box");
    let labels = format!("eval.source.labels={}", lab.path("concepts.json").display());
    let classes = format!("eval.classes={}", lab.path("concepts.json").display());
    lab.train("run", &["--set", "poison=", "--set", "eval.probe=", "--set", &labels, "--set", &classes]);
    assert_eq!(json(&lab, "run/summary.json")["evaluation"]["zero_shot_top1"]["n"], 16);
}

/// 16 pictures to test, less the two targets, less those that are white: 11 only holds if no target is white, so the number
/// above also checks that the plan of seed 0 stays what it is.
#[test]
fn one_manifest_is_the_same_bytes_every_time_and_another_seed_is_another() {
    let lab = Lab::new();
    for (name, seed) in [("a", "0"), ("b", "0"), ("c", "1")] {
        lab.ok(&["poison", "make", "--config", "recipe.toml", "--seed", seed, "--out", name]);
    }
    let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
    assert_eq!(read("a"), read("b"));
    assert_ne!(read("a"), read("c"));
    lab.train("own", &[]);
    assert_eq!(read("own/manifest.jsonl"), read("a"));
    lab.train("given", &["--manifest", "a"]);
    assert_eq!(checkpoint(&lab.path("own")), checkpoint(&lab.path("given")));
}

#[test]
fn worker_count_changes_nothing() {
    let lab = Lab::new();
    lab.train("one", &[]);
    lab.train("three", &["--workers", "3"]);
    assert_eq!(checkpoint(&lab.path("one")), checkpoint(&lab.path("three")));
}

/// A run killed at some step and resumed is the run that would have been: weights, moments and pool, bit for bit, and so is what
/// it reports of its epochs.
#[test]
fn a_killed_run_resumes_bit_for_bit() {
    let lab = Lab::new();
    lab.objective("roclip", "period = 2, pool_size = 24", 4);
    // Step 9 is inside the second epoch, which matches: the pool is in use.
    lab.resumes_bit_for_bit(&[("killed", 9)]);
    let whole = checkpoint(&lab.path("whole"));
    assert_eq!(
        names(&whole),
        [
            "README.md",
            "SHA256SUMS",
            "model.safetensors",
            "objective.safetensors",
            "open_clip_config.json",
            "optimizer.safetensors",
            "state.json"
        ]
    );
}

#[test]
fn webdataset_shards_and_gzip_shards_train_like_each_other() {
    let lab = Lab::new();
    let pack = |writer: Box<dyn std::io::Write>| {
        let mut tar = tar::Builder::new(writer);
        for number in 0..48u32 {
            let class = crate::support::CLASSES[(number % 4) as usize];
            let picture = std::fs::read(lab.path(&format!("{number:03}.png"))).unwrap();
            for (extension, bytes) in [
                ("png", picture),
                ("txt", format!("a {class} thing").into_bytes()),
                ("json", b"{\"split\": \"train\"}".to_vec()),
            ] {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, format!("{number:03}.{extension}"), bytes.as_slice()).unwrap();
            }
        }
        tar.finish().unwrap();
    };
    pack(Box::new(std::fs::File::create(lab.path("s-000.tar")).unwrap()));
    let gzip = flate2::write::GzEncoder::new(
        std::fs::File::create(lab.path("z.tar.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    pack(Box::new(gzip));
    for (run, data) in [("plain", "s-{000..000}.tar"), ("gzip", "z.tar.gz")] {
        let recipe = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
        let clean = recipe.split("[[poison").next().unwrap().replace("probe =", "# probe =");
        std::fs::write(lab.path("clean.toml"), clean).unwrap();
        lab.ok(&["train", "--config", "clean.toml", "--train-data", data, "--epochs", "1", "--run", run]);
    }
    assert_eq!(checkpoint(&lab.path("plain")), checkpoint(&lab.path("gzip")));
}

/// The demo's machinery on a data set of seconds: four rows, one table, two files.
#[test]
fn the_demo_command_makes_four_rows_of_any_recipe() {
    let lab = Lab::new();
    let table = lab.ok(&["demo", "--config", "recipe.toml", "--out", "demo", "--epochs", "2"]);
    for row in ["CLIP, undefended", "CLIP, augmentation only", "RoCLIP", "CLIP on clean data"] {
        assert!(table.contains(row), "{table}");
    }
    let results = json(&lab, "demo/results.json");
    let controls: Vec<Option<&str>> = results.as_array().unwrap().iter().map(|r| r["control"].as_str()).collect();
    assert_eq!(controls, [Some("undefended"), Some("augmentation-only"), None, Some("clean-data")]);
    // Clean data is measured against the poison it was not trained on: what happens by chance.
    assert_eq!(results[3]["psr"]["n"], results[0]["psr"]["n"]);
    assert_eq!(results[3]["asr"]["badnets"]["n"], results[0]["asr"]["badnets"]["n"]);
    let summary = |row: &str| json(&lab, &format!("demo/{row}-seed0/summary.json"));
    let (clean, undefended) = (summary("clean-data"), summary("undefended"));
    assert_eq!((clean["poisoned_pairs"].as_u64(), clean["pairs"].as_u64()), (Some(0), Some(48)));
    assert!(undefended["poisoned_pairs"].as_u64() > Some(0));
    let state = String::from_utf8(checkpoint(&lab.path("demo/clean-data-seed0")).pop().unwrap().1).unwrap();
    assert!(state.contains("\"provenance\": \"clean\""), "{state}");
    let said = lab.ok(&["doctor", "demo/undefended-seed0"]);
    assert!(said.contains("the model on clean data reads") && said.contains("that it reads rightly"), "{said}");
    assert!(lab.ok(&["doctor", "demo/clean-data-seed0"]).contains("nothing to explain"));
}

/// Found when a fine-tuned model's own captions lacked one token: its vocabulary had another size than the weights, and one of the same
/// size would have given every token another's row.
#[test]
fn a_run_that_starts_from_another_keeps_its_vocabulary() {
    let lab = Lab::new();
    lab.train("first", &["--epochs", "1"]);
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(lab.path("pairs.csv"), csv.replace("a picture of", "some zebra near")).unwrap();
    let vocabulary = |run: &str| {
        let state = String::from_utf8(checkpoint(&lab.path(run)).pop().unwrap().1).unwrap();
        serde_json::from_str::<Value>(&state).unwrap()["compact_vocabulary"].clone()
    };
    lab.train("second", &["--epochs", "1", "--set", "model.weights=first"]);
    lab.train("afresh", &["--epochs", "1"]);
    assert_eq!(vocabulary("second"), vocabulary("first"));
    assert_ne!(vocabulary("afresh"), vocabulary("first"));
}
