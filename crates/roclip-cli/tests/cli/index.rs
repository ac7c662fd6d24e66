//! Large data: runs through an index are the runs without one, and hold less.

use crate::support::{Lab, checkpoint};
use serde_json::Value;
use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

/// Rows of a list whose pictures are all one file, under a name each.
fn large_list(lab: &Lab, rows: usize) {
    // Links in a path make as many names of one file as are wanted.
    for digit in 0..10 {
        symlink(".", lab.path(&digit.to_string())).unwrap();
    }
    let mut text = String::from("image,caption\n");
    for number in 0..rows {
        let digits: String = format!("{number:06}").chars().flat_map(|digit| [digit, '/']).collect();
        writeln!(text, "{digits}{:03}.png,a picture of a red square number {number} of many", number % 48).unwrap();
    }
    std::fs::write(lab.path("large.csv"), text).unwrap();
}

fn indexes(lab: &Lab) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(lab.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".roclip-")).collect()
}

#[test]
fn a_run_through_an_index_is_the_run_without_one() {
    let lab = Lab::new();
    std::fs::write(lab.path("005.png"), "not a picture").unwrap();
    lab.objective("roclip", "period = 2, pool_size = 24", 4);
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    std::fs::write(lab.path("recipe.toml"), text.replace("workers = 1", "workers = 1\nmax_skip_fraction = 0.5"))
        .unwrap();
    lab.train("memory", &["--index", "never"]);
    assert!(indexes(&lab).is_empty());
    lab.train("indexed", &["--index", "always"]);
    let [index] = indexes(&lab).try_into().unwrap();
    lab.train("named", &["--index", index.to_str().unwrap(), "--workers", "8"]);
    for run in ["indexed", "named"] {
        for ((name, a), (_, b)) in checkpoint(&lab.path("memory")).iter().zip(&checkpoint(&lab.path(run))) {
            assert!(a == b, "{name} differs in {run}");
        }
        assert_eq!(lab.epochs("memory"), lab.epochs(run));
        for file in ["manifest.jsonl", "skips.jsonl"] {
            let read = |run: &str| std::fs::read_to_string(lab.path(run).join(file)).unwrap();
            assert_eq!(read("memory"), read(run), "{file} of {run}");
        }
    }
    // A run goes on with an index that it began without, and the other way round.
    lab.cut_short("part", 9);
    lab.ok(&["train", "--run", "part", "--resume", "--index", "always"]);
    assert_eq!(lab.epochs("memory"), lab.epochs("part"));
}

#[test]
fn a_list_of_many_rows_is_indexed_on_its_own_and_takes_little_memory() {
    let lab = Lab::new();
    large_list(&lab, 130_000);
    let made = lab.json(&["data", "index", "--train-data", "large.csv"]);
    assert_eq!((&made["pictures"], &made["captions"]), (&130_000.into(), &130_000.into()));
    let train = |index: &str| {
        let mut command = lab.command(&[
            "train",
            "--train-data",
            "large.csv",
            "--val-data",
            "none",
            "--model",
            "model.json",
            "--batch-size",
            "8",
            "--set",
            "model.compact_vocabulary=false",
            "--index",
            index,
            "--dry-run",
            "--run",
            "none",
        ]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut peak_kib = 0u64;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak_kib =
                peak_kib.max(peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success());
        peak_kib * 1024
    };
    let (memory, indexed) = (train("never"), train("auto"));
    assert!(memory > indexed + 130_000 * 300, "{memory} and {indexed} bytes");
}

#[test]
fn an_index_that_is_killed_leaves_nothing_that_is_believed() {
    let lab = Lab::new();
    large_list(&lab, 40_000);
    let index = ["data", "index", "--train-data", "large.csv"];
    let mut cut_short = 0;
    for milliseconds in [150, 400, 700] {
        let mut child = lab.command(&index).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let whole: Vec<_> =
            indexes(&lab).into_iter().filter(|path| path.extension().is_some_and(|e| e == "index")).collect();
        cut_short += usize::from(whole.is_empty());
        whole.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    assert!(cut_short > 0, "no kill came in time");
    lab.ok(&index);
    assert_eq!(indexes(&lab).len(), 1, "what was left of the killed ones is removed: {:?}", indexes(&lab));
    lab.ok(&[&index[..], &["--check"]].concat());
    std::fs::copy(lab.path("007.png"), lab.path("008.png")).unwrap();
    lab.fails(&[&index[..], &["--check"]].concat(), 1, &["pictures are not what was listed"]);
    // Lists are known by size and time.
    let mut text = std::fs::read_to_string(lab.path("large.csv")).unwrap();
    text.push_str("001.png,one more\n");
    std::fs::write(lab.path("large.csv"), text).unwrap();
    lab.fails(&[&index[..], &["--check"]].concat(), 1, &["large.csv", "not true any more"]);
}

#[test]
fn messages_of_an_index_name_the_flags_of_the_command_and_small_ones_have_a_size() {
    let lab = Lab::new();
    let index = ["data", "index", "--config", "recipe.toml", "--out", "s.index"];
    let made = lab.ok(&index);
    assert!(
        made.contains("48 pictures with 48 captions") && made.contains(" KiB") && !made.contains(" 0.0 "),
        "{made}"
    );
    std::fs::write(lab.path("one.csv"), "image,caption\n000.png,a red square\n").unwrap();
    let one = lab.ok(&["data", "index", "one.csv", "--out", "one.index"]);
    assert!(one.contains("1 picture with 1 caption, "), "{one}");
    let other = ["data", "index", "one.csv", "--out", "s.index", "--check"];
    lab.fails(&other, 1, &["other data", "with --out"]);
    assert!(!String::from_utf8(lab.roclip(&other).stderr).unwrap().contains("--index"));
    std::fs::copy(lab.path("001.png"), lab.path("000.png")).unwrap();
    let said =
        String::from_utf8(lab.roclip(&["data", "index", "one.csv", "--out", "one.index", "--check"]).stderr).unwrap();
    assert!(said.contains("1 of 1 picture is not what was listed"), "{said}");
    let text = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::write(lab.path("pairs.csv"), format!("{text}001.png,one more,train,green\n")).unwrap();
    lab.fails(&[&index[..], &["--check"]].concat(), 1, &["not true any more", "--overwrite instead of --check"]);
    let train = ["train", "--config", "recipe.toml", "--run", "run", "--index", "s.index"];
    lab.fails(&train, 1, &["`roclip data index --out s.index --overwrite`", "leave --index out"]);
}

#[test]
fn data_in_a_folder_that_cannot_be_written_in_has_its_index_in_the_cache_folder() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let mode = |bits| std::fs::set_permissions(lab.folder.path(), std::fs::Permissions::from_mode(bits)).unwrap();
    let cache = tempfile::tempdir().unwrap();
    mode(0o555);
    let is_obeyed = std::fs::write(lab.path("probe"), "").is_err();
    let mut command = lab.command(&["data", "index", "--train-data", "pairs.csv", "--json"]);
    let made = command.env("XDG_CACHE_HOME", cache.path()).output().unwrap();
    mode(0o755);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    // Root may write anywhere.
    let expected = if is_obeyed { cache.path().join("roclip") } else { lab.folder.path().canonicalize().unwrap() };
    assert!(made["index"].as_str().unwrap().starts_with(expected.to_str().unwrap()), "{made}");
}
