//! Pictures, as SVG with plain text: any viewer's font will do.

mod accuracy;
mod costs;
mod differences;
mod growth;
mod latency;

pub(super) use accuracy::{Picture, Place};
pub(super) use costs::scores;
pub use costs::{CostAxis, Told};
pub(super) use differences::differences;
pub use growth::{Growth, Ideal, growth_svg};
pub use latency::{Latency, latency_svg};

use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

/// Pixels of a panel.
const PANEL: (u32, u32) = (460, 330);
/// Pixels above the panels, for title and subtitle.
const HEADER: u32 = 58;
/// Colours that colour-blind readers tell apart (Okabe & Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws into a text.
fn draw(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let painted = root.fill(&WHITE).map_err(told).and_then(|()| paint(&root));
        painted.and_then(|()| root.present().map_err(told)).map_err(|got| Error::Argument {
            op: "plot",
            expected: "a picture".into(),
            got,
        })?;
    }
    Ok(svg)
}

type Drawn<T = ()> = std::result::Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes title and subtitle; the area below them.
fn header<'a>(root: &Area<'a>, title: &str, subtitle: &str) -> Drawn<Area<'a>> {
    let (head, body) = root.split_vertically(HEADER);
    let write = |text: &str, size: i32, y: i32| {
        let style = (FONT, size).into_font().color(&BLACK);
        head.draw(&Text::new(text.to_string(), (14, y), style)).map_err(told)
    };
    write(title, 19, 10)?;
    write(subtitle, 13, 35)?;
    Ok(body)
}

#[derive(Default)]
struct Bounds(Option<(f64, f64)>);

impl Bounds {
    fn include(&mut self, value: f64) {
        if value.is_finite() {
            let (low, high) = self.0.unwrap_or((value, value));
            self.0 = Some((low.min(value), high.max(value)));
        }
    }

    fn padded(&self) -> Range<f64> {
        let (low, high) = self.0.unwrap_or((0.0, 1.0));
        let margin = if high > low { 0.06 * (high - low) } else { 0.05 * high.abs().max(1.0) };
        low - margin..high + margin
    }
}

/// Digits after the point that tell about eight numbers of a range apart.
fn digits(range: &Range<f64>) -> usize {
    let step = (range.end - range.start) / 8.0;
    (-step.log10()).ceil().clamp(0.0, 9.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_axes_have_the_digits_that_tell_them_apart() {
        let found = [0.0..100.0, 0.0..8.0, 90.0..95.0, 0.041..0.049].map(|range| digits(&range));
        assert_eq!(found, [0, 0, 1, 3]);
    }

    #[test]
    fn bounds_have_a_margin_even_around_one_value() {
        let mut bounds = Bounds::default();
        bounds.include(f64::NAN);
        bounds.include(50.0);
        assert_eq!(bounds.padded(), 47.5..52.5);
        bounds.include(60.0);
        assert_eq!(bounds.padded(), 49.4..60.6);
    }
}
