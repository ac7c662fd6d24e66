//! Data as it comes: joined, cut, linked, and from people who mean harm. What cannot be used is counted before the first step.

use crate::support::Lab;
use std::path::Path;
use std::process::Command;

/// A shard of the lab's pictures `from..to`, each with its caption.
fn shard(lab: &Lab, name: &str, from: usize, to: usize) {
    let path = lab.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for number in from..to {
        let picture = std::fs::read(lab.path(&format!("{number:03}.png"))).unwrap();
        let caption = format!("picture {number} of a square");
        for (ending, bytes) in [("png", picture.as_slice()), ("txt", caption.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{:09}.{ending}", number - from), bytes).unwrap();
        }
    }
    archive.finish().unwrap();
}

/// A recipe without poison that trains one epoch of plain CLIP on `data`.
fn arguments<'a>(data: &'a str, run: &'a str) -> Vec<&'a str> {
    let mut all = vec!["train", "--config", "recipe.toml", "--run", run, "--train-data", data, "--epochs", "1"];
    for setting in ["poison=", "eval.probe=", "augment.image=", "objective.name=\"clip\"", "data.source.split="] {
        all.extend(["--set", setting]);
    }
    all
}

fn skips(lab: &Lab, run: &str) -> String {
    std::fs::read_to_string(lab.path(run).join("skips.jsonl")).unwrap_or_default()
}

#[test]
fn two_crawls_with_equal_keys_are_joined() {
    let lab = Lab::new();
    shard(&lab, "a/00000.tar", 0, 12);
    shard(&lab, "b/00000.tar", 12, 24);
    let said = lab.roclip(&arguments("a/00000.tar::b/00000.tar", "run"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("on 24 pairs"), "{said}");
    lab.fails(&arguments("a::a/00000.tar", "other"), 1, &["the same data twice"]);
    assert!(!lab.path("other").exists());
}

#[test]
fn more_shards_than_files_that_may_be_open() {
    let lab = Lab::new();
    for number in 0..48 {
        shard(&lab, &format!("shards/{number:05}.tar"), number, number + 1);
    }
    let command = format!("ulimit -n 40; exec \"$0\" {}", arguments("shards", "run").join(" "));
    let output = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_roclip")])
        .current_dir(lab.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("on 48 pairs"), "{said}");
    assert_eq!(skips(&lab, "run"), "");
}

#[test]
fn a_broken_shard_is_counted_and_the_others_are_trained_on() {
    let lab = Lab::new();
    for number in 0..3 {
        shard(&lab, &format!("shards/{number}.tar"), number * 8, number * 8 + 8);
    }
    std::fs::write(lab.path("shards/1.tar"), b"no tar at all".repeat(100)).unwrap();
    // A third of the data is more than may be lost unasked.
    lab.fails(&arguments("shards", "run"), 1, &["about 8 of 24 samples", "1.tar", "data.max_skip_fraction"]);
    let mut lenient = arguments("shards", "run");
    lenient.extend(["--set", "data.max_skip_fraction=0.4"]);
    let said = lab.roclip(&lenient);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("on 16 pairs") && said.contains("1.tar"), "{said}");
    assert!(skips(&lab, "run").contains(r#""id":"1.tar","reason":"shard-unreadable""#), "{}", skips(&lab, "run"));
    for number in [0, 2] {
        std::fs::write(lab.path(&format!("shards/{number}.tar")), b"no tar either".repeat(100)).unwrap();
    }
    lab.fails(&arguments("shards", "none"), 1, &["no samples", "shards or folders cannot be read"]);
}

#[test]
fn a_split_whose_shards_are_noise_is_said_to_be_damaged_and_none_of_it_is_printed() {
    let lab = Lab::new();
    shard(&lab, "shards/train/0.tar", 0, 8);
    std::fs::create_dir_all(lab.path("shards/test")).unwrap();
    let noise: Vec<u8> = (0..8_192u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(lab.path("shards/test/0.tar"), &noise).unwrap();
    for of in [&["--index", "never"][..], &["--index", "always"]] {
        let mut train = arguments("shards", "run");
        train.extend(["--set", "data.source.split=test"]);
        train.extend(of);
        lab.fails(&train, 1, &["in split `test` can be read", "test/0.tar", "no header of a member", "`train`"]);
        let said = lab.roclip(&train).stderr;
        assert!(said.is_ascii() && said.len() < 2_000, "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn endless_files_are_refused_or_skipped_at_once() {
    let lab = Lab::new();
    assert!(Command::new("mkfifo").arg(lab.path("pipe.png")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", lab.path("linked.png")).unwrap();
    let mut csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    for image in ["pipe.png", "linked.png", "/dev/zero", "/proc/kmsg", "../../etc/passwd"] {
        csv += &format!("{image},never read,train,red\n");
    }
    std::fs::write(lab.path("odd.csv"), csv).unwrap();
    let mut train = arguments("odd.csv", "run");
    train.extend(["--set", "data.max_skip_fraction=0.2"]);
    lab.ok(&train);
    let skips = skips(&lab, "run");
    let count = |reason: &str| skips.lines().filter(|line| line.contains(reason)).count();
    assert_eq!((count("image-not-regular-file"), count("image-outside-folder")), (2, 3), "{skips}");
    for endless in ["pipe.png", "/dev/zero", "/dev/stdin", "/proc/kmsg"] {
        lab.fails(&["train", "--config", endless, "--run", "other"], 1, &[endless]);
        let labels = format!("data.source.labels=\"{endless}\"");
        let mut train = arguments("pairs.csv", "other");
        train.extend(["--set", &labels]);
        lab.fails(&train, 1, &[endless]);
    }
}

#[test]
fn losses_stop_the_run_before_it_starts_unless_they_are_allowed() {
    let lab = Lab::new();
    let mut csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    csv.push_str(&"absent.png,\n".repeat(500));
    for number in 0..20 {
        csv += &format!("absent_{number}.png,a text,train,red\n");
    }
    std::fs::write(lab.path("bad.csv"), csv).unwrap();
    lab.fails(&arguments("bad.csv", "run"), 1, &["520 of 584 samples", "max_skip_fraction", "absent_0.png"]);
    assert!(!lab.path("run").exists());
    let mut allowed = arguments("bad.csv", "run");
    allowed.extend(["--set", "data.max_skip_fraction=0.9"]);
    lab.ok(&allowed);
    assert_eq!(skips(&lab, "run").lines().count(), 520);
}

#[test]
fn a_picture_that_was_changed_is_other_data() {
    let lab = Lab::new();
    lab.ok(&["poison", "make", "--config", "recipe.toml", "--out", "manifest.jsonl"]);
    let change = |name: &str| {
        let path = lab.path(name);
        let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([1, 2, 3]));
        picture.save(Path::new(&path)).unwrap();
    };
    change("040.png");
    lab.fails(
        &["train", "--config", "recipe.toml", "--run", "run", "--manifest", "manifest.jsonl"],
        1,
        &["made for other data"],
    );
}
