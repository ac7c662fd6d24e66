//! Lines over a common axis, named at their ends. Lines that coincide stay visible: each is drawn a little apart from the one before, with
//! dashes and markers of its own.

use crate::report::chart::axis::Axis;
use crate::report::chart::frame::{Frame, TOP, at};
use crate::report::chart::points::{Marker, marker};
use maud::{Markup, html};

/// A named line of points.
pub struct Series {
    pub name: String,
    /// A few letters for the line's end.
    pub short: String,
    /// CSS classes of colour and dashes.
    pub class: String,
    pub marker: Marker,
    pub points: Vec<(f64, f64)>,
    /// What a point is called where it is not its place on the x axis: its epoch.
    pub point_names: Vec<String>,
}

pub struct LineChart<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub series: &'a [Series],
    pub x: Axis,
    pub y: Axis,
    /// x positions to shade (matching epochs).
    pub bands: &'a [f64],
    /// Marks every point, names some, and says by arrows which way time runs.
    pub path: bool,
    /// Draws the diagonal.
    pub diagonal: bool,
}

/// Between two labels at the right edge, in pixels, and between the lines of one.
const LABEL_GAP: f64 = 15.0;
const LINE_GAP: f64 = 12.0;
/// Between two lines that coincide, in pixels.
const APART: f64 = 1.8;
/// The same where every point is marked.
const PATHS_APART: f64 = 5.0;
/// Between two names of points, in pixels.
const NAMES_APART: f64 = 15.0;
/// Letters of a line of a label at a line's end, fewest and most that room is made for.
const LABEL_LETTERS: std::ops::RangeInclusive<usize> = 17..=22;
/// Lines of a label. What is longer is cut.
const LABEL_LINES: usize = 3;
/// Width of a letter of a label, and what stands before it.
const LETTER: f64 = 7.0;
const BEFORE_LABEL: f64 = 19.0;
/// Markers on a line.
const MARKERS: usize = 5;

/// Curves of detectors: poison found over clean pairs lost, both in percent, with the diagonal of chance. Nothing without curves.
pub fn detectors(title: &str, x_label: &str, series: &[Series]) -> Markup {
    percent_by_percent(title, (x_label, "poison found, %"), series, true)
}

/// The other curves of detectors: the share of poison among what is taken for poison over the poison found, both in percent. Nothing without
/// curves.
pub fn precisions(title: &str, series: &[Series]) -> Markup {
    percent_by_percent(title, ("poison found, %", "poison among these, %"), series, false)
}

fn percent_by_percent(title: &str, (x_label, y_label): (&str, &str), series: &[Series], diagonal: bool) -> Markup {
    if series.is_empty() {
        return html! {};
    }
    LineChart {
        title,
        x_label,
        y_label,
        series,
        x: Axis::over(0.0, 100.0),
        y: Axis::over(0.0, 100.0),
        bands: &[],
        path: false,
        diagonal,
    }
    .draw()
}

