//! Histograms of several kinds of pairs over one another: the first filled, the others as outlines.

use crate::report::chart::axis::Axis;
use crate::report::chart::frame::{Frame, at};
use maud::{Markup, html};

/// One kind of pairs.
pub struct Layer {
    pub name: String,
    /// CSS class of its colour and dashes.
    pub class: String,
    /// Counts in equal bins over [-1, 1].
    pub bins: Vec<u32>,
}

/// Bins that a chart shows at most of [-1, 1].
const SHOWN: usize = 80;

/// Shares of each layer's own total by cosine similarity.
pub fn histogram(title: &str, layers: &[Layer]) -> Markup {
    let merged: Vec<(&Layer, Vec<f64>)> = layers.iter().map(|layer| (layer, shares(&layer.bins))).collect();
    let highest = merged.iter().flat_map(|(_, shares)| shares).copied().fold(0.0, f64::max);
    let edge = |at: usize, of: usize| 2.0 * at as f64 / of.max(1) as f64 - 1.0;
    let filled = |(_, shares): &(&Layer, Vec<f64>)| {
        let at = |at: Option<usize>| at.map(|at| (at, shares.len()));
        Some((at(shares.iter().position(|share| *share > 0.0))?, at(shares.iter().rposition(|share| *share > 0.0))?))
    };
    let ends: Vec<_> = merged.iter().filter_map(filled).collect();
    let low = ends.iter().map(|((first, of), _)| edge(*first, *of)).fold(f64::INFINITY, f64::min);
    let high = ends.iter().map(|(_, (last, of))| edge(last + 1, *of)).fold(f64::NEG_INFINITY, f64::max);
    let frame = Frame {
        title,
        x_label: "cosine similarity",
        y_label: "share of its pairs, %",
        x: Axis::over(low, high),
        y: Axis::over(0.0, highest.max(1.0)),
        right: 14.0,
    };
    let outline = |shares: &[f64]| {
        let mut points = Vec::new();
        for (bin, share) in shares.iter().enumerate() {
            let (from, to) = (edge(bin, shares.len()), edge(bin + 1, shares.len()));
            if to <= frame.x.low + 1e-9 || from >= frame.x.high - 1e-9 {
                continue;
            }
            points.push((frame.x(from), frame.y(*share)));
            points.push((frame.x(to), frame.y(*share)));
        }
        let floor = frame.floor();
        let ends = [points.first().map(|point| (point.0, floor)), points.last().map(|point| (point.0, floor))];
        let [first, last] = ends;
        first.into_iter().chain(points).chain(last).map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
    };
    let body = html! {
        @for (layer, shares) in &merged {
            polyline.outline.(layer.class) points=(outline(shares)) { title { (layer.name) } }
        }
        @for ((layer, _), number) in merged.iter().zip(0..) {
            @let y = 48.0 + 17.0 * f64::from(number);
            line.outline.(layer.class) x1="62" x2="84" y1=(at(y - 4.0)) y2=(at(y - 4.0)) {}
            text.label x="90" y=(at(y)) { (layer.name) " (" (layer.bins.iter().sum::<u32>()) ")" }
        }
    };
    frame.draw(title, html! {}, body)
}

/// Percent of the total in each bin, neighbouring bins taken together where there are many.
fn shares(bins: &[u32]) -> Vec<f64> {
    let total = f64::from(bins.iter().sum::<u32>().max(1));
    let together = bins.len().div_ceil(SHOWN).max(1);
    bins.chunks(together).map(|chunk| 100.0 * f64::from(chunk.iter().sum::<u32>()) / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_bins_are_taken_together_and_shares_add_up() {
        let bins: Vec<u32> = (0..200).map(|at| u32::from(at == 120) * 3 + u32::from(at == 121)).collect();
        let shares = shares(&bins);
        assert!(shares.len() <= SHOWN && (shares.iter().sum::<f64>() - 100.0).abs() < 1e-9);
        let layer = |name: &str| Layer { name: name.into(), class: "kind-clean".into(), bins: bins.clone() };
        let svg = histogram("<t>", &[layer("clean"), layer("<b>")]).into_string();
        assert!(svg.contains("&lt;b&gt; (4)") && !svg.contains("<b>") && !svg.contains("NaN"), "{svg}");
        assert!(!histogram("empty", &[]).into_string().contains("NaN"));
    }
}
