//! All that `roclip eval` measures, and the same in the words of CLIP_benchmark.

use crate::eval::{Accuracy, Evaluation, Retrieval};
use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// `eval/step_N.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// What the data is called; empty in older files.
    #[serde(default)]
    pub dataset: String,
    /// What the model is called; empty in older files.
    #[serde(default)]
    pub model: String,
    /// Of a checkpoint of this program.
    pub checkpoint_step: Option<u64>,
    pub provenance: String,
    /// Of a model that this program trained.
    pub objective: Option<String>,
    pub classes: usize,
    /// What named the images; empty in older files.
    #[serde(default)]
    pub classified_by: String,
    pub evaluation: Evaluation,
    pub linear_probe: Option<Accuracy>,
    pub nearest_neighbours: Option<Rate>,
    pub retrieval: Option<Retrieval>,
}

impl Measured {
    /// One object a task, `(file name, object)`, with CLIP_benchmark's keys; the name is its pattern `{dataset}_{pretrained}_{model}_
    /// {language}_{task}.json`. What it has no word for (attack success with its n) stands beside its own metrics.
    pub fn clip_benchmark(&self, pretrained: &str) -> Vec<(String, Value)> {
        let (dataset, model) = (self.dataset.as_str(), self.model.as_str());
        let object = |task: &str, metrics: Map<String, Value>| {
            let value = json!({
                "dataset": dataset, "model": model, "pretrained": pretrained, "task": task, "language": "en",
                "metrics": metrics,
            });
            let parts = [dataset, pretrained, model, "en", task].map(file_word);
            (format!("{}.json", parts.join("_")), value)
        };
        let evaluation = &self.evaluation;
        let mut zero_shot = Map::new();
        zero_shot.insert("acc1".into(), json!(evaluation.zero_shot_top1.share()));
        if let Some(top5) = &evaluation.zero_shot_top5 {
            zero_shot.insert("acc5".into(), json!(top5.share()));
        }
        zero_shot.insert("mean_per_class_recall".into(), json!(evaluation.mean_per_class_recall));
        zero_shot.insert("n".into(), json!(evaluation.zero_shot_top1.n));
        if let Some(psr) = &evaluation.psr {
            zero_shot.insert("psr".into(), json!(psr));
        }
        for (attack, outcome) in &evaluation.asr {
            zero_shot.insert(format!("asr_{attack}"), json!(outcome.success));
            zero_shot.insert(format!("robust_acc1_{attack}"), json!(outcome.true_class));
        }
        let mut tasks = vec![object("zeroshot_classification", zero_shot)];
        if let Some(probe) = &self.linear_probe {
            let metrics = Map::from_iter([
                ("lp_acc1".to_owned(), json!(probe.top1.rate)),
                ("lp_mean_per_class_recall".to_owned(), json!(probe.mean_per_class_recall)),
                ("n".to_owned(), json!(probe.top1.n)),
            ]);
            tasks.push(object("linear_probe", metrics));
        }
        if let Some(retrieval) = &self.retrieval {
            let mut metrics = Map::new();
            for (way, recall) in [("image", &retrieval.image_recall), ("text", &retrieval.text_recall)] {
                for (k, rate) in recall {
                    metrics.insert(format!("{way}_retrieval_recall@{k}"), json!(rate.rate));
                }
            }
            tasks.push(object("zeroshot_retrieval", metrics));
        }
        tasks
    }
}

/// Bytes of a file name that one part may take; the end of a path says most.
const LONGEST_WORD: usize = 48;

/// `text` as a part of a file name.
pub fn file_word(text: &str) -> String {
    let kept = |letter: char| if letter.is_ascii_alphanumeric() || "-.".contains(letter) { letter } else { '-' };
    let word: String = text.chars().map(kept).collect();
    let start = word.len().saturating_sub(LONGEST_WORD);
    word.get(start..).unwrap_or(&word).trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_part_of_a_name_and_its_end_is_kept() {
        assert_eq!(file_word("runs/a/checkpoints/step_12"), "runs-a-checkpoints-step-12");
        assert_eq!(file_word("../../x"), "x");
        let long = file_word(&format!("/{}/checkpoints/step_12", "a".repeat(300)));
        assert!(long.len() <= LONGEST_WORD && long.ends_with("checkpoints-step-12"), "{long}");
    }
}
