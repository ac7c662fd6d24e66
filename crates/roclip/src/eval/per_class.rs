//! Recall averaged over classes: the field's measure where some classes have many more test images than others, and plain accuracy
//! mostly says how readily a model names the largest (Kornblith et al. 2019).

use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A classifier's accuracy over images, and its mean over classes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub struct Accuracy {
    #[serde(flatten)]
    pub top1: Rate,
    /// None where no image was looked at.
    pub mean_per_class_recall: Option<f64>,
    /// Test images that could not be used.
    #[serde(default)]
    pub skipped: usize,
}

/// The mean over classes of the share of each class's images that were named rightly. `outcomes`: a class and whether it was named.
/// None without outcomes.
pub fn mean_per_class_recall<C: Ord>(outcomes: impl IntoIterator<Item = (C, bool)>) -> Option<f64> {
    let mut by_class: BTreeMap<C, (usize, usize)> = BTreeMap::new();
    for (class, hit) in outcomes {
        let (hits, n) = by_class.entry(class).or_default();
        *n += 1;
        *hits += usize::from(hit);
    }
    let sum = by_class.values().map(|(hits, n)| *hits as f64 / *n as f64).sum::<f64>();
    (!by_class.is_empty()).then(|| sum / by_class.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Naming everything after the largest class is right for most images and for one class in three.
    #[test]
    fn the_largest_class_counts_once() {
        let truth = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let recall = mean_per_class_recall(truth.map(|class| (class, class == 0))).unwrap();
        assert!((recall - 1.0 / 3.0).abs() < 1e-12, "{recall}");
        let half = mean_per_class_recall(truth.iter().enumerate().map(|(at, class)| (class, at % 2 == 0))).unwrap();
        assert!((half - (0.5 + 1.0 + 0.0) / 3.0).abs() < 1e-12, "{half}");
        assert_eq!(mean_per_class_recall::<u8>([]), None);
    }
}
