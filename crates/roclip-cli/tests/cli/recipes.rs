//! `roclip recipe` and `roclip init`: what they print trains, and says what it means.

use crate::data_stats::{caption, png, shard};
use crate::support::{Lab, checkpoint};
use serde_json::Value;
use std::path::Path;

#[test]
fn the_page_of_all_keys_is_what_the_binary_prints() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let printed = Lab::new().ok(&["recipe", "--markdown"]);
    assert!(
        std::fs::read_to_string(page).unwrap() == printed,
        "docs/recipes.md is not what `roclip recipe --markdown` prints; write it anew"
    );
}

#[test]
fn a_printed_recipe_is_the_preset_and_a_preset_says_what_it_changes() {
    let lab = Lab::new();
    for preset in ["clip", "roclip", "roclip-released", "safeclip", "safeclip-released"] {
        let printed = lab.ok(&["recipe", "--preset", preset]);
        std::fs::write(lab.path("printed.toml"), &printed).unwrap();
        assert_eq!(lab.ok(&["recipe", "--config", "printed.toml"]), printed);
    }
    let lines = |preset: &str| -> Vec<Vec<String>> {
        let text = lab.ok(&["recipe", "--preset", preset, "--diff"]);
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let roclip = lines("roclip");
    assert!(roclip.contains(&["objective.name", "\"clip\"", "\"roclip\""].map(str::to_owned).to_vec()), "{roclip:?}");
    assert!(roclip.iter().any(|row| row == &["augment.image.crop_min_area", "-", "0.08"]), "{roclip:?}");
    let released = lines("roclip-released");
    for row in
        [["train.warmup_steps", "-", "10000"], ["objective.roclip.pool_init", "\"captions\"", "\"gaussian-raw\""]]
    {
        assert!(released.iter().any(|found| found == &row), "{released:?}");
    }
    assert!(lab.ok(&["recipe", "--diff"]).contains("no key differs from its default"));
    let attacks = lab.ok(&["recipe", "--config", "recipe.toml", "--diff"]);
    for row in [["poison.attacks.0.targeted.targets", "-", "2"], ["poison.attacks.1.badnets.patch_pixels", "-", "6"]] {
        assert!(attacks.lines().any(|line| line.split_whitespace().eq(row)), "{attacks}");
    }
    let both = ["recipe", "--set", "train.warmup_steps=5", "--set", "train.warmup_fraction=0.1"];
    lab.fails(&both, 1, &["train.warmup_steps is 5", "one warm-up"]);
    let schema: Value = serde_json::from_str(&lab.ok(&["recipe", "--schema"])).unwrap();
    assert!(schema["properties"]["train"].is_object(), "{schema}");
    let help = lab.ok(&["train", "--help"]);
    assert!(help.contains("[recipe key: train.learning_rate, default 5e-4]"), "{help}");
}

/// 54 pairs in batches of 8 make 6 steps an epoch.
#[test]
fn a_warm_up_as_a_share_is_that_many_steps() {
    let lab = Lab::new();
    lab.train("steps", &["--preset", "clip", "--epochs", "1", "--warmup", "3"]);
    lab.train("share", &["--preset", "clip", "--epochs", "1", "--warmup", "50%"]);
    assert!(std::fs::read_to_string(lab.path("share/run.toml")).unwrap().contains("warmup_fraction = 0.5"));
    let weights =
        |run: &str| checkpoint(&lab.path(run)).into_iter().find(|(name, _)| name == "model.safetensors").unwrap();
    assert!(weights("steps") == weights("share"));
    let both = ["train", "--config", "recipe.toml", "--run", "both", "--set", "train.warmup_fraction=0.1"];
    lab.fails(&both, 1, &["train.warmup_steps is 5", "train.warmup_fraction 0.1", "--warmup"]);
    lab.fails(&[&both[..5], &["--warmup", "150%"]].concat(), 2, &["--warmup", "10%"]);
}

#[test]
fn training_on_nothing_in_particular_is_refused() {
    let lab = Lab::new();
    for flags in [&[][..], &["--preset", "roclip"], &["--epochs", "1"]] {
        lab.fails(&[&["train", "--run", "run"], flags].concat(), 1, &["--train-data", "--config", "roclip init"]);
    }
    lab.fails(&["data", "concepts", "--out", "c.json"], 1, &["--train-data", "--config"]);
    assert!(!lab.path("run").exists());
}

#[test]
fn a_recipe_for_own_data_trains_at_once() {
    let lab = Lab::new();
    // With labels and a test split in the same file; small pictures.
    let said = lab.stderr(&["init", "--train-data", "pairs.csv", "--out", "mine.toml"]);
    for words in
        ["48 pictures", "48 captions", "split train (also test 16)", "4 classes", "32 to 32 pixels", "ViT-tiny-32"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let text = std::fs::read_to_string(lab.path("mine.toml")).unwrap();
    assert!(text.contains("Which defence?") && text.contains("\n[eval.probe]\n"), "{text}");
    // It speaks of these data: a class of them is the target, and what cannot matter is left out.
    let target = text.lines().find_map(|line| line.strip_prefix("# target = ")).unwrap();
    assert!(["\"red\"", "\"green\"", "\"blue\"", "\"white\""].contains(&target), "{target}");
    assert!(!text.contains("pizza") && !text.contains("emoji]") && !text.contains("[objective.safeclip]"), "{text}");
    assert!(text.contains("`roclip recipe` prints all keys") && text.lines().count() < 420, "{}", text.lines().count());
    let learns = "learns its poison before matching begins";
    assert!(
        said.contains("before RoCLIP first matches") && text.replace("\n## ", " ").contains(learns),
        "{said}{text}"
    );
    // The attacks that it proposes can be drawn from these data.
    let (head, attacks) = text.split_once("## The attacks, each").unwrap();
    let on = attacks.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| !line.starts_with('#'));
    let on: Vec<&str> = on.collect();
    std::fs::write(lab.path("attacked.toml"), format!("{head}\n{}\n", on.join("\n"))).unwrap();
    let made = lab.ok(&["poison", "make", "--config", "attacked.toml", "--out", "m.jsonl"]);
    assert!(made.contains("targeted: ") && made.contains("badnets: "), "{made}");
    // These are too few for a strong one, and it says so; of more, its own check finds nothing weak.
    assert!(text.replace("\n## ", " ").contains("it may be weak") && text.contains("# rate = 0.105\n"), "{text}");
    lab.fails(&["init", "--train-data", "pairs.csv", "--out", "mine.toml"], 1, &["--out `mine.toml` exists"]);
    let dry = lab.ok(&["train", "--config", "mine.toml", "--run", "run", "--dry-run", "--json"]);
    let forecast: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!((forecast["pairs"].as_u64(), forecast["poisoned_pairs"].as_u64()), (Some(48), Some(0)));
    assert_eq!(forecast["measured_steps"], 3);
    assert!(forecast["checkpoint_bytes"].as_u64() > Some(100_000) && !lab.path("run").exists());
    lab.ok(&["train", "--config", "mine.toml", "--run", "run", "--epochs", "1"]);
    assert!(lab.path("run/summary.json").is_file());
}

#[test]
fn a_folder_of_captions_trains_without_evaluation() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("folder")).unwrap();
    for number in 0..12 {
        std::fs::copy(lab.path(&format!("{number:03}.png")), lab.path(&format!("folder/{number}.png"))).unwrap();
        std::fs::write(lab.path(&format!("folder/{number}.txt")), format!("a square\nbox number {number}\n")).unwrap();
    }
    let said = lab.stderr(&["init", "--train-data", "folder", "--out", "mine.toml"]);
    assert!(said.contains("24 captions (2.0 a picture") && said.contains("trains without evaluation"), "{said}");
    // The labels of the training data are not used where nobody wants an evaluation.
    let without = lab.stderr(&["init", "--train-data", "pairs.csv", "--val-data", "none"]);
    assert!(without.contains("trains without evaluation"), "{without}");
    let train = ["train", "--config", "mine.toml", "--run", "run", "--epochs", "1"];
    let said = lab.stderr(&train);
    assert!(said.contains("nothing is evaluated") && !said.contains("zero-shot"), "{said}");
    // Similarity is looked at to find poison: nobody knows of any here.
    assert_eq!(lab.epochs("run")[0]["similarity"]["bins"], serde_json::json!({}));
    assert!(lab.ok(&["doctor", "run"]).contains("clean accuracy: not measured"));
    lab.fails(&["eval", "run"], 1, &["no labelled images", "--val-data"]);
    let report = lab.ok(&["report", "run", "--out", "report"]);
    assert!(report.contains("not measured") && !report.contains("0.0 %"), "{report}");
    assert!(!std::fs::read_to_string(lab.path("report/report.html")).unwrap().contains("Similarity as a detector"));
    let attack = "poison.attacks=[{name='a',target='b',badnets={},count=1}]";
    lab.fails(
        &[&train[..3], &["--run", "other", "--set", attack]].concat(),
        1,
        &["eval.source.path is `none`", "--val-data"],
    );
    // A root of splits and classes is understood as evaluation data.
    for (split, class) in [("train", "red"), ("train", "blue"), ("test", "red"), ("test", "blue")] {
        let folder = lab.path(&format!("labelled/{split}/{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(lab.path("000.png"), folder.join(format!("{split}{class}.png"))).unwrap();
    }
    let init = ["init", "--train-data", "folder", "--val-data", "labelled"];
    let said = lab.stderr(&init);
    assert!(said.contains("2 classes of 1 picture") && said.contains("split test (also train 2)"), "{said}");
}

/// What a person says of the data stands in the recipe: pairs that are to be left out are left out.
#[test]
fn init_keeps_what_was_said_of_the_data() {
    let lab = Lab::new();
    std::fs::write(lab.path("ids.txt"), "000.png\n").unwrap();
    let said = ["--train-data", "pairs.csv", "--drop", "ids.txt", "--index", "never"];
    let recipe = lab.ok(&[&["init"], &said[..]].concat());
    for line in ["drop = \"ids.txt\"", "index = \"never\""] {
        assert!(recipe.lines().any(|one| one == line), "{line}: {recipe}");
    }
    let weights = ["init", "--train-data", "pairs.csv::pairs.csv", "--train-data-upsampling-factors", "1::2"];
    let output = lab.roclip(&weights);
    let (recipe, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(recipe.lines().any(|one| one == "weights = [1.0, 2.0]") || !output.status.success(), "{recipe}{said}");
}

/// Whoever names the files of a split asks for no other.
#[test]
fn a_part_without_splits_is_joined_to_files_of_one_split() {
    let lab = Lab::new();
    let rows = |numbers: std::ops::Range<u32>, end: &str| -> String {
        numbers.map(|number| format!("{number:03}.png,box {number} of many{end}\n")).collect()
    };
    std::fs::write(lab.path("of-train.csv"), format!("image,caption,split\n{}", rows(0..12, ",train"))).unwrap();
    std::fs::write(lab.path("more.csv"), format!("image,caption\n{}", rows(12..24, ""))).unwrap();
    let init = ["init", "--train-data", "of-train.csv::more.csv", "--out", "mine.toml"];
    let said = lab.stderr(&init);
    for words in ["24 pictures", "no split is set", "(none 12, train 12)", "trains without evaluation"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let text = std::fs::read_to_string(lab.path("mine.toml")).unwrap();
    assert!(!text.lines().any(|line| line.starts_with("split = ")), "{text}");
    let said = lab.ok(&["train", "--config", "mine.toml", "--run", "run", "--dry-run"]);
    assert!(said.contains("on 24 pairs"), "{said}");
    // A part of several splits has some that nobody wants to train on.
    lab.fails(&["init", "--train-data", "pairs.csv::more.csv"], 1, &["`more.csv`, which has none"]);
}

#[test]
fn init_heeds_what_set_says_and_writes_it() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("lists")).unwrap();
    std::fs::write(lab.path("lists/broken.png"), "no picture").unwrap();
    let rows: String = (0..23).map(|number| format!("../{number:03}.png,box {number} of many\n")).collect();
    std::fs::write(lab.path("lists/pairs.csv"), format!("image,caption\n{rows}broken.png,a cat\n")).unwrap();
    let init = ["init", "--train-data", "lists/pairs.csv"];
    // The larger loss is the cause.
    let words = [
        "23 of 24 samples left out: 23 images lie outside",
        "--set data.source.outside_paths=true",
        "1 of 1 picture looked at",
    ];
    lab.fails(&init, 1, &words);
    let set = ["--set", "data.source.outside_paths=true", "--set", "train.epochs=3"];
    let output = lab.roclip(&[&init[..], &set].concat());
    let [recipe, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    // RoCLIP begins to match within the epochs that somebody chose.
    for line in ["outside_paths = true", "epochs = 3", "match_start = 2"] {
        assert!(recipe.lines().any(|one| one == line), "{line}: {recipe}{said}");
    }
    assert!(said.contains("24 pictures") && said.contains("3 epochs"), "{said}");
    lab.fails(&[&init[..], &["--set", "data.source.outside=true"]].concat(), 1, &["data.source.outside=true"]);
    // A limit that somebody chose is kept, and what it refuses is said.
    let limit = ["--set", "data.source.outside_paths=true", "--set", "data.max_skip_fraction=0.01"];
    let output = lab.roclip(&[&init[..], &limit].concat());
    let [recipe, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(recipe.lines().any(|line| line == "max_skip_fraction = 0.01"), "{recipe}{said}");
    assert!(said.contains("more than the limit of 0.01") && said.contains("a run refuses the data"), "{said}");
}

/// What is lost of another split than the one that is trained on is nothing to the run.
#[test]
fn init_leaves_losses_of_other_splits_out_of_account() {
    let lab = Lab::new();
    let samples: Vec<(String, Vec<u8>, String)> =
        (0..24).map(|number| (format!("k{number}"), png(number), caption("a box"))).collect();
    let samples: Vec<(&str, Vec<u8>, String)> =
        samples.iter().map(|(key, picture, json)| (key.as_str(), picture.clone(), json.clone())).collect();
    shard(&lab.path("shards/train/0.tar"), &samples);
    std::fs::create_dir(lab.path("shards/test")).unwrap();
    std::fs::write(lab.path("shards/test/0.tar"), vec![7; 4096]).unwrap();
    let init = ["init", "--train-data", "shards", "--set", "data.source.split=train"];
    let output = lab.roclip(&init);
    let [recipe, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success() && recipe.contains("split = \"train\""), "{recipe}{said}");
    assert!(recipe.lines().any(|line| line == "max_skip_fraction = 0.05"), "{recipe}{said}");
}

/// `--set` names evaluation data as `--val-data` does, and a split of the training data leaves the others to be measured on.
#[test]
fn init_looks_at_the_evaluation_data_and_the_split_that_set_names() {
    let lab = Lab::new();
    let rows: String = (0..8).map(|number| format!("{number:03}.png,{}\n", ["red", "blue"][number % 2])).collect();
    std::fs::write(lab.path("mine.csv"), format!("image,class\n{rows}")).unwrap();
    let init = |set: &[&str]| {
        let set = set.iter().flat_map(|assignment| ["--set", assignment]);
        let arguments: Vec<&str> = ["init", "--train-data", "pairs.csv"].into_iter().chain(set).collect();
        let output = lab.roclip(&arguments);
        let [recipe, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{arguments:?}: {said}");
        let recipe: toml::Table = recipe.parse().unwrap();
        let of = |section: &str, key: &str| {
            let value = recipe[section].get("source").and_then(|source| source.get(key));
            value.and_then(|value| value.as_str()).unwrap_or_default().to_owned()
        };
        (of("data", "split"), of("eval", "path"), of("eval", "split"), said)
    };
    let words = |found: &(String, String, String, String)| [found.0.clone(), found.1.clone(), found.2.clone()];
    for path in ["eval.source.path=mine.csv", "eval.source={path='mine.csv'}"] {
        let found = init(&[path]);
        assert_eq!(words(&found), ["train", "mine.csv", ""], "{}", found.3);
        assert!(found.3.contains("evaluation data `mine.csv`: 8 pictures, 2 classes"), "{}", found.3);
    }
    let found = init(&["data.source.split=train"]);
    assert_eq!(words(&found), ["train", "pairs.csv", "test"], "{}", found.3);
    assert!(found.3.contains("split train (also test 16)"), "{}", found.3);
    let found = init(&["eval.source.split=train"]);
    assert_eq!(words(&found), ["train", "pairs.csv", "train"], "{}", found.3);
    assert!(found.3.contains("evaluation data `pairs.csv`: 48 pictures"), "{}", found.3);
    let found = init(&["eval.source.outside_paths=true"]);
    assert_eq!(words(&found), ["train", "pairs.csv", "test"], "{}", found.3);
    // What is trained on is not measured on unasked.
    for set in ["data.source.split=test", "data.source.split=", "eval.source.path=none"] {
        let found = init(&[set]);
        assert_eq!((found.1.as_str(), found.3.contains("trains without evaluation")), ("none", true), "{}", found.3);
    }
    let wrong = ["init", "--train-data", "pairs.csv", "--set", "eval.source.path=nowhere.csv"];
    lab.fails(&wrong, 1, &["--set eval.source", "nowhere.csv"]);
    lab.fails(&[&wrong[..4], &["data.source.split=other"]].concat(), 1, &["in split `other`: it has `test`, `train`"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_refused_by_init() {
    let lab = Lab::new();
    for folder in ["empty", "pictures", "broken"] {
        std::fs::create_dir(lab.path(folder)).unwrap();
    }
    for number in 0..4 {
        std::fs::copy(lab.path("000.png"), lab.path(&format!("pictures/{number}.png"))).unwrap();
        std::fs::write(lab.path(&format!("broken/{number}.jpg")), "no picture").unwrap();
        std::fs::write(lab.path(&format!("broken/{number}.txt")), "a dog").unwrap();
    }
    lab.fails(&["init"], 2, &["--train-data"]);
    for (data, words) in [
        ("nowhere", &["nowhere"][..]),
        ("empty", &["no samples in `empty`"]),
        ("pictures", &["none of its 4 pictures has a caption", "--csv-caption-key"]),
        ("broken", &["4 of 4 pictures", "cannot be decoded"]),
    ] {
        lab.fails(&["init", "--train-data", data], 1, &[&["--train-data"], words].concat());
    }
    lab.fails(
        &["init", "--train-data", "pairs.csv", "--val-data", "broken"],
        1,
        &["--val-data `broken` has 0 classes"],
    );
}

#[test]
fn what_was_planted_is_said_attack_by_attack() {
    let lab = Lab::new();
    let make = ["poison", "make", "--config", "recipe.toml", "--out", "m.jsonl"];
    let printed = lab.ok(&make);
    assert!(
        printed.contains("badnets: 3 pairs (6.250 %), ") && printed.contains("distinct captions of the target"),
        "{printed}"
    );
    assert!(printed.contains("targeted: 6 pairs (12.500 %), 2 pictures with 3 distinct captions each"), "{printed}");
    // A weak poison, and a trigger that augmentation destroys, are told before hours of training.
    let said = lab.stderr(&make);
    assert!(said.contains("attack `targeted` is weak: 3 captions a targeted picture, and 7 were measured"), "{said}");
    // As the doctor counts them of the finished run: two of the four epochs match.
    let seen = "attack `badnets` is weak: 3 pairs are shown 6 times at most in 2 epochs with their own captions (2 epochs more train without them";
    assert!(said.contains(seen), "{said}");
    let crop = ["--set", "augment.image.crop_min_area=0.08", "--set", "poison.attacks.1.badnets.patch_pixels=2"];
    let other = [&make[..], &crop].concat();
    let kept = std::fs::read(lab.path("m.jsonl")).unwrap();
    lab.fails(&other, 1, &["--out `m.jsonl` holds another manifest", "--overwrite"]);
    assert_eq!(std::fs::read(lab.path("m.jsonl")).unwrap(), kept);
    let said = lab.stderr(&[&other[..], &["--overwrite"]].concat());
    assert!(said.contains("attack `badnets` will hardly outlive the augmentation"), "{said}");
    let large = ["--out", "l.jsonl", "--set", "augment.image=", "--set", "poison.attacks.1.badnets.patch_pixels=16"];
    let said = lab.stderr(&[&make[..4], &large].concat());
    assert!(!said.contains("outlive"), "{said}");
    // With one caption for all the backdoor teaches a sentence.
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    let one = |line: &str| match line.contains("white") && line.contains("train") {
        true => format!("{},\"a white box\",train,white\n", line.split(',').next().unwrap()),
        false => format!("{line}\n"),
    };
    std::fs::write(lab.path("one.csv"), csv.lines().map(one).collect::<String>()).unwrap();
    let real = [
        "--set",
        "poison.attacks.1.captions=real",
        "--set",
        "data.source.path=one.csv",
        "--set",
        "poison.attacks.0.targeted.targets=1",
        "--overwrite",
    ];
    let said = lab.stderr(&[&make[..], &real].concat());
    assert!(said.contains("attack `badnets`") && said.contains("one and the same caption (first: `white`)"), "{said}");
}

#[test]
fn concepts_speak_of_the_named_data_only() {
    let lab = Lab::new();
    let command = [
        "data",
        "concepts",
        "--train-data",
        "pairs.csv",
        "--out",
        "c.json",
        "--max-share",
        "0.5",
        "--min-images",
        "20",
    ];
    let printed = lab.ok(&command);
    assert!(printed.contains("train: 48 of 48") && !printed.contains("200"), "{printed}");
    let classes = |lab: &Lab| {
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(lab.path("c.json")).unwrap()).unwrap();
        file["classes"].to_string()
    };
    let all = classes(&lab);
    let first = all.trim_start_matches("[\"").split('"').next().unwrap().to_owned();
    assert!(printed.contains(&first) && printed.contains("--exclude"), "{printed}");
    lab.fails(&[&command[..], &["--exclude", "zebra"]].concat(), 1, &["`zebra` is to be excluded", "--exclude"]);
    lab.ok(&[&command[..], &["--exclude", &first]].concat());
    assert!(!classes(&lab).contains(&format!("\"{first}\"")), "{first} is still a class");
}
