//! The table for other programs: CSV of every run, LaTeX of every experiment.

use crate::report::group::{Study, attacks};
use crate::results::{Hits, RunRecord};
use std::collections::BTreeSet;

/// One line a run, rates as fractions.
pub fn csv(records: &[RunRecord]) -> String {
    let rows = || records.iter().map(|record| &record.row);
    let attacks: BTreeSet<&String> = rows().flat_map(|row| row.last.asr.keys()).collect();
    let fixed = [
        "run",
        "label",
        "control",
        "seed",
        "data",
        "pairs",
        "poisoned_pairs",
        "zero_shot_top1",
        "zero_shot_images",
        "zero_shot_top5",
        "mean_per_class_recall",
        "accuracy_unseen",
        "linear_probe",
        "psr_hits",
        "psr_n",
    ];
    let mut header: Vec<String> = fixed.map(str::to_owned).to_vec();
    for attack in &attacks {
        header.extend(["asr_hits", "asr_n", "true_class"].map(|what| format!("{what}:{attack}")));
    }
    header.extend(["seconds", "peak_memory_bytes"].map(str::to_owned));
    let mut text = line(&header);
    let counts = |hits: Option<&Hits>| -> [String; 2] {
        hits.map_or([String::new(), String::new()], |hits| [hits.hits.to_string(), hits.n.to_string()])
    };
    let share = |share: Option<f64>| share.map(|share| share.to_string()).unwrap_or_default();
    for RunRecord { row, trained_on, measured_on, .. } in records {
        let last = &row.last;
        let mut fields = vec![
            row.run.display().to_string(),
            row.label.clone(),
            row.control.clone().unwrap_or_default(),
            row.seed.to_string(),
            format!("trained on {}, measured on {measured_on}", trained_on.words),
            row.pairs.to_string(),
            row.poisoned_pairs.to_string(),
            share(last.zero_shot_top1),
            last.zero_shot_images.to_string(),
            share(last.zero_shot_top5),
            share(last.mean_per_class_recall),
            share(row.accuracy_unseen),
            share(row.linear_probe),
        ];
        fields.extend(counts(last.psr.as_ref()));
        for attack in &attacks {
            fields.extend(counts(last.asr.get(*attack)));
            fields.push(share(last.poisoned_accuracy.get(*attack).copied()));
        }
        fields.extend([row.seconds.to_string(), row.peak_memory_bytes.to_string()]);
        text += &line(&fields);
    }
    text
}

fn line(fields: &[String]) -> String {
    let quoted = fields.iter().map(|field| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

/// A `tabular` in percent: means over seeds. It needs the package booktabs.
pub fn latex(study: &Study) -> String {
    let attacks = attacks(&study.groups);
    let names = attacks.iter().map(|attack| format!(" & ASR {}", latex_text(attack))).collect::<String>();
    let comments = std::iter::once(study.data()).chain(study.trained_apart());
    let mut text = comments.map(|said| format!("% {}\n", said.replace(['\n', '\r'], " "))).collect::<String>();
    let has_unseen = study.runs().any(|run| run.row.is_prompts());
    let columns = 4 + usize::from(has_unseen) + attacks.len();
    let unseen = if has_unseen { " & accuracy, unseen classes" } else { "" };
    text += &format!("\\begin{{tabular}}{{l{}}}\n\\toprule\n", "r".repeat(columns));
    text += &format!("row & seeds & {}{unseen} & probe & PSR{names} \\\\\n\\midrule\n", study.accuracy_word());
    for group in &study.groups {
        let cell = |value: Option<f64>| value.map_or(" & --".to_owned(), |value| format!(" & {:.1}", 100.0 * value));
        let rates = attacks
            .iter()
            .map(|attack| cell(group.mean(|run| run.row.last.asr.get(attack).and_then(|hits| hits.rate()))));
        text += &format!(
            "{} & {}{}{}{}{}{} \\\\\n",
            latex_text(group.label),
            group.members.len(),
            cell(group.mean(|run| run.row.last.zero_shot_top1)),
            if has_unseen { cell(group.mean(|run| run.row.accuracy_unseen)) } else { String::new() },
            cell(group.mean(|run| run.row.linear_probe)),
            cell(group.mean(|run| run.row.last.psr.and_then(|hits| hits.rate()))),
            rates.collect::<String>()
        );
    }
    text + "\\bottomrule\n\\end{tabular}\n\n"
}

fn latex_text(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_field() {
        assert_eq!(line(&["a,b".into(), "say \"x\"".into(), "plain".into()]), "\"a,b\",\"say \"\"x\"\"\",plain\n");
        assert_eq!(latex_text("a_b & 5 % \\input{x}"), "a\\_b \\& 5 \\% \\textbackslash{}input\\{x\\}");
    }
}
