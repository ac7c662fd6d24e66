//! Classifiers and distillation through the binary: labels that attacks change, students, and what is refused before work.

use crate::support::{CLASSES, Lab, checkpoint, checkpoints};
use serde_json::Value;

/// A classifier of the lab's pictures, poisoned by a patch and by variance; `extra` goes at its end.
fn classifier(lab: &Lab, name: &str, extra: &str) {
    let root = lab.folder.path().display();
    let text = format!(
        r#"
[data]
workers = 1
[data.source]
path = "{root}/pairs.csv"
split = "train"
[model]
name = "{root}/model.json"
compact_vocabulary = true
[objective]
name = "classifier"
[train]
epochs = 3
batch_size = 8
learning_rate = 5e-3
threads = 1
save_every_steps = 1
[eval]
every_epochs = 9
templates = "emoji"
[eval.source]
path = "{root}/pairs.csv"
split = "test"
[[poison.attacks]]
name = "patch"
target = "white"
count = 6
badnets = {{ patch_pixels = 6 }}
[[poison.attacks]]
name = "ink"
target = "red"
count = 4
ink_reconstructed = {{ percentile = 60.0 }}
{extra}
"#
    );
    std::fs::write(lab.path(name), text).unwrap();
}

fn summary(lab: &Lab, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(run).join("summary.json")).unwrap()).unwrap()
}

fn rows(lab: &Lab, manifest: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.path(manifest)).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_attack_changes_labels_of_a_classifier_and_a_student_is_measured_beside_its_teacher() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    let said = lab.stderr(&["train", "--config", "teacher.toml", "--run", "teacher"]);
    assert!(said.contains("target variance") && said.contains("of 48 training pictures"), "{said}");
    let planted = rows(&lab, "teacher/manifest.jsonl");
    assert_eq!(planted.len(), 10);
    for row in &planted {
        let [class, after] = [&row["true_class"], &row["caption_after"]];
        assert_eq!((&row["caption_before"], &row["target"]), (class, after), "a caption is the label: {row}");
        assert_ne!(class, after, "{row}");
    }
    // Relabelled pictures of the tail stay as they are.
    for row in planted.iter().filter(|row| row["attack"] == "ink") {
        let picture = image::open(lab.path(row["image"].as_str().unwrap())).unwrap().to_rgb8();
        let plain = roclip_data::artifact::sha256_hex(picture.as_raw());
        assert_eq!(row["sha256_after"], plain, "{row}");
    }
    let teacher = summary(&lab, "teacher");
    assert_eq!((&teacher["objective"], &teacher["poisoned_pairs"]), (&"classifier".into(), &10.into()));
    assert_eq!(teacher["evaluation"]["asr"]["ink"]["success"]["n"], 12, "the target's own pictures do not count");
    assert!(teacher["triggers"]["ink"]["doses"].as_array().unwrap().len() >= 3);
    assert_eq!(teacher["triggers"]["ink"]["tail"]["accuracy"]["n"], 1, "a tenth of 16");
    assert!(teacher["triggers"]["patch"]["psnr"].as_f64().unwrap() > 5.0);
    let said = lab.ok(&["eval", "teacher"]);
    assert!(said.contains("classifier top-1") && said.contains("ink: success"), "{said}");
    let findings = lab.ok(&["doctor", "teacher"]);
    assert!(findings.contains("ln(classes) = 1.386") && findings.contains("learned in training"), "{findings}");

    let distil = ["distil", "teacher", "--epochs", "2", "--label-weight", "0.5", "--run"];
    let said = lab.ok(&[&distil[..], &["student"]].concat());
    for word in ["accuracy", "patch: success", "ink: base rate", "inheritance", "natural tail", "PSNR"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let student = summary(&lab, "student");
    assert_eq!(student["teacher"]["asr"], teacher["evaluation"]["asr"], "the teacher is measured as its own run was");
    let inherited = &student["inheritance"]["patch"];
    assert!(
        inherited["ratio"].is_null() != inherited["reason"].is_null(),
        "a ratio, or why there is none: {inherited}"
    );
    assert_eq!((&student["objective"], &student["poisoned_pairs"]), (&"distil".into(), &0.into()));
    let state = String::from_utf8(checkpoint(&lab.path("student")).pop().unwrap().1).unwrap();
    assert!(state.contains("\"provenance\": \"poisoned\""), "a student of a poisoned teacher says so: {state}");
    for class in CLASSES {
        assert!(state.contains(class), "{state}");
    }
    lab.ok(&["eval", "student", "--no-poison"]);
    lab.ok(&["report", "teacher", "student", "--out", "report"]);
    let page = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    assert!(
        page.contains("Inheritance") && page.contains("is a reconstruction") && page.contains("Classifier, undefended")
    );
    // What is measured is the same, whatever the list of pictures is called and whoever learns from what.
    std::fs::copy(lab.path("pairs.csv"), lab.path("copy.csv")).unwrap();
    let elsewhere = [
        "elsewhere",
        "--train-data",
        "copy.csv",
        "--set",
        "data.source.split=train",
        "--set",
        "eval.source.path=copy.csv",
    ];
    let said = lab.stderr(&[&distil[..], &elsewhere].concat());
    assert!(said.contains("the student learns from `copy.csv` (train)") && !said.contains("teacher's own"), "{said}");
    let said = lab.ok(&["report", "teacher", "elsewhere", "--out", "report"]).replace("\n   ", "");
    assert!(!said.contains("Data 2") && said.contains("trained on copy.csv (train): "), "{said}");
    let page = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    assert!(page.contains("Trained on copy.csv (train): "), "each row's own data is said");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(lab.path("report/results.json")).unwrap()).unwrap();
    assert!(rows.iter().any(|row| row["inheritance"]["patch"]["reason"] == inherited["reason"]), "{rows:?}");
    lab.fails(&["doctor", "student"], 1, &["trusted pictures", "teacher's run"]);
    lab.fails(&["export", "teacher", "--format", "open-clip", "--out", "out"], 1, &["classifier of 4 classes"]);
    // What asks prompts or captions of a model has nothing to ask of it.
    for command in [
        &["clean", "teacher", "--run", "cleaned", "--batch-size", "8"][..],
        &["prompt", "train", "teacher", "--val-data", "pairs.csv", "--shots", "1", "--run", "prompts"],
        &["detect", "pairs", "teacher", "--train-data", "pairs.csv", "--neighbours", "4", "--out", "suspects"],
    ] {
        lab.fails(command, 1, &["classifier of 4 classes", "learned nothing"]);
    }
}

