//! How fast pictures within Parquet files are read in place, in a random order: `in_place FILE|FOLDER [PASSES]`. One line a pass,
//! in seconds of processor time of one thread (Linux tells them), and the peak of resident memory.

use rand::seq::SliceRandom;
use roclip_data::error::{Error, Result};
use roclip_data::picture::ImageLimits;
use roclip_data::random::stream;
use roclip_data::source::{Listing, SourceConfig, list_samples};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::setting("no data is named", "in_place FILE|FOLDER [PASSES]");
    let path = arguments.next().ok_or_else(usage)?;
    let passes: u64 = arguments.next().and_then(|passes| passes.parse().ok()).unwrap_or(2);
    let config = SourceConfig { path, gzip_memory_mib: 0, ..SourceConfig::default() };
    let Listing { mut samples, .. } = list_samples(&config, ImageLimits::default())?;
    for pass in 0..passes {
        samples.shuffle(&mut stream(0, "in_place", pass, ""));
        let (started, mut bytes) = (processor_seconds(), 0);
        for sample in &samples {
            let read = sample.image.read(u64::MAX).map_err(|skip| skip.into_error(&sample.id))?;
            bytes += read.len();
        }
        let seconds = processor_seconds() - started;
        println!(
            "pass {pass}: {} pictures of {} bytes, {:.0} pictures/s, {:.3} ms each",
            samples.len(),
            bytes / samples.len().max(1),
            samples.len() as f64 / seconds,
            1000.0 * seconds / samples.len().max(1) as f64
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    println!("peak memory {}", peak.trim());
    Ok(())
}

/// Of this thread.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
