//! What many workers hold at once. A process of its own, since its peak is measured.

#![allow(clippy::unwrap_used)]

#[path = "support/peak.rs"]
mod peak;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use peak::peak_mib;
use roclip_pixels::picture::{ImageLimits, decode};

#[test]
#[cfg(target_os = "linux")]
fn workers_decode_large_pictures_one_at_a_time() {
    let side = 5_000;
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::NoFilter);
    encoder.write_image(&vec![0x7f; side * side * 8], side as u32, side as u32, ExtendedColorType::Rgba16).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(decode(&png, ImageLimits::default()).unwrap().width(), 5_000));
        }
    });
    // One picture takes 200 MB as it is, 100 as RGBA and 75 as RGB; eight at once took 3 GB.
    assert!(peak_mib() < 1_000, "{} MiB", peak_mib());
}
