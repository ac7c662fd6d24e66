//! Reports, the demo and the streams of the program.

use crate::support::Lab;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn small(lab: &Lab) {
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let text = text.replace("probe =", "# probe =").replace("epochs = 4", "epochs = 2");
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
}

fn results(lab: &Lab, folder: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(lab.path(&format!("{folder}/results.json"))).unwrap()).unwrap()
}

#[test]
fn runs_of_different_recipes_are_rows_of_their_own_that_say_why() {
    let lab = Lab::new();
    small(&lab);
    lab.train("k2", &[]);
    lab.train("k2-again", &["--seed", "1", "--workers", "2"]);
    lab.train("k10", &["--match-period", "10"]);
    let table = lab.ok(&["report", "k10", "k2", "k2-again", "--out", "report"]);
    for label in ["RoCLIP, period = 2", "RoCLIP, period = 10"] {
        assert!(table.contains(label), "{table}");
    }
    assert!(table.replace("\n   ", "").contains("Keys: period is objective.roclip.period"), "{table}");
    assert!(table.contains("2 runs") && table.contains("1 run, seed 0"), "{table}");
    assert!(table.lines().all(|line| line.starts_with("  roclip ") || line.chars().count() <= 100), "{table}");
    for name in ["results.json", "results.csv", "results.tex", "report.html"] {
        lab.leaves_alone(name, &["report", "k2", "--out"]);
    }
    lab.ok(&["report", "k10", "k2", "k2-again", "--out", "report"]);
    // Numbers that nothing measures are those of a damaged file.
    let path = lab.path("k10/summary.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut changed: Value = serde_json::from_str(&whole).unwrap();
    changed["evaluation"]["zero_shot_top1"]["rate"] = 7.5.into();
    std::fs::write(&path, changed.to_string()).unwrap();
    lab.fails(&["report", "k10", "--out", "no"], 1, &["k10/summary.json", "zero_shot_top1", "7.5", "check the file"]);
    std::fs::write(&path, whole).unwrap();
    let rows = results(&lab, "report");
    let digests: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["experiment"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), digests.len()), (3, 2));
    let periods: Vec<&str> =
        rows.iter().map(|row| row["settings"]["objective.roclip.period"].as_str().unwrap()).collect();
    assert_eq!(periods, ["2", "2", "10"], "values are in the order of numbers, whatever the order of the runs");
    let html = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    let first_table = html.split("<table>").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(first_table.contains("<th>period</th>"), "{first_table}");
    assert_eq!(html.matches("Keys: period is objective.roclip.period").count(), 1);
    assert!(first_table.contains("<td>10</td>") && first_table.contains("<td>2</td>"), "{first_table}");
    // Two values of one key are a grid; without a control there is nothing that the defence could be compared with.
    assert!(html.contains("The settings that were swept") && html.contains("The frontier"));
    assert!(!html.contains("What the defence costs and brings"));
    // A number near chance is that of the seeds that are named with it.
    let near = table.replace("\n   ", "");
    let near = near.lines().find(|line| line.contains("near chance") && line.contains("period = 2"));
    for row in rows.iter().filter(|row| row["settings"]["objective.roclip.period"] == "2") {
        let is_near = row["zero_shot_top1"].as_f64().unwrap() < 0.5;
        let seed = format!("(seed {})", row["seed"]);
        assert_eq!(near.is_some_and(|line| line.contains(&seed)), is_near, "{row}: {near:?}");
    }
    // Seeds of one recipe are one row only where the files that it names were the same.
    let path = lab.path("k2-again/summary.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut changed: Value = serde_json::from_str(&whole).unwrap();
    let mut rows_with = |digest: Option<&str>, folder: &str| {
        let named = changed["named"].as_object_mut().unwrap();
        let key = named.keys().find(|key| key.starts_with("model.name = ")).cloned().unwrap();
        match digest {
            Some(digest) => named.insert(key, digest.into()),
            None => named.remove(&key),
        };
        std::fs::write(&path, changed.to_string()).unwrap();
        lab.ok(&["report", "k2", "k2-again", "--out", folder]);
        let rows = results(&lab, folder);
        let labels: Vec<String> = rows.iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect();
        (rows[0]["experiment"] == rows[1]["experiment"], labels)
    };
    let (one, labels) = rows_with(Some("0123456789abcdef"), "other-model");
    assert!(!one && labels.iter().all(|label| label.contains("model.json, digest ")), "{labels:?}");
    assert!(labels[0] != labels[1] && labels.iter().any(|label| label.contains("digest 01234567")), "{labels:?}");
    let (one, labels) = rows_with(None, "older");
    assert!(one && labels == ["RoCLIP", "RoCLIP"], "a run that kept no digest is what it was: {labels:?}");
    std::fs::write(&path, whole).unwrap();
    // The data may be gone: pictures were kept.
    std::fs::rename(lab.path("pairs.csv"), lab.path("gone.csv")).unwrap();
    lab.ok(&["report", "k2", "--out", "alone"]);
    let html = std::fs::read_to_string(lab.path("alone/report.html")).unwrap();
    assert!(html.contains("data:image/png;base64,") && html.contains("Triggered tests"));
    let said = lab.ok(&["doctor", "k2"]);
    assert!(said.contains("cannot be checked") && said.contains("pairs.csv"), "{said}");
    // An older run kept none.
    std::fs::remove_file(lab.path("k2/pictures.json")).unwrap();
    lab.ok(&["report", "k2", "--out", "old"]);
}

