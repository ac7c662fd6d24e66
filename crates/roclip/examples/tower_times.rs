//! Seconds of each part of a training step: `tower_times MODEL BATCH TEXT_LENGTH THREADS [VOCABULARY]`.
use roclip::model::{Clip, ModelConfig};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| -> Result<i64, Box<dyn std::error::Error>> {
        Ok(arguments.get(at).ok_or("usage: MODEL BATCH TEXT_LENGTH THREADS [VOCABULARY]")?.parse()?)
    };
    let (batch, length) = (number(2)?, number(3)?);
    tch::set_num_threads(number(4)? as i32);
    let mut config = ModelConfig::named(arguments.get(1).ok_or("name a model")?)?;
    if let Ok(vocabulary) = number(5) {
        config.text_cfg.vocab_size = vocabulary;
    }
    let model = Clip::new(config, Device::Cpu, 0)?;
    let side = i64::from(model.config().image_size());
    let images = Tensor::randn([batch, 3, side, side], (Kind::Float, Device::Cpu));
    let tokens = Tensor::randint(model.config().text_cfg.vocab_size, [batch, length], (Kind::Int64, Device::Cpu));
    let rounds = 20;
    for part in ["image forward", "image step", "text forward", "text step"] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let started = Instant::now();
            let features = if part.starts_with("image") {
                model.image_features(&images, true)?
            } else {
                model.text_features(&tokens)
            };
            if part.ends_with("step") {
                features.square().mean(Kind::Float).backward();
            }
            times.push(started.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        println!("{part:15} {:.1} ms", 1e3 * times.get(rounds / 2).copied().unwrap_or(0.0));
    }
    Ok(())
}
