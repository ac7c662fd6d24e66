//! The command that a report calls "Again" makes the run again, whatever the run did.

use crate::support::{Lab, checkpoint};

/// Reports on `runs`, gives each the command that the page has for it, and compares what it makes with the run.
pub fn made_again(lab: &Lab, runs: &[&str]) {
    lab.ok(&[&["report"], runs, &["--out", "of-again"]].concat());
    let page = std::fs::read_to_string(lab.path("of-again/report.html")).unwrap();
    for run in runs {
        let end = format!(" --config {run}/run.toml --run {run}-again</code>");
        let before = page.split(&end).next().filter(|before| before.len() < page.len()).expect(run);
        let command = before.rsplit("<code>").next().unwrap();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let rest = ["--config", &format!("{run}/run.toml"), "--run", &format!("{run}-again")];
        lab.ok(&[&words[..], &rest].concat());
        let recipe = |run: &str| std::fs::read_to_string(lab.path(run).join("run.toml")).unwrap();
        assert_eq!(recipe(run), recipe(&format!("{run}-again")), "{command}");
        let (own, again) = (checkpoint(&lab.path(run)), checkpoint(&lab.path(&format!("{run}-again"))));
        assert!(own == again, "`{command}` of {run} made something else");
    }
}

#[test]
fn what_was_trained_cleaned_distilled_or_captioned_is_made_again() {
    let lab = crate::caption::lab();
    let quick = ["--epochs", "1", "--batch-size", "8"];
    lab.train("defended", &quick);
    lab.train("victim", &[&["--preset", "clip"], &quick[..]].concat());
    lab.ok(&[&["clean", "victim", "--method", "finetune", "--pairs", "16", "--run", "cleaned"], &quick[..]].concat());
    let attack = "poison.attacks=[{name='badnets',badnets={patch_pixels=6},target='white',count=3}]";
    let labels = ["--objective", "classifier", "--set", "augment.text=", "--set", attack, "--set", "eval.probe="];
    lab.train("teacher", &[&labels[..], &quick].concat());
    lab.ok(&[&["distil", "teacher", "--run", "student"], &quick[..]].concat());
    lab.ok(&["caption", "train", "--config", "caption.toml", "--run", "captioner", "--epochs", "1"]);
    let asks_for_a_student = |runs: &[&str]| {
        let said = lab.ok(&[&["report"], runs, &["--out", "report"]].concat());
        said.contains("roclip distil teacher --run teacher-student")
    };
    assert!(
        asks_for_a_student(&["teacher"]) && !asks_for_a_student(&["teacher", "student"]),
        "nothing is asked for twice"
    );
    let sweep = ["train", "--config", "recipe.toml", "--sweep", "train.epochs=1", "--run", "sweep"];
    let said = lab.stderr(&[&sweep[..], &labels].concat());
    assert!(said.contains("epochs-1: accuracy ") && !said.contains("zero-shot"), "{said}");
    made_again(&lab, &["defended", "victim", "cleaned", "teacher", "student", "captioner"]);
}
