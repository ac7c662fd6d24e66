//! The report page.

use crate::error::Result;
use crate::report::chart::{Chart, Series, escape, histogram};
use crate::report::pictures::{self, Figure, Gallery};
use crate::report::results::{EpochRecord, Hits, ResultRow, RunRecord, Scores};
use crate::report::safe_set;
use crate::report::seeds::{Spread, by_label, pool};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The whole page for runs sorted by row and seed.
pub fn page(runs: &[RunRecord]) -> Result<String> {
    let gallery = match runs.iter().find(|r| r.summary.poisoned_pairs > 0) {
        Some(run) => pictures::gallery(&run.recipe_as_run())?,
        None => Gallery::default(),
    };
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>roclip report</title>",
    );
    let _ = write!(html, "<style>{STYLE}</style><h1>Who got fooled</h1>{}", lead(runs));
    html += &table(runs);
    html += &cost(runs);
    html += &curves(runs);
    html += &frontier(runs);
    html += &neighbours(runs);
    html += &safe_set::section(runs);
    html += &histograms(runs);
    html += &matches(runs, &gallery);
    html += &pictures_section(&gallery);
    Ok(html + "</html>\n")
}

fn lead(runs: &[RunRecord]) -> String {
    let seeds: BTreeSet<u64> = runs.iter().map(|r| r.row.seed).collect();
    let Some(first) = runs.iter().max_by_key(|r| r.summary.poisoned_pairs) else { return String::new() };
    format!(
        "<p class=\"lead\">{} runs, seeds {}. {} pairs, {} of them poisoned ({:.2} %), {} epochs at batch {}, model {}. The poisoned models are for measuring defences only.</p>",
        runs.len(),
        seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        first.summary.pairs,
        first.summary.poisoned_pairs,
        100.0 * first.summary.poisoned_pairs as f64 / first.summary.pairs.max(1) as f64,
        first.recipe.train.epochs,
        first.recipe.train.batch_size,
        escape(&first.recipe.model.name),
    )
}

/// Runs of one row, in the order of the table.
fn groups(runs: &[RunRecord]) -> Vec<(String, Vec<&RunRecord>)> {
    by_label(runs, |run| run.row.label())
}

fn class(index: usize) -> String {
    format!("c{}", index.min(3))
}

/// Mean, and the range over seeds where there are several.
fn mean(values: &[f64]) -> String {
    let Some(Spread { mean, low, high }) = Spread::of(values) else { return "–".into() };
    match values.len() {
        1 => format!("{:.1} %", 100.0 * mean),
        _ => format!("{:.1} %<small>{:.1} – {:.1}</small>", 100.0 * mean, 100.0 * low, 100.0 * high),
    }
}

/// Pooled counts with their Wilson interval.
fn pooled(hits: &[Hits]) -> String {
    let Some(rate) = pool(hits) else { return "–".into() };
    format!(
        "{:.1} %<small>{}/{} [{:.1}, {:.1}]</small>",
        100.0 * rate.rate,
        rate.hits,
        rate.n,
        100.0 * rate.low,
        100.0 * rate.high
    )
}

fn attacks(runs: &[RunRecord]) -> Vec<String> {
    let names: BTreeSet<String> = runs.iter().flat_map(|r| r.row.last.asr.keys().cloned()).collect();
    names.into_iter().collect()
}

