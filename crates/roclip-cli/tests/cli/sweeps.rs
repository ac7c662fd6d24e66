//! `--sweep`: grids of runs.

use crate::support::Lab;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const TRAIN: [&str; 8] =
    ["train", "--config", "recipe.toml", "--run", "grid", "--epochs=2", "--sweep", "objective.roclip.period=1,2"];

/// Names of the folders in `path`.
fn folders(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn results(lab: &Lab, folder: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(lab.path(folder).join("results.json")).unwrap()).unwrap()
}

#[test]
fn a_sweep_trains_every_cell_once_and_reports_on_all() {
    let lab = Lab::new();
    let rates = ["--sweep", "train.learning_rate=1e-3,2e-3"];
    let table = lab.ok(&[&TRAIN[..], &rates].concat());
    let cells = ["period-1,learning_rate-1e-3", "period-1,learning_rate-2e-3", "period-2,learning_rate-1e-3"];
    let all = folders(&lab.path("grid"));
    assert!(all.len() == 4 && cells.iter().all(|cell| all.contains(*cell)), "{all:?}");
    assert!(table.contains("objective.roclip.period"), "{table}");
    // More seeds are the same sweep with one more key, and no command a cell.
    assert!(table.contains(&format!("{} --sweep seed=0,1,2\n", rates.join(" "))), "{table}");
    assert!(!table.contains("-seed1"), "{table}");
    let later = lab.ok(&["report", &format!("grid/{}", cells[0]), &format!("grid/{}", cells[1]), "--out", "later"]);
    let later = later.replace("\n   ", "");
    assert!(later.contains("Give the command that trained these rows once more, with --sweep seed=0,1,2."), "{later}");
    // The folder is no run, and none can begin in it.
    lab.fails(&["train", "--config", "recipe.toml", "--run", "grid"], 1, &["`grid`", "holds runs", "--run"]);
    let within = "grid/period-1,learning_rate-1e-3/inside";
    let inside: Vec<&str> = TRAIN.iter().map(|word| if *word == "grid" { within } else { word }).collect();
    lab.fails(&inside, 1, &["lies within the run", "period-1,learning_rate-1e-3`"]);
    assert!(!lab.path(within).exists());
    let demo = ["demo", "--config", "recipe.toml", "--dry-run", "--out", within];
    lab.fails(&demo, 1, &["lies within the run", "outside of it with --out"]);
    for command in [&["doctor", "grid"][..], &["report", "grid", "--out", "page"]] {
        lab.fails(command, 1, &["`grid`", "it holds 4 runs", "grid/*/"]);
    }
    let rows = results(&lab, "grid");
    let settings: BTreeSet<String> = rows.iter().map(|row| row["settings"].to_string()).collect();
    assert_eq!(settings.len(), 4, "{settings:?}");
    let page = std::fs::read_to_string(lab.path("grid/report.html")).unwrap();
    assert!(page.contains("id=\"grid-1\"") && page.contains("train.learning_rate"), "the grid has its section");
    // The same command does nothing, and another value trains one more row.
    let before = std::fs::metadata(lab.path("grid").join(cells[0]).join("summary.json")).unwrap().modified().unwrap();
    let wider = ["--sweep", "train.learning_rate=1e-3,2e-3,3e-3"];
    lab.ok(&[&TRAIN[..7], &["objective.roclip.period=1"], &wider].concat());
    assert_eq!(folders(&lab.path("grid")).len(), 5);
    let after = std::fs::metadata(lab.path("grid").join(cells[0]).join("summary.json")).unwrap().modified().unwrap();
    assert_eq!(before, after, "what was finished is kept");
    assert_eq!(results(&lab, "grid").len(), 5, "the report has the rows of both commands");
    // With the seed as one more key the run of the recipe's own seed is there by another name.
    let seeds = ["objective.roclip.period=1", "--sweep", "train.learning_rate=1e-3", "--sweep", "seed=0,1"];
    let said = lab.stderr(&[&TRAIN[..7], &seeds].concat());
    assert!(said.contains(&format!("grid/{}` is finished, and kept", cells[0])), "{said}");
    assert_eq!(folders(&lab.path("grid")).len(), 6);
}

#[test]
fn cells_that_a_key_changes_nothing_of_are_trained_once() {
    let lab = Lab::new();
    let train = ["train", "--config", "recipe.toml", "--run", "grid", "--epochs=1", "--set", "eval.probe="];
    let sweep = ["--sweep", "objective.name=clip,roclip", "--sweep", "objective.roclip.period=1,2"];
    let said = lab.stderr(&[&train[..], &sweep].concat());
    let words = "objective.roclip.period changes nothing of some cells, which are trained once: 3 runs for 4 cells";
    assert!(said.contains(words), "{said}");
    let first = ["name-clip,period-1", "name-roclip,period-1", "name-roclip,period-2"].map(str::to_owned);
    assert_eq!(folders(&lab.path("grid")), first.clone().into());
    // The other way round, what is there is not trained again.
    let turned = ["--sweep", "objective.name=clip,roclip", "--sweep", "objective.roclip.period=2,1"];
    let said = lab.stderr(&[&train[..], &turned].concat());
    assert!(said.contains("3 runs are finished, and kept"), "{said}");
    assert_eq!(folders(&lab.path("grid")), first.into());
    let alone = ["--set", "objective.name=clip", "--sweep", "objective.roclip.period=1,2", "--dry-run"];
    let said = lab.stderr(&[&train[..4], &["alone"], &train[5..], &alone].concat());
    assert!(said.contains("1 run for 2 cells"), "{said}");
}

