//! `roclip detect`: scores, thresholds and what is refused.

use crate::support::Lab;
use serde_json::Value;
use std::collections::BTreeSet;

fn lines(lab: &Lab, file: &str) -> Vec<String> {
    std::fs::read_to_string(lab.path(file)).unwrap().lines().map(str::to_owned).collect()
}

/// The arguments of the training that `said` advises.
fn advised(said: &str) -> &str {
    let mut commands = said.lines().filter_map(|line| Some(line.split_once(" roclip ")?.1));
    commands.find(|command| command.starts_with("train ")).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn pairs_are_scored_judged_and_left_out() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let detect = ["detect", "pairs", "victim", "--out", "suspects", "--neighbours", "4"];
    let said = lab.ok(&[&detect[..], &["--drop-fraction", "0.1"]].concat());
    assert!(said.contains("AUROC") && said.contains("poisoned pairs stay"), "{said}");
    let scores: Vec<Value> =
        lines(&lab, "suspects/scores.jsonl").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: BTreeSet<&str> = scores.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), scores.len(), "one line a pair");
    for method in ["clip-score", "k-dist", "slof", "lid", "dao", "isolation-forest", "plausibility", "conformal"] {
        let own: BTreeSet<String> = scores.iter().map(|line| line["scores"][method].to_string()).collect();
        assert!(own.len() > 5, "{method} says the same of all: {own:?}");
    }
    let dropped = lines(&lab, "suspects/drop.txt");
    let expected = scores.iter().filter(|line| line["dropped"] == true).count();
    assert!(dropped.len() == expected && dropped.iter().all(|id| ids.contains(id.as_str())), "{dropped:?}");
    assert_eq!(dropped.len(), (0.1 * scores.len() as f64).round() as usize);
    let summary: Value = serde_json::from_str(&lines(&lab, "suspects/detect.json").join("\n")).unwrap();
    let attacks = summary["methods"][0]["attacks"].as_array().unwrap().len();
    assert!(attacks >= 1 && summary["dropped"]["pairs"] == dropped.len(), "{summary}");
    assert!(summary["methods"][0]["attacks"][0]["average_precision"].is_f64(), "{summary}");
    // Of several methods plausibility orders the pairs, and what no flag says is written down, too.
    let plausibility = |line: &Value| line["scores"]["plausibility"].as_f64().unwrap();
    let (gone, stay): (Vec<&Value>, Vec<&Value>) = scores.iter().partition(|line| line["dropped"] == true);
    let least = gone.into_iter().map(plausibility).fold(f64::INFINITY, f64::min);
    assert!(stay.into_iter().all(|line| plausibility(line) <= least), "{scores:?}");
    assert_eq!((&summary["ordered_by"], &summary["looked"]["by"]), (&"plausibility".into(), &"plausibility".into()));
    let settings = &summary["looked"]["settings"];
    assert_eq!((&settings["trees"], &settings["dimension_neighbours"]), (&100.into(), &64.into()), "{settings}");
    let sought = |name: &str| {
        let method = summary["methods"].as_array().unwrap().iter().find(|method| method["method"] == name).unwrap();
        (method["neighbours"].as_u64(), method["references"].as_u64())
    };
    let all = scores.len() as u64;
    assert_eq!((sought("slof"), sought("plausibility")), ((Some(4), Some(all)), (Some(4), Some(all))));
    assert_eq!((sought("lid"), sought("clip-score")), ((Some(all - 1), Some(all)), (None, None)));
    assert!(said.contains(&format!("lid has {} neighbours in place of 64", all - 1)), "{said}");
    let poison = &summary["dropped"]["poison"];
    let survive = poison["recall"].as_f64().unwrap() + poison["surviving"].as_f64().unwrap();
    assert!((survive - 1.0).abs() < 1e-9 && poison["kept"] == scores.len() - dropped.len(), "{poison}");
    assert!(said.contains("poisoned pairs go (recall") && poison["within_kept"].is_f64(), "{said}");
    let page = std::fs::read_to_string(lab.path("suspects/detect.html")).unwrap();
    assert!(page.contains("The most suspicious") && page.contains("data:image/png"));
    assert!(page.contains("poison among these, %") && page.contains("By the rank of plausibility"));
    let by = |order: &str| {
        let found = lab.json(&[&detect[..3], &["--out", order, "--neighbours", "4", "--order-by", order]].concat());
        found["ordered_by"].as_str().unwrap().to_owned()
    };
    assert_eq!(by("combined"), "combined");
    let other = ["--methods", "clip-score", "--order-by", "lid"];
    lab.fails(&[&detect[..], &other].concat(), 1, &["--order-by lid is none of the methods", "--methods"]);

    // What is left out is not trained on, poison and clean pairs alike.
    lab.train("without", &["--preset", "clip", "--drop", "suspects/drop.txt"]);
    let summary: Value = serde_json::from_str(&lines(&lab, "without/summary.json").join("\n")).unwrap();
    assert_eq!(summary["pairs"], scores.len() - dropped.len());
    // A list of a look names poison that whoever cleans the run, or trains on the data without poison, does not have.
    std::fs::create_dir(lab.path("known")).unwrap();
    std::fs::copy(lab.path("suspects/detect.json"), lab.path("known/detect.json")).unwrap();
    let targeted: Vec<&str> = ids.iter().copied().filter(|id| id.starts_with("poison/targeted/")).collect();
    assert_eq!(targeted.len(), 6, "{ids:?}");
    std::fs::write(lab.path("known/drop.txt"), targeted.join("\n")).unwrap();
    lab.train("partly", &["--preset", "clip", "--epochs", "1", "--drop", "known/drop.txt"]);
    let clean = ["clean", "partly", "--run", "cleaned", "--method", "finetune", "--pairs", "16"];
    let said = lab.stderr(&[&clean[..], &["--batch-size", "8", "--epochs", "1"]].concat());
    assert!(said.contains("6 ids of data.drop are not among the pairs that are trained on"), "{said}");
    let control = ["train", "--config", "partly/run.toml", "--run", "control", "--dry-run"];
    lab.ok(&[&control[..], &["--set", "poison.measure_only=true"]].concat());
    // Another look, at what that run learned from, leaves it out still: the command that it advises has one list.
    let again = ["detect", "pairs", "without", "--out", "further", "--neighbours", "4", "--drop-fraction", "0.1"];
    let said = lab.ok(&again);
    assert!(said.contains(&format!("names the {} ids of `suspects/drop.txt`, too", dropped.len())), "{said}");
    let further = lines(&lab, "further/drop.txt");
    let own = (0.1 * (scores.len() - dropped.len()) as f64).round() as usize;
    assert!(further.starts_with(&dropped) && further.len() == dropped.len() + own, "{further:?}");
    lab.ok(&advised(&lab.stderr(&again)).split(' ').collect::<Vec<_>>());
    let summary: Value = serde_json::from_str(&lines(&lab, "without-without/summary.json").join("\n")).unwrap();
    assert_eq!(summary["pairs"], scores.len() - dropped.len() - own);

    let said = lab.stderr(&[&detect[..], &["--drop-fraction", "0.1"]].concat());
    let next = "roclip train --config victim/run.toml --drop suspects/drop.txt --run victim-without";
    assert!(said.contains(next), "{said}");
    // In another round the folder is one that nothing is in yet.
    std::fs::create_dir(lab.path("victim-without")).unwrap();
    let said = lab.stderr(&[&detect[..], &["--drop-fraction", "0.1"]].concat());
    assert!(said.contains(&format!("{next}-2")), "{said}");
    // The list may be the one that a run was trained without.
    let other = [&detect[..], &["--drop-fraction", "0.2"]].concat();
    lab.fails(&other, 1, &["suspects/drop.txt` is of an earlier look", "--out", "--overwrite"]);
    assert_eq!(dropped, lines(&lab, "suspects/drop.txt"));
    lab.ok(&[&other[..], &["--overwrite"]].concat());
    assert!(dropped.len() < lines(&lab, "suspects/drop.txt").len());
    lab.ok(&[&detect[..], &["--drop-fraction", "0.1", "--overwrite"]].concat());

    // Two runs of one seed agree, and a level leaves out few of the trusted pairs.
    let before = lines(&lab, "suspects/scores.jsonl");
    let alone = lab.json(&[&detect[..], &["--methods", "clip-score", "--overwrite"]].concat());
    assert!(!lab.path("suspects/drop.txt").exists(), "an earlier list passed for this look's");
    let methods: Vec<&Value> = alone["methods"].as_array().unwrap().iter().map(|method| &method["method"]).collect();
    assert_eq!(methods, ["clip-score"], "one method is its own mean");
    assert!(!lines(&lab, "suspects/scores.jsonl")[0].contains("combined"));
    lab.ok(&[&detect[..], &["--drop-fraction", "0.1"]].concat());
    assert_eq!(before, lines(&lab, "suspects/scores.jsonl"));
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let trusted: Vec<&str> = pairs.lines().filter(|line| !line.contains(",train,")).collect();
    std::fs::write(lab.path("trusted.csv"), trusted.join("\n")).unwrap();
    let level = ["--level", "0.2", "--trusted-data", "trusted.csv"];
    let said = lab.ok(&[&detect[..], &level, &["--overwrite", "--order-by", "combined"]].concat());
    let above = said.lines().find_map(|line| line.trim().strip_prefix("trusted: ")).unwrap();
    let above: usize = above.split(' ').next().unwrap().parse().unwrap();
    assert!(above <= 3, "a fifth of 16: {said}");
    // A level that no pair can reach would say that nothing is suspicious, whatever the data.
    let none = ["--level", "1e-6", "--trusted-data", "trusted.csv", "--overwrite"];
    lab.fails(&[&detect[..], &none].concat(), 1, &["--level 0.000001 of 16 trusted pairs", "at least 999999"]);
    // What is left out of the suspected data says nothing of the trusted ones, and what either cannot use is said.
    std::fs::write(lab.path("ids.txt"), "000.png\n").unwrap();
    let lost = format!("{}\ngone.png,a red square,test,red\n", trusted.join("\n"));
    std::fs::write(lab.path("trusted.csv"), lost).unwrap();
    std::fs::write(lab.path("pairs.csv"), pairs.replace("001.png", "gone.png")).unwrap();
    let plain = ["detect", "pairs", "victim", "--out", "plain", "--neighbours", "4", "--config", "recipe.toml"];
    let options = ["--set", "poison=", "--set", "data.max_skip_fraction=0.1", "--drop", "ids.txt"];
    let said = lab.stderr(&[&plain[..], &options, &level].concat());
    assert!(said.contains("--trusted-data: left out: 1 ") && said.contains("\nleft out: 1 "), "{said}");
    let summary: Value = serde_json::from_str(&lines(&lab, "plain/detect.json").join("\n")).unwrap();
    assert_eq!(summary["left_out"].as_object().map(|reasons| reasons.len()), Some(1), "{summary}");
}