fn table(runs: &[RunRecord]) -> String {
    let attacks = attacks(runs);
    // Where the test classes are of about one size the two measures say the same.
    let unequal = |scores: &Scores| (scores.mean_per_class_recall - scores.zero_shot_top1).abs() > 0.02;
    let per_class = runs.iter().any(|r| unequal(&r.row.last));
    let recall = |cell: &str| if per_class { cell.to_owned() } else { String::new() };
    let mut html = format!(
        "<h2>The table</h2><table><tr><th>row</th><th>zero-shot top-1</th><th>top-5</th>{0}<th>linear probe</th>{0}<th>PSR</th>",
        recall("<th>per class</th>")
    );
    for attack in &attacks {
        let _ = write!(html, "<th>ASR {0}</th><th>true class, {0}</th>", escape(attack));
    }
    html += "<th>seconds</th><th>peak MiB</th></tr>";
    let mut row = |label: String, members: &[&RunRecord], pick: &dyn Fn(&RunRecord) -> Option<Scores>| {
        let scores: Vec<Scores> = members.iter().filter_map(|r| pick(r)).collect();
        let last = label.len() == members.first().map_or(0, |r| r.row.label().len());
        let of = |f: &dyn Fn(&Scores) -> f64| mean(&scores.iter().map(f).collect::<Vec<_>>());
        let probe = |f: fn(&RunRecord) -> Option<f64>| {
            mean(&members.iter().filter(|_| last).filter_map(|r| f(r)).collect::<Vec<_>>())
        };
        let _ = write!(
            html,
            "<tr><td>{label}</td><td>{}</td><td>{}</td>{}<td>{}</td>{}",
            of(&|s| s.zero_shot_top1),
            of(&|s| s.zero_shot_top5),
            recall(&format!("<td>{}</td>", of(&|s| s.mean_per_class_recall))),
            probe(|r| r.row.linear_probe),
            recall(&format!("<td>{}</td>", probe(|r| r.row.linear_probe_mean_per_class_recall)))
        );
        let _ = write!(html, "<td>{}</td>", pooled(&scores.iter().filter_map(|s| s.psr).collect::<Vec<_>>()));
        for attack in &attacks {
            let count = |of: fn(&Scores) -> &BTreeMap<String, Hits>| -> Vec<Hits> {
                scores.iter().filter_map(|s| of(s).get(attack).copied()).collect()
            };
            let chance: String =
                [("without the trigger", count(|s| &s.asr_base_rate)), ("turned", count(|s| &s.asr_turned))]
                    .into_iter()
                    .filter_map(|(name, hits)| {
                        Some(format!("<small>{name} {:.1} %</small>", 100.0 * pool(&hits)?.rate))
                    })
                    .collect();
            let kept: Vec<f64> = scores.iter().filter_map(|s| s.poisoned_accuracy.get(attack).copied()).collect();
            let _ = write!(html, "<td>{}{chance}</td><td>{}</td>", pooled(&count(|s| &s.asr)), mean(&kept));
        }
        let seconds = members.iter().map(|r| r.row.seconds).sum::<f64>() / members.len().max(1) as f64;
        let memory = members.iter().map(|r| r.row.peak_memory_bytes).max().unwrap_or(0) >> 20;
        let _ = if last {
            write!(html, "<td>{seconds:.0}</td><td>{memory}</td></tr>")
        } else {
            write!(html, "<td></td><td></td></tr>")
        };
    };
    for (label, members) in groups(runs) {
        row(label.clone(), &members, &|r| Some(r.row.last.clone()));
        if members.iter().any(|r| r.row.after.contains_key("matching")) {
            for phase in ["clip", "matching"] {
                row(format!("<span class=\"note\">&nbsp;&nbsp;after its last {phase} epoch</span>"), &members, &|r| {
                    r.row.after.get(phase).cloned()
                });
            }
        }
    }
    let clean_data =
        "Clean data is measured against the same poison without having been trained on it: what happens by chance.";
    let what = "Per class: recall averaged over classes, the fair measure here, where some have many more test images than others. ";
    let _ = write!(
        html,
        "</table><p class=\"note\">PSR: targeted images read as the attacker's class. ASR: triggered images whose true class is not the target, read as the target; \
         without the trigger: the same images, by chance; turned: of those read otherwise without it, the ones read as the target with it. \
         {}Several seeds: means with the range, and for PSR and ASR pooled counts with the 95 % Wilson interval. Targeted images are left out of the accuracies. \
         {}</p>",
        recall(what),
        if runs.iter().any(|r| r.row.is_control("clean-data")) { clean_data } else { "" }
    );
    html
}

fn average(members: &[&RunRecord], f: impl Fn(&RunRecord) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = members.iter().filter_map(|r| f(r)).collect();
    Spread::of(&values).map(|spread| spread.mean)
}

/// What a defence costs against augmentation alone and against no defence.
fn cost(runs: &[RunRecord]) -> String {
    let groups = groups(runs);
    let find =
        |wanted: &dyn Fn(&ResultRow) -> bool| groups.iter().find(|(_, m)| m.first().is_some_and(|r| wanted(&r.row)));
    let mut html = String::from("<h2>What the defence costs</h2>");
    let Some((label, defended)) = find(&|row| row.control.is_none()) else {
        return html + "<p>No defence among these runs.</p>";
    };
    for (control, name) in [
        ("undefended", "undefended CLIP"),
        ("augmentation-only", "augmentation alone"),
        ("clean-data", "CLIP on clean data"),
    ] {
        let Some((_, other)) = find(&|row| row.is_control(control)) else { continue };
        let zero_shot = |members: &[&RunRecord]| average(members, |r| Some(r.row.last.zero_shot_top1));
        let probe = |members: &[&RunRecord]| average(members, |r| r.row.linear_probe);
        if let (Some(a), Some(b)) = (zero_shot(defended), zero_shot(other)) {
            let _ = write!(html, "<p>{} against {name}: zero-shot {:+.1} points", escape(label), 100.0 * (a - b));
            if let (Some(a), Some(b)) = (probe(defended), probe(other)) {
                let _ = write!(html, ", linear probe {:+.1} points", 100.0 * (a - b));
            }
            html += ".</p>";
        }
    }
    html + "<p class=\"note\">Augmentation alone removes some triggers and raises accuracy by itself; stopping it early is a defence of its own. Read the frontier below before crediting the pool.</p>"
}

