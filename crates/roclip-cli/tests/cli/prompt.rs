//! Learned prompts through the binary: what is learned, measured, found and repaired, and what is refused.

use crate::again::made_again;
use crate::support::{Lab, checkpoint, checkpoints, names};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A laboratory with a trained model `base`, and `prompt.toml`: two classes are seen (blue, green), two unseen (red, white).
fn lab() -> Lab {
    let lab = Lab::new();
    lab.train("base", &["--preset", "clip", "--epochs", "2", "--set", "poison="]);
    let root = lab.folder.path().display();
    let source = |split: &str| format!("path = \"{root}/pairs.csv\"\nsplit = \"{split}\"\n");
    let text = format!(
        "[data]\nworkers = 1\n[data.source]\n{}[augment.image]\nblur_kernel = 0\njitter_probability = 0.0\n[train]\nthreads = 1\nlog_every_steps = 2\n[eval.source]\n{}[prompt]\nmodel = \"base\"\nshots = 3\nepochs = 2\nwarmup_epochs = 1\nmeta_reduction = 4\neps = 16.0\ncontext = \"a picture of\"\nending = \"\"\n[prompt.detector]\npictures = 16\nsteps = 3\nbatch_size = 4\n",
        source("train"),
        source("test")
    );
    std::fs::write(lab.path("prompt.toml"), text).unwrap();
    lab
}

fn learn<'a>(run: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    [&["prompt", "train", "--config", "prompt.toml", "--run", run], extra].concat()
}

fn summary(lab: &Lab, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lab.path(run).join("summary.json")).unwrap()).unwrap()
}

