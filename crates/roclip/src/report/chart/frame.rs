//! What all charts share: a title, two labelled axes with round ticks, a grid.

use crate::report::chart::axis::Axis;
use maud::{Markup, html};

pub const WIDTH: f64 = 460.0;
pub const HEIGHT: f64 = 290.0;
pub const LEFT: f64 = 52.0;
pub const TOP: f64 = 34.0;
pub const BOTTOM: f64 = 44.0;

pub struct Frame<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub x: Axis,
    pub y: Axis,
    /// Room for labels at the right.
    pub right: f64,
}

/// A coordinate: a tenth of a pixel is enough.
pub fn at(value: f64) -> String {
    format!("{value:.1}")
}

impl Frame<'_> {
    pub fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.low) / (self.x.high - self.x.low) * (self.end() - LEFT)
    }

    pub fn y(&self, value: f64) -> f64 {
        self.floor() - (value - self.y.low) / (self.y.high - self.y.low) * (self.floor() - TOP)
    }

    /// The right end of the x axis.
    pub fn end(&self) -> f64 {
        WIDTH - self.right
    }

    /// The lower end of the y axis.
    pub fn floor(&self) -> f64 {
        HEIGHT - BOTTOM
    }

    /// The chart with `behind` below the grid and `body` above it. `described` says in words what it shows.
    pub fn draw(&self, described: &str, behind: Markup, body: Markup) -> Markup {
        let (floor, end) = (self.floor(), self.end());
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(described) {
                text.title x=(LEFT) y="18" { (self.title) }
                (behind)
                @for (value, text) in self.y.ticks() {
                    line.grid x1=(LEFT) x2=(at(end)) y1=(at(self.y(value))) y2=(at(self.y(value))) {}
                    text.tick text-anchor="end" x=(LEFT - 6.0) y=(at(self.y(value) + 4.0)) { (text) }
                }
                @for (value, text) in self.x.ticks() {
                    line.axis-line x1=(at(self.x(value))) x2=(at(self.x(value))) y1=(at(floor)) y2=(at(floor + 4.0)) {}
                    text.tick text-anchor="middle" x=(at(self.x(value))) y=(at(floor + 17.0)) { (text) }
                }
                line.axis-line x1=(LEFT) x2=(at(end)) y1=(at(floor)) y2=(at(floor)) {}
                (body)
                text.axis text-anchor="middle" x=(at((LEFT + end) / 2.0)) y=(at(HEIGHT - 8.0)) { (self.x_label) }
                text.axis text-anchor="middle" transform={ "translate(13 " (at((TOP + floor) / 2.0)) ") rotate(-90)" } { (self.y_label) }
            }
        }
    }
}