fn first_of_each(runs: &[RunRecord]) -> Vec<(usize, String, &RunRecord)> {
    groups(runs)
        .into_iter()
        .enumerate()
        .filter_map(|(at, (label, members))| Some((at, label, *members.first()?)))
        .collect()
}

fn legend(runs: &[RunRecord]) -> String {
    let keys = first_of_each(runs)
        .into_iter()
        .map(|(at, label, _)| format!("<span class=\"key {}\"></span>{}", class(at), escape(&label)));
    format!("<p>{}</p>", keys.collect::<String>())
}

fn series(runs: &[RunRecord], value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<Series> {
    let lines = first_of_each(runs).into_iter().map(|(at, label, run)| {
        let points = run.epochs.iter().zip(1..).filter_map(|(epoch, n)| Some((f64::from(n), value(epoch)?))).collect();
        Series { name: label, class: class(at), points }
    });
    lines.filter(|s: &Series| !s.points.is_empty()).collect()
}

fn psr(scores: &Scores) -> Option<f64> {
    scores.psr.map(|h| 100.0 * h.hits as f64 / h.n.max(1) as f64)
}

fn curves(runs: &[RunRecord]) -> String {
    let matching: BTreeSet<u32> = runs
        .iter()
        .flat_map(|r| r.epochs.iter().zip(1..))
        .filter(|(e, _)| e.phase == "matching")
        .map(|(_, n)| n)
        .collect();
    let bands: Vec<f64> = matching.into_iter().map(f64::from).collect();
    let draw = |title: &str, y_label: &str, y_max: Option<f64>, lines: Vec<Series>| {
        Chart { title, x_label: "epoch", y_label, series: &lines, y_max, bands: &bands, dots: false }.svg()
    };
    let mut html =
        String::from("<h2>Curves</h2><p class=\"note\">First seed. Shaded: matching epochs of the defended run.</p>")
            + &legend(runs)
            + "<div class=\"grid2\">";
    html += &draw("Training loss", "loss", None, series(runs, |e| Some(e.loss)));
    html += &draw("Zero-shot top-1", "%", None, series(runs, |e| Some(100.0 * e.scores.as_ref()?.zero_shot_top1)));
    html += &draw("Poisoned targets fooled (PSR)", "%", Some(100.0), series(runs, |e| psr(e.scores.as_ref()?)));
    for attack in attacks(runs) {
        let lines =
            series(runs, |e| e.scores.as_ref()?.asr.get(&attack).map(|h| 100.0 * h.hits as f64 / h.n.max(1) as f64));
        html += &draw(&format!("Backdoor success (ASR {attack})"), "%", Some(100.0), lines);
    }
    html + "</div>"
}

fn frontier(runs: &[RunRecord]) -> String {
    let mut lines = Vec::new();
    for (at, (label, members)) in groups(runs).into_iter().enumerate() {
        for run in members {
            let points: Vec<(f64, f64)> = run
                .epochs
                .iter()
                .filter_map(|e| e.scores.as_ref())
                .filter_map(|s| Some((100.0 * s.zero_shot_top1, psr(s)?)))
                .collect();
            if !points.is_empty() {
                lines.push(Series { name: format!("{label}, seed {}", run.row.seed), class: class(at), points });
            }
        }
    }
    let chart = Chart {
        title: "PSR against zero-shot, every epoch, every seed",
        x_label: "zero-shot top-1, %",
        y_label: "PSR, %",
        series: &lines,
        y_max: Some(100.0),
        bands: &[],
        dots: true,
    };
    format!(
        "<h2>The frontier</h2>{}<p class=\"note\">Lower right is better. The large dot is the last epoch. A defence earns credit only where its line lies below that of augmentation alone: \
        otherwise stopping augmentation-only training early would have done as well.</p>{}",
        legend(runs),
        chart.svg().replacen("<svg", "<svg class=\"wide\"", 1)
    )
}

fn neighbours(runs: &[RunRecord]) -> String {
    let Some(run) = runs.iter().find(|r| r.epochs.iter().any(|e| e.matches.is_some())) else { return String::new() };
    let mut html = format!(
        "<h2>What images were matched with</h2><p class=\"note\">{}, seed {}: share of pool neighbours whose caption speaks of the image's true concept, of the attacker's, or is the pair's own.</p>",
        escape(&run.row.label()),
        run.row.seed
    );
    html += "<table><tr><th>epoch</th><th>pairs</th><th>true concept</th><th>adversarial</th><th>own caption</th><th>a poisoned caption</th><th>similarity</th></tr>";
    for (epoch, number) in run.epochs.iter().zip(1..) {
        let Some(summary) = &epoch.matches else { continue };
        let clean = [("clean".to_owned(), &summary.clean)];
        for (name, shares) in clean.into_iter().chain(summary.poisoned.iter().map(|(n, s)| (n.clone(), s))) {
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let adversarial = if name == "clean" { "–".into() } else { percent(shares.adversarial) };
            let _ = write!(
                html,
                "<tr><td>{number}</td><td>{} × {}</td><td>{}</td><td>{adversarial}</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
                shares.matched,
                escape(&name),
                percent(shares.true_concept),
                percent(shares.own_caption),
                percent(shares.poisoned_caption),
                summary.mean_similarity
            );
        }
    }
    html + "</table>"
}

fn histograms(runs: &[RunRecord]) -> String {
    let mut html = String::from(
        "<h2>Similarity of images with their own captions</h2><p class=\"note\">Cosine, without augmentation; first seed. <span class=\"key c1\"></span>clean pairs <span class=\"key c0\"></span>targeted poison <span class=\"key c3\"></span>backdoored pairs</p>",
    );
    for (_, label, run) in first_of_each(runs) {
        let _ = write!(html, "<p>{}</p><div class=\"wrap\">", escape(&label));
        let count = run.epochs.len();
        let shown: BTreeSet<usize> = [1, 3, count / 2, count].into_iter().filter(|n| (1..=count).contains(n)).collect();
        let backdoors: BTreeMap<&String, ()> = run.row.last.asr.keys().map(|k| (k, ())).collect();
        for number in shown {
            let Some(epoch) = run.epochs.get(number - 1) else { continue };
            let bars: Vec<(String, String, Vec<u32>)> = epoch
                .similarity
                .bins
                .iter()
                .map(|(name, bins)| {
                    let class = if name == "clean" {
                        "c1"
                    } else if backdoors.contains_key(name) {
                        "c3"
                    } else {
                        "c0"
                    };
                    (name.clone(), class.to_owned(), bins.clone())
                })
                .collect();
            html += &histogram(&format!("epoch {number}"), &bars);
        }
        html += "</div>";
    }
    html
}

fn matches(runs: &[RunRecord], gallery: &Gallery) -> String {
    let last =
        runs.iter().find_map(|r| r.epochs.iter().zip(1..).filter_map(|(e, n)| Some((n, e.matches.as_ref()?))).last());
    let Some((epoch, summary)) = last else { return String::new() };
    let mut html = format!(
        "<h2>What targeted images met in the pool</h2><p class=\"note\">Matching epoch {epoch}, one pair for each target.</p><table class=\"left\"><tr><th></th><th>is → should become</th><th>matched caption</th><th>similarity</th></tr>"
    );
    for example in &summary.examples {
        let Some((_, figure)) = gallery.targets.iter().find(|(id, _)| *id == example.image) else { continue };
        let _ = write!(
            html,
            "<tr><td><img alt=\"\" src=\"{}\"></td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
            figure.picture,
            escape(&figure.caption),
            escape(&example.matched_caption),
            example.similarity
        );
    }
    html + "</table>"
}

fn pictures_section(gallery: &Gallery) -> String {
    let mut html = String::new();
    let figures = |list: &[Figure]| {
        list.iter()
            .map(|f| {
                format!(
                    "<figure><img alt=\"\" src=\"{}\"><figcaption>{}</figcaption></figure>",
                    f.picture,
                    escape(&f.caption)
                )
            })
            .collect::<String>()
    };
    for (title, sets) in [("Poisoned pairs", &gallery.pairs), ("Triggered tests", &gallery.triggered)] {
        if !sets.is_empty() {
            let _ = write!(html, "<h2>{title}</h2>");
        }
        for (attack, list) in sets {
            let _ = write!(html, "<p class=\"note\">{}</p><div class=\"wrap\">{}</div>", escape(attack), figures(list));
        }
    }
    html
}
