//! Every number of a recipe at odd values: it is refused before the first file, or it works; nothing panics. And a run that is told to end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use roclip::clean::{CleanConfig, CleanMethod, ReboundConfig};
use roclip::error::Error;
use roclip::recipe::Recipe;
use roclip::run::{Caller, Start, Stop};
use roclip_data::poison::PoisonConfig;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use toml::{Table, Value};

const ODD: [&str; 9] = ["0", "-1", "0.5", "1000000000", "1000000000000000000", "1e18", "nan", "inf", "\"\""];

/// 24 pictures, their captions and classes, and a recipe for them with every section.
fn recipe(folder: &Path) -> Recipe {
    let mut csv = String::from("image,caption,split,class\n");
    for number in 0..24u32 {
        let colour = if number % 2 == 0 { [220, 30, 30] } else { [30, 40, 220] };
        let picture =
            image::RgbImage::from_fn(32, 32, |x, y| image::Rgb(if x > number && y > 4 { colour } else { [120; 3] }));
        picture.save(folder.join(format!("{number}.png"))).unwrap();
        let (class, split) = (["red", "blue"][number as usize % 2], if number < 16 { "train" } else { "test" });
        csv += &format!("{number}.png,a {class} picture of number {number},{split},{class}\n");
    }
    std::fs::write(folder.join("pairs.csv"), csv).unwrap();
    let model = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}}"#;
    std::fs::write(folder.join("model.json"), model).unwrap();
    let root = folder.display();
    let text = format!(
        r#"
[data]
source = {{ path = "{root}/pairs.csv", split = "train" }}
workers = 1
[model]
name = "{root}/model.json"
compact_vocabulary = true
[augment]
image = {{ blur_kernel = 3 }}
text = {{}}
[objective]
name = "roclip"
roclip = {{ period = 1, match_start = 1, pool_size = 4, max_match_similarity = 0.9 }}
safeclip = {{ slow_steps = 2, unimodal_learning_rate = 1e-3, plausibility = {{}} }}
[train]
epochs = 1
batch_size = 8
learning_rate = 1e-3
warmup_steps = 0
threads = 1
[eval]
source = {{ path = "{root}/pairs.csv", split = "test" }}
templates = "emoji"
probe = {{ label = "class", epochs = 1, batch_size = 4 }}
[[poison.attacks]]
name = "targeted"
targeted = {{ targets = 1, captions_per_target = 2 }}
[[poison.attacks]]
name = "badnets"
badnets = {{ patch_pixels = 4 }}
target = "red"
count = 1
[[poison.attacks]]
name = "sig"
sig = {{}}
target = "red"
count = 1
[[poison.attacks]]
name = "blended"
blended = {{ alpha = 0.2 }}
target = "red"
count = 1
[[poison.attacks]]
name = "wanet"
wanet = {{ grid = 4, strength = 0.5 }}
target = "red"
count = 1
[[poison.attacks]]
name = "triangles"
triangles = {{}}
target = "red"
count = 1
"#
    );
    toml::from_str(&text).unwrap()
}

fn numbers(key: &str, value: &Value, found: &mut Vec<String>) {
    let inner = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Integer(_) | Value::Float(_) => found.push(key.to_owned()),
        Value::Table(table) => table.iter().for_each(|(name, value)| numbers(&inner(name), value, found)),
        Value::Array(entries) if entries.iter().all(Value::is_table) => {
            entries.iter().enumerate().for_each(|(at, value)| numbers(&inner(&at.to_string()), value, found));
        }
        _ => {}
    }
}

#[test]
fn every_number_is_refused_before_the_first_file_or_works() {
    let folder = tempfile::tempdir().unwrap();
    let whole = recipe(folder.path());
    let run = folder.path().join("run");
    let silent = &mut |_: &str| {};
    roclip::run::check(&whole, &run, Start::New, silent).unwrap();
    let mut keys = Vec::new();
    numbers("", &Value::Table(Table::try_from(&whole).unwrap()), &mut keys);
    assert!(keys.len() > 60, "{keys:?}");
    let stop = Stop::default();
    let caller = Caller { stop: &stop, world: &roclip::world::World::alone(), commit: "unknown", command: Vec::new() };
    let (mut refused, mut taken, mut broken) = (0, 0, Vec::new());
    for (key, odd) in keys.iter().flat_map(|key| ODD.map(|odd| (key, odd))) {
        let Ok(changed) = whole.assign(&format!("{key}={odd}")) else {
            refused += 1;
            continue;
        };
        let trains = key.starts_with("augment.image") || key.starts_with("objective.roclip");
        let outcome = catch_unwind(AssertUnwindSafe(|| match trains {
            true => roclip::run::train(&changed, &run, Start::New, &caller, &mut |_| {}).map(|_| ()),
            false => roclip::run::check(&changed, &run, Start::New, &mut |_| {}).map(|_| ()),
        }));
        match outcome {
            Err(_) => broken.push(format!("{key}={odd}: panic")),
            Ok(Err(error)) if error.to_string().contains("internal") => broken.push(format!("{key}={odd}: {error}")),
            Ok(Err(error)) if run.exists() => broken.push(format!("{key}={odd}: refused late: {error}")),
            Ok(Err(_)) => refused += 1,
            Ok(Ok(())) => taken += 1,
        }
        if run.exists() {
            std::fs::remove_dir_all(&run).unwrap();
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(refused > taken && taken > 30, "{refused} refused, {taken} taken");
}

#[test]
fn the_end_that_is_asked_for_after_the_last_step_leaves_the_rebound_test_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let (victim, run) = (folder.path().join("victim"), folder.path().join("cleaned"));
    let world = roclip::world::World::alone();
    let train = |recipe: &Recipe, run: &Path, start: Start, ends_after: &str| {
        let (stop, mut said) = (Stop::default(), Vec::new());
        let caller = Caller { stop: &stop, world: &world, commit: "unknown", command: Vec::new() };
        let outcome = roclip::run::train(recipe, run, start, &caller, &mut |line| {
            if !ends_after.is_empty() && line.starts_with(ends_after) {
                stop.ask(130);
            }
            said.push(line.to_owned());
        });
        (outcome, said.join("\n"))
    };
    train(&recipe(folder.path()), &victim, Start::New, "").0.unwrap();
    let mut cleaning = Recipe::of_run(&victim).unwrap();
    cleaning.poison = PoisonConfig::default();
    cleaning.clean = Some(CleanConfig {
        victim,
        method: CleanMethod::Finetune,
        rebound: Some(ReboundConfig { steps: vec![0, 1], ..ReboundConfig::default() }),
        ..CleanConfig::default()
    });
    let (outcome, said) = train(&cleaning, &run, Start::New, "Epoch 1 ");
    assert!(matches!(outcome, Err(Error::Stopped { .. })), "{said}");
    assert!(said.contains("the rebound test is left to do") && !said.contains("rebound: 0"), "{said}");
    let (outcome, said) = train(&cleaning, &run, Start::Resume, "");
    assert_eq!(outcome.unwrap().rebound.map(|points| points.len()), Some(2), "{said}");
}