impl LineChart<'_> {
    pub fn draw(&self) -> Markup {
        let names: Vec<Vec<String>> = self.series.iter().map(|series| label_lines(&series.short)).collect();
        let letters = names.iter().flatten().map(|line| line.chars().count()).max().unwrap_or(0);
        let letters = letters.clamp(*LABEL_LETTERS.start(), *LABEL_LETTERS.end());
        let frame = Frame {
            title: self.title,
            x_label: self.x_label,
            y_label: self.y_label,
            x: self.x.clone(),
            y: self.y.clone(),
            right: BEFORE_LABEL + LETTER * letters as f64,
        };
        let count = self.series.len() as f64;
        let step = if self.path { PATHS_APART } else { APART };
        let paths: Vec<Vec<(f64, f64)>> = (0..)
            .zip(self.series)
            .map(|(number, series)| {
                let apart = (f64::from(number) - (count - 1.0) / 2.0) * step;
                let place = |(x, y): &(f64, f64)| {
                    let (low, high) = (self.y.low, self.y.high);
                    (frame.x(*x), (frame.y(y.clamp(low, high)) + apart).clamp(TOP - 3.0, frame.floor() + 3.0 + step))
                };
                series.points.iter().map(place).collect()
            })
            .collect();
        let ends: Vec<f64> = paths.iter().map(|path| path.last().map_or(0.0, |point| point.1)).collect();
        let heights: Vec<f64> =
            names.iter().map(|lines| LABEL_GAP + LINE_GAP * lines.len().saturating_sub(1) as f64).collect();
        let labels = spread(&ends, &heights, TOP + 2.0, frame.floor());
        let body = html! {
            @if self.diagonal {
                line.reference x1=(at(frame.x(self.x.low))) y1=(at(frame.y(self.y.low))) x2=(at(frame.x(self.x.high)))
                    y2=(at(frame.y(self.y.high))) {}
            }
            @for (((series, path), label_y), name) in self.series.iter().zip(&paths).zip(labels).zip(&names) {
                (self.line(series, path))
                (end_label(series, name, path, (frame.end(), label_y)))
            }
            @for (name, (x, y)) in self.point_names(&paths) { text.point x=(at(x)) y=(at(y)) { (name) } }
        };
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        frame.draw(&format!("{}: {}", self.title, names.join(", ")), self.shades(&frame), body)
    }

    /// Names of some points with their places: the last of each line first, then the first and every fifth, where there is room.
    fn point_names<'b>(&'b self, paths: &[Vec<(f64, f64)>]) -> Vec<(&'b str, (f64, f64))> {
        let mut placed: Vec<(&str, (f64, f64))> = Vec::new();
        if !self.path {
            return placed;
        }
        let wanted = |number: usize, last: usize| [number == last, number == 0 || (number + 1).is_multiple_of(5)];
        for turn in 0..2 {
            for (series, path) in self.series.iter().zip(paths) {
                let last = path.len().saturating_sub(1);
                let turns = |number: usize| wanted(number, last).get(turn).copied().unwrap_or(false);
                let points = series.point_names.iter().zip(path).enumerate().filter(|(number, _)| turns(*number));
                for (_, (name, (x, y))) in points {
                    let place = (x + 5.0, if *y < TOP + 12.0 { y + 15.0 } else { y - 6.0 });
                    let near = |(_, (x, y)): &(&str, (f64, f64))| (x - place.0).hypot(y - place.1) < NAMES_APART;
                    if !placed.iter().any(near) {
                        placed.push((name, place));
                    }
                }
            }
        }
        placed
    }

    fn shades(&self, frame: &Frame) -> Markup {
        html! {
            @for band in self.bands {
                @let (from, to) = (frame.x(band - 0.5).max(frame.x(self.x.low)), frame.x(band + 0.5).min(frame.end()));
                @if to > from {
                    rect.band x=(at(from)) y=(TOP) width=(at(to - from)) height=(at(frame.floor() - TOP)) {}
                }
            }
        }
    }

    fn line(&self, series: &Series, path: &[(f64, f64)]) -> Markup {
        let points: Vec<String> = path.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let every = if self.path { 1 } else { path.len().div_ceil(MARKERS).max(1) };
        let last = path.len().saturating_sub(1);
        let said = |number: usize| {
            let name = series.point_names.get(number).map(|name| format!(", {name}")).unwrap_or_default();
            let value = series.points.get(number).map(|(x, y)| format!("{x:.1}, {y:.1}")).unwrap_or_default();
            format!("{}{name}: {value}", series.name)
        };
        html! {
            polyline.line.(series.class).faint[self.path] points=(points.join(" ")) { title { (series.name) } }
            @for (number, place) in path.iter().enumerate().filter(|(number, _)| number % every == 0 || *number == last) {
                @let radius = match (self.path, number == last) { (true, true) => 5.5, (true, false) => 2.2, _ => 3.2 };
                (marker(series.marker, &series.class, *place, radius, &said(number)))
            }
            @if self.path {
                @for pair in path.windows(2) { @if let [from, to] = pair { (arrow(*from, *to, &series.class)) } }
            }
        }
    }
}

/// A small head in the middle of a long enough segment.
fn arrow(from: (f64, f64), to: (f64, f64), class: &str) -> Markup {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    if length < 20.0 {
        return html! {};
    }
    let (ux, uy) = (dx / length * 4.5, dy / length * 4.5);
    let (x, y) = (from.0 + dx / 2.0, from.1 + dy / 2.0);
    let corners = [(x + ux, y + uy), (x - ux - uy * 0.8, y - uy + ux * 0.8), (x - ux + uy * 0.8, y - uy - ux * 0.8)];
    let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    html! { polygon.dot.(class) points=(points.join(" ")) {} }
}

