//! Charts as inline SVG: no script, no network.

use std::fmt::Write;

/// A named line of points.
pub struct Series {
    pub name: String,
    /// A CSS class that sets the colour.
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub series: &'a [Series],
    /// Fixed upper end of the y axis; from the data when absent.
    pub y_max: Option<f64>,
    /// x positions to shade (matching epochs).
    pub bands: &'a [f64],
    /// Draw every point, not only the line.
    pub dots: bool,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 40.0;

impl Chart<'_> {
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let x_max = points().map(|p| p.0).fold(1e-9, f64::max);
        let y_max = self.y_max.unwrap_or_else(|| points().map(|p| p.1).fold(1e-9, f64::max) * 1.05);
        let x = |value: f64| LEFT + value / x_max * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - TOP - BOTTOM);
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(self.title));
        let _ = write!(svg, "<text x=\"{LEFT}\" y=\"16\" class=\"title\">{}</text>", escape(self.title));
        for band in self.bands {
            let half = 0.5 / x_max * (WIDTH - LEFT - RIGHT);
            let (from, to) = ((x(*band) - half).max(LEFT), (x(*band) + half).min(WIDTH - RIGHT));
            let height = HEIGHT - TOP - BOTTOM;
            let _ = write!(
                svg,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{height}\"/>",
                to - from
            );
        }
        for tick in 0..=4 {
            let (share, bottom) = (f64::from(tick) / 4.0, HEIGHT - BOTTOM);
            let (at_y, at_x) = (y(y_max * share), x(x_max * share));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at_y:.1}\" y2=\"{at_y:.1}\"/>",
                WIDTH - RIGHT
            );
            let _ = write!(
                svg,
                "<text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 4.0,
                at_y + 3.0,
                number(y_max * share)
            );
            let _ = write!(
                svg,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{at_x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 13.0,
                number(x_max * share)
            );
        }
        for series in self.series {
            let path: Vec<String> =
                series.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(py.min(y_max)))).collect();
            let _ = write!(
                svg,
                "<polyline class=\"line {}\" points=\"{}\"><title>{}</title></polyline>",
                series.class,
                path.join(" "),
                escape(&series.name)
            );
            if self.dots {
                for (number, (px, py)) in series.points.iter().enumerate() {
                    let last = number + 1 == series.points.len();
                    let radius = if last { 5.0 } else { 2.2 };
                    let _ = write!(
                        svg,
                        "<circle class=\"dot {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{} epoch {}: {}</title></circle>",
                        series.class,
                        x(*px),
                        y(*py),
                        escape(&series.name),
                        number + 1,
                        number_pair(*px, *py)
                    );
                }
            }
        }
        let _ = write!(
            svg,
            "<text class=\"axis\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(self.x_label)
        );
        let _ = write!(
            svg,
            "<text class=\"axis\" text-anchor=\"middle\" transform=\"translate(11 {:.1}) rotate(-90)\">{}</text></svg>",
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escape(self.y_label)
        );
        svg
    }
}

/// Overlaid histograms over [-1, 1], each scaled to its own total.
pub fn histogram(title: &str, series: &[(String, String, Vec<u32>)]) -> String {
    let (width, height, base) = (220.0, 110.0, 92.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" class=\"small\" role=\"img\"><text x=\"4\" y=\"11\" class=\"tick\">{}</text>",
        escape(title)
    );
    for (name, class, bins) in series {
        let total = bins.iter().sum::<u32>().max(1);
        let step = width / bins.len().max(1) as f64;
        for (at, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let bar = (f64::from(*count) / f64::from(total) * 2.0).min(1.0) * (base - 16.0);
            let _ = write!(
                svg,
                "<rect class=\"bar {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{step:.1}\" height=\"{bar:.1}\"><title>{}: {count} of {total}</title></rect>",
                at as f64 * step,
                base - bar,
                escape(name)
            );
        }
    }
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"0\" x2=\"{width}\" y1=\"{base}\" y2=\"{base}\"/><text class=\"tick\" x=\"2\" y=\"104\">-1</text><text class=\"tick\" text-anchor=\"middle\" x=\"110\" y=\"104\">0</text><text class=\"tick\" text-anchor=\"end\" x=\"218\" y=\"104\">1</text></svg>"
    );
    svg
}

fn number(value: f64) -> String {
    if value >= 10.0 || value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn number_pair(x: f64, y: f64) -> String {
    format!("{x:.1}, {y:.1}")
}

/// Text that cannot end an element or an attribute, whatever its quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_points_stay_inside() {
        let series = [Series { name: "<a>'".into(), class: "c0".into(), points: vec![(0.0, 0.0), (4.0, 2.0)] }];
        let chart = Chart {
            title: "a & b",
            x_label: "x",
            y_label: "y",
            series: &series,
            y_max: None,
            bands: &[2.0],
            dots: true,
        };
        let svg = chart.svg();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;a&gt;&#39;") && !svg.contains("<a>"));
        assert!(svg.contains("448.0,"), "the largest x lies on the right edge");
    }
}
