//! Batches in an order that is a pure function of (pairs, seed, epoch), made ahead by workers.

use crate::batch::crew::Crew;
use crate::batch::places::{PassPlan, Places};
use crate::batch::transform::{BatchMaker, HostBatch, Transform};
use crate::error::{Error, Result};
use crate::pairs::Pairs;
use crate::random;
use rand::seq::SliceRandom;
use std::ops::Range;
use std::sync::Arc;

/// Makes batches of `batch_size` pairs; the incomplete last one is dropped.
pub struct Loader {
    maker: Arc<BatchMaker>,
    batch_size: usize,
    workers: usize,
    /// The rows of each batch of a pass that are made here.
    rows: Range<usize>,
}

impl Loader {
    pub fn new(pairs: Arc<Pairs>, transform: Transform, batch_size: usize, workers: usize) -> Result<Self> {
        if batch_size < 2 {
            return Err(Error::setting(
                format!("batch size {batch_size}"),
                "a contrastive loss needs at least 2 pairs a batch",
            ));
        }
        if batch_size > pairs.len() {
            return Err(Error::setting(
                format!("batch size {batch_size} is larger than the data ({} pairs)", pairs.len()),
                "lower --batch-size or add data",
            ));
        }
        let (maker, workers) = (Arc::new(BatchMaker::new(pairs, transform)), workers.max(1));
        Ok(Loader { maker, batch_size, workers, rows: 0..batch_size })
    }

    /// The loader of process `rank` of `processes` that share each batch of a pass: it makes its own rows of them only. What is looked at
    /// otherwise is not shared.
    ///
    /// # Errors
    /// A batch that cannot be shared evenly.
    pub fn shared(self, rank: usize, processes: usize) -> Result<Self> {
        let each = self.batch_size / processes.max(1);
        if each == 0 || each * processes != self.batch_size {
            return Err(Error::setting(
                format!("batch size {} cannot be shared evenly among {processes} processes", self.batch_size),
                format!("choose a --batch-size that is a multiple of {processes}, or another number of processes"),
            ));
        }
        Ok(Loader { rows: rank * each..(rank + 1) * each, ..self })
    }

    /// Every one of `indices` once, `count` at a time and in their order, without those that cannot be used: plain, or through the augmentation's draw `draw`.
    pub fn look(&self, indices: Vec<usize>, draw: Option<u64>, count: usize) -> Batches {
        let maker = match draw {
            Some(_) => Arc::clone(&self.maker),
            None => Arc::new(self.maker.plain(Arc::clone(&self.maker.pairs))),
        };
        self.looks(maker, indices, draw.unwrap_or(0), count)
    }

    fn looks(&self, maker: Arc<BatchMaker>, indices: Vec<usize>, draw: u64, count: usize) -> Batches {
        let count = count.max(1);
        let steps = indices.len().div_ceil(count) as u64;
        let plan = PassPlan { epoch: draw, pass: 0, two_views: false, first_step: 0, steps };
        self.batches(maker, Places { order: indices, batch_size: count, rows: 0..count, full: false }, plan)
    }

    /// Token ids `[indices, length]` of the captions of `indices` without augmentation, and the length. Pictures are not read.
    pub fn captions(&self, indices: &[usize]) -> (Vec<i64>, usize) {
        self.maker.captions(indices)
    }

    /// All of `pairs` without augmentation, `count` at a time. They must be of the loader's samples.
    pub fn plain_batches_of(&self, pairs: &Pairs, count: usize) -> Batches {
        self.looks(Arc::new(self.maker.plain(Arc::new(pairs.clone()))), (0..pairs.len()).collect(), 0, count)
    }

    pub fn steps_per_epoch(&self) -> u64 {
        self.steps(self.maker.pairs.len())
    }

    /// Steps of a pass over `count` pairs.
    pub fn steps(&self, count: usize) -> u64 {
        (count / self.batch_size) as u64
    }

    /// The order of a pass over `pairs` (all when none): a permutation of their indices.
    pub fn order(&self, epoch: u64, pass: u64, pairs: Option<Vec<usize>>) -> Vec<usize> {
        let mut order = pairs.unwrap_or_else(|| (0..self.maker.pairs.len()).collect());
        let id = if pass == 0 { String::new() } else { pass.to_string() };
        order.shuffle(&mut random::stream(self.maker.transform.seed, "order", epoch, &id));
        order
    }

