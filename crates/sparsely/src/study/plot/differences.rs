//! Differences, one row each.

use super::{Bounds, COLORS, Drawn, FONT, GRID, HEADER, PANEL, Plane, digits, draw, header, told};
use crate::Result;
use crate::study::results::{ComparisonResult, Results};
use crate::study::{Predicted, Study, Task};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// Pixels of a row of comparisons.
const ROW: u32 = 34;

/// Differences with their intervals, one row each, and what was predicted.
///
/// # Errors
/// As of [`scores`](super::scores).
pub(in crate::study) fn differences<T: Task>(
    study: &Study<T>,
    results: &Results<T>,
    note: &str,
) -> Result<String> {
    let rows = results.comparisons.len();
    let size = (2 * PANEL.0, HEADER + 60 + ROW * rows as u32);
    let title = format!("{}: differences of {}", study.name, T::WORDS.score);
    let subtitle =
        format!("dot and bar: difference and 95 % interval; diamond or band: predicted{note}");
    draw(size, |root| {
        let body = header(root, &title, &subtitle)?;
        let x = range(&results.comparisons);
        let x_digits = digits(&x);
        let mut chart = ChartBuilder::on(&body)
            .margin(6)
            .margin_right(210)
            .x_label_area_size(42)
            .y_label_area_size(270)
            .build_cartesian_2d(x, 0.0..rows as f64)
            .map_err(told)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .x_desc(T::WORDS.difference[1])
            .axis_desc_style((FONT, 13))
            .label_style((FONT, 12))
            .x_label_formatter(&|x| format!("{x:.x_digits$}"))
            .draw()
            .map_err(told)?;
        let zero = PathElement::new([(0.0, 0.0), (0.0, rows as f64)], BLACK.stroke_width(1));
        chart.draw_series([zero]).map_err(told)?;
        for (row, comparison) in results.comparisons.iter().enumerate() {
            draw_row(&mut chart, comparison, rows as f64 - row as f64 - 0.5)?;
        }
        Ok(())
    })
}

/// 0, and all that is drawn.
fn range(comparisons: &[ComparisonResult]) -> Range<f64> {
    let mut x = Bounds::default();
    x.include(0.0);
    for comparison in comparisons {
        x.include(comparison.difference);
        predicted_range(comparison.predicted).into_iter().for_each(|value| x.include(value));
        if let Some(interval) = comparison.deciding() {
            x.include(interval.low);
            x.include(interval.high);
        }
    }
    x.padded()
}

fn predicted_range(predicted: Predicted) -> [f64; 2] {
    match predicted {
        Predicted::Difference { points } => [points, points],
        Predicted::Negligible { below } => [-below, below],
    }
}

fn draw_row(chart: &mut Plane<'_, '_>, comparison: &ComparisonResult, y: f64) -> Drawn {
    let predicted = predicted_range(comparison.predicted);
    let (blue, orange) = (COLORS[0], COLORS[1]);
    let bar = |[low, high]: [f64; 2], style| PathElement::new([(low, y), (high, y)], style);
    if predicted[0] < predicted[1] {
        let band = bar(predicted, orange.mix(0.35).stroke_width(9));
        chart.draw_series([band]).map_err(told)?;
    } else {
        let diamond = EmptyElement::at((predicted[0], y))
            + Polygon::new([(0, -6), (6, 0), (0, 6), (-6, 0)], orange.mix(0.6).filled());
        chart.draw_series([diamond]).map_err(told)?;
    }
    if let Some(interval) = comparison.deciding() {
        let line = bar([interval.low, interval.high], blue.stroke_width(2));
        chart.draw_series([line]).map_err(told)?;
    }
    let dot = Circle::new((comparison.difference, y), 4, blue.filled());
    chart.draw_series([dot]).map_err(told)?;
    draw_names(chart, comparison, y)
}

/// The comparison on the left, the verdict on the right.
fn draw_names(chart: &mut Plane<'_, '_>, comparison: &ComparisonResult, y: f64) -> Drawn {
    let range = chart.x_range();
    let beside = |text: &str, x: f64, dx: i32, side: HPos| {
        let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(side, VPos::Center));
        EmptyElement::at((x, y)) + Text::new(text.to_string(), (dx, 0), style)
    };
    let texts = [
        beside(&comparison.name, range.start, -10, HPos::Right),
        beside(&comparison.verdict.to_string(), range.end, 8, HPos::Left),
    ];
    chart.draw_series(texts).map(drop).map_err(told)
}