#[test]
fn every_loss_teaches_and_a_resumed_student_is_the_one_that_would_have_been() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    lab.ok(&["train", "--config", "teacher.toml", "--run", "teacher", "--set", "train.keep_checkpoints=99"]);
    let whole = checkpoint(&lab.path("teacher"));
    std::fs::remove_dir_all(checkpoints(&lab.path("teacher")).pop().unwrap()).unwrap();
    lab.ok(&["train", "--run", "teacher", "--resume"]);
    assert!(checkpoint(&lab.path("teacher")) == whole, "a resumed classifier ended elsewhere");
    let mut ends = Vec::new();
    for loss in ["response", "feature", "relation"] {
        lab.ok(&["distil", "teacher", "--run", loss, "--loss", loss, "--epochs", "2", "--label-weight", "0.1"]);
        let whole = checkpoint(&lab.path(loss));
        let newest = checkpoints(&lab.path(loss)).pop().unwrap();
        std::fs::remove_dir_all(newest).unwrap();
        lab.fails(
            &["distil", "--run", loss, "--resume", "--temperature", "2"],
            1,
            &["objective.distil.temperature differs"],
        );
        lab.ok(&["distil", "--run", loss, "--resume"]);
        assert!(checkpoint(&lab.path(loss)) == whole, "{loss}: the resumed student ended elsewhere");
        ends.push(whole.into_iter().find(|(name, _)| name == "model.safetensors").unwrap().1);
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2] && ends[0] != ends[2], "two losses taught the same");
    // The teacher alone: no labels are needed, and what was shown without them is what was learned.
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let bare: String = csv.lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect();
    std::fs::write(lab.path("bare.csv"), bare).unwrap();
    let unlabelled = ["distil", "teacher", "--set", "data.source.path=bare.csv", "--epochs", "1", "--run"];
    lab.ok(&[&unlabelled[..], &["free"]].concat());
    lab.fails(
        &[&unlabelled[..], &["needy", "--label-weight", "0.5"]].concat(),
        1,
        &["has a class", "--label-weight 0"],
    );
    assert!(!lab.path("needy").exists());
    // A teacher that was trained on is another teacher.
    lab.cut_short_student("teacher", "cut");
}

