//! Finished runs that stay beside new ones: what they learned from, and the machine that others go on with.

use crate::support::{CLASSES, Lab};

const SWEEP: [&str; 9] =
    ["train", "--config", "recipe.toml", "--epochs=1", "--set", "eval.probe=", "--run", "grid", "--sweep"];

/// Every training caption that says `from` says `to`.
fn reword(lab: &Lab, from: &str, to: &str) {
    let captions = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    assert!(captions.contains(from));
    std::fs::write(lab.path("pairs.csv"), captions.replace(from, to)).unwrap();
}

#[test]
fn a_finished_run_of_other_data_does_not_stand_beside_new_ones() {
    let lab = Lab::new();
    let sweep = |rates: &'static str| [&SWEEP[..], &[rates]].concat();
    let (one, two) = (sweep("train.learning_rate=1e-3"), sweep("train.learning_rate=1e-3,2e-3"));
    lab.ok(&one);
    reword(&lab, "a picture of a", "this is a");
    let said = ["grid/learning_rate-1e-3` is finished", "was trained on other data", "--overwrite", "--run"];
    lab.fails(&two, 1, &said);
    assert!(!lab.path("grid/learning_rate-2e-3").exists(), "nothing was begun");
    // Where nothing is trained, the table is shown with a word of it.
    let shown = lab.stderr(&one);
    for words in ["warning: what `grid/learning_rate-1e-3` learned", "(was trained on other data)", "--overwrite"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // Pictures count as captions do.
    reword(&lab, "this is a", "a picture of a");
    let (kept, other) = (std::fs::read(lab.path("000.png")).unwrap(), std::fs::read(lab.path("001.png")).unwrap());
    std::fs::write(lab.path("000.png"), other).unwrap();
    lab.fails(&two, 1, &said);
    std::fs::write(lab.path("000.png"), kept).unwrap();
    // So do the pictures that a run is measured on.
    let (kept, other) = (std::fs::read(lab.path("060.png")).unwrap(), std::fs::read(lab.path("061.png")).unwrap());
    std::fs::write(lab.path("060.png"), other).unwrap();
    lab.fails(&two, 1, &["grid/learning_rate-1e-3` is finished", "measured on other pictures", "--overwrite"]);
    assert!(!lab.path("grid/learning_rate-2e-3").exists(), "nothing was begun");
    std::fs::write(lab.path("060.png"), kept).unwrap();
    // A model is what its file says, whatever weights fit.
    let model = std::fs::read_to_string(lab.path("model.json")).unwrap();
    let other = model.replace("\"heads\": 2", "\"heads\": 4");
    assert!(model != other, "{model}");
    std::fs::write(lab.path("model.json"), &other).unwrap();
    lab.fails(&two, 1, &["grid/learning_rate-1e-3` is finished", "text_cfg.heads was 2", "--overwrite"]);
    std::fs::write(lab.path("model.json"), &model).unwrap();
    // Checkpoints may be removed to save a disk: the summary knows as well.
    std::fs::remove_dir_all(lab.path("grid/learning_rate-1e-3/checkpoints")).unwrap();
    reword(&lab, "a picture of a", "this is a");
    lab.fails(&two, 1, &said);
    reword(&lab, "this is a", "a picture of a");
    std::fs::write(lab.path("model.json"), other).unwrap();
    lab.fails(&two, 1, &["grid/learning_rate-1e-3` is finished", "model.name = ", "has changed since"]);
    std::fs::write(lab.path("model.json"), model).unwrap();
    // What can be no row of the table is said before anything is trained.
    std::fs::create_dir(lab.path("grid/asked")).unwrap();
    std::fs::write(lab.path("grid/asked/instruct.json"), r#"{"tower": "x", "tune": {}}"#).unwrap();
    std::fs::write(lab.path("grid/asked/summary.json"), "{}").unwrap();
    lab.fails(&two, 1, &["grid/asked` would stand in one table", "answers questions", "--run"]);
    assert!(!lab.path("grid/learning_rate-2e-3").exists(), "nothing was begun");
    std::fs::remove_dir_all(lab.path("grid/asked")).unwrap();
    lab.ok(&two);
}

#[test]
fn other_classes_are_no_other_pictures() {
    let lab = Lab::new();
    let classes = |order: &[usize]| {
        let lines: String = order.iter().map(|at| format!("{}\n", CLASSES[*at])).collect();
        std::fs::write(lab.path("classes.txt"), lines).unwrap();
    };
    classes(&[0, 1, 2, 3]);
    lab.train("run", &["--preset", "clip", "--epochs", "1", "--set", "eval.classes=\"classes.txt\""]);
    classes(&[1, 0, 2, 3]);
    let resume = ["train", "--run", "run", "--resume", "--epochs", "2"];
    lab.fails(&resume, 1, &["measured with other classes: `eval.classes = ", "classes.txt", "has changed since"]);
    classes(&[0, 1, 2, 3]);
    lab.ok(&resume);
}

#[test]
fn a_row_of_a_demo_is_kept_while_its_data_and_its_settings_are_what_they_were() {
    let lab = Lab::new();
    let demo = ["demo", "--config", "recipe.toml", "--epochs=1", "--set", "eval.probe=", "--out", "rows", "--rows"];
    let of = |more: &[&'static str]| [&demo[..], more].concat();
    lab.ok(&of(&["undefended"]));
    // A row that nobody asks for today stands in the same table.
    reword(&lab, "a picture of a", "this is a");
    let said = ["rows/undefended-seed0` is finished", "was trained on other data", "--overwrite", "--out"];
    lab.fails(&of(&["clean-data"]), 1, &said);
    let shown = lab.stderr(&of(&["undefended"]));
    assert!(shown.contains("warning: what `rows/undefended-seed0` learned") && shown.contains("other data"), "{shown}");
    reword(&lab, "this is a", "a picture of a");
    // For a word beside the table no checkpoint, which may be large, is read whole.
    let steps = std::fs::read_dir(lab.path("rows/undefended-seed0/checkpoints")).unwrap();
    let steps: Vec<_> = steps.map(|step| step.unwrap().path()).collect();
    let rename = |from: &str, to: &str| {
        steps.iter().for_each(|step| std::fs::rename(step.join(from), step.join(to)).unwrap());
    };
    rename("optimizer.safetensors", "aside");
    let shown = lab.stderr(&of(&["undefended"]));
    assert!(!shown.contains("has changed since"), "{shown}");
    rename("aside", "optimizer.safetensors");
    // Another seed of it must be the same experiment.
    let seed = of(&["undefended", "--seeds", "1", "--lr", "3e-3"]);
    lab.fails(
        &seed,
        1,
        &["rows/undefended-seed0` was trained with another train.learning_rate", "undefended seed 1", "--out"],
    );
    assert!(!lab.path("rows/undefended-seed1").exists());
}

#[test]
fn a_run_goes_on_with_the_threads_that_are_asked_for_now() {
    let lab = Lab::new();
    let sweep = [&SWEEP[..], &["train.learning_rate=1e-3", "--threads"]].concat();
    lab.ok(&[&sweep[..], &["1"]].concat());
    let run = lab.path("grid/learning_rate-1e-3");
    std::fs::remove_file(run.join("summary.json")).unwrap();
    lab.ok(&[&sweep[..], &["2", "--workers", "3"]].concat());
    let recipe = || std::fs::read_to_string(run.join("run.toml")).unwrap();
    assert!(recipe().contains("threads = 2") && recipe().contains("workers = 3"), "{}", recipe());
    // The demo divides the machine's threads among its runs; one that goes on keeps its own, which its sums depend on.
    let demo =
        ["demo", "--config", "recipe.toml", "--epochs=1", "--set", "eval.probe=", "--out", "rows", "--rows=undefended"];
    lab.ok(&[&demo[..], &["--threads=3"]].concat());
    std::fs::remove_file(lab.path("rows/undefended-seed0/summary.json")).unwrap();
    lab.ok(&demo);
    let kept = std::fs::read_to_string(lab.path("rows/undefended-seed0/run.toml")).unwrap();
    assert!(kept.contains("threads = 3"), "{kept}");
}