const EVIL: &str = "<script>x</script>'\"";

/// A run whose files speak of things with hostile names.
fn hostile(lab: &Lab, run: &str, long: usize) {
    let evil = format!("{EVIL}{}", "W".repeat(long));
    for file in ["summary.json", "pictures.json", "details.json"] {
        let mut text = std::fs::read_to_string(lab.path(run).join(file)).unwrap();
        let quoted = serde_json::to_string(&evil).unwrap();
        let quoted = &quoted[1..quoted.len() - 1];
        text = text.replace("badnets", quoted).replace("\"roclip\"", &format!("\"{quoted}\""));
        text = text.replace("048.png", quoted).replace("white", quoted);
        std::fs::write(lab.path(run).join(file), text).unwrap();
    }
}

#[test]
fn nothing_in_a_run_folder_becomes_markup() {
    let lab = Lab::new();
    small(&lab);
    lab.train("run", &[]);
    hostile(&lab, "run", 0);
    lab.ok(&["report", &format!("{EVIL}=run"), "--out", "report"]);
    let html = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
}

/// Finished runs of the four rows, and a table of each width.
#[test]
fn a_verdict_says_what_a_defence_did_and_what_is_not_known() {
    let lab = Lab::new();
    small(&lab);
    lab.train("undefended", &["--objective", "clip", "--set", "augment.image=", "--set", "augment.text="]);
    lab.train("defended", &[]);
    let alone = lab.ok(&["report", "defended", "--out", "alone"]);
    assert!(alone.contains("RoCLIP: ") && alone.contains("Proves nothing:"), "{alone}");
    let why = ["no undefended run of the same attack", "is near chance"];
    assert!(why.iter().any(|why| alone.replace("\n   ", "").contains(why)), "{alone}");
    let html = std::fs::read_to_string(lab.path("alone/report.html")).unwrap();
    assert!(html.contains("class=\"grey\"") && html.contains("role=\"alert\""), "rates that prove nothing are grey");
    let said = lab.ok(&["report", "undefended", "mine=defended", "mine=defended", "--out", "both"]);
    assert!(
        said.contains("mine: ") && said.contains("(undefended ") && said.contains("open both/report.html"),
        "{said}"
    );
    assert_eq!(results(&lab, "both").len(), 2, "the same run twice is no second seed");
    let html = std::fs::read_to_string(lab.path("both/report.html")).unwrap();
    for part in ["What the words mean", "planted caption", "Feature space", "download=\"results.csv\"", "commit"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("alt=\"\"") && html.find("What the words mean") < html.find("<table"));
    let csv = std::fs::read_to_string(lab.path("both/results.csv")).unwrap();
    assert!(csv.starts_with("run,label,control,seed,data,") && csv.lines().count() == 3, "{csv}");
    assert!(csv.contains("pairs.csv (train), measured on "), "{csv}");
    assert!(std::fs::read_to_string(lab.path("both/results.tex")).unwrap().contains("\\toprule"));
    let json = lab.ok(&["report", "undefended", "defended", "--json", "--out", "json"]);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&json).unwrap(), results(&lab, "json"));
    let narrow =
        lab.command(&["report", "undefended", "defended", "--out", "n"]).env("COLUMNS", "40").output().unwrap();
    let narrow = String::from_utf8(narrow.stdout).unwrap();
    assert!(narrow.lines().all(|line| line.starts_with("  roclip ") || line.chars().count() <= 40), "{narrow}");
    // A shell's `*/` names the same runs, and folders beside them.
    let slashed = lab.ok(&["report", "undefended/", "defended/.", "--out", "slashed"]);
    assert!(slashed.contains("--config defended/run.toml --seed 1 --run defended-seed1\n"), "{slashed}");
    let controls = lab.ok(&["report", "defended/", "--out", "slashed"]);
    let demo = "roclip demo --config defended/run.toml --seeds 0 --out defended-controls\n";
    assert!(controls.contains(demo), "{controls}");
    // Nothing is made in a run.
    let within = ["demo", "--config", "defended/run.toml", "--out", "defended/-controls"];
    lab.fails(&within, 1, &["defended/-controls", "lies within the run", "--out"]);
    assert!(!lab.path("defended/-controls").exists());
}

