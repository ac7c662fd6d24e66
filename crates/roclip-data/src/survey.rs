//! What is in somebody's data: counts, and the sizes of some of its pictures.

use crate::picture::ImageLimits;
use crate::sample::Sample;
use crate::skip::SkipReport;
use std::collections::BTreeMap;

/// Pictures whose headers are read, spread over the data.
const SAMPLED: usize = 512;

/// What a set of samples has.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    pub pictures: usize,
    /// Those that have a caption.
    pub captioned: usize,
    pub captions: usize,
    /// The most captions of one picture.
    pub most_captions: usize,
    /// Words of all captions, for their mean length.
    pub words: usize,
    /// Pictures of each class; none where nothing is labelled.
    pub classes: BTreeMap<String, usize>,
    /// Pictures whose headers were read.
    pub sampled: usize,
    /// Shorter sides of those that can be used, in pixels, ascending.
    pub shorter_sides: Vec<u32>,
    /// Those that cannot be used, by reason.
    pub unusable: SkipReport,
}

impl Survey {
    /// Counts `samples` and reads the headers of some of their pictures.
    pub fn of(samples: &[Sample], limits: ImageLimits) -> Survey {
        let mut survey = Survey { pictures: samples.len(), ..Survey::default() };
        for sample in samples {
            let captions = sample.captions.len();
            survey.captioned += usize::from(captions > 0);
            survey.captions += captions;
            survey.most_captions = survey.most_captions.max(captions);
            survey.words += sample.captions.iter().map(|caption| caption.split_whitespace().count()).sum::<usize>();
            if let Some(class) = &sample.class {
                *survey.classes.entry(class.clone()).or_default() += 1;
            }
        }
        for sample in samples.iter().step_by(samples.len().div_ceil(SAMPLED).max(1)) {
            survey.sampled += 1;
            match sample.image.probe(limits) {
                Ok(probe) => survey.shorter_sides.push(probe.width.min(probe.height)),
                Err(skip) => survey.unusable.add(&sample.id, skip),
            }
        }
        survey.shorter_sides.sort_unstable();
        survey
    }

    /// The median of the shorter sides, in pixels; 0 where no picture could be used.
    pub fn median_side(&self) -> u32 {
        self.shorter_sides.get(self.shorter_sides.len() / 2).copied().unwrap_or(0)
    }

    /// Share of the sampled pictures that cannot be used.
    pub fn unusable_share(&self) -> f64 {
        self.unusable.total() as f64 / self.sampled.max(1) as f64
    }
}

/// What splits are called that are measured on where nobody asks for one, the best first.
pub const HELD_OUT: [&str; 5] = ["test", "val", "validation", "valid", "dev"];

/// Samples of each split; those of none under the empty word.
pub fn splits(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample.split.clone().unwrap_or_default()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::ImageBytes;
    use image::RgbImage;
    use std::io::Cursor;

    fn sample(number: usize, bytes: Vec<u8>) -> Sample {
        let mut sample = Sample::new("data".into(), format!("{number}"), ImageBytes::Memory(bytes.into()));
        sample.captions = vec!["a dog".into(); number % 3];
        sample.class = number.is_multiple_of(2).then(|| "dog".into());
        sample.split = number.is_multiple_of(2).then(|| "train".into());
        sample
    }

    #[test]
    fn a_survey_counts_and_reads_some_headers() {
        let mut png = Cursor::new(Vec::new());
        RgbImage::new(40, 20).write_to(&mut png, image::ImageFormat::Png).unwrap();
        let mut samples: Vec<Sample> = (0..1500).map(|number| sample(number, png.get_ref().clone())).collect();
        samples[0] = sample(0, b"no picture".to_vec());
        let survey = Survey::of(&samples, ImageLimits::default());
        assert_eq!((survey.pictures, survey.captioned, survey.captions, survey.most_captions), (1500, 1000, 1500, 2));
        assert_eq!((survey.words, survey.classes["dog"]), (3000, 750));
        assert_eq!((survey.sampled, survey.unusable.total(), survey.median_side()), (500, 1, 20));
        assert_eq!(splits(&samples), BTreeMap::from([(String::new(), 750), ("train".to_owned(), 750)]));
        assert_eq!(Survey::of(&[], ImageLimits::default()).median_side(), 0);
    }
}