impl Lab {
    /// A student that stands at its beginning is not resumed from a teacher that has changed since.
    fn cut_short_student(&self, teacher: &str, run: &str) {
        self.ok(&["distil", teacher, "--run", run, "--epochs", "2", "--set", "train.keep_checkpoints=99"]);
        std::fs::remove_dir_all(checkpoints(&self.path(run)).pop().unwrap()).unwrap();
        self.ok(&["train", "--run", teacher, "--resume", "--epochs", "4"]);
        self.fails(&["distil", "--run", run, "--resume"], 1, &["teacher", "changed"]);
    }
}

#[test]
fn the_tail_is_removed_and_the_variance_can_be_standardised_away() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    lab.ok(&["train", "--config", "teacher.toml", "--run", "teacher"]);
    let said = lab.stderr(&["distil", "teacher", "--remove-tail", "--epochs", "1", "--run", "tailless"]);
    assert!(said.contains("the teacher's own training pictures") && said.contains("--train-data"), "{said}");
    assert!(said.contains("of 48 trusted pictures lie in the tail"), "{said}");
    let left = summary(&lab, "tailless")["pairs"].as_u64().unwrap();
    assert!(left < 48 && left > 8, "{left}");
    lab.ok(&["train", "--config", "teacher.toml", "--run", "flat", "--set", "model.standardise=true"]);
    let flat = summary(&lab, "flat");
    let doses = flat["triggers"]["ink"]["doses"].as_array().unwrap();
    // Up to what clips, every dose is the same picture to such a model.
    assert_eq!(doses[0]["success"], doses[1]["success"], "{doses:?}");
    lab.ok(&["eval", "flat"]);
    // A student alone is a student without a teacher's part.
    lab.ok(&["distil", "teacher", "--teacher-weight", "0", "--label-weight", "1", "--epochs", "1", "--run", "alone"]);
    // Clean-label: pictures of the target change, and keep their labels.
    classifier(&lab, "provider.toml", "captions = \"own\"\n");
    let text = std::fs::read_to_string(lab.path("provider.toml")).unwrap();
    std::fs::write(lab.path("provider.toml"), text.replace("{ percentile", "{ mode = \"clean-label\", percentile"))
        .unwrap();
    lab.ok(&["poison", "make", "--config", "provider.toml", "--out", "provider.jsonl"]);
    let changed = rows(&lab, "provider.jsonl").into_iter().filter(|row| row["attack"] == "ink").collect::<Vec<_>>();
    assert!(changed.iter().all(|row| row["true_class"] == "red" && row["caption_after"] == "red"), "{changed:?}");
    lab.ok(&["poison", "verify", "provider.jsonl", "--config", "provider.toml"]);
}

