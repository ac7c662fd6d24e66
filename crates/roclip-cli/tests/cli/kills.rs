//! Runs that are killed at moments nobody chose.

use crate::support::{Lab, checkpoint};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// `scripts/kill_and_resume.sh OBJECTIVE KILLS`: runs with two unreadable pictures that save after every step are killed at random moments
/// and resumed until they are done, and then compared with the run that was left alone.
#[test]
#[ignore = "takes minutes; scripts/kill_and_resume.sh runs it"]
fn runs_killed_at_random_moments_end_as_the_one_that_was_left_alone() {
    let variable = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let (objective, kills) = (variable("ROCLIP_OBJECTIVE", "clip"), variable("ROCLIP_KILLS", "5"));
    let kills: usize = kills.parse().expect("ROCLIP_KILLS is a number");
    let lab = Lab::new();
    let cleaning = objective == "clean";
    match objective.as_str() {
        "clip" | "clean" => {}
        "roclip" => lab.objective("roclip", "period = 2, pool_size = 24", 6),
        "safeclip" => lab.objective("safeclip", "unimodal_epochs = 1, pool_size = 24", 6),
        other => panic!("{other}: choose clip, roclip, safeclip or clean"),
    }
    for number in [5, 17] {
        std::fs::write(lab.path(&format!("{number:03}.png")), "not a picture").unwrap();
    }
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let mut text = text.replace("workers = 1", "workers = 1\nmax_skip_fraction = 1.0");
    if matches!(objective.as_str(), "clip" | "clean") {
        text = text.replace("name = \"roclip\"", "name = \"clip\"");
        text = text.replace("epochs = 4\nbatch", "epochs = 6\nsave_every_steps = 1\nbatch");
    }
    std::fs::write(lab.path("recipe.toml"), text).unwrap();
    if cleaning {
        lab.train("victim", &["--epochs", "1"]);
    }
    let begin = |run: &str| -> Vec<String> {
        let words = match cleaning {
            true => vec!["clean", "victim", "--config", "recipe.toml", "--epochs", "4", "--run", run],
            false => vec!["train", "--config", "recipe.toml", "--run", run],
        };
        words.into_iter().map(str::to_owned).collect()
    };
    let verb = if cleaning { "clean" } else { "train" };
    let whole = Instant::now();
    lab.ok(&begin("whole").iter().map(String::as_str).collect::<Vec<_>>());
    let whole = whole.elapsed();
    let mut random = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() | 1;
    let (mut killed, mut equal, mut chain) = (0, 0, 0);
    while killed < kills {
        chain += 1;
        let run = format!("run{chain}");
        let mut in_chain = 0;
        let mut arguments = begin(&run);
        loop {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut child = lab.command(&words).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let moment = whole.mul_f64(f64::from(random % 1000) / 1250.0);
            let enough = killed + in_chain >= kills;
            let begun = Instant::now();
            let ended = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break Some(status),
                    None if !enough && begun.elapsed() > moment => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if let Some(status) = ended {
                assert!(status.success(), "{words:?} failed after {in_chain} kills");
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            in_chain += 1;
            if lab.path(&run).join("run.toml").is_file() {
                arguments = vec![verb.into(), "--run".into(), run.clone(), "--resume".into()];
            }
        }
        killed += in_chain;
        let same = checkpoint(&lab.path("whole")) == checkpoint(&lab.path(&run))
            && lab.epochs("whole") == lab.epochs(&run)
            && std::fs::read(lab.path("whole/skips.jsonl")).unwrap()
                == std::fs::read(lab.path(&run).join("skips.jsonl")).unwrap();
        equal += if same { in_chain } else { 0 };
        std::fs::remove_dir_all(lab.path(&run)).unwrap();
    }
    println!("{objective}: {equal} of {killed} resumed bit-equal");
    assert_eq!(equal, killed);
}
