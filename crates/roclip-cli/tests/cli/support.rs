//! A tiny data set, a tiny model and a way to call the binary.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const CLASSES: [&str; 4] = ["red", "green", "blue", "white"];

pub struct Lab {
    pub folder: TempDir,
}

impl Lab {
    /// 48 training and 16 test pictures: a square of the class colour somewhere on grey.
    pub fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let mut csv = String::from("image,caption,split,class\n");
        for number in 0..64u32 {
            let class = (number % 4) as usize;
            let colour = [[220, 30, 30], [30, 200, 40], [40, 40, 230], [250, 250, 250]][class];
            let (left, top) = (number * 7 % 16, number * 5 % 16);
            let picture = image::RgbImage::from_fn(32, 32, |x, y| {
                let inside = (left..left + 14).contains(&x) && (top..top + 14).contains(&y);
                image::Rgb(if inside { colour } else { [120, 120, (90 + number) as u8] })
            });
            let name = format!("{number:03}.png");
            picture.save(folder.path().join(&name)).unwrap();
            let split = if number < 48 { "train" } else { "test" };
            let caption = ["a picture of a {} square", "one {} box, number"][(number / 4 % 2) as usize];
            csv +=
                &format!("{name},\"{} {number}\",{split},{}\n", caption.replace("{}", CLASSES[class]), CLASSES[class]);
        }
        std::fs::write(folder.path().join("pairs.csv"), csv).unwrap();
        let model = r#"{"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"#;
        std::fs::write(folder.path().join("model.json"), model).unwrap();
        let lab = Lab { folder };
        lab.recipe("recipe.toml", "");
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A poisoned RoCLIP recipe; `extra` goes at its end.
    pub fn recipe(&self, name: &str, extra: &str) {
        let root = self.folder.path().display();
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
[augment.image]
blur_kernel = 3
[augment.text]
[objective]
name = "roclip"
roclip = {{ period = 2, pool_size = 24 }}
[train]
epochs = 4
batch_size = 8
learning_rate = 2e-3
warmup_steps = 5
threads = 1
[eval]
templates = "emoji"
probe = {{ label = "class", epochs = 4 }}
[eval.source]
path = "{root}/pairs.csv"
split = "test"
[[poison.attacks]]
name = "targeted"
targeted = {{ targets = 2, captions_per_target = 3 }}
[[poison.attacks]]
name = "badnets"
badnets = {{ patch_pixels = 6 }}
target = "white"
count = 3
{extra}
"#
        );
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `recipe.toml` with another objective and its settings, for `epochs` epochs, with a checkpoint after each step.
    pub fn objective(&self, name: &str, settings: &str, epochs: u32) {
        let text = std::fs::read_to_string(self.path("recipe.toml")).unwrap();
        let text = text
            .replace(
                "name = \"roclip\"\nroclip = { period = 2, pool_size = 24 }",
                &format!("name = \"{name}\"\n{name} = {{ {settings} }}"),
            )
            .replace("epochs = 4\nbatch", &format!("epochs = {epochs}\nsave_every_steps = 1\nbatch"));
        assert!(text.contains(settings) && text.contains("save_every_steps"));
        std::fs::write(self.path("recipe.toml"), text).unwrap();
    }

    /// Kills runs of `recipe.toml` at these steps, resumes them, and compares them with the run that was left alone.
    pub fn resumes_bit_for_bit(&self, parts: &[(&str, u64)]) {
        self.train("whole", &[]);
        for (run, step) in parts {
            self.cut_short(run, *step);
            self.ok(&["train", "--run", run, "--resume"]);
            for ((name, a), (_, b)) in checkpoint(&self.path("whole")).iter().zip(&checkpoint(&self.path(run))) {
                assert!(a == b, "{name} differs after resuming in the {run} part");
            }
            assert_eq!(self.epochs("whole"), self.epochs(run), "epochs reported after resuming in the {run} part");
        }
    }

    /// The `epoch` lines of a run without what they cost.
    pub fn epochs(&self, run: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.retain(|line| line["event"] == "epoch");
        for fields in lines.iter_mut().filter_map(Value::as_object_mut) {
            fields.retain(|name, _| !name.ends_with("seconds") && name != "date" && name != "peak_memory_bytes");
        }
        assert!(!lines.is_empty());
        lines
    }

    /// Writes a rate into `file` that no counts give.
    pub fn impossible(&self, file: &str) {
        let mut value: Value = serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap();
        let measured = if value.get("evaluation").is_some() { &mut value["evaluation"] } else { &mut value };
        measured["zero_shot_top1"]["rate"] = 7.5.into();
        std::fs::write(self.path(file), value.to_string()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roclip"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    pub fn roclip(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and expects success; stdout.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.roclip(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs with --json and expects success; what stdout says.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs and expects success; stderr.
    pub fn stderr(&self, arguments: &[&str]) -> String {
        let output = self.roclip(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs and expects exit code `code` with every one of `words` on stderr.
    pub fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.roclip(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?} should say `{word}`: {stderr}");
        }
        assert!(!stderr.contains("internal"), "{stderr}");
        assert!(stderr.matches("os error").count() <= 1, "said twice: {stderr}");
    }

    /// Puts a file of somebody else's called `name` into a new folder, and expects `command`, which ends with the flag that names a folder, to
    /// leave it alone.
    pub fn leaves_alone(&self, name: &str, command: &[&str]) {
        let folder = format!("foreign-{}-{name}", command.join("-").replace('/', "_"));
        std::fs::create_dir(self.path(&folder)).unwrap();
        let file = self.path(&folder).join(name);
        std::fs::write(&file, "somebody's\n").unwrap();
        self.fails(&[command, &[&folder]].concat(), 1, &[name, "written over"]);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "somebody's\n", "{name}");
    }

    pub fn train(&self, run: &str, extra: &[&str]) -> String {
        let mut arguments = vec!["train", "--config", "recipe.toml", "--run", run];
        arguments.extend(extra);
        self.ok(&arguments)
    }

    /// Trains `recipe.toml` in `run`, and kills it at the first checkpoint of `step` or later. The recipe saves every step, and keeps
    /// few checkpoints, so that a certain one may come and go unseen.
    pub fn cut_short(&self, run: &str, step: u64) {
        let mut child =
            self.command(&["train", "--config", "recipe.toml", "--run", run]).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let folder = self.path(&format!("{run}/checkpoints"));
        let newest = || {
            let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.file_name());
            names.filter_map(|name| name.to_str()?.strip_prefix("step_")?.parse().ok()).max().unwrap_or(0u64)
        };
        while newest() < step && started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(!self.path(&format!("{run}/summary.json")).exists(), "the run must have been cut short");
    }
}

/// Folders of a run's checkpoints, the oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok();
    let mut found: Vec<PathBuf> = entries.filter(|path| step(path).is_some()).collect();
    found.sort_by_key(step);
    found
}

/// The files of a run's newest checkpoint, with their bytes.
pub fn checkpoint(run: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = checkpoints(run).pop().unwrap();
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

pub fn names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}