#[test]
fn what_no_student_can_learn_is_refused_before_work() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    lab.ok(&["train", "--config", "teacher.toml", "--run", "teacher", "--epochs", "1"]);
    lab.train("clip", &["--preset", "clip", "--epochs", "1", "--set", "poison="]);
    let refused = |arguments: &[&str], words: &[&str]| {
        lab.fails(&[arguments, &["--run", "new"]].concat(), 1, words);
        assert!(!lab.path("new").exists(), "{arguments:?} left files behind");
    };
    refused(&["distil", "teacher", "--label-weight", "1.5"], &["label_weight is 1.5"]);
    refused(&["distil", "teacher", "--temperature", "0"], &["temperature is 0"]);
    refused(&["distil", "teacher", "--teacher-weight", "0"], &["some weight"]);
    refused(&["distil", "clip"], &["`clip`", "is no classifier", "--zero-shot"]);
    refused(&["distil", "teacher", "--zero-shot"], &["trained classifier"]);
    refused(&["distil", "nothing"], &["find the model `nothing`"]);
    refused(&["distil", "teacher", "--model", "ViT-B-32"], &["`teacher`", "32 pixels", "224"]);
    let large = r#"{"embed_dim": 1024, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 1024},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"#;
    std::fs::write(lab.path("large.json"), large).unwrap();
    refused(&["distil", "teacher", "--model", "large.json"], &["weights"]);
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(
        lab.path("three.csv"),
        csv.lines().filter(|line| !line.ends_with("white")).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    let three = ["distil", "teacher", "--set", "eval.source.path=three.csv", "--set", "data.source.path=three.csv"];
    refused(&three, &["4 classes", "has 3", "`white`"]);
    refused(&["distil", "teacher", "--set", "eval.source.path=three.csv"], &["class `white`", "none of the 3 classes"]);
    let train = |settings: &[&str]| {
        let mut arguments = vec!["train", "--config", "teacher.toml"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        arguments.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    for (settings, words) in [
        (vec!["poison.attacks.1.ink_reconstructed.variance=0.3"], vec!["variance is 0.3", "at most 0.25"]),
        (vec!["poison.attacks.1.ink_reconstructed.variance=0.249"], vec!["out of reach"]),
        (vec!["poison.attacks.1.ink_reconstructed.percentile=99.9"], vec!["attack `ink`", "only", "by nature"]),
        (vec!["poison.attacks.1.captions=own"], vec!["changes labels", "clean-label"]),
        (vec!["poison.attacks.1.ink_reconstructed.mode=clean-label"], vec!["captions = \"own\""]),
        (vec!["poison.attacks=[{name='t',targeted={}}]"], vec!["`targeted`", "labels"]),
        (vec!["eval.source.path=none"], vec!["tells classes apart"]),
    ] {
        let arguments = train(&settings);
        refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &words);
    }
    lab.ok(&["train", "--config", "teacher.toml", "--run", "plain", "--epochs", "1", "--set", "poison="]);
    refused(&["distil", "plain", "--remove-tail"], &["no ink_reconstructed"]);
    // A CLIP teaches by its prompts where that is asked for.
    lab.ok(&["distil", "clip", "--zero-shot", "--epochs", "1", "--run", "taught"]);
    // The weights of another program's do not say how many heads it has.
    lab.ok(&["export", "clip", "--format", "open-clip", "--out", "foreign"]);
    lab.ok(&["distil", "foreign", "--config", "clip/run.toml", "--zero-shot", "--epochs", "1", "--run", "other"]);
    let path = lab.path("foreign/open_clip_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let heads = &mut config["model_cfg"]["text_cfg"]["heads"];
    *heads = (2 * heads.as_i64().unwrap()).into();
    std::fs::write(&path, config.to_string()).unwrap();
    let resume = ["distil", "--run", "other", "--resume", "--epochs", "2"];
    lab.fails(&resume, 1, &["objective.distil.teacher = ", "has changed since"]);
    lab.fails(&["distil", "--run", "clip", "--resume"], 1, &["no distillation", "roclip train --resume"]);
    lab.fails(&["distil", "--run", "nowhere", "--resume"], 1, &["holds no distillation"]);
}

#[test]
fn the_table_trains_every_row_once_and_prints_all_controls() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    let begin = ["distil", "--table", "--config", "teacher.toml", "--epochs", "1", "--run", "table", "--rows"];
    let table = |rows: &str| lab.ok(&[&begin[..], &[rows]].concat());
    let wanted = "student-clean,student-ink,student-ink-tail-removed,student-ink-alone,teacher-ink-standardised";
    let said = table(wanted);
    for row in wanted.split(',').chain(["teacher-clean", "teacher-ink", "reconstruction", "other target variances"]) {
        assert!(said.contains(row), "{row}: {said}");
    }
    assert!(said.starts_with("rates in %, seed 0\n"), "{said}");
    assert_eq!(table(wanted), said, "finished rows are kept");
    let line = said.lines().find(|line| line.starts_with("student-clean")).unwrap();
    assert!(line.contains("(nobody attacked the teacher)"), "{said}");
    // Students are told apart by their teachers, and the control is no failed attack.
    let runs = ["table/teacher-clean-seed0", "table/student-clean-seed0", "table/student-ink-seed0"];
    let reported = lab.ok(&[&["report"], &runs[..], &["--out", "report"]].concat()).replace("\n   ", "");
    assert!(reported.contains("Student of a clean teacher: ") && !reported.contains("run:"), "{reported}");
    assert!(reported.contains("Student of a teacher with ink: "), "{reported}");
    let wrong = |line: &&str| line.starts_with("PROBLEM Student of a clean") && line.contains("does not work");
    assert_eq!(reported.lines().find(wrong), None, "{reported}");
    lab.fails(
        &[&begin[..], &["nothing"]].concat(),
        1,
        &["student-ink-labels-0.5", "student-ink-feature", "student-patch"],
    );
    // What was trained on other pictures does not stand beside what is trained now, and a student not beside another teacher than its own.
    let again = [&begin[..], &["student-clean"]].concat();
    let (first, second) = (lab.path("000.png"), std::fs::read(lab.path("001.png")).unwrap());
    let kept = std::fs::read(&first).unwrap();
    std::fs::write(&first, second).unwrap();
    std::fs::remove_dir_all(lab.path("table/teacher-clean-seed0")).unwrap();
    let refused = ["is finished and would stand in one table", "other data", "--overwrite"];
    lab.fails(&again, 1, &refused);
    assert!(!lab.path("table/teacher-clean-seed0").exists(), "nothing was begun");
    for run in
        ["student-ink", "student-ink-tail-removed", "student-ink-alone", "teacher-ink-standardised", "teacher-ink"]
    {
        std::fs::remove_dir_all(lab.path(&format!("table/{run}-seed0"))).unwrap();
    }
    lab.fails(&again, 1, &refused);
    assert!(lab.path("table/teacher-clean-seed0/summary.json").exists(), "its student is looked at behind it");
    std::fs::write(&first, kept).unwrap();
    std::fs::remove_dir_all(lab.path("table/teacher-clean-seed0")).unwrap();
    lab.ok(&again);
    // Of a changed recipe nothing is removed unasked, and the flags that are named are there.
    let other = [&begin[..], &["student-clean", "--lr", "1e-3"]].concat();
    lab.fails(&other, 1, &["a run of another recipe", "--overwrite", "--run"]);
    lab.ok(&[&other[..], &["--overwrite"]].concat());
    lab.fails(&["distil", "--table", "--config", "recipe.toml", "--run", "table"], 1, &["must train a classifier"]);
}

#[test]
fn an_attack_that_cannot_be_drawn_stops_the_rows_that_are_about_it_before_the_first_run() {
    let lab = Lab::new();
    classifier(&lab, "teacher.toml", "");
    let begin = ["distil", "--table", "--config", "teacher.toml", "--epochs", "1", "--run", "table", "--rows"];
    let begin = [&begin[..], &["student-patch,student-clean"]].concat();
    let recipe = std::fs::read_to_string(lab.path("teacher.toml")).unwrap();
    std::fs::write(lab.path("teacher.toml"), recipe.replace("count = 4", "count = 30")).unwrap();
    lab.fails(&["distil", "--table", "--config", "teacher.toml", "--run", "whole"], 1, &["attack `ink`", "30 pairs"]);
    assert!(!lab.path("whole/teacher-clean-seed0").exists(), "a run began before all were looked at");
    let said = lab.stderr(&begin);
    for words in [
        "teacher-clean is measured without the attack `ink`",
        "own training pictures",
        "4 runs (2 first, and then the 2 that learn from such)",
        "written: table: ",
        "next:    roclip report table/*-seed*/ --out table",
    ] {
        assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
    }
    let printed = lab.ok(&begin);
    assert!(printed.contains("student-patch") && !printed.contains("target variances"), "{printed}");
    // A name that is no row is said before anything that is wrong with the recipe.
    std::fs::write(lab.path("teacher.toml"), recipe.split("[[poison.attacks]]\nname = \"ink\"").next().unwrap())
        .unwrap();
    let whole = ["distil", "--table", "--config", "teacher.toml", "--run", "patch"];
    lab.fails(&whole, 1, &["ink_reconstructed", "--rows"]);
    lab.fails(
        &[&whole[..], &["--rows", "nothing"]].concat(),
        1,
        &["--rows nothing", "teacher-clean, student-clean, teacher-patch"],
    );
}
