//! How time grows, beside how it should.

use super::{Area, COLORS, Drawn, FONT, GRID, PANEL, draw, header, told};
use crate::Result;
use plotters::coord::combinators::BindKeyPoints;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Time along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// What there is more and more of.
    pub axis: String,
    /// What takes the time.
    pub what: String,
    /// How time should grow.
    pub ideal: Ideal,
    /// Value and seconds, by ascending value.
    pub points: Vec<[f64; 2]>,
}

/// How time should grow, from the first point on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ideal {
    /// As the value.
    Linear,
    /// Not at all.
    Flat,
    /// It falls as the value grows.
    Inverse,
}

impl Growth {
    /// The ideal seconds of each point.
    pub fn ideal_seconds(&self) -> Vec<f64> {
        let [first, seconds] = self.points.first().copied().unwrap_or([1.0, 0.0]);
        let of = |value: f64| match self.ideal {
            Ideal::Linear => seconds * value / first,
            Ideal::Flat => seconds,
            Ideal::Inverse => seconds * first / value,
        };
        self.points.iter().map(|[value, _]| of(*value)).collect()
    }
}

/// A panel for each, both axes logarithmic; the ideal is dashed.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub fn growth_svg(all: &[Growth], note: &str) -> Result<String> {
    let columns = all.len().clamp(1, 3);
    let rows = all.len().div_ceil(columns).max(1);
    let (width, height) = (PANEL.0 * columns as u32, super::HEADER + PANEL.1 * rows as u32);
    draw((width, height), |root| {
        let body = header(root, "How time grows", note)?;
        for (area, growth) in body.split_evenly((rows, columns)).iter().zip(all) {
            panel(area, growth)?;
        }
        Ok(())
    })
}

fn panel(area: &Area<'_>, growth: &Growth) -> Drawn {
    let ideal = growth.ideal_seconds();
    let milliseconds = || growth.points.iter().map(|[_, seconds]| 1e3 * seconds);
    let x = around(growth.points.iter().map(|[value, _]| *value), 1.2);
    let y = around(milliseconds().chain(ideal.iter().map(|seconds| 1e3 * seconds)), 1.6);
    let mut chart = ChartBuilder::on(area)
        .caption(&growth.what, (FONT, 15))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(
            x.log_scale().with_key_points(growth.points.iter().map(|[value, _]| *value).collect()),
            y.clone().log_scale().with_key_points(round_values(y)),
        )
        .map_err(told)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .x_desc(&growth.axis)
        .y_desc("ms")
        .x_label_formatter(&|value| format!("{value}"))
        .y_label_formatter(&|value| format!("{value}"))
        .label_style((FONT, 12))
        .draw()
        .map_err(told)?;
    let values = || growth.points.iter().map(|[value, _]| *value);
    let dashed = values().zip(ideal.iter().map(|seconds| 1e3 * seconds));
    chart.draw_series(DashedLineSeries::new(dashed, 6, 4, BLACK.stroke_width(1))).map_err(told)?;
    let found = values().zip(milliseconds());
    chart.draw_series(LineSeries::new(found.clone(), COLORS[0].stroke_width(2))).map_err(told)?;
    for (value, ms) in found {
        let dot = EmptyElement::at((value, ms))
            + Circle::new((0, 0), 3, COLORS[0].filled())
            + Text::new(four_digits(ms), (5, 4), (FONT, 12));
        chart.draw_series(std::iter::once(dot)).map_err(told)?;
    }
    Ok(())
}

/// A positive number to four digits, or to its last whole one.
fn four_digits(value: f64) -> String {
    let before = value.log10().floor() as i32 + 1;
    format!("{value:.*}", (4 - before).clamp(0, 3) as usize)
}

/// 1, 2 and 5 times powers of ten.
fn round_values(range: Range<f64>) -> Vec<f64> {
    let (low, high) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let decade = |power: i32| [1.0, 2.0, 5.0].map(|first| first * 10.0_f64.powi(power));
    (low..=high).flat_map(decade).filter(|value| range.contains(value)).collect()
}

/// A range with room at both ends, for a logarithmic axis.
fn around(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low.is_finite() && high > 0.0 { (low, high) } else { (1.0, 1.0) };
    low / room..high * room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(ideal: Ideal) -> Growth {
        let points = vec![[2.0, 0.010], [4.0, 0.022], [8.0, 0.040]];
        Growth { axis: "tokens".into(), what: "a step".into(), ideal, points }
    }

    #[test]
    fn ideals_go_through_the_first_point() {
        assert_eq!(growth(Ideal::Linear).ideal_seconds(), [0.01, 0.02, 0.04]);
        assert_eq!(growth(Ideal::Flat).ideal_seconds(), [0.01; 3]);
        assert_eq!(growth(Ideal::Inverse).ideal_seconds(), [0.01, 0.005, 0.0025]);
    }

    #[test]
    fn axes_have_round_values() {
        assert_eq!(round_values(0.8..30.0), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(round_values(60.0..180.0), [100.0]);
    }

    #[test]
    fn numbers_have_four_digits_and_lose_no_whole_ones() {
        let values = [0.0123, 1.5, 41.816, 491.44, 1078.4, 123_456.7];
        let told = ["0.012", "1.500", "41.82", "491.4", "1078", "123457"];
        assert_eq!(values.map(four_digits), told);
    }

    #[test]
    fn a_panel_tells_its_axis_and_its_numbers() {
        let svg = growth_svg(&[growth(Ideal::Linear), growth(Ideal::Flat)], "two threads").unwrap();
        for told in ["tokens", "a step", "10.00", "22.00", "40.00", "two threads"] {
            assert!(svg.contains(told), "{told}");
        }
    }
}