#[test]
fn features_are_kept_and_scored_again_without_a_model() {
    let lab = Lab::new();
    lab.train("model", &["--preset", "clip", "--epochs", "1"]);
    let look = ["detect", "pairs", "--neighbours", "4", "--out"];
    lab.ok(&[&look[..], &["first", "model", "--write-features", "kept"]].concat());
    let manifest = ["--config", "model/run.toml", "--manifest", "model/manifest.jsonl"];
    let manifested = [&look[..], &["again", "--features", "kept"], &manifest, &["--drop-fraction", "0.1"]].concat();
    // What is advised has every flag that chose the data.
    let said = lab.stderr(&manifested);
    let flags = "--config model/run.toml --manifest model/manifest.jsonl --drop again/drop.txt --run runs/without";
    assert_eq!(advised(&said), format!("train {flags}"), "{said}");
    let scores = |folder: &str| -> Vec<Value> {
        lines(&lab, &format!("{folder}/scores.jsonl")).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (first, again) = (scores("first"), scores("again"));
    assert!(first.len() > 40 && first.len() == again.len());
    for (one, other) in first.iter().zip(&again) {
        assert_eq!(one["id"], other["id"]);
        for method in ["clip-score", "k-dist", "dao", "picture-copies", "conformal"] {
            let (a, b) = (&one["scores"][method], &other["scores"][method]);
            // Lengths went into the file and out again.
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs().max(1.0);
            assert!(a == b || close(a.as_f64().unwrap(), b.as_f64().unwrap()), "{method}: {a} {b}");
        }
    }
    let refused = |extra: &[&str], words: &[&str]| {
        lab.fails(&[&look[..], &["no"], extra].concat(), 1, words);
        assert!(!lab.path("no").exists(), "{extra:?} left files behind");
    };
    // With a model, features are for trusted data of the same width.
    refused(&[&["model", "--features", "kept"], &manifest[..]].concat(), &["leave MODEL out"]);
    let level = ["--level", "0.2", "--trusted-data", "pairs.csv"];
    refused(&[&["--features", "kept"], &manifest[..], &level].concat(), &["needs a MODEL"]);
    lab.ok(&[&look[..], &["level", "model", "--features", "kept"], &manifest, &level].concat());
    // Fewer bytes than the header promises are no numbers of anybody's, and one row is of one pair.
    let whole = std::fs::read(lab.path("kept/image.npy")).unwrap();
    for cut in [4, whole.len() - 128] {
        std::fs::write(lab.path("kept/image.npy"), &whole[..whole.len() - cut]).unwrap();
        refused(&[&["--features", "kept"], &manifest[..]].concat(), &["image.npy", "its header speaks of"]);
    }
    std::fs::write(lab.path("kept/image.npy"), &whole).unwrap();
    let lines_of = lines(&lab, "kept/pairs.jsonl");
    let twice = [&lines_of[1..2], &lines_of[1..]].concat().join("\n");
    std::fs::write(lab.path("kept/pairs.jsonl"), twice).unwrap();
    refused(&[&["--features", "kept"], &manifest[..]].concat(), &["stands twice"]);
    std::fs::write(lab.path("kept/pairs.jsonl"), lines_of.join("\n")).unwrap();
    // Values that are no numbers are named by file, row and pair.
    let last = lines_of.len() - 1;
    let of_last: Value = serde_json::from_str(&lines_of[last]).unwrap();
    let row = format!("row {last}, from 0, which is of `{}`", of_last["id"].as_str().unwrap());
    let features =
        ["image.npy", "text.npy"].map(|name| (name, std::fs::read(lab.path(&format!("kept/{name}"))).unwrap()));
    for ((name, whole), odd) in features.iter().zip([f32::NAN, f32::NEG_INFINITY]) {
        let path = lab.path(&format!("kept/{name}"));
        std::fs::write(&path, [&whole[..whole.len() - 4], &odd.to_le_bytes()].concat()).unwrap();
        refused(&[&["--features", "kept"], &manifest[..]].concat(), &[name, &row, "no numbers"]);
        std::fs::write(&path, whole).unwrap();
    }
    // Of another width than the model, which is said before it encodes anything.
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 3), }}\n", lines_of.len());
    let ones: Vec<u8> = (0..3 * lines_of.len()).flat_map(|_| 1f32.to_le_bytes()).collect();
    let length = (header.len() as u16).to_le_bytes();
    let narrow = [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), &ones].concat();
    features.iter().for_each(|(name, _)| std::fs::write(lab.path(&format!("kept/{name}")), &narrow).unwrap());
    let words = ["--features `kept`: a pair has 3 values there", "that would encode --trusted-data makes"];
    refused(&[&["model", "--features", "kept"], &manifest[..], &level].concat(), &words);
    features.iter().for_each(|(name, whole)| std::fs::write(lab.path(&format!("kept/{name}")), whole).unwrap());
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(lab.path("told.csv"), &pairs).unwrap();
    let told = ["--train-data", "told.csv"];
    lab.ok(&[&look[..], &["told", "model", "--write-features", "of-captions"], &told].concat());
    std::fs::write(lab.path("told.csv"), pairs.replacen("blue", "purple", 1)).unwrap();
    refused(&[&["--features", "of-captions"], &told[..]].concat(), &["the captions of", "encode this data"]);
    // Of other data, of another length, and no array at all.
    std::fs::write(lab.path("other.csv"), "filepath,title\n000.png,a red square\n001.png,a blue square\n").unwrap();
    refused(&["--features", "kept", "--train-data", "other.csv"], &["other data", "first: `"]);
    refused(&["--features", "kept"], &["--train-data"]);
    let text = lines(&lab, "kept/pairs.jsonl");
    std::fs::write(lab.path("kept/pairs.jsonl"), text[1..].join("\n")).unwrap();
    refused(&[&["--features", "kept"], &manifest[..]].concat(), &["image.npy has the shape", "lines"]);
    std::fs::write(lab.path("kept/pairs.jsonl"), "{\"name\": 1}\n").unwrap();
    refused(&[&["--features", "kept"], &manifest[..]].concat(), &["line 1", "missing field `id`"]);
    std::fs::write(lab.path("kept/image.npy"), b"\x93NUMPY\x01\x00\xff\xff{'descr'").unwrap();
    refused(&[&["--features", "kept"], &manifest[..]].concat(), &["image.npy", "numpy.save"]);
    lab.fails(&[&look[..], &["no", "model", "--write-features", "kept"]].concat(), 1, &["exists already"]);
    lab.fails(&look[..4], 2, &["--out"]);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let detect = |extra: &[&str], words: &[&str]| {
        lab.fails(&[&["detect", "pairs", "victim", "--out", "suspects"], extra].concat(), 1, words);
        assert!(!lab.path("suspects/scores.jsonl").exists(), "{extra:?}");
    };
    detect(&["--neighbours", "500"], &["neighbours are sought", "--neighbours"]);
    detect(&["--neighbours", "8", "--references", "4"], &["--references"]);
    detect(&["--neighbours", "4", "--drop-fraction", "1.5"], &["--drop-fraction 1.5"]);
    detect(&["--neighbours", "4", "--drop-fraction", "0.999"], &["would be left out"]);
    detect(&["--set", "train.epochs=3"], &["does not use `train.epochs`"]);
    detect(&["--threads", "3000"], &["train.threads (--threads) is 3000", "at most 1024"]);
    detect(&["--threads=-1"], &["train.threads (--threads) is -1"]);
    detect(&["--set", "data.max_skip_fraction=nan"], &["data.max_skip_fraction is NaN"]);
    std::fs::write(lab.path("one.csv"), "image,caption\n000.png,a red square\n").unwrap();
    detect(&["--train-data", "one.csv"], &["a single pair"]);
    // An empty recipe would be one of the built-in pictures.
    let kept = std::fs::read(lab.path("victim/run.toml")).unwrap();
    std::fs::write(lab.path("victim/run.toml"), "").unwrap();
    lab.fails(&["eval", "victim"], 1, &["run.toml", "is empty"]);
    detect(&[], &["is empty"]);
    std::fs::write(lab.path("victim/run.toml"), kept).unwrap();
    lab.fails(&["detect", "pairs", "nothing", "--out", "suspects"], 1, &["find the model `nothing`"]);
    for name in ["scores.jsonl", "drop.txt", "detect.json", "detect.html"] {
        lab.leaves_alone(name, &["detect", "pairs", "victim", "--out"]);
    }
    for name in ["inputs.jsonl", "inputs.json"] {
        lab.leaves_alone(name, &["detect", "inputs", "victim", "--out"]);
    }
    lab.fails(&["detect", "pairs", "victim", "--out", "s", "--level", "0.1"], 2, &["--trusted-data"]);
    lab.fails(&["detect", "pairs", "victim", "--out", "s", "--methods", "magic"], 2, &["magic"]);
}