#[test]
fn a_report_is_written_as_a_whole_or_not_at_all() {
    let lab = Lab::new();
    small(&lab);
    lab.train("run", &["--epochs", "1"]);
    for name in ["report.html", "results.csv"] {
        let out = lab.path(&format!("to-{name}"));
        std::fs::create_dir(&out).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(out.join(name)).status().unwrap().success());
        lab.fails(&["report", "run", "--out", &format!("to-{name}")], 1, &[name, "another folder with --out"]);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "{name}");
    }
}

/// Says in a run's summary that its attacks went so.
fn outcome(lab: &Lab, run: &str, psr: usize, asr: usize, without: usize) {
    let path = lab.path(run).join("summary.json");
    let mut summary: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let rate = |hits: usize, n: usize| serde_json::json!({"hits": hits, "n": n, "rate": hits as f64 / n as f64, "low": 0.99 * hits as f64 / n as f64, "high": hits as f64 / n as f64});
    let evaluation = &mut summary["evaluation"];
    evaluation["zero_shot_top1"] = rate(16, 16);
    evaluation["psr"] = rate(psr, 16);
    let badnets = &mut evaluation["asr"]["badnets"];
    badnets["success"] = rate(asr, 100);
    badnets["base_rate"] = rate(without, 100);
    badnets["turned"] = rate(asr - without, 100 - without);
    std::fs::write(path, summary.to_string()).unwrap();
}