    /// The batches of a pass. They are full: another pair of the order takes the place of one that cannot be used.
    pub fn pass(&self, order: Vec<usize>, plan: PassPlan) -> Batches {
        let places = Places { order, batch_size: self.batch_size, rows: self.rows.clone(), full: true };
        self.batches(Arc::clone(&self.maker), places, plan)
    }

    fn batches(&self, maker: Arc<BatchMaker>, places: Places, plan: PassPlan) -> Batches {
        let pairs = Arc::clone(&maker.pairs);
        let crew = Crew::begin(maker, places, plan, self.workers).map_err(Some);
        Batches { crew, remaining: plan.steps.saturating_sub(plan.first_step), pairs }
    }
}

/// An iterator over a pass's batches.
pub struct Batches {
    /// Or why there will be no batches.
    crew: std::result::Result<Crew, Option<Error>>,
    remaining: u64,
    pairs: Arc<Pairs>,
}

impl Iterator for Batches {
    type Item = Result<HostBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        Some(match &mut self.crew {
            Ok(crew) => crew.take().and_then(|batch| self.pairs.intact().map(|()| batch)),
            Err(failure) => {
                self.remaining = 0;
                Err(failure.take()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::ImageAugmentConfig;
    use crate::batch::{Overlay, ViewAugment};
    use crate::pairs::CaptionMode;
    use crate::picture::ImageLimits;
    use crate::sample::{ImageBytes, Sample};
    use crate::tokenizer::{Tokenizer, Truncate};
    use image::RgbImage;
    use std::collections::BTreeSet;

    /// Seven samples of one colour each, the first black, of which one has no picture.
    fn loader(workers: usize, view: ViewAugment) -> Loader {
        let samples: Vec<Sample> = (0..7u8)
            .map(|number| {
                let mut png = std::io::Cursor::new(Vec::new());
                let picture = RgbImage::from_pixel(4, 4, image::Rgb([number * 30; 3]));
                picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
                let bytes = if number == 2 { b"not a picture".to_vec() } else { png.into_inner() };
                Sample {
                    captions: vec![format!("picture {number}")],
                    ..Sample::new("data".into(), format!("s{number}"), ImageBytes::Memory(Arc::from(bytes)))
                }
            })
            .collect();
        let transform = Transform {
            seed: 1,
            image_size: 4,
            resizing: Default::default(),
            limits: ImageLimits::default(),
            views: [view.clone(), view],
            sub_captions: None,
            tokenizer: Arc::new(Tokenizer::new(8, Truncate::KeepEot).unwrap()),
            cache_bytes: 0,
        };
        Loader::new(Arc::new(Pairs::new(samples, CaptionMode::Expand)), transform, 2, workers).unwrap()
    }

    #[test]
    fn a_look_sees_every_pair_once_and_in_order_whatever_the_workers() {
        let view = ViewAugment { image: Some(ImageAugmentConfig::default()), ..ViewAugment::default() };
        let look = |workers, draw| -> Vec<HostBatch> {
            loader(workers, view.clone()).look(vec![6, 5, 4, 3, 2, 1, 0], draw, 3).collect::<Result<_>>().unwrap()
        };
        let plain = look(1, None);
        let seen: Vec<Vec<usize>> = plain.iter().map(|batch| batch.pairs.clone()).collect();
        assert_eq!(seen, [vec![6, 5, 4], vec![3, 1], vec![0]], "pair 2 cannot be read");
        assert_eq!(plain[1].skips.total(), 1);
        let images = |batches: &[HostBatch]| batches.iter().flat_map(|b| b.view.images.clone()).collect::<Vec<u8>>();
        assert_eq!(images(&plain), images(&look(3, None)));
        assert_eq!(images(&look(1, Some(9))), images(&look(3, Some(9))));
        assert_ne!(images(&look(1, Some(9))), images(&plain), "a draw goes through the augmentation");
    }

    /// The batches of epoch 2's pass: rows as pairs, and all numbers.
    fn pass(loader: &Loader) -> Vec<(Vec<usize>, Vec<u8>, Vec<i64>)> {
        let plan = PassPlan { epoch: 2, pass: 0, two_views: false, first_step: 0, steps: loader.steps_per_epoch() };
        let batches = loader.pass(loader.order(2, 0, None), plan).map(|batch| batch.unwrap());
        batches.map(|batch| (batch.pairs, batch.view.images, batch.view.tokens)).collect()
    }

    #[test]
    fn another_pair_of_the_order_takes_the_place_of_one_that_cannot_be_read() {
        let view = ViewAugment { image: Some(ImageAugmentConfig::default()), ..ViewAugment::default() };
        let one = loader(1, view.clone());
        let order = one.order(2, 0, None);
        let at = order.iter().position(|pair| *pair == 2).unwrap();
        assert!(at < 6, "it would be in no batch: choose another epoch");
        let made = pass(&one);
        let expected = |step: usize, row: usize| match 2 * step + row {
            place if place == at => order[(place + 2) % 6],
            place => order[place],
        };
        for (step, (pairs, images, _)) in made.iter().enumerate() {
            assert_eq!(pairs, &[expected(step, 0), expected(step, 1)]);
            assert_eq!(images.len(), 2 * 3 * 16);
        }
        for workers in [2, 8] {
            assert!(pass(&loader(workers, view.clone())) == made, "{workers} workers");
        }
        // It is the replacing pair's own draw: equal to where the pair stands itself.
        let ((first, row), (other, _)) = ((at / 2, at % 2), ((at / 2 + 1) % 3, at % 2));
        let picture = |step: usize| &made[step].1[row * 48..(row + 1) * 48];
        assert_eq!(picture(first), picture(other));
        // A pass that begins later goes on as it would have.
        let plan = PassPlan { epoch: 2, pass: 0, two_views: false, first_step: 1, steps: 3 };
        let later: Vec<Vec<usize>> = one.pass(order, plan).map(|batch| batch.unwrap().pairs).collect();
        assert_eq!(later, made[1..].iter().map(|(pairs, ..)| pairs.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn processes_that_share_a_batch_make_its_rows_between_them() {
        let view = ViewAugment { image: Some(ImageAugmentConfig::default()), ..ViewAugment::default() };
        let plan = PassPlan { epoch: 2, pass: 0, two_views: false, first_step: 1, steps: 3 };
        let made = |loader: Loader| -> Vec<HostBatch> {
            loader.pass(loader.order(2, 0, None), plan).collect::<Result<_>>().unwrap()
        };
        let whole = made(loader(1, view.clone()));
        let parts = [0, 1].map(|rank| made(loader(2, view.clone()).shared(rank, 2).unwrap()));
        assert_eq!(whole.len(), 2);
        for (at, batch) in whole.iter().enumerate() {
            let [first, second] = [&parts[0][at], &parts[1][at]];
            assert_eq!(batch.view.images, [&*first.view.images, &second.view.images].concat());
            assert_eq!(batch.pairs, [&*first.pairs, &second.pairs].concat());
        }
        for processes in [3, 4] {
            let error = loader(1, view.clone()).shared(0, processes).err().unwrap().to_string();
            assert!(error.contains("--batch-size") && error.contains(&processes.to_string()), "{error}");
        }
    }

    #[test]
    fn a_panic_over_a_sample_is_a_counted_skip_and_the_pass_goes_on() {
        // Settings that `check` refuses: the blur's range is empty, and to draw from it panics.
        let image = ImageAugmentConfig { blur_sigma_min: 3.0, ..ImageAugmentConfig::default() };
        let loader = loader(2, ViewAugment { image: Some(image), ..ViewAugment::default() });
        let plan = PassPlan { epoch: 0, pass: 0, two_views: false, first_step: 0, steps: loader.steps_per_epoch() };
        let batches: Vec<HostBatch> = loader.pass((0..7).collect(), plan).collect::<Result<_>>().unwrap();
        assert_eq!(batches.len(), 3);
        for batch in batches {
            assert!(batch.pairs.is_empty() && batch.view.images.is_empty() && !batch.can_train());
            assert_eq!(batch.skips.total(), 2);
        }
    }

    #[test]
    fn a_patch_lies_at_its_corner_or_somewhere_else_in_each_draw() {
        let bright = |corner| -> BTreeSet<Vec<usize>> {
            let patch = Arc::new(RgbImage::from_pixel(2, 2, image::Rgb([255; 3])));
            let view = ViewAugment { overlay: Some(Overlay::Patch { patch, corner }), ..ViewAugment::default() };
            let loader = loader(1, view);
            let pictures =
                (1..=20).map(|draw| loader.look(vec![0], Some(draw), 1).next().unwrap().unwrap().view.images);
            pictures.map(|rgb| (0..16).filter(|at| rgb[3 * at] == 255).collect()).collect()
        };
        assert_eq!(bright(Some([1, 2])), BTreeSet::from([vec![9, 10, 13, 14]]));
        let anywhere = bright(None);
        assert!(anywhere.len() > 3 && anywhere.iter().all(|pixels| pixels.len() == 4), "{anywhere:?}");
    }
}