#[test]
fn a_demo_sweeps_the_row_without_suspects_and_trains_clean_data_once() {
    let lab = Lab::new();
    let rows = "undefended,augmentation-only,detected,clean-data";
    let demo =
        ["demo", "--config", "recipe.toml", "--out", "demo", "--epochs=1", "--set", "eval.probe=", "--rows", rows];
    let attack =
        ["--sweep", "poison.attacks.0.targeted.captions_per_target=2,3", "--sweep", "objective.roclip.period=1,2"];
    let foreseen = lab.stderr(&[&demo[..], &attack, &["--dry-run"]].concat());
    assert!(foreseen.contains("2 runs more when the others are done"), "{foreseen}");
    lab.ok(&[&demo[..], &attack].concat());
    let mut expected: BTreeSet<String> = ["clean-data-seed0".to_owned()].into();
    for row in ["undefended", "augmentation-only", "detected-plausibility", "suspects-plausibility"] {
        expected.extend([2, 3].map(|count| format!("{row}-captions_per_target-{count}-seed0")));
    }
    assert_eq!(folders(&lab.path("demo")), expected);
    // Each cell's suspects are those of the model of that cell.
    for count in ["2", "3"] {
        let looked = lab.path(&format!("demo/suspects-plausibility-captions_per_target-{count}-seed0/detect.json"));
        let looked: Value = serde_json::from_slice(&std::fs::read(looked).unwrap()).unwrap();
        let encoder = looked["looked"]["model"].as_str().unwrap().to_owned();
        assert!(encoder.ends_with(&format!("augmentation-only-captions_per_target-{count}-seed0")), "{encoder}");
    }
    // Somebody's own file is no run without other pairs.
    let own = lab.path("demo/detected-plausibility-captions_per_target-2-seed0");
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("run.toml"), "[foo]\n").unwrap();
    lab.fails(&[&demo[..], &attack, &["--drop-fraction=0.2"]].concat(), 1, &["no recipe of a run", "--out"]);
    let page = std::fs::read_to_string(lab.path("demo/report.html")).unwrap();
    // What encodes the pairs follows from the cell, and is no key of anybody's.
    assert!(page.contains("CLIP, suspects dropped (plausibility), captions_per_target = 2"));
    assert!(!page.contains("encoder of the detector") && !page.contains("data.drop.encoder"));
    assert!(page.contains("and 1 to 2 more, by row"), "rows were shown two captions a target, and three");
    let legend = "captions_per_target is poison.attacks.0.targeted.captions_per_target";
    assert_eq!(page.matches(legend).count(), 1, "the whole key stands in the legend alone");
    let against = page.matches("against clean data").count();
    assert!(against >= 2, "one run on clean data is the control of every cell: {against}");
}