#[test]
fn inputs_are_scored_with_and_without_each_trigger() {
    let lab = Lab::new();
    lab.train("victim", &["--preset", "clip"]);
    let detect = ["detect", "inputs", "victim", "--out", "inputs"];
    let said = lab.ok(&detect);
    assert!(said.contains("8 images looked at, 8 others") && said.contains("whitened-norm"), "{said}");
    assert!(!said.contains("descriptions "), "nobody described the classes: {said}");
    let scores: Vec<Value> =
        lines(&lab, "inputs/inputs.jsonl").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let triggered = scores.iter().filter(|line| !line["attack"].is_null()).count();
    assert!(triggered >= 8 && scores.len() == triggered + 8, "{triggered} of {}", scores.len());
    let all = |texts: &str| crate::support::CLASSES.map(|class| format!("\"{class}\": {texts}")).join(",");
    std::fs::write(lab.path("words.json"), format!("{{{}}}", all("[\"a square of a colour\"]"))).unwrap();
    let said = lab.ok(&[&detect[..], &["--descriptions", "words.json"]].concat());
    assert!(said.contains("descriptions "), "{said}");
    let file: Value = serde_json::from_str(&lines(&lab, "inputs/inputs.json").join("\n")).unwrap();
    assert_eq!(file["descriptions"]["name"], "words.json");
    std::fs::write(lab.path("few.json"), "{\"red\": [\"red\"]}").unwrap();
    lab.fails(&[&detect[..], &["--descriptions", "few.json"]].concat(), 1, &["says nothing of the class", "more"]);
    for (words, said) in [(all("[\" \"]"), "says nothing of the class"), (all("\"a text\""), "expected a sequence")] {
        std::fs::write(lab.path("odd.json"), format!("{{{words}}}")).unwrap();
        lab.fails(&[&detect[..], &["--descriptions", "odd.json"]].concat(), 1, &[said]);
    }
    lab.fails(&[&detect[..], &["--val-data", "none"]].concat(), 1, &["none"]);
}