/// `short` in lines that there is room for, broken between words where it can be.
fn label_lines(short: &str) -> Vec<String> {
    let most = *LABEL_LETTERS.end();
    let mut lines = vec![String::new()];
    for word in short.split(' ') {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(most) {
            let Some(line) = lines.last_mut() else { continue };
            let used = line.chars().count();
            match used {
                0 => line.extend(piece),
                _ if used + 1 + piece.len() <= most => {
                    line.push(' ');
                    line.extend(piece);
                }
                _ => lines.push(piece.iter().collect()),
            }
        }
    }
    if lines.len() > LABEL_LINES {
        lines.truncate(LABEL_LINES);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(most - 1).chain(['…']).collect();
        }
    }
    lines
}

/// The label of `series` at `end` of the x axis, its first line at the height `y`.
fn end_label(series: &Series, name: &[String], path: &[(f64, f64)], (end, y): (f64, f64)) -> Markup {
    let Some((last_x, last_y)) = path.last() else { return html! {} };
    html! {
        line.leader.(series.class) x1=(at(last_x + 4.0)) y1=(at(*last_y)) x2=(at(end + 8.0)) y2=(at(y)) {}
        (marker(series.marker, &series.class, (end + 12.0, y), 3.2, &series.name))
        text.label x=(at(end + BEFORE_LABEL)) y=(at(y + 4.0)) {
            title { (series.name) }
            @for (number, line) in name.iter().enumerate() {
                @if number == 0 { (line) } @else { tspan x=(at(end + BEFORE_LABEL)) dy=(at(LINE_GAP)) { (line) } }
            }
        }
    }
}

/// The places of labels that belong at `wanted`: in the same order, each so high as `heights` has it, between `low` and `high` where they
/// fit.
fn spread(wanted: &[f64], heights: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = wanted.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let height = |place: usize| heights.get(place).copied().unwrap_or(LABEL_GAP);
    let mut next = low;
    for (place, y) in &mut order {
        *y = y.max(next);
        next = *y + height(*place);
    }
    // The first line of the lowest label stands so much higher as it has further ones.
    let mut most = high + LABEL_GAP;
    for (place, y) in order.iter_mut().rev() {
        *y = y.min(most - height(*place));
        most = *y;
    }
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, y)| y).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series {
            name: name.into(),
            short: name.into(),
            class: "colour-blue dash-1".into(),
            marker: Marker::Circle,
            points: points.to_vec(),
            point_names: Vec::new(),
        }
    }

    #[test]
    fn lines_that_coincide_are_drawn_apart_and_named_apart() {
        let flat = [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)];
        let lines = [series("<first>", &flat), series("second", &flat)];
        let chart = LineChart {
            title: "a & b",
            x_label: "epoch",
            y_label: "%",
            series: &lines,
            x: Axis::whole(1.0, 3.0),
            y: Axis::over(0.0, 100.0),
            bands: &[2.0],
            path: false,
            diagonal: false,
        };
        let svg = chart.draw().into_string();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;first&gt;") && !svg.contains("<first>"));
        let drawn: std::collections::BTreeSet<&str> = svg
            .split("<polyline")
            .skip(1)
            .filter_map(|rest| rest.split("points=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(drawn.len(), 2, "{drawn:?}");
    }

    #[test]
    fn a_long_label_takes_further_lines_and_is_not_cut() {
        assert_eq!(label_lines("CLIP, suspects dropped"), ["CLIP, suspects dropped"]);
        assert_eq!(label_lines("0.53 CLIP, suspects dropped"), ["0.53 CLIP, suspects", "dropped"]);
        assert_eq!(label_lines(&"W".repeat(30)), ["W".repeat(22), "W".repeat(8)]);
        let endless = label_lines(&"W".repeat(120));
        assert!(endless.len() == LABEL_LINES && endless.iter().all(|line| line.chars().count() <= 22), "{endless:?}");
        assert!(endless[2].ends_with('…'));
        // The lowest of two labels leaves room for its second line.
        assert_eq!(spread(&[246.0, 246.0], &[27.0, 15.0], 36.0, 246.0), [219.0, 246.0]);
        assert_eq!(spread(&[246.0], &[27.0], 36.0, 246.0), [234.0]);
    }

    #[test]
    fn labels_keep_their_order_and_their_distance() {
        let places = spread(&[246.0, 246.0, 40.0, 246.0], &[LABEL_GAP; 4], 36.0, 246.0);
        assert_eq!(places[2], 40.0);
        let mut low: Vec<f64> = [places[0], places[1], places[3]].to_vec();
        assert!(low.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        low.sort_by(f64::total_cmp);
        assert!(low.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_GAP - 1e-9) && low[2] <= 246.0, "{places:?}");
    }
}