#[test]
fn a_sweep_of_a_demo_trains_controls_once_for_the_defences_settings() {
    let lab = Lab::new();
    let rows = "undefended,defended";
    let demo = ["demo", "--config", "recipe.toml", "--out", "demo", "--epochs=1", "--rows", rows];
    let sweep =
        ["--sweep", "objective.roclip.period=1,2", "--sweep", "poison.attacks.0.targeted.captions_per_target=2,3"];
    lab.ok(&[&demo[..], &sweep].concat());
    let expected: BTreeSet<String> = [
        "undefended-captions_per_target-2-seed0",
        "undefended-captions_per_target-3-seed0",
        "defended-period-1,captions_per_target-2-seed0",
        "defended-period-1,captions_per_target-3-seed0",
        "defended-period-2,captions_per_target-2-seed0",
        "defended-period-2,captions_per_target-3-seed0",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(folders(&lab.path("demo")), expected);
    // Labels and columns have the keys in the order of the flags.
    let page = std::fs::read_to_string(lab.path("demo/report.html")).unwrap();
    assert!(page.contains("RoCLIP, period = 1, captions_per_target = 2"));
    assert!(page.contains("<th>period</th><th>captions_per_target</th>"));
    let controls: Vec<Value> = results(&lab, "demo").into_iter().filter(|row| row["control"] == "undefended").collect();
    assert!(controls.iter().all(|row| !row["settings"].to_string().contains("period")), "{controls:?}");
    lab.fails(&[&demo[..], &["--sweep", "seed=0,1"]].concat(), 1, &["--seeds"]);
}

#[test]
fn a_demo_can_be_foreseen() {
    let lab = Lab::new();
    let demo = ["demo", "--config", "recipe.toml", "--out", "demo", "--epochs=2", "--jobs", "1", "--dry-run"];
    let output = lab.roclip(&[&demo[..], &["--sweep", "objective.roclip.period=1,2", "--warmup", "9999"]].concat());
    let [said, warned] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(warned.matches("the warm-up of 9999 steps never ends").count(), 1, "once for all kinds: {warned}");
    assert!(said.contains("5 runs, 1 at a time; the first, undefended seed 0") && said.contains("all "), "{said}");
    assert!(said.contains("by the steps of one of each kind"), "{said}");
    assert!(!lab.path("demo").exists());
    // What stands in the way is named as the demo itself names it, with its flag.
    let there = lab.path("demo/undefended-seed0");
    std::fs::create_dir_all(&there).unwrap();
    std::fs::write(there.join("run.toml"), "seed = 7\n").unwrap();
    std::fs::write(there.join("lock"), "4711\n").unwrap();
    lab.fails(&demo, 1, &["a run of another recipe", "name another folder with --out"]);
    lab.ok(&[&demo[..], &["--overwrite"]].concat());
    assert!(there.join("run.toml").is_file(), "nothing is removed");
    // Somebody's own file is no run where no run began beside it.
    std::fs::write(there.join("run.toml"), "[foo]\n").unwrap();
    std::fs::remove_file(there.join("lock")).unwrap();
    lab.fails(&[&demo[..8], &["--overwrite"]].concat(), 1, &["no recipe of a run", "--out"]);
    assert!(there.join("run.toml").is_file(), "nothing is removed");
}

#[test]
fn what_cannot_be_swept_is_refused_before_the_first_run() {
    let lab = Lab::new();
    let refused_with = |code: i32, command: &[&str], sweep: &[&str], words: &[&str]| {
        let flags: Vec<&str> = sweep.iter().flat_map(|values| ["--sweep", values]).collect();
        lab.fails(&[command, &flags].concat(), code, words);
        assert!(!lab.path("grid").exists(), "{sweep:?} left files behind");
    };
    let refused = |command: &[&str], sweep: &[&str], words: &[&str]| refused_with(1, command, sweep, words);
    let train = &TRAIN[..6];
    let demo = &["demo", "--config", "recipe.toml", "--out", "grid"][..];
    for command in [train, demo] {
        refused(command, &["objective.roclip.perod=1,2"], &["perod", "unknown field"]);
        refused(command, &["train.epochs=1", "train.epochs=2"], &["`train.epochs` twice"]);
        refused_with(2, command, &["train.epochs="], &["the list of values is empty"]);
        refused_with(2, command, &["train.epochs=1,1"], &["`1` stands twice"]);
        // One cell of two, found by its number, by the data, and by the attack that is drawn.
        refused(command, &["objective.roclip.period=1,0"], &["period-0", "objective.roclip.period is 0"]);
        refused(command, &["objective.roclip.pool_size=24,4000"], &["pool_size-4000", "larger than the data"]);
        let attack = "poison.attacks.0.targeted.captions_per_target=2,900";
        refused(command, &[attack], &["captions_per_target-900", "targets could be drawn"]);
    }
    for name in ["results.json", "results.csv", "results.tex", "report.html"] {
        lab.leaves_alone(name, &["train", "--config", "recipe.toml", "--sweep", "seed=0,1", "--run"]);
        lab.leaves_alone(name, &["demo", "--config", "recipe.toml", "--out"]);
    }
    let large = "seed=0,18446744073709551615";
    refused(train, &[large], &["seed may be a whole number up to 9223372036854775807"]);
    lab.train("single", &["--epochs", "1"]);
    let inside = ["train", "--config", "recipe.toml", "--run", "single", "--sweep", "seed=0,1"];
    lab.fails(&inside, 1, &["`single` is a run itself"]);
    let many: Vec<String> = (1..=501).map(|epochs| epochs.to_string()).collect();
    let many = format!("train.epochs={}", many.join(","));
    refused(train, &[&many], &["501 runs", "--yes"]);
    lab.fails(&[train, &["--jobs", "2"]].concat(), 2, &["--sweep"]);
    lab.fails(&[&TRAIN[..], &["--resume"]].concat(), 2, &["--sweep", "--resume"]);
}

#[test]
fn a_sweep_can_be_foreseen() {
    let lab = Lab::new();
    let said = lab.ok(&[&TRAIN[..], &["--dry-run", "--jobs", "1"]].concat());
    assert!(said.contains("2 runs, 1 at a time") && said.contains("period-1") && said.contains("all "), "{said}");
    assert!(!lab.path("grid").exists());
    lab.fails(&[&TRAIN[..7], &["objective.roclip.period=0", "--dry-run"]].concat(), 1, &["period is 0"]);
}
