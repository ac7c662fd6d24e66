//! Runs that were trained without what a list of one's own names.

use crate::support::Lab;
use serde_json::Value;

fn read(lab: &Lab, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(lab.path(file)).unwrap()).unwrap()
}

/// A list that was joined by hand has no `detect.json` beside it, and takes the poison all the same.
#[test]
fn a_run_whose_poison_a_list_of_ones_own_takes_is_a_defence_and_no_control() {
    let lab = Lab::new();
    let short = ["--preset", "clip", "--epochs", "1"];
    lab.train("undefended", &short);
    let manifest = std::fs::read_to_string(lab.path("undefended/manifest.jsonl")).unwrap();
    let rows = manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids: Vec<String> = rows.filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect();
    assert_eq!(ids.len(), 9, "six targeted pairs and three backdoored ones: {ids:?}");
    std::fs::write(lab.path("both.txt"), ids.join("\n")).unwrap();
    std::fs::write(lab.path("one.txt"), format!("{}\n", ids[0])).unwrap();
    let train = |run: &'static str, list: &'static str| {
        let given = ["train", "--config", "recipe.toml", "--run", run, "--drop", list];
        lab.stderr(&[&given[..], &short].concat())
    };
    let said = train("without", "both.txt");
    let line = "all 9 poisoned pairs are left out by data.drop (--drop): the model never meets the attack";
    assert!(said.contains(line) && !said.contains("poison was asked for"), "{said}");
    assert!(!train("partly", "one.txt").contains("the model never meets"));
    let summaries = ["without", "partly"].map(|run| read(&lab, &format!("{run}/summary.json")));
    let counted = summaries.map(|summary| (summary["poisoned_pairs"].clone(), summary["poison_left_out"].clone()));
    assert_eq!(counted, [(0.into(), 9.into()), (8.into(), 1.into())]);

    let said = lab.ok(&["report", "undefended", "without", "partly", "--out", "report"]);
    let rows = read(&lab, "report/results.json");
    let of = |run: &str| rows.as_array().unwrap().iter().find(|row| row["run"] == run).unwrap().clone();
    assert_eq!(
        (&of("undefended")["control"], &of("undefended")["name"]),
        (&"undefended".into(), &"CLIP, undefended".into())
    );
    for (run, list) in [("without", "both.txt"), ("partly", "one.txt")] {
        let (control, name) = (of(run)["control"].clone(), of(run)["name"].clone());
        assert_eq!((control, name), (Value::Null, format!("CLIP, pairs left out ({list})").into()), "{said}");
    }
    assert!(!said.contains("CLIP on clean data"), "{said}");

    // A doctor blames no attack that was not there.
    let findings = lab.json(&["doctor", "without"]).to_string();
    let words = "all its 3 poisoned pairs are left out by data.drop, so that the model was not trained on it";
    assert!(findings.contains(words) && !findings.contains("the attack did not take"), "{findings}");
}
