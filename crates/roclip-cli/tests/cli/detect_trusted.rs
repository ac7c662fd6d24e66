//! `roclip detect pairs` beside pairs that are known to be clean.

use crate::support::Lab;
use serde_json::Value;

#[test]
fn trusted_pairs_are_counted_named_and_none_of_those_that_are_looked_at() {
    let lab = Lab::new();
    lab.train("model", &["--preset", "clip", "--epochs", "1"]);
    let look = |trusted: &str, out: &str| {
        let typed = format!("detect pairs model --neighbours 4 --level 0.05 --trusted-data {trusted} --out {out}");
        let output = lab.roclip(&typed.split(' ').collect::<Vec<_>>());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let summary = std::fs::read_to_string(lab.path(out).join("detect.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        (text(&output.stdout), text(&output.stderr), summary)
    };
    // All splits of a file hold the ones that are looked at, too.
    let (said, warned, summary) = look("pairs.csv", "all");
    let at = &summary["looked_at"];
    assert!(at["train_data"].as_str().unwrap().ends_with("pairs.csv"), "{at}");
    assert_eq!((&at["trusted"]["path"], &at["trusted"]["pairs"]), (&"pairs.csv".into(), &64.into()));
    let both = at["trusted"]["also_looked_at"].as_u64().unwrap();
    assert!((48..=64).contains(&both), "{at}");
    let words = format!("{both} pictures of --trusted-data are among those that are looked at, too");
    assert!(
        warned.contains(&words) && said.contains("pairs, beside 64 trusted pairs of `pairs.csv`"),
        "{warned}{said}"
    );

    let pairs = std::fs::read_to_string(lab.path("pairs.csv")).unwrap();
    // Pictures of the training split under other names are found, and its captions say nothing.
    let mut renamed = String::from("image,caption\n");
    for number in 0..20 {
        let name = format!("again-{number}.png");
        std::fs::copy(lab.path(&format!("{number:03}.png")), lab.path(&name)).unwrap();
        renamed += &format!("{name},another caption\n");
    }
    std::fs::write(lab.path("renamed.csv"), renamed).unwrap();
    assert_eq!(look("renamed.csv", "renamed").2["looked_at"]["trusted"]["also_looked_at"], 20);

    // What was held out is none of them; where nothing is found, who looked is why.
    let held_out: String =
        pairs.lines().filter(|line| !line.contains(",train,")).map(|line| format!("{line}\n")).collect();
    let more: String = (0..4).map(|at| format!("new-{at}.png,a thing,test,red\n")).collect();
    for at in 0..4u8 {
        let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([at * 50, x as u8 * 3, y as u8 * 2]));
        picture.save(lab.path(&format!("new-{at}.png"))).unwrap();
    }
    std::fs::write(lab.path("new.csv"), held_out + &more).unwrap();
    let (said, warned, summary) = look("new.csv", "held-out");
    assert_eq!(summary["looked_at"]["trusted"]["pairs"], 20);
    let nothing = summary["dropped"]["pairs"] == 0;
    assert_eq!(
        warned.contains("the model was trained on these pairs and not on the trusted ones"),
        nothing,
        "{warned}"
    );
    assert_eq!(said.contains("trusted: beside 20 trusted pairs no pair reaches --level"), nothing, "{said}");
    assert_eq!(said.contains("of 20 trusted pairs are as suspicious as what is left out"), !nothing, "{said}");
}
