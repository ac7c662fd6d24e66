//! One side of `bench/run.sh`, `bench/loader.sh` and `bench/gpu.sh`: prints one number, or two. The other side is `bench/with_pytorch.py`, with the
//! same subcommands.
//!
//!     bench step MODEL BATCH TEXT_LENGTH THREADS    seconds of a training step (both towers, loss, AdamW), median
//!     bench step ... THREADS DEVICE PRECISION       the same on cpu, cuda or cuda:N in fp32, tf32 or bf16; and the peak of the device's memory in MiB
//!                                                   (of the process on cpu)
//!     bench plain FOLDER SIZE                       images a second on one core: decode, resize, crop, normalise, all by the loader
//!     bench augment FOLDER SIZE                     the same with the released augmentation
//!     bench ahead FOLDER SIZE BATCH WORKERS         MiB that the loader takes at its peak, while nobody takes its batches
//!     bench pool ROWS DIM BATCH THREADS [dedup]     seconds of a pool lookup, median; with dedup, no row for two images

use roclip::model::{Clip, ModelConfig, unit};
use roclip::objective::{Pool, RingWrite, info_nce};
use roclip_data::augment::ImageAugmentConfig;
use roclip_data::batch::{Batches, Loader, PassPlan, Transform, ViewAugment};
use roclip_data::pairs::{CaptionMode, Pairs};
use roclip_data::picture::ImageLimits;
use roclip_data::sample::Sample;
use roclip_data::source::{SourceConfig, list_samples};
use roclip_data::tokenizer::{Tokenizer, Truncate};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};
use torch_bridge::{AdamW, AdamWTensors};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = match arguments.as_slice() {
        ["step", model, batch, length, threads, on @ ..] if matches!(on.len(), 0 | 2) => {
            let (device, precision) =
                if let [device, precision] = on { (*device, *precision) } else { ("cpu", "fp32") };
            let setting = Setting::new(device, precision)?;
            let seconds = step(model, batch.parse()?, length.parse()?, threads.parse()?, setting)?;
            if !on.is_empty() {
                println!("{seconds:.6} {:.1}", setting.peak_mib()?);
                return Ok(());
            }
            seconds
        }
        ["plain", folder, size] => images_per_second(folder, size.parse()?, None)?,
        ["augment", folder, size] => images_per_second(folder, size.parse()?, Some(ImageAugmentConfig::default()))?,
        ["ahead", folder, size, batch, workers] => ahead(folder, size.parse()?, batch.parse()?, workers.parse()?)?,
        ["pool", rows, dim, batch, threads, dedup @ ..] if matches!(dedup, [] | ["dedup"]) => {
            pool([rows.parse()?, dim.parse()?, batch.parse()?], threads.parse()?, !dedup.is_empty())?
        }
        _ => {
            return Err(
                "usage: step MODEL BATCH LENGTH THREADS [DEVICE PRECISION] | plain FOLDER SIZE | augment FOLDER SIZE | ahead FOLDER SIZE BATCH WORKERS | pool ROWS DIM BATCH THREADS [dedup]"
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

/// Where and in which precision a step computes.
#[derive(Clone, Copy)]
struct Setting {
    device: Device,
    bf16: bool,
}

impl Setting {
    fn new(device: &str, precision: &str) -> Outcome<Self> {
        let device = roclip::run::device(device)?;
        if device.is_cuda() {
            torch_bridge::allow_tf32(precision == "tf32")?;
        }
        match precision {
            "fp32" | "tf32" | "bf16" => Ok(Setting { device, bf16: precision == "bf16" }),
            _ => Err(format!("unknown precision {precision}: fp32, tf32 or bf16").into()),
        }
    }

    /// What a tower computes, in 32 bits, as training has it.
    fn features(self, tower: impl FnOnce() -> Outcome<Tensor>) -> Outcome<Tensor> {
        let features = if self.bf16 { torch_bridge::with_autocast_bf16(self.device.is_cuda(), tower) } else { tower() };
        Ok(features?.to_kind(Kind::Float))
    }

    /// Waits until the device has done what it was told.
    fn wait(self) {
        if let Device::Cuda(number) = self.device {
            tch::Cuda::synchronize(number as i64);
        }
    }

    fn peak_mib(self) -> Outcome<f64> {
        match self.device {
            Device::Cuda(number) => Ok(torch_bridge::peak_cuda_bytes(number)? as f64 / f64::from(1 << 20)),
            _ => peak_mib(),
        }
    }
}

fn step(model: &str, batch: i64, length: i64, threads: i32, setting: Setting) -> Outcome<f64> {
    // As a run does.
    roclip::run::machine_of(threads, "cpu")?;
    let device = setting.device;
    let model = Clip::new(ModelConfig::named(model)?, device, 0)?;
    let side = i64::from(model.config().image_size());
    let options = (Kind::Float, Device::Cpu);
    let images = Tensor::randn([batch, 3, side, side], options).to_device(device);
    let end_of_text = model.config().text_cfg.vocab_size - 1;
    let tokens = Tensor::randint(end_of_text, [batch, length], (Kind::Int64, Device::Cpu));
    let _ = tokens.narrow(1, length - 1, 1).fill_(end_of_text);
    let tokens = tokens.to_device(device);
    let parameters: Vec<Tensor> = model.parameters().trainable().into_values().collect();
    let zeros = || parameters.iter().map(|p| p.detach().zeros_like()).collect::<Vec<_>>();
    let (first, second, count) = (zeros(), zeros(), Tensor::zeros([], (Kind::Float, device)));
    let adamw = AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.98, weight_decay: 0.1, epsilon: 1e-8 };
    median_seconds(|| {
        let image = unit(&setting.features(|| Ok(model.image_features(&images, true)?))?);
        let text = unit(&setting.features(|| Ok(model.text_features(&tokens)))?);
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
        setting.wait();
        Ok(())
    })
}

/// A pass over at least `count` pairs of the folder's pictures, each again and again where there are fewer.
fn pass(
    folder: &str,
    size: u32,
    image: Option<ImageAugmentConfig>,
    (count, batch, workers): (usize, usize, usize),
) -> Outcome<Batches> {
    let config = SourceConfig { path: folder.into(), ..SourceConfig::default() };
    let samples = list_samples(&config, ImageLimits::default())?.samples;
    let copy = |(number, sample): (usize, &Sample)| Sample {
        captions: vec!["a photograph".to_owned()],
        ..Sample::new(Arc::clone(&sample.source), number.to_string(), sample.image.clone())
    };
    let pairs: Vec<Sample> = samples.iter().cycle().take(count).enumerate().map(copy).collect();
    let view = ViewAugment { image, ..ViewAugment::default() };
    let transform = Transform {
        seed: 0,
        image_size: size,
        resizing: Default::default(),
        limits: ImageLimits::default(),
        views: [view.clone(), view],
        sub_captions: None,
        tokenizer: Arc::new(Tokenizer::new(32, Truncate::KeepEot)?),
        cache_bytes: 0,
    };
    let loader = Loader::new(Arc::new(Pairs::new(pairs, CaptionMode::Expand)), transform, batch, workers)?;
    let plan = PassPlan { epoch: 1, pass: 0, two_views: false, first_step: 0, steps: loader.steps_per_epoch() };
    Ok(loader.pass(loader.order(1, 0, None), plan))
}

/// Seconds that the processors have worked for this process, in all of its threads: what others do meanwhile does not count.
fn processor_seconds() -> Outcome<f64> {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? / TICKS)
}

fn images_per_second(folder: &str, size: u32, image: Option<ImageAugmentConfig>) -> Outcome<f64> {
    let batches = pass(folder, size, image, (640, 32, 1))?;
    let (begun, mut images) = (processor_seconds()?, 0);
    for batch in batches {
        images += batch?.pairs.len();
    }
    Ok(images as f64 / (processor_seconds()? - begun))
}

/// The largest memory that this process has had, in MiB.
fn peak_mib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse::<f64>()? / 1024.0)
}

fn ahead(folder: &str, size: u32, batch: usize, workers: usize) -> Outcome<f64> {
    let before = peak_mib()?;
    let image = Some(ImageAugmentConfig::default());
    let mut batches = pass(folder, size, image, (batch * 3 * (workers + 1), batch, workers))?;
    let begun = Instant::now();
    let first = batches.next().ok_or("no batch")??;
    eprintln!("first batch of {} after {:.1} s", first.pairs.len(), begun.elapsed().as_secs_f64());
    // Until the workers are held back: nothing is read for a second.
    let mut worked = processor_seconds()?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = processor_seconds()?;
        if now - worked < 0.05 {
            return Ok(peak_mib()? - before);
        }
        worked = now;
    }
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
