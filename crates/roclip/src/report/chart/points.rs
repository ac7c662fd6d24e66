//! Markers, and the charts that are made of them: a scatter, and differences with their intervals.

use crate::report::chart::axis::Axis;
use crate::report::chart::frame::{Frame, HEIGHT, LEFT, TOP, WIDTH, at};
use maud::{Markup, html};

/// A shape, so that colour is never the only cue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Plus,
}

impl Marker {
    pub const ALL: [Marker; 6] =
        [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Cross, Marker::Plus];
}

/// `shape` around `(x, y)` in the colour of the CSS class `class`.
pub fn marker(shape: Marker, class: &str, (x, y): (f64, f64), radius: f64, title: &str) -> Markup {
    let polygon = |corners: &[(f64, f64)]| {
        let points: Vec<String> =
            corners.iter().map(|(a, b)| format!("{:.1},{:.1}", x + a * radius, y + b * radius)).collect();
        html! { polygon.dot.(class) points=(points.join(" ")) { title { (title) } } }
    };
    let strokes = |strokes: [[f64; 4]; 2]| {
        html! {
            g {
                title { (title) }
                @for [x1, y1, x2, y2] in strokes {
                    line.stroke.(class) x1=(at(x + x1 * radius)) y1=(at(y + y1 * radius)) x2=(at(x + x2 * radius))
                        y2=(at(y + y2 * radius)) {}
                }
            }
        }
    };
    match shape {
        Marker::Circle => html! { circle.dot.(class) cx=(at(x)) cy=(at(y)) r=(at(radius)) { title { (title) } } },
        Marker::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        Marker::Triangle => polygon(&[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)]),
        Marker::Diamond => polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
        Marker::Cross => strokes([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]]),
        Marker::Plus => strokes([[-1.2, 0.0, 1.2, 0.0], [0.0, -1.2, 0.0, 1.2]]),
    }
}

pub struct Dot {
    pub x: f64,
    pub y: f64,
    pub marker: Marker,
    pub class: String,
    pub title: String,
}

/// Dots in a plane whose axes have one scale.
pub fn scatter(title: &str, [x_label, y_label]: [&str; 2], dots: &[Dot]) -> Markup {
    let furthest = |value: fn(&Dot) -> f64| {
        let values = dots.iter().map(value);
        Axis::over(values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
    };
    let frame = Frame { title, x_label, y_label, x: furthest(|dot| dot.x), y: furthest(|dot| dot.y), right: 14.0 };
    let body = html! {
        @for dot in dots {
            (marker(dot.marker, &dot.class, (frame.x(dot.x), frame.y(dot.y)), 3.4, &dot.title))
        }
    };
    frame.draw(&format!("{title}: {} images", dots.len()), html! {}, body)
}

/// One row of [`differences`].
pub struct Difference {
    pub label: String,
    pub class: String,
    /// One a seed.
    pub values: Vec<f64>,
    pub mean: f64,
    /// Absent where one seed gives none.
    pub interval: Option<(f64, f64)>,
}

/// Seeds as dots, their mean as a bar, its interval as a line; zero is marked.
pub fn differences(title: &str, x_label: &str, rows: &[Difference]) -> Markup {
    let all = || {
        rows.iter().flat_map(|row| row.values.iter().copied().chain(row.interval.iter().flat_map(|(l, h)| [*l, *h])))
    };
    let axis = Axis::over(all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let (row_height, gap) = (46.0, 10.0);
    let floor = TOP + gap + rows.len() as f64 * row_height;
    let height = floor + 44.0;
    let x = |value: f64| LEFT - 36.0 + (value - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT + 16.0);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (at(height.min(HEIGHT * 4.0))) } role="img" aria-label=(title) {
            text.title x="16" y="18" { (title) }
            @for (value, text) in axis.ticks() {
                line.grid x1=(at(x(value))) x2=(at(x(value))) y1=(TOP) y2=(at(floor)) {}
                text.tick text-anchor="middle" x=(at(x(value))) y=(at(floor + 16.0)) { (text) }
            }
            line.axis-line x1=(at(x(0.0))) x2=(at(x(0.0))) y1=(TOP) y2=(at(floor)) {}
            @for (row, number) in rows.iter().zip(0..) {
                @let y = TOP + gap + f64::from(number) * row_height + 28.0;
                text.tick x="18" y=(at(y - 14.0)) { (row.label) }
                @if let Some((low, high)) = row.interval {
                    line.stroke.(row.class) x1=(at(x(low))) x2=(at(x(high))) y1=(at(y)) y2=(at(y)) {
                        title { (format!("95 % interval {} to {}", signed(low), signed(high))) }
                    }
                }
                line.stroke.(row.class) x1=(at(x(row.mean))) x2=(at(x(row.mean))) y1=(at(y - 7.0)) y2=(at(y + 7.0)) {
                    title { (format!("mean {}", signed(row.mean))) }
                }
                @for value in &row.values {
                    (marker(Marker::Circle, &row.class, (x(*value), y), 3.6, &signed(*value)))
                }
            }
            text.axis text-anchor="middle" x=(at(WIDTH / 2.0)) y=(at(floor + 36.0)) { (x_label) }
        }
    }
}

/// `+7.1`, and never `-0.0`.
pub fn signed(points: f64) -> String {
    let text = format!("{points:+.1}");
    if text == "-0.0" { "+0.0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_negative_zero() {
        assert_eq!([-0.0, -0.04, 0.04, -0.06, 7.1].map(signed), ["+0.0", "+0.0", "+0.0", "-0.1", "+7.1"]);
    }
}