/// One run drew its poison from `[poison]`, the others took its manifest: with a recipe without attacks, and with one of other attacks.
#[test]
fn runs_of_one_manifest_were_attacked_alike_whatever_wrote_it() {
    let lab = Lab::new();
    small(&lab);
    let plain = ["--objective", "clip", "--set", "augment.image=", "--set", "augment.text="];
    lab.train("undefended", &plain);
    lab.train("drew", &[]);
    let manifest = "--manifest=undefended/manifest.jsonl";
    lab.train("took", &[manifest, "--set", "poison=", "--match-period", "1"]);
    lab.train("longer", &[manifest, "--set", "poison.attacks.1.count=2", "--epochs", "3"]);
    for (run, psr) in [("undefended", 16), ("drew", 12), ("took", 0), ("longer", 0)] {
        outcome(&lab, run, psr, if psr > 0 { 90 } else { 0 }, 0);
    }
    let said = lab.ok(&["report", "undefended", "drew", "took", "longer", "--out", "report"]).replace("\n   ", "");
    assert!(!said.contains("no undefended run of the same attack"), "{said}");
    // What is advised against what fooled it moves so small a model, on so few pairs.
    let advised = said.lines().find_map(|line| line.trim_start().strip_prefix("roclip clean ")).unwrap();
    let fits = "undefended --run undefended-cleaned --method cleanclip --lr 1e-3 --batch-size ";
    assert!(advised.starts_with(fits) && advised.ends_with(" --warmup 0.1"), "{said}");
    let cleaned = lab.stderr(&["clean"].into_iter().chain(advised.split_whitespace()).collect::<Vec<_>>());
    assert!(!cleaned.contains("next to nothing"), "{cleaned}");
    std::fs::remove_dir_all(lab.path("undefended-cleaned")).unwrap();
    let rows = results(&lab, "report");
    let named = |run: &str| rows.iter().find(|row| row["run"] == run).unwrap()["settings"].clone();
    let settings =
        |epochs: &str, period: &str| serde_json::json!({"train.epochs": epochs, "objective.roclip.period": period});
    assert_eq!(
        ["drew", "took", "longer"].map(named),
        [settings("2", "2"), settings("2", "1"), settings("3", "2")],
        "named by no key of a poison"
    );
    assert_eq!(named("undefended"), serde_json::json!({"train.epochs": "2"}), "another training is a longer one");
    // Page and doctor have the same control.
    let found = lab.ok(&["doctor", "took"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(found.contains("ok undefended control: `undefended`, undefended: targeted 100.0 % (16/16)"), "{found}");
    assert!(found.contains("ok defence: RoCLIP stopped targeted poisoning: 0.0 % (0/16) here"), "{found}");
    let found = lab.ok(&["doctor", "drew"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let failed =
        "WARNING defence: RoCLIP did not stop targeted poisoning: 75.0 % (12/16) here, 100.0 % (16/16) undefended";
    assert!(found.contains(failed), "{found}");
    assert!(!found.contains("raise the"), "a defence is examined, and nobody is told to attack harder: {found}");
    // Another manifest is another attack, though no recipe says how either was drawn.
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--seed", "5", "--out", "other.jsonl"]);
    lab.train("other", &["--manifest=other.jsonl", "--set", "poison="]);
    lab.train("bare", &[&plain[..], &[manifest, "--set", "poison="]].concat());
    outcome(&lab, "other", 0, 0, 0);
    outcome(&lab, "bare", 16, 90, 0);
    for (run, alone) in [("other", true), ("took", false)] {
        let said = lab.ok(&["report", "bare", run, "--out", &format!("with-{run}")]).replace("\n   ", "");
        assert_eq!(said.contains("no undefended run of the same attack"), alone, "{said}");
    }
}

#[test]
fn a_sentence_names_its_attack_judges_nothing_that_is_grey_and_has_the_base_rate() {
    let lab = Lab::new();
    small(&lab);
    lab.train("undefended", &["--objective", "clip", "--set", "augment.image=", "--set", "augment.text="]);
    lab.train("defended", &[]);
    outcome(&lab, "undefended", 16, 75, 60);
    outcome(&lab, "defended", 0, 62, 60);
    let said = lab.ok(&["report", "undefended", "mine=defended", "--out", "report"]).replace("\n   ", "");
    let said = said.replace('\u{a0}', " ");
    let fooled = "mine: 0 of 16 targeted pictures fooled (undefended 16 of 16, clearly less)";
    assert!(said.contains(fooled), "{said}");
    assert!(said.contains("trigger badnets 62.0 % (without the trigger 60.0 %; undefended 75.0 %),"), "{said}");
    assert!(said.contains("Proves nothing: badnets."), "{said}");
    let doubt =
        "the backdoor badnets does not work on a model without a defence (its trigger turns 38 % of the pictures";
    assert_eq!(said.matches(doubt).count(), 1, "said once of both rows: {said}");
    assert!(said.contains("PROBLEM 2 rows ("), "{said}");
    assert!(!said.contains("targeted poisoning does not work"), "{said}");
    for run in ["undefended", "defended"] {
        let command = format!("roclip train --config {run}/run.toml --seed 1 --run {run}-seed1");
        assert!(said.contains(&command), "more seeds of every row: {said}");
    }
}

#[test]
fn what_no_picture_was_left_for_is_not_measured_and_no_failure() {
    let lab = Lab::new();
    small(&lab);
    lab.train("run", &["--objective", "clip", "--set", "augment.image=", "--set", "augment.text="]);
    let path = lab.path("run/summary.json");
    let mut summary: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // As an earlier version wrote it.
    let none = serde_json::json!({"hits": 0, "n": 0, "rate": 0.0, "low": 0.0, "high": 1.0});
    let evaluation = &mut summary["evaluation"];
    (evaluation["zero_shot_top1"], evaluation["mean_per_class_recall"]) = (none.clone(), (-0.0).into());
    for rate in ["success", "base_rate", "turned", "true_class"] {
        evaluation["asr"]["badnets"][rate] = none.clone();
    }
    std::fs::write(&path, summary.to_string()).unwrap();
    let said = lab.ok(&["report", "run", "--out", "report"]).replace("\n   ", "");
    assert!(said.contains("zero-shot not measured: every test picture is a target of the attack"), "{said}");
    assert!(said.contains("trigger badnets not measured"), "{said}");
    assert!(!said.contains("the backdoor badnets does not work") && !said.contains("turns 0 %"), "{said}");
    let row = &results(&lab, "report")[0];
    assert!(row["zero_shot_top1"].is_null() && row["mean_per_class_recall"].is_null(), "{row}");
    assert!(row["poisoned_accuracy"]["badnets"].is_null(), "{row}");
    let csv = std::fs::read_to_string(lab.path("report/results.csv")).unwrap();
    assert!(csv.lines().nth(1).unwrap().contains(",,0,,,"), "{csv}");
    let findings = lab.ok(&["doctor", "run"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        findings.contains("fewer `targets`") && findings.contains("none is left that could be tested"),
        "{findings}"
    );
    assert!(!findings.contains("not learned even where it was shown"), "{findings}");
}

#[test]
fn runs_on_different_data_stand_in_tables_of_their_own() {
    let lab = Lab::new();
    small(&lab);
    lab.train("first", &[]);
    // Other pictures: one of those that are measured is none of the others.
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let one = pairs.lines().find(|line| line.contains("test")).unwrap();
    std::fs::write(lab.path("others.csv"), pairs.replace(&format!("{one}\n"), "")).unwrap();
    let others = lab.path("others.csv").display().to_string();
    lab.train("second", &["--set", &format!("eval.source.path={others:?}")]);
    let said = lab.ok(&["report", "first", "second", "--out", "report"]).replace("\n   ", "");
    let (one, other) = said.split_once("\nData 2: trained on ").expect("a second table");
    assert!(one.starts_with("Data 1: trained on ") && one.contains("eval.source.path = "), "{said}");
    assert!(one.contains("\nRoCLIP: ") && other.contains("\nRoCLIP: "), "each with its own sentences: {said}");
    for table in [one, other] {
        let header = table.lines().find(|line| line.starts_with("row ")).unwrap();
        assert!(header.contains("zero-shot") && !header.contains("path"), "{header}");
    }
    let labels: Vec<Value> = results(&lab, "report").iter().map(|row| row["label"].clone()).collect();
    assert_eq!(labels, ["RoCLIP", "RoCLIP"]);
    let html = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    assert_eq!(html.matches("<h2 class=\"study\"").count(), 2);
    assert!(html.contains("id=\"table-1\"") && html.contains("id=\"table-2\""));
    // What lies in the same place today is told from what lay there.
    std::fs::copy(lab.path("others.csv"), lab.path("pairs.csv")).unwrap();
    lab.train("third", &[]);
    let said = lab.ok(&["report", "first", "third", "--out", "changed"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let csv = std::fs::read_to_string(lab.path("changed/results.csv")).unwrap();
    let digest =
        |row: usize| csv.lines().nth(row).unwrap().split_once(", digest ").expect("a digest").1[..8].to_owned();
    assert_ne!(digest(1), digest(2));
    for row in [1, 2] {
        assert!(said.contains(&format!("(test), digest {}", digest(row))), "{said}");
    }
}

/// The pages that `scripts/check_report.sh` opens in a browser, in the folder that it names.
#[test]
fn pages_for_the_browser() {
    let Some(folder) = std::env::var_os("ROCLIP_KEEP_REPORTS").map(std::path::PathBuf::from) else { return };
    let lab = Lab::new();
    small(&lab);
    lab.train("undefended", &["--objective", "clip", "--set", "augment.image=", "--set", "augment.text="]);
    lab.train("defended", &[]);
    lab.train("defended-1", &["--seed", "1"]);
    lab.ok(&["report", "undefended", "defended", "defended-1", "--out", "plain"]);
    hostile(&lab, "defended", 120);
    let name = format!("{}=defended", "a name without an end ".repeat(8));
    lab.ok(&["report", "undefended", &name, "--out", "hostile"]);
    lab.ok(&["poison", "inspect", "defended/manifest.jsonl", "--config", "recipe.toml", "--out", "sheet.html"]);
    std::fs::create_dir_all(&folder).unwrap();
    for (from, to) in [("plain/report.html", "plain"), ("hostile/report.html", "hostile"), ("sheet.html", "sheet")] {
        std::fs::copy(lab.path(from), folder.join(to).with_extension("html")).unwrap();
    }
}

#[test]
fn each_way_of_cleaning_has_a_name_of_its_own() {
    let lab = Lab::new();
    small(&lab);
    lab.train("victim", &[]);
    for method in ["finetune", "abd"] {
        let run = ["clean", "victim", "--run", method, "--method", method, "--epochs", "1", "--batch-size", "8"];
        lab.ok(&run);
    }
    let table = lab.ok(&["report", "finetune", "abd", "--out", "report"]);
    assert!(table.contains("ABD") && table.contains("Fine-tuned on trusted pairs"), "{table}");
}

/// Two rows of a demo.
const DEMO: [&str; 8] =
    ["demo", "--config", "recipe.toml", "--out", "demo", "--rows", "undefended,clean-data", "--epochs=1"];

#[test]
fn a_demo_keeps_what_is_finished_and_removes_nothing_unasked() {
    let lab = Lab::new();
    small(&lab);
    let output = lab.roclip(&DEMO);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("done  undefended seed 0: zero-shot "), "{said}");
    let summary = |row: &str| std::fs::read(lab.path(&format!("demo/{row}-seed0/summary.json"))).unwrap();
    let first = summary("undefended");
    std::fs::remove_file(lab.path("demo/clean-data-seed0/summary.json")).unwrap();
    lab.ok(&DEMO);
    assert_eq!(summary("undefended"), first, "a finished run is kept");
    summary("clean-data");
    let other = [DEMO.as_slice(), &["--lr", "1e-3"]].concat();
    lab.fails(&other, 1, &["a run of another recipe", "--overwrite"]);
    assert_eq!(summary("undefended"), first);
    lab.ok(&[other.as_slice(), &["--overwrite"]].concat());
    assert_ne!(summary("undefended"), first);
}

/// Processes whose command line speaks of `folder`.
#[cfg(target_os = "linux")]
fn processes(folder: &std::path::Path) -> usize {
    let wanted = folder.display().to_string();
    let command = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
    std::fs::read_dir("/proc").unwrap().flatten().map(command).filter(|line| line.contains(&wanted)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_demo_that_is_killed_leaves_no_run_behind_and_a_second_one_waits() {
    let lab = Lab::new();
    small(&lab);
    let out = lab.path("demo").display().to_string();
    let arguments = ["demo", "--config", "recipe.toml", "--out", &out, "--epochs=2000", "--jobs=2"];
    let mut demo = lab.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let wait = |done: &dyn Fn() -> bool| {
        while !done() && started.elapsed() < Duration::from_secs(90) {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(done(), "{} processes", processes(lab.folder.path()));
    };
    wait(&|| processes(lab.folder.path()) == 3);
    lab.fails(&arguments, 1, &["another demo or sweep is at work"]);
    demo.kill().unwrap();
    demo.wait().unwrap();
    wait(&|| processes(lab.folder.path()) == 0);
}

#[test]
fn a_stream_that_nobody_reads_ends_quietly_and_stops_no_training() {
    let lab = Lab::new();
    small(&lab);
    let run = |script: &str| {
        let program = env!("CARGO_BIN_EXE_roclip");
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {}", script.replace("roclip", program))]);
        let output = shell.current_dir(lab.folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run("roclip recipe | head -c 1 > /dev/null"), (Some(0), String::new()));
    let (code, said) = run("roclip recipe > /dev/full");
    assert!(code == Some(1) && said.contains("No space left") && !said.contains("internal"), "{said}");
    assert_eq!(run("roclip train --config recipe.toml --run run 2> >(true)").0, Some(0));
    assert!(lab.path("run/summary.json").is_file());
    assert_eq!(run("roclip train --config absent.toml --run x 2> /dev/full").0, Some(1));
}
