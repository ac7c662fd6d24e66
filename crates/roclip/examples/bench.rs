//! One side of `bench/run.sh`: prints one number. The other side is `bench/with_pytorch.py`, with the same subcommands.
//!
//!     bench step MODEL BATCH TEXT_LENGTH THREADS    seconds of a training step (both towers, loss, AdamW), median
//!     bench augment FOLDER SIZE                     images a second on one core: decode, the released augmentation, normalise
//!     bench pool ROWS DIM BATCH THREADS [dedup]     seconds of a pool lookup, median; with dedup, no row for two images

use roclip::model::{Clip, ModelConfig, unit};
use roclip::objective::{Pool, RingWrite, info_nce};
use roclip_data::augment::{ImageAugment, ImageAugmentConfig};
use roclip_data::picture::preprocess;
use roclip_data::picture::{ImageLimits, decode};
use roclip_data::source::{SourceConfig, list_samples};
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = match arguments.as_slice() {
        ["step", model, batch, length, threads] => step(model, batch.parse()?, length.parse()?, threads.parse()?)?,
        ["augment", folder, size] => augment(folder, size.parse()?)?,
        ["pool", rows, dim, batch, threads, dedup @ ..] if matches!(dedup, [] | ["dedup"]) => {
            pool([rows.parse()?, dim.parse()?, batch.parse()?], threads.parse()?, !dedup.is_empty())?
        }
        _ => {
            return Err(
                "usage: step MODEL BATCH LENGTH THREADS | augment FOLDER SIZE | pool ROWS DIM BATCH THREADS [dedup]"
                    .into(),
            );
        }
    };
    println!("{number:.6}");
    Ok(())
}

/// Median seconds of `run`, after two calls that do not count.
fn median_seconds(mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 5 || (started.elapsed().as_secs_f64() < 6.0 && times.len() < 100) {
        let at = Instant::now();
        run()?;
        times.push(at.elapsed().as_secs_f64());
    }
    let mut times = times.split_off(2);
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or(f64::NAN))
}

fn step(model: &str, batch: i64, length: i64, threads: i32) -> Outcome<f64> {
    tch::set_num_threads(threads);
    let model = Clip::new(ModelConfig::named(model)?, Device::Cpu, 0)?;
    let side = i64::from(model.config().image_size());
    let images = Tensor::randn([batch, 3, side, side], (Kind::Float, Device::Cpu));
    let tokens = Tensor::randint(model.config().text_cfg.vocab_size, [batch, length], (Kind::Int64, Device::Cpu));
    let parameters: Vec<Tensor> = model.parameters().trainable().into_values().collect();
    let zeros = || parameters.iter().map(|p| p.detach().zeros_like()).collect::<Vec<_>>();
    let (first, second, count) = (zeros(), zeros(), Tensor::zeros([], (Kind::Float, Device::Cpu)));
    let adamw = AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.98, weight_decay: 0.1, epsilon: 1e-8 };
    median_seconds(|| {
        let image = unit(&model.image_features(&images, true)?);
        let text = unit(&model.text_features(&tokens));
        info_nce(&image, &text, &model.scale()).backward();
        let _ = count.shallow_clone().g_add_scalar_(1.0);
        let gradients: Vec<Tensor> = parameters.iter().map(Tensor::grad).collect();
        let tensors = AdamWTensors {
            parameters: parameters.iter().collect(),
            gradients: gradients.iter().collect(),
            first_moments: first.iter().collect(),
            second_moments: second.iter().collect(),
            steps: vec![&count; parameters.len()],
        };
        torch_bridge::fused_adamw(&tensors, adamw)?;
        for parameter in &parameters {
            parameter.shallow_clone().zero_grad();
        }
        Ok(())
    })
}

fn augment(folder: &str, size: u32) -> Outcome<f64> {
    let config = SourceConfig { path: folder.into(), ..SourceConfig::default() };
    let samples = list_samples(&config, ImageLimits::default())?.samples;
    let samples = samples.get(..samples.len().min(200)).unwrap_or_default();
    let config = ImageAugmentConfig::default();
    let mut random = roclip_data::random::stream(0, "bench", 0, "");
    let mut values = Vec::new();
    let started = Instant::now();
    for sample in samples {
        let broken = |skip: roclip_data::skip::Skip| format!("{}: {}", sample.id, skip.reason);
        let limits = ImageLimits::default();
        let picture = decode(&sample.image.read(limits.max_file_bytes).map_err(broken)?, limits).map_err(broken)?;
        let drawn = ImageAugment::draw(&config, picture.dimensions(), &mut random);
        values.clear();
        preprocess::normalise_into(&drawn.apply(&picture, size).map_err(broken)?, &mut values);
    }
    Ok(samples.len() as f64 / started.elapsed().as_secs_f64())
}

fn pool([rows, dim, batch]: [i64; 3], threads: i32, dedup: bool) -> Outcome<f64> {
    tch::set_num_threads(threads);
    let options = (Kind::Float, Device::Cpu);
    // Images look alike before a model has learned much: all of them like the same rows.
    let alike = Tensor::randn([1, dim], options);
    let pool = Pool::new(unit(&Tensor::randn([rows, dim], options)), true, RingWrite::Wrap);
    let images = unit(&(Tensor::randn([batch, dim], options) + alike * 2.0));
    median_seconds(|| {
        pool.nearest(&images, None, dedup)?;
        Ok(())
    })
}
