//! Settings of an optimizer step: cached features, clipped gradients, precision.

use crate::support::{Lab, checkpoint};
use serde_json::Value;

fn losses_and_norms(lab: &Lab, run: &str) -> Vec<[f64; 2]> {
    let text = std::fs::read_to_string(lab.path(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = lines.filter(|line| line["event"] == "step");
    steps.map(|line| ["loss", "gradient_norm"].map(|name| line[name].as_f64().unwrap())).collect()
}

/// Adds `settings` to the recipe's `[train]`.
fn with_train(lab: &Lab, settings: &str) {
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    let settings = format!("[train]\nlog_every_steps = 1\n{settings}");
    std::fs::write(lab.path("recipe.toml"), text.replace("[train]", &settings).replace("clip = {  }\n", "")).unwrap();
}

/// Kinds of numbers in a file of tensors, by name.
fn kinds(safetensors: &[u8]) -> Vec<(String, String)> {
    let length = u64::from_le_bytes(safetensors[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&safetensors[8..8 + length]).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    tensors.map(|(name, tensor)| (name.clone(), tensor["dtype"].as_str().unwrap().to_owned())).collect()
}

/// The lab's model has BatchNorm: statistics of chunks, which a resumed run has the same of.
#[test]
fn a_run_with_cached_features_clipped_gradients_and_bf16_resumes_bit_for_bit() {
    let lab = Lab::new();
    lab.objective("roclip", "period = 2, pool_size = 24", 2);
    with_train(&lab, "encode_batch_size = 3\ngradient_clip_norm = 0.5\nprecision = \"bf16\"");
    lab.resumes_bit_for_bit(&[("first", 3), ("matching", 9)]);
    for (name, bytes) in checkpoint(&lab.path("whole")).iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        for (tensor, kind) in kinds(bytes) {
            assert!(kind == "F32" || kind == "I64", "{name}: {tensor} is {kind}");
        }
    }
    assert!(lab.ok(&["eval", "whole"]).contains("zero-shot"), "evaluated in 32 bits");
    let said = lab.stderr(&["train", "--config", "recipe.toml", "--run", "again"]);
    assert!(said.contains("BatchNorm takes its statistics from the 3 pairs"), "{said}");
}

#[test]
fn gradient_checkpointing_changes_no_loss_and_resumes_bit_for_bit() {
    let lab = Lab::new();
    lab.objective("roclip", "period = 2, pool_size = 24", 2);
    with_train(&lab, "gradient_checkpointing = true");
    lab.resumes_bit_for_bit(&[("first", 3), ("matching", 9)]);
    lab.train("without", &["--set", "train.gradient_checkpointing=false"]);
    let (with, without) = (losses_and_norms(&lab, "whole"), losses_and_norms(&lab, "without"));
    assert!(with.len() == without.len() && with.len() >= 10);
    for (one, other) in with.iter().flatten().zip(without.iter().flatten()) {
        assert!((one - other).abs() <= 1e-6 * other, "{with:?} and {without:?}");
    }
}

/// Steps of a ViT of twelve blocks, whose activations of a batch take about 300 MB, and what goes into its blocks about 20.
#[test]
fn gradient_checkpointing_takes_less_memory_and_combines_with_cached_features() {
    let lab = Lab::new();
    lab.objective("clip", "", 1);
    with_train(&lab, "");
    let model = r#"{"embed_dim": 16, "vision_cfg": {"image_size": 64, "layers": 12, "width": 128, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"#;
    std::fs::write(lab.path("model.json"), model).unwrap();
    let peak = |settings: &[&str]| {
        let dry = ["train", "--config", "recipe.toml", "--run", "no", "--dry-run", "--batch-size", "48"];
        lab.json(&[&dry[..], settings].concat())["peak_memory_bytes"].as_u64().unwrap() >> 20
    };
    let on = ["--set", "train.gradient_checkpointing=true"];
    let (plain, with) = (peak(&[]), peak(&on));
    assert!(with + 150 < plain, "{with} MiB with gradient checkpointing, {plain} without");
    let chunks = peak(&[&on[..], &["--set", "train.encode_batch_size=8"]].concat());
    assert!(chunks < with, "{chunks} MiB with chunks of eight, {with} with whole batches");
}

/// As the system tells it, which is not how the program asks.
fn processor_has_bf16() -> bool {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let mut flags = told.lines().filter(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.any(|line| line.split_whitespace().any(|flag| flag == "avx512_bf16" || flag == "bf16"))
}

#[test]
fn bf16_trains_nearly_as_fp32_and_tf32_on_a_cpu_is_said_to_be_fp32() {
    let lab = Lab::new();
    lab.objective("clip", "", 3);
    with_train(&lab, "");
    // Rounding grows with the rate in a network of a few numbers.
    let text = std::fs::read_to_string(lab.path("recipe.toml")).unwrap();
    std::fs::write(lab.path("recipe.toml"), text.replace("learning_rate = 2e-3", "learning_rate = 2e-5")).unwrap();
    for precision in ["fp32", "tf32", "bf16"] {
        let set = format!("train.precision={precision}");
        let said = lab.stderr(&["train", "--config", "recipe.toml", "--run", precision, "--set", &set]);
        assert_eq!(said.contains("which only NVIDIA GPUs have"), precision == "tf32", "{said}");
        let slow = said.contains("train.precision is bf16, and this processor has no instructions for it");
        assert_eq!(slow, precision == "bf16" && !processor_has_bf16(), "{said}");
    }
    lab.train("plain", &[]);
    let [fp32, tf32, bf16, plain] = ["fp32", "tf32", "bf16", "plain"].map(|run| losses_and_norms(&lab, run));
    assert!(fp32 == plain && tf32 == plain && bf16 != plain, "fp32 is the default");
    for (exact, rounded) in fp32.iter().zip(&bf16) {
        assert!((exact[0] - rounded[0]).abs() < 0.05 * exact[0], "{exact:?} and {rounded:?}");
    }
    lab.fails(
        &["train", "--config", "recipe.toml", "--run", "no", "--set", "train.precision=fp8"],
        1,
        &["fp8", "bf16"],
    );
}

#[test]
fn gradients_are_clipped_and_logged_as_they_were() {
    let lab = Lab::new();
    lab.objective("clip", "", 1);
    with_train(&lab, "");
    lab.train("free", &[]);
    let free = losses_and_norms(&lab, "free");
    let largest = free.iter().map(|step| step[1]).fold(0.0, f64::max);
    lab.train("loose", &["--set", &format!("train.gradient_clip_norm={}", largest * 2.0)]);
    assert_eq!(losses_and_norms(&lab, "loose"), free, "nothing is clipped");
    lab.train("tight", &["--set", &format!("train.gradient_clip_norm={}", free[0][1] / 1e6)]);
    let tight = losses_and_norms(&lab, "tight");
    assert_eq!(tight[0], free[0], "the norm is that before clipping");
    assert_ne!(tight[5], free[5]);
    let clip = |value: &str| format!("train.gradient_clip_norm={value}");
    for value in ["0.0", "-1.0", "nan"] {
        let arguments = ["train", "--config", "recipe.toml", "--run", "no", "--set", &clip(value)];
        lab.fails(&arguments, 1, &["train.gradient_clip_norm", "more than 0"]);
    }
    for value in ["0", "1"] {
        let set = format!("train.encode_batch_size={value}");
        let arguments = ["train", "--config", "recipe.toml", "--run", "no", "--set", &set];
        lab.fails(&arguments, 1, &["train.encode_batch_size", "at least 2"]);
    }
    assert!(!lab.path("no").exists());
}

#[test]
fn a_captioner_refuses_what_is_of_features() {
    let lab = Lab::new();
    for (setting, word) in [
        ("train.encode_batch_size=4", "--batch-size"),
        ("train.gradient_checkpointing=true", "--batch-size"),
        ("train.precision=bf16", "fp32"),
    ] {
        let arguments = ["train", "--config", "recipe.toml", "--run", "no", "--set", "caption={image_tower='tuned'}"];
        let key = setting.split('=').next().unwrap();
        lab.fails(&[&arguments[..], &["--set", setting]].concat(), 1, &[key, word]);
    }
}
