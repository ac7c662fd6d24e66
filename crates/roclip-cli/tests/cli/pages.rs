//! README tells the truth: it is short, its links lead somewhere, and its commands work as they stand.

use crate::support::Lab;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../../../README.md");

/// Lines of the code blocks that begin with `roclip`, without what is said about them.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("roclip "));
    lines.map(|line| line.split("  #").next().unwrap_or(line).trim()).collect()
}

/// `shards/` as img2dataset leaves them, `labelled/`, and two other labelled sets, made of the laboratory's pictures.
fn own_data(lab: &Lab) {
    let csv = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    std::fs::create_dir(lab.path("shards")).unwrap();
    let mut shards: Vec<tar::Builder<std::fs::File>> = (0..2)
        .map(|n| tar::Builder::new(std::fs::File::create(lab.path(&format!("shards/{n:05}.tar"))).unwrap()))
        .collect();
    for (number, line) in csv.lines().skip(1).enumerate() {
        let (name, rest) = line.split_once(',').unwrap();
        let (caption, rest) = rest.rsplit_once(",train,").or(rest.rsplit_once(",test,")).unwrap();
        let picture = std::fs::read(lab.path(name)).unwrap();
        if number < 48 {
            for (ending, bytes) in [("png", picture.as_slice()), ("txt", caption.trim_matches('"').as_bytes())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                shards[number / 24].append_data(&mut header, format!("{number:09}.{ending}"), bytes).unwrap();
            }
            continue;
        }
        for set in ["labelled", "caltech101/test", "flowers5/test"] {
            let folder = lab.path(&format!("{set}/{rest}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), &picture).unwrap();
        }
    }
    shards.into_iter().for_each(|mut shard| shard.finish().unwrap());
}

fn shell(lab: &Lab, line: &str) {
    let folder = Path::new(env!("CARGO_BIN_EXE_roclip")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-c", line]).env("PATH", path).current_dir(lab.folder.path()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_commands_of_the_readme_work_as_they_stand() {
    let lab = Lab::new();
    own_data(&lab);
    let commands = commands();
    for word in ["init", "train", "eval", "doctor", "report", "export"] {
        assert!(commands.iter().any(|line| line.starts_with(&format!("roclip {word}"))), "{word}: {commands:?}");
    }
    for line in commands {
        shell(&lab, line);
        if line.contains("roclip init") {
            // One epoch is enough to see that they work.
            let recipe = std::fs::read_to_string(lab.path("mine.toml")).unwrap();
            let epochs = recipe.lines().find(|line| line.starts_with("epochs = ")).unwrap();
            std::fs::write(lab.path("mine.toml"), recipe.replacen(epochs, "epochs = 1", 1)).unwrap();
        }
    }
    assert!(lab.path("runs/report/report.html").is_file());
}

#[test]
fn commands_within_sentences_are_understood() {
    let lab = Lab::new();
    let spans = README.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2));
    let mut count = 0;
    for span in spans.filter(|span| span.starts_with("roclip ") && span.split(' ').count() > 1) {
        let mut arguments: Vec<&str> = span.split_whitespace().skip(1).collect();
        arguments.push("--help");
        lab.ok(&arguments);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    assert!(README.lines().count() <= 110, "{} lines", README.lines().count());
    for (number, line) in (1..).zip(README.lines()) {
        assert!(line.chars().count() <= 110, "line {number}: {line}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for page in pages(&root) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            if !file.is_empty() && !file.contains("://") {
                assert!(page.parent().unwrap().join(file).exists(), "{}: {link}", page.display());
            }
        }
    }
}

/// Every page of the project.
fn pages(root: &Path) -> Vec<std::path::PathBuf> {
    let folders = ["", "docs", "docs/results", "bench"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let found: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    assert!(found.len() > 15, "{found:?}");
    found
}
