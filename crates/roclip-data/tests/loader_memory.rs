//! What the loader holds ahead of its consumer. A process of its own, since its peak is measured.

#![allow(clippy::unwrap_used)]

#[path = "../../roclip-pixels/tests/support/peak.rs"]
mod peak;

use peak::peak_mib;
use roclip_data::batch::{Loader, PassPlan, Transform, ViewAugment};
use roclip_data::pairs::{CaptionMode, Pairs};
use roclip_data::picture::ImageLimits;
use roclip_data::sample::{ImageBytes, Sample};
use roclip_data::tokenizer::{Tokenizer, Truncate};
use std::sync::Arc;

#[test]
#[cfg(target_os = "linux")]
fn the_batches_that_are_ahead_do_not_grow_with_the_workers() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(8, 8, image::Rgb([9; 3])).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let bytes: Arc<[u8]> = Arc::from(png.into_inner());
    let sample = |number: usize| Sample {
        captions: vec![format!("picture {number}")],
        ..Sample::new("data".into(), number.to_string(), ImageBytes::Memory(Arc::clone(&bytes)))
    };
    let pairs = Arc::new(Pairs::new((0..3200).map(sample).collect(), CaptionMode::Expand));
    let transform = Transform {
        seed: 1,
        image_size: 64,
        resizing: Default::default(),
        limits: ImageLimits::default(),
        views: [ViewAugment::default(), ViewAugment::default()],
        sub_captions: None,
        tokenizer: Arc::new(Tokenizer::new(8, Truncate::KeepEot).unwrap()),
        cache_bytes: 0,
    };
    let loader = Loader::new(Arc::clone(&pairs), transform, 400, 16).unwrap();
    let before = peak_mib();
    let plan = PassPlan { epoch: 1, pass: 0, two_views: false, first_step: 0, steps: 8 };
    let mut batches = loader.pass(loader.order(1, 0, None), plan);
    let first = batches.next().unwrap().unwrap();
    assert_eq!((first.step, first.pairs.len()), (0, 400));
    // Long enough for sixteen workers to make all of the pass, if nothing held them back.
    std::thread::sleep(std::time::Duration::from_secs(2));
    // A batch is 18.75 MiB: this one, two ahead, and their pictures as bytes. The whole pass is 150.
    let held = peak_mib() - before;
    assert!(held < 110, "{held} MiB");
    assert_eq!(batches.map(|batch| batch.unwrap().step).collect::<Vec<_>>(), (1..8).collect::<Vec<_>>());
}