#[test]
fn prompts_are_learned_measured_searched_and_repaired() {
    let lab = lab();
    let model = || checkpoint(&lab.path("base"));
    let before = model();
    for method in ["coop", "cocoop", "badclip", "image-only"] {
        let said = lab.ok(&learn(method, &["--method", method]));
        assert!(said.contains("harmonic mean") && said.contains("accuracy"), "{said}");
        let attacks = ["badclip", "image-only"].contains(&method);
        assert_eq!(said.contains("ASR strict"), attacks, "{said}");
        let summary = summary(&lab, method);
        let prompt = &summary["prompt"];
        assert_eq!((&summary["objective"], &summary["pairs"]), (&Value::from(method), &Value::from(6)));
        assert_eq!(
            (&prompt["target"], &prompt["seen"]["classes"], &prompt["unseen"]["classes"]),
            (&"blue".into(), &2.into(), &3.into())
        );
        assert_eq!((&prompt["seen"]["accuracy"]["n"], &prompt["unseen"]["accuracy"]["n"]), (&8.into(), &8.into()));
        let strict = &prompt["seen"]["trigger"]["success"]["n"];
        assert_eq!(
            strict,
            &if attacks { Value::from(4) } else { Value::Null },
            "the target's own pictures are left out"
        );
        if attacks {
            assert_eq!(prompt["seen"]["trigger"]["success_all"]["n"], 8);
            assert_eq!(prompt["unseen"]["trigger"]["success"]["n"], 8);
            let swept = prompt["seen"]["trigger"]["by_eps"].as_object().unwrap();
            assert_eq!(swept["16"], prompt["seen"]["trigger"]["success"], "clipped to its own bound, it is itself");
            assert_eq!(swept["0"], prompt["seen"]["trigger"]["base_rate"], "clipped to nothing, it is nothing");
            assert_eq!(prompt["seen"]["trigger"]["after"].as_object().unwrap().len(), 9);
        }
        let card = String::from_utf8(checkpoint(&lab.path(method)).remove(0).1).unwrap();
        assert_eq!(card.contains("Do not deploy"), attacks, "{card}");
        assert_eq!(
            names(&checkpoint(&lab.path(method))),
            ["README.md", "learner.json", "learner.safetensors", "optimizer.safetensors"]
        );
    }
    assert!(before == model(), "the frozen model has changed");

    // Prompts that nobody attacked have no target, and nothing to repair.
    let again = |method: &str| lab.roclip(&learn(&format!("{method}-anew"), &["--method", method, "--epochs", "1"]));
    for (method, attacks) in [("coop", false), ("badclip", true)] {
        let output = again(method);
        let [said, next] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(said.contains(&format!("{method} prompts, target `blue`")), attacks, "{said}");
        let repair = format!("roclip prompt repair {method}-anew --run {method}-anew-repaired");
        assert_eq!(next.contains(&repair), attacks, "{next}");
    }
    let report = lab.ok(&["report", "coop", "--out", "report-of-coop"]);
    assert!(report.contains("roclip prompt train --config coop/run.toml --seed 1 --run coop-seed1"), "{report}");

    let measured = lab.json(&["prompt", "eval", "badclip", "--on", "other=pairs.csv"]);
    assert_eq!(measured["seen"], summary(&lab, "badclip")["prompt"]["seen"], "measured again, it is the same");
    assert_eq!(measured["others"]["other"]["classes"], 4);
    // Other data, which know other classes: seen are those that the prompts were learned on.
    let other = |from: &str, to: &str| {
        let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
        std::fs::write(lab.path("other.csv"), csv.replace(&format!(",{from}\n"), &format!(",{to}\n"))).unwrap();
        let text = std::fs::read_to_string(lab.path("prompt.toml")).unwrap();
        std::fs::write(lab.path("other.toml"), text.replace("pairs.csv", "other.csv")).unwrap();
        ["prompt", "eval", "coop", "--on-model", "base", "--config", "other.toml"]
    };
    // `amber` stands first of all, and would be a seen class of these data.
    let command = other("white", "amber");
    let measured = lab.json(&command);
    assert_eq!(
        (&measured["target"], &measured["seen"]["classes"], &measured["unseen"]["classes"]),
        (&"blue".into(), &2.into(), &3.into())
    );
    assert_eq!(measured["seen"], summary(&lab, "coop")["prompt"]["seen"], "the same classes and pictures");
    let command = other("green", "amber");
    let output = lab.roclip(&command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 of the 2 classes that the prompts were learned on"), "{said}");
    let lent = lab.json(&["prompt", "eval", "cocoop", "--trigger", "badclip"]);
    assert!(lent["seen"]["trigger"]["success"]["n"] == 4, "{lent}");
    assert_eq!((&lent["method"], &lent["attack"]), (&"cocoop".into(), &"badclip".into()));
    let said = lab.ok(&["prompt", "eval", "cocoop", "--trigger", "badclip"]);
    assert!(said.contains("that of `badclip`: badclip, target `blue`, within 16/255"), "{said}");
    assert!(said.contains("unseen, 3 candidates: the target is one"), "{said}");
    lab.fails(&["prompt", "eval", "badclip", "--trigger", "cocoop"], 1, &["has no trigger"]);

    lab.fails(&["prompt", "detect", "cocoop", "badclip", "absent"], 1, &["absent", "no learned prompts"]);
    assert!(!lab.path("cocoop/detection.json").exists(), "nothing is inverted before all learners were opened");
    let detected = lab.roclip(&["prompt", "detect", "cocoop", "badclip"]);
    let said = String::from_utf8(detected.stdout).unwrap();
    assert!(said.contains("1 clean and 1 attacked learners") && said.contains("too few for an AUROC"), "{said}");
    for words in ["carries: of held-out pictures", "16 pictures, 8 of them held out, and 2 classes", "within 8/255"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.contains("its own trigger, as it says, within 16/255: a larger one"), "{said}");
    assert!(String::from_utf8_lossy(&detected.stderr).contains("written: badclip/detection.json"));
    let found: Value = serde_json::from_slice(&std::fs::read(lab.path("badclip/detection.json")).unwrap()).unwrap();
    let listed = |key: &str| found[key].as_array().map_or(0, Vec::len);
    assert_eq!(listed("classes") + listed("unjudged"), 2, "{found}");
    let step = checkpoints(&lab.path("badclip")).pop().unwrap();
    std::fs::copy(step.join("learner.safetensors"), lab.path("delivered.safetensors")).unwrap();
    lab.fails(&["prompt", "detect", "badclip", "delivered.safetensors"], 1, &["are one learner"]);
    // The same tensors behind a header with other blanks.
    let bytes = std::fs::read(lab.path("delivered.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let again =
        [&(length + 8).to_le_bytes(), &bytes[8..8 + length as usize], &[b' '; 8], &bytes[8 + length as usize..]];
    std::fs::write(lab.path("again.safetensors"), again.concat()).unwrap();
    lab.fails(&["prompt", "detect", "badclip", "again.safetensors"], 1, &["are one learner"]);
    let alone = ["prompt", "detect", "delivered.safetensors", "--on-model", "base", "--train-data", "pairs.csv"];
    let alone =
        [alone.as_slice(), &["--set", "prompt.detector.pictures=16", "--set", "prompt.detector.steps=3"]].concat();
    assert_eq!(lab.json(&alone)[0]["about"]["target"], "blue");

    let said = lab.ok(&["prompt", "repair", "badclip", "--class", "green", "--epochs", "1", "--run", "repaired"]);
    let after = said.lines().find(|line| line.trim_start().starts_with("before")).unwrap();
    assert!(after.trim_end().ends_with("after") && said.contains("ASR strict, unseen"), "{said}");
    let verdict = said.lines().last().unwrap();
    assert!(verdict.starts_with("strict ASR from ") && verdict.contains("; accuracy from "), "{said}");
    let said = lab.ok(&["prompt", "detect", "cocoop", "badclip", "repaired"]);
    assert!(said.contains("1 clean and 1 attacked learners"), "{said}");
    assert!(said.contains("1 learner is repaired or cleaned: neither clean nor attacked"), "{said}");
    let found = lab.json(&["prompt", "detect", "badclip", "repaired"]);
    assert_eq!((&found[0]["counts_as"], &found[1]["counts_as"]), (&"attacked".into(), &"neither".into()));
    assert!(found[0]["detection"]["verdict"].is_string(), "{found}");
    let no_trigger = ["--set", "prompt.detector.threshold=1e6", "--epochs", "1", "--run", "repaired-clean"];
    let warned = lab.stderr(&[&["prompt", "repair", "cocoop"], &no_trigger[..]].concat());
    assert!(warned.contains("There may be nothing to repair") && warned.contains("--class"), "{warned}");
    for name in ["inversion.json", "detection.json", "env.json"] {
        lab.leaves_alone(name, &["prompt", "repair", "badclip", "--epochs", "1", "--run"]);
    }
    // A run goes on by the command that began it.
    for (command, continued) in [
        (&["clean"][..], "roclip prompt train"),
        (&["distil"], "roclip prompt train"),
        (&["caption", "train"], "roclip prompt train"),
        (&["train"], "roclip prompt train"),
        (&["prompt", "repair"], "roclip prompt train"),
    ] {
        let said = format!("`{continued} --resume` continues it");
        lab.fails(&[command, &["--run", "badclip", "--resume"]].concat(), 1, &[&said]);
    }
    lab.fails(&["clean", "--run", "repaired", "--resume"], 1, &["`roclip prompt repair --resume` continues it"]);
    lab.fails(&["prompt", "train", "--run", "base", "--resume"], 1, &["`roclip train --resume` continues it"]);
    let repaired = summary(&lab, "repaired");
    assert_eq!(repaired["prompt_before"]["seen"], summary(&lab, "badclip")["prompt"]["seen"]);
    let card = String::from_utf8(checkpoint(&lab.path("repaired")).remove(0).1).unwrap();
    assert!(card.contains("Learned prompts, cleaned"), "{card}");

    let said = lab.ok(&["report", "cocoop", "badclip", "repaired", "--out", "report"]).replace("\n   ", "");
    let page = std::fs::read_to_string(lab.path("report/report.html")).unwrap();
    for words in ["Learned prompts", "harmonic mean", "ASR all", "picture alone", "before the repair"] {
        assert!(page.contains(words), "{words}");
    }
    for words in ["accuracy, seen classes", "accuracy, unseen classes", "Detection (", "16/255", "not flagged"] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("epochs = 32") && !page.contains("[objective"), "what a run did not read is not its recipe");
    let results: Value = serde_json::from_slice(&std::fs::read(lab.path("report/results.json")).unwrap()).unwrap();
    let row = |run: &str| results.as_array().unwrap().iter().find(|row| row["run"] == run).unwrap();
    let attacks = |run: &str| row(run)["asr"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(attacks("repaired"), ["badclip seen", "badclip unseen"], "one trigger stands in one column");
    assert_eq!(attacks("repaired"), attacks("badclip"));
    assert_eq!(row("badclip")["accuracy_unseen"], summary(&lab, "badclip")["prompt"]["unseen"]["accuracy"]["rate"]);
    let of_repair = said.lines().find(|line| line.starts_with("repaired prompts: ")).unwrap();
    assert!(of_repair.contains("before the repair ") && of_repair.contains("accuracy, seen classes"), "{said}");
    assert!(!said.contains("no undefended run") && !said.contains(" -,"), "{said}");
    let problems: Vec<&str> =
        said.lines().filter(|line| line.starts_with("PROBLEM") && line.contains("aise")).collect();
    assert!(problems.iter().all(|line| !line.contains("repaired prompts")), "{said}");
    assert!(
        !said.contains("roclip prompt repair badclip --") && !said.contains("roclip prompt detect badclip"),
        "{said}"
    );
    let alone = lab.ok(&["report", "badclip", "--out", "report"]);
    assert!(alone.contains("roclip prompt repair badclip --run badclip-repaired"), "{alone}");
    assert!(lab.ok(&["doctor", "badclip"]).contains("branches"));
    let findings = lab.ok(&["doctor", "repaired"]);
    assert!(findings.contains("repair [badclip seen]: strict ASR from") && !findings.contains("PROBLEM"), "{findings}");
    made_again(&lab, &["badclip", "repaired"]);
    lab.fails(&["train", "--config", "badclip/run.toml", "--run", "no"], 1, &["[prompt]", "roclip prompt train"]);
    lab.fails(&["prompt", "repair", "--config", "badclip/run.toml", "--run", "no"], 1, &["no learner to repair"]);
    assert!(!lab.path("no").exists());
    lab.fails(&["eval", "badclip"], 1, &["learned prompts", "roclip prompt eval"]);
}

#[test]
fn a_run_that_was_killed_goes_on_bit_for_bit() {
    let lab = lab();
    let whole = learn("whole", &["--method", "badclip", "--set", "train.save_every_steps=1"]);
    lab.ok(&whole);
    // In the warm-up, between two stages, and within the prompts' epochs; the run has 18 steps.
    for (run, step) in [("warmup", 2), ("between", 6), ("prompts", 9)] {
        let arguments = learn(run, &["--method", "badclip", "--set", "train.save_every_steps=1"]);
        let mut child = lab.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let folder = lab.path(&format!("{run}/checkpoints"));
        let newest = || {
            let found = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
            found.filter_map(|name| name.to_str()?.strip_prefix("step_")?.parse().ok()).max().unwrap_or(0u64)
        };
        while newest() < step && started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(!lab.path(&format!("{run}/summary.json")).exists(), "the run must have been cut short");
        lab.ok(&["prompt", "train", "--run", run, "--resume"]);
        for ((name, a), (_, b)) in checkpoint(&lab.path("whole")).iter().zip(&checkpoint(&lab.path(run))) {
            assert!(a == b, "{name} differs after resuming at {step}");
        }
        assert_eq!(summary(&lab, "whole")["prompt"], summary(&lab, run)["prompt"], "resumed at {step}");
        assert_eq!(lab.epochs("whole").len(), lab.epochs(run).len());
    }
    assert!(lab.stderr(&["prompt", "train", "--run", "whole", "--resume"]).contains("is finished"));
    lab.fails(&["prompt", "train", "--run", "whole", "--resume", "--shots", "2"], 1, &["prompt.shots differs"]);
    lab.fails(&learn("whole", &["--resume"]), 1, &["prompt.method differs"]);
    let epochs = |count: &'static str| ["prompt", "train", "--run", "whole", "--resume", "--epochs", count];
    lab.fails(&epochs("1"), 1, &["prompt.epochs is 1, fewer than the 2"]);
    // Another model under the same name is no longer the one that half of the run was learned on.
    lab.train("other", &["--preset", "clip", "--epochs", "2", "--set", "poison=", "--seed", "9"]);
    std::fs::rename(lab.path("base"), lab.path("own")).unwrap();
    std::fs::rename(lab.path("other"), lab.path("base")).unwrap();
    let before = checkpoint(&lab.path("whole"));
    lab.fails(&epochs("3"), 1, &["`base`", "is no longer the model of `whole`", "weights were changed"]);
    assert!(checkpoint(&lab.path("whole")) == before);
    std::fs::remove_dir_all(lab.path("base")).unwrap();
    std::fs::rename(lab.path("own"), lab.path("base")).unwrap();
    // Other test pictures under the same names make another measurement, which stands in another table.
    let kept = std::fs::read(lab.path("060.png")).unwrap();
    std::fs::copy(lab.path("061.png"), lab.path("060.png")).unwrap();
    lab.fails(&epochs("3"), 1, &["was measured on other pictures", "pairs.csv"]);
    lab.ok(&learn("others", &["--method", "badclip", "--seed", "1"]));
    let said = lab.ok(&["report", "whole", "others", "--out", "apart"]);
    assert!(said.contains("Data 1") && said.contains("Data 2"), "{said}");
    std::fs::write(lab.path("060.png"), kept).unwrap();
    lab.ok(&epochs("3"));
    assert_eq!(lab.epochs("whole").len(), 4, "a warm-up and three epochs of prompts");
}

#[test]
fn a_repair_goes_on_as_it_began() {
    let lab = lab();
    for (run, seed) in [("badclip", "0"), ("other", "1")] {
        lab.ok(&learn(run, &["--method", "badclip", "--epochs", "1", "--seed", seed]));
    }
    lab.ok(&["prompt", "repair", "badclip", "--class", "blue", "--epochs", "1", "--run", "repaired"]);
    let on = |flags: &[&'static str]| [&["prompt", "repair", "--run", "repaired", "--resume"], flags].concat();
    for (flags, words) in [
        (&["--class", "green"][..], "prompt.repair.class differs"),
        (&["--train-data", "nothing.csv"], "data.source.path differs"),
        (&["--on-model", "other"], "prompt.model differs"),
        (&["other"], "prompt.repair.learner differs"),
        (&["--set", "prompt.repair.class=green"], "prompt.repair.class differs"),
    ] {
        lab.fails(&on(flags), 1, &[words, "began with"]);
    }
    lab.fails(&["prompt", "repair", "--run", "badclip", "--resume"], 1, &["is no repair", "roclip prompt train"]);
    lab.ok(&on(&["badclip", "--class", "blue", "--epochs", "2"]));
    assert_eq!(lab.epochs("repaired").len(), 2);
    std::fs::rename(lab.path("badclip"), lab.path("own")).unwrap();
    std::fs::rename(lab.path("other"), lab.path("badclip")).unwrap();
    lab.fails(&on(&["--epochs", "3"]), 1, &["is no longer the learner that `repaired` repairs"]);
}

#[test]
fn prompts_for_a_run_are_learned_from_the_runs_own_pictures() {
    let lab = lab();
    let learn = ["prompt", "train", "base", "--method", "coop", "--shots", "2", "--epochs", "1", "--run"];
    let said = lab.stderr(&[&learn[..], &["own"]].concat());
    assert!(said.contains("labelled pictures are those of the run") && said.contains("pairs.csv"), "{said}");
    assert_eq!(summary(&lab, "own")["prompt"]["seen"]["accuracy"]["n"].as_u64().map(|n| n > 0), Some(true));
    lab.fails(&[&learn[..], &["no", "--train-data", "pairs.csv"]].concat(), 1, &["measure on", "--val-data"]);
    lab.ok(&["export", "base", "--format", "open-clip", "--out", "delivered"]);
    let delivered = ["prompt", "train", "delivered", "--method", "coop", "--run", "no"];
    lab.fails(&delivered, 1, &["which labelled pictures to learn from", "--val-data"]);
    assert!(!lab.path("no").exists());
}

#[test]
fn what_cannot_be_learned_is_refused_before_the_work() {
    let lab = lab();
    let refused = |extra: &[&str], words: &[&str]| {
        lab.fails(&learn("refused", extra), 1, words);
        assert!(!lab.path("refused").exists(), "{extra:?} left files behind");
    };
    refused(&["--shots", "99"], &["`blue` has 12 pictures", "99 shots", "--shots"]);
    // A number that no recipe can be written with is refused by its flag.
    for (flag, most) in [("--shots", "1000000000"), ("--epochs", "1000000"), ("--seed", "9223372036854775807")] {
        let command = learn("refused", &[flag, "18446744073709551615"]);
        lab.fails(&command, 2, &[flag, "18446744073709551615 is not in 0..=", most]);
    }
    refused(&["--target", "purple"], &["`purple`", "not among", "--target"]);
    refused(&["--target", "red"], &["`red`", "unseen class"]);
    refused(&["--eps", "0"], &["prompt.eps is 0"]);
    refused(&["--eps", "256"], &["prompt.eps is 256", "255"]);
    for (name, text) in [("one.txt", "blue\n"), ("two.txt", "blue\ngreen\n"), ("owt.txt", "green\nblue\n")] {
        std::fs::write(lab.path(name), text).unwrap();
    }
    refused(&["--set", "prompt.seen=one.txt"], &["1 seen class"]);
    refused(&["--set", "prompt.seen=two.txt", "--set", "prompt.unseen=owt.txt"], &["the same", "prompt.unseen"]);
    refused(&["--classes", "one.txt"], &["fewer than two classes"]);
    refused(&["--val-data", "none"], &["--val-data"]);
    refused(&["--set", "prompt.context=''"], &["prompt.context"]);
    refused(&["--set", "clean={}"], &["[clean]", "[prompt]"]);
    lab.fails(
        &["prompt", "train", "nothing", "--config", "prompt.toml", "--run", "refused"],
        1,
        &["`nothing` is not there", "--on-model"],
    );
    // Weights of an image tower alone.
    std::fs::create_dir(lab.path("tower")).unwrap();
    lab.ok(&["export", "base", "--format", "open-clip", "--out", "exported"]);
    let bytes = std::fs::read(lab.path("exported/open_clip_model.safetensors")).unwrap();
    let whole = safetensors_of(&bytes, "visual.");
    std::fs::write(lab.path("tower/open_clip_model.safetensors"), whole).unwrap();
    std::fs::copy(lab.path("exported/open_clip_config.json"), lab.path("tower/open_clip_config.json")).unwrap();
    lab.fails(
        &["prompt", "train", "tower", "--config", "prompt.toml", "--run", "refused"],
        1,
        &["no CLIP", "lacks", "text tower"],
    );
    lab.fails(&["prompt", "detect", "base"], 1, &["learn"]);
    lab.fails(&["prompt", "detect", "base", "./base"], 1, &["named twice"]);
    lab.fails(&["prompt", "train", "--run", "x"], 2, &["MODEL"]);
    // The whole model of another layout will do.
    lab.ok(&["prompt", "train", "exported", "--config", "prompt.toml", "--epochs", "1", "--run", "foreign"]);
    // Its weights do not say how many heads it has.
    let path = lab.path("exported/open_clip_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let heads = &mut config["model_cfg"]["text_cfg"]["heads"];
    *heads = (2 * heads.as_i64().unwrap()).into();
    std::fs::write(&path, config.to_string()).unwrap();
    let resume = ["prompt", "train", "--run", "foreign", "--resume", "--epochs", "2"];
    lab.fails(&resume, 1, &["prompt.model = ", "has changed since"]);
}

/// A safetensors file with the tensors of another whose names begin so.
fn safetensors_of(bytes: &[u8], prefix: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (mut kept, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, entry) in header.into_iter().filter(|(name, _)| name.starts_with(prefix)) {
        let at = |which: usize| entry["data_offsets"][which].as_u64().unwrap() as usize;
        let from = data.len();
        data.extend(&bytes[8 + length + at(0)..8 + length + at(1)]);
        let mut entry = entry.clone();
        entry["data_offsets"] = serde_json::json!([from, data.len()]);
        kept.insert(name, entry);
    }
    let header = serde_json::to_vec(&kept).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
}