#[test]
fn classes_that_the_program_describes_need_no_file() {
    let lab = Lab::new();
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let photographs = crate::support::CLASSES.iter().zip(["car", "horse", "snow", "wave"]);
    let named =
        photographs.fold(pairs, |text, (class, other)| text.replace(&format!(",{class}\n"), &format!(",{other}\n")));
    std::fs::write(lab.path("photographs.csv"), named.replace(",train,", ",learned,")).unwrap();
    let clean = ["--preset", "clip", "--set", "poison=", "--set", "eval.probe=", "--epochs", "1"];
    lab.train("model", &[&clean[..], &["--val-data", "photographs.csv"]].concat());
    // Where nothing is attacked there is no frontier, and nothing that a defence could cost.
    lab.ok(&["report", "model", "--out", "page"]);
    let page = std::fs::read_to_string(lab.path("page/report.html")).unwrap();
    assert!(!page.contains("The frontier") && !page.contains("What the defence costs"), "sections without figures");
    let said = lab.stderr(&["detect", "inputs", "model", "--out", "inputs"]);
    assert!(said.contains("descriptions: those of the 32 classes of recipes/flickr8k-concepts.toml"), "{said}");
    let first: Value = serde_json::from_str(&lines(&lab, "inputs/inputs.jsonl")[0]).unwrap();
    assert!(first["scores"]["descriptions"].is_f64(), "{first}");
    let file: Value = serde_json::from_str(&lines(&lab, "inputs/inputs.json").join("\n")).unwrap();
    assert!(file["descriptions"]["provenance"].as_str().unwrap().contains("Written for this project"), "{file}");
    // A user's own file goes before it, and must say something beside the classes.
    std::fs::write(lab.path("mute.json"), r#"{"name": "m", "provenance": "p", "unrelated": [], "classes": {}}"#)
        .unwrap();
    let mute = ["detect", "inputs", "model", "--out", "inputs", "--descriptions"];
    lab.fails(&[&mute[..], &["mute.json"]].concat(), 1, &["mute.json", "`unrelated` is empty"]);
    std::fs::write(lab.path("list.json"), "[]").unwrap();
    lab.fails(&[&mute[..], &["list.json"]].concat(), 1, &["list.json", "{class: [text, ...]}"]);
}

#[test]
fn a_demo_trains_a_row_without_what_another_row_finds_suspicious() {
    let lab = Lab::new();
    let demo = ["demo", "--config", "recipe.toml", "--out", "demo", "--epochs=1", "--rows", "undefended,detected"];
    let detect = ["--detect-with", "undefended", "--detect-by", "clip-score,combined", "--drop-fraction", "0.1"];
    let all = [&demo[..], &detect].concat();
    let said = lab.stderr(&all);
    assert!(said.contains("pairs are left out") && said.contains("of 6 pairs of targeted stay"), "{said}");
    let read = |file: &str| -> Value { serde_json::from_str(&lines(&lab, file).join("\n")).unwrap() };
    let pairs = read("demo/undefended-seed0/summary.json")["pairs"].as_u64().unwrap();
    let mut lists = BTreeSet::new();
    for by in ["clip-score", "combined"] {
        let list = lines(&lab, &format!("demo/suspects-{by}-seed0/drop.txt"));
        assert_eq!(list.len(), (0.1 * pairs as f64).round() as usize);
        assert_eq!(read(&format!("demo/detected-{by}-seed0/summary.json"))["pairs"], pairs - list.len() as u64);
        assert!(lab.path(&format!("demo/suspects-{by}-seed0/detect.html")).is_file());
        lists.insert(list);
    }
    assert_eq!(lists.len(), 2, "two methods, two lists");
    // The report has both beside the control, and takes neither for one.
    let rows = read("demo/results.json");
    let of = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    let named: Vec<_> = rows.as_array().unwrap().iter().map(|row| (of(row, "name"), of(row, "control"))).collect();
    let dropped = |by: &str| (Some(format!("CLIP, suspects dropped ({by})")), None);
    let control = (Some("CLIP, undefended".to_owned()), Some("undefended".to_owned()));
    assert_eq!(named, [control, dropped("clip-score"), dropped("combined")]);
    assert!(rows.as_array().unwrap().iter().all(|row| row["settings"] == serde_json::json!({})), "{rows}");
    assert_ne!(rows[1]["experiment"], rows[2]["experiment"]);
    // The page says of each row what it was trained on, and not of one for all.
    let html = std::fs::read_to_string(lab.path("demo/report.html")).unwrap();
    assert!(!html.contains("The settings that were swept"), "nobody swept anything");
    let dropped = pairs - read("demo/detected-combined-seed0/summary.json")["pairs"].as_u64().unwrap();
    assert!(html.contains(&format!("{} to {pairs} pairs, ", pairs - dropped)), "{}", &html[..4000]);
    assert!(
        html.contains("<th>pairs</th><th>poisoned</th>") && html.contains(&format!("<td>{}</td>", pairs - dropped))
    );
    assert_eq!((&rows[0]["pairs"], &rows[1]["pairs"]), (&pairs.into(), &(pairs - dropped).into()));
    // Page and terminal advise one command, which is this one.
    let typed = all.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let advice = format!("roclip {typed} --seeds 0,1,2");
    assert!(lab.ok(&all).contains(&advice) && html.contains(&advice), "{advice}");
    // None of these rows has a recipe that the demo takes: no command is made up.
    let said = lab.ok(&["report", "demo/undefended-seed0", "demo/detected-combined-seed0", "--out", "later"]);
    let said = said.replace("\n   ", "");
    assert!(said.contains("Give the command that trained these rows once more, with --seeds 0,1,2."), "{said}");
    assert!(!said.contains("roclip demo --config"), "{said}");
    // All that the doctor says is of the pairs that were trained on.
    let findings = lab.json(&["doctor", "demo/detected-combined-seed0"]);
    let poisoned = read("demo/detected-combined-seed0/summary.json")["poisoned_pairs"].as_u64().unwrap();
    let counted = |check: &str, number: &dyn Fn(&str) -> u64| -> u64 {
        let own = findings.as_array().unwrap().iter().filter(|finding| finding["check"] == check);
        own.map(|finding| number(finding["what"].as_str().unwrap())).sum()
    };
    let word = |at: usize| move |what: &str| what.split(' ').nth(at).unwrap().parse().unwrap();
    assert_eq!(counted("poison count", &word(0)), poisoned, "{findings}");
    assert_eq!(counted("target word", &word(2)), poisoned, "{findings}");
    // What is finished stays, and another list is another experiment.
    let written =
        || std::fs::metadata(lab.path("demo/detected-combined-seed0/summary.json")).unwrap().modified().unwrap();
    let before = written();
    lab.ok(&all);
    assert_eq!(before, written());
    lab.fails(
        &[&demo[..], &detect[..4], &["--drop-fraction", "0.2"]].concat(),
        1,
        &["trained without other pairs", "--out"],
    );
    // Another list than the row's was not written either.
    assert_eq!(lines(&lab, "demo/suspects-combined-seed0/drop.txt").len(), (0.1 * pairs as f64).round() as usize);
    lab.fails(&[&demo[..], &["--detect-with", "defended"]].concat(), 1, &["no finished run", "--detect-with"]);
    lab.fails(&[&demo[..], &["--drop-fraction", "1"]].concat(), 1, &["--drop-fraction 1"]);
    let few = [&demo[..], &["--detect-by", "lid", "--detect-with", "undefended", "--drop-fraction", "1e-6"]].concat();
    lab.fails(&few, 1, &["--drop-fraction 0.000001", "none of them"]);
    // What is known to be wrong is said before anything is trained.
    let elsewhere = ["demo", "--config", "recipe.toml", "--out", "other", "--rows", "undefended,detected"];
    lab.fails(&elsewhere, 1, &["no finished run", "augmentation-only"]);
    assert!(!lab.path("other/undefended-seed0").exists());
    // Each cell of a sweep is looked at by the model of that cell.
    let words = ["`demo/augmentation-only-batch_size-8-seed0` holds no finished run"];
    lab.fails(&[&demo[..], &["--sweep", "train.batch_size=8,16"]].concat(), 1, &words);
    lab.fails(&[&demo[..], &["--detect-by", "magic"]].concat(), 2, &["magic"]);
}

#[test]
fn the_command_that_is_advised_trains_on_the_pairs_that_were_looked_at() {
    let lab = Lab::new();
    lab.train("model", &["--preset", "clip", "--epochs", "1"]);
    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let part = |name: &str, split: &str| {
        let own: Vec<&str> = pairs.lines().filter(|line| line.contains(split) || line.starts_with("image")).collect();
        std::fs::write(lab.path(name), own.join("\n")).unwrap();
    };
    // Other data than the recipe's.
    part("first.csv", ",train,red");
    part("second.csv", ",train,blue");
    let named = "--train-data first.csv::second.csv --train-data-upsampling-factors 1::2";
    let look = |typed: &str, out: &str| {
        let rest = format!("detect pairs model --neighbours 2 --drop-fraction 0.2 --out {out} {typed}");
        let said = lab.stderr(&rest.split(' ').collect::<Vec<_>>());
        let command = advised(&said).to_owned();
        lab.ok(&format!("{command} --dry-run").split(' ').collect::<Vec<_>>());
        command
    };
    let other = format!("--config recipe.toml --set poison= {named}");
    let expected = format!("train {other} --drop of-recipe/drop.txt --run runs/without");
    assert_eq!(look(&other, "of-recipe"), expected);
    let expected =
        format!("train --config model/run.toml --set poison= {named} --drop of-run/drop.txt --run runs/without");
    assert_eq!(look(named, "of-run"), expected);
    // What is set goes after all flags, a list among it.
    std::fs::write(lab.path("ids.txt"), "000.png\n").unwrap();
    let set = "--set data.drop=ids.txt --seed 0";
    let expected = format!(
        "train --config model/run.toml --manifest model/manifest.jsonl {set} --set data.drop=of-set/drop.txt --run model-without"
    );
    assert_eq!(look(set, "of-set"), expected);
    assert_eq!(lines(&lab, "of-set/drop.txt")[0], "000.png");
}

#[test]
fn what_a_single_method_says_nothing_of_stays() {
    let lab = Lab::new();
    lab.train("model", &["--preset", "clip", "--epochs", "1"]);
    let look = ["detect", "pairs", "model", "--out", "copies", "--methods", "picture-copies", "--neighbours", "4"];
    let said = lab.ok(&[&look[..], &["--drop-fraction", "0.95"]].concat());
    let scores: Vec<Value> =
        lines(&lab, "copies/scores.jsonl").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let scored = |line: &&Value| !line["scores"]["picture-copies"].is_null();
    let all = scores.iter().filter(scored).count();
    // The copies of the targeted attack, and what else looks alike at this size.
    let asked = (0.95 * scores.len() as f64).round() as usize;
    assert!((6..asked).contains(&all), "{all} of {}", scores.len());
    assert!(scores.iter().all(|line| line["dropped"] == scored(&line)), "{scores:?}");
    assert!(said.contains(&format!("--drop-fraction asks for {asked}; ")), "{said}");
}
