//! Pictures, as SVG with plain text: any viewer's font will do.

use super::results::{ArmResult, ComparisonResult, Results};
use super::{Panel, Predicted, Study};
use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// Pixels of a panel.
const PANEL: (u32, u32) = (460, 330);
/// Pixels above the panels, for title and subtitle.
const HEADER: u32 = 58;
/// Pixels of a row of comparisons.
const ROW: u32 = 34;
/// Colours that colour-blind readers tell apart (Okabe & Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Shift of a curve's bars, as a share of the axis, so that curves' bars do not hide each other.
const DODGE: f64 = 0.008;
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What accuracy is drawn against.
#[derive(Clone, Copy)]
pub(super) struct CostAxis {
    /// With its unit.
    pub(super) label: &'static str,
    /// The title's words.
    pub(super) title: &'static str,
    /// Its value.
    pub(super) value: fn(&ArmResult) -> f64,
    /// Its quartiles, where it varies.
    pub(super) quartiles: fn(&ArmResult) -> Option<[f64; 2]>,
}

/// Accuracy against FLOPs.
pub(super) const FLOPS: CostAxis = CostAxis {
    label: "forward MFLOP per image",
    title: "accuracy against computation",
    value: |arm| arm.flops_per_image / 1e6,
    quartiles: |_| None,
};

/// Accuracy against time.
pub(super) const TIME: CostAxis = CostAxis {
    label: "ms per image, measured: median and quartiles",
    title: "accuracy against time",
    value: |arm| arm.milliseconds,
    quartiles: |arm| Some(arm.milliseconds_quartiles),
};

/// Accuracy against energy.
pub(super) const ENERGY: CostAxis = CostAxis {
    label: "mJ per image",
    title: "accuracy against energy",
    value: |arm| arm.millijoules,
    quartiles: |_| None,
};

/// The study's panels with `axis` across.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub(super) fn accuracy(
    study: &Study,
    results: &Results,
    axis: &CostAxis,
    note: &str,
) -> Result<String> {
    let columns = study.panels.len().clamp(1, 2);
    let rows = study.panels.len().div_ceil(columns);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + HEADER);
    let title = format!("{}: {}", study.name, axis.title);
    let subtitle = format!(
        "points: mean of {}; bars: 95 % interval over seeds (each curve alone){note}",
        seeds(study)
    );
    draw(size, |root| {
        let body = header(root, &title, &subtitle)?;
        let frame = Frame::around(study, results, axis);
        for (panel, area) in study.panels.iter().zip(body.split_evenly((rows, columns))) {
            draw_panel(&area, panel, &frame)?;
        }
        Ok(())
    })
}

fn seeds(study: &Study) -> String {
    match study.seeds.len() {
        1 => "1 seed".into(),
        count => format!("{count} seeds"),
    }
}

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

/// The accuracies that all panels span, and where the values come from.
struct Frame<'a> {
    results: &'a Results,
    axis: &'a CostAxis,
    y: Range<f64>,
}

impl<'a> Frame<'a> {
    fn around(study: &Study, results: &'a Results, axis: &'a CostAxis) -> Frame<'a> {
        let points = study.panels.iter().flat_map(|panel| &panel.curves).flat_map(|c| &c.points);
        let arms = points.filter_map(|point| results.arm(&point.arm));
        let mut y = Bounds::default();
        for arm in arms {
            y.include(arm.top1_percent);
            // An interval of few seeds may be much wider than the picture: it is cut at 0 and 100.
            if let Some(interval) = arm.top1_over_seeds {
                y.include(interval.low.max(0.0));
                y.include(interval.high.min(100.0));
            }
        }
        Frame { results, axis, y: y.padded() }
    }

    /// The costs that a panel spans.
    fn x(&self, panel: &Panel) -> Range<f64> {
        let mut x = Bounds::default();
        let points = panel.curves.iter().flat_map(|curve| &curve.points);
        for arm in points.filter_map(|point| self.results.arm(&point.arm)) {
            x.include((self.axis.value)(arm));
            (self.axis.quartiles)(arm).into_iter().flatten().for_each(|x_q| x.include(x_q));
        }
        x.padded()
    }
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

fn draw_panel(area: &Area<'_>, panel: &Panel, frame: &Frame<'_>) -> Drawn {
    let x = frame.x(panel);
    let (x_digits, y_digits) = (digits(&x), digits(&frame.y));
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(10)
        .margin_right(18)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(x, frame.y.clone())
        .map_err(told)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .x_desc(frame.axis.label)
        .y_desc("top-1 accuracy (%)")
        .axis_desc_style((FONT, 13))
        .label_style((FONT, 12))
        .x_labels(7)
        .y_labels(7)
        .x_label_formatter(&|x| format!("{x:.x_digits$}"))
        .y_label_formatter(&|y| format!("{y:.y_digits$}"))
        .draw()
        .map_err(told)?;
    for index in 0..panel.curves.len() {
        draw_curve(&mut chart, panel, index, frame)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font((FONT, 13))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .draw()
        .map_err(told)
}

fn draw_curve<'a, 'b: 'a>(
    chart: &mut Plane<'a, 'b>,
    panel: &Panel,
    index: usize,
    frame: &Frame<'_>,
) -> Drawn {
    let (color, curve) = (COLORS[index % COLORS.len()], &panel.curves[index]);
    let found = |name: &str| frame.results.arm(name).map(|arm| ((frame.axis.value)(arm), arm));
    let points: Vec<_> = curve
        .points
        .iter()
        .filter_map(|point| found(&point.arm).map(|(x, arm)| (x, arm, point.label.as_str())))
        .collect();
    let line = points.iter().map(|(x, arm, _)| (*x, arm.top1_percent));
    let series = LineSeries::new(line, color.stroke_width(2));
    chart.draw_series(series).map_err(told)?.label(&curve.label).legend(move |at| {
        EmptyElement::at(at)
            + PathElement::new([(0, 0), (18, 0)], color.stroke_width(2))
            + Polygon::new(marker(index, (9, 0)), color.filled())
    });
    let range = chart.x_range();
    let aside = DODGE * (range.end - range.start) * (index as f64 - 0.5);
    for (x, arm, label) in points {
        if let Some(interval) = arm.top1_over_seeds {
            let ends = [interval.low, interval.high].map(|y| (x + aside, y.clamp(0.0, 100.0)));
            let bar = PathElement::new(ends, color.mix(0.55).stroke_width(1));
            chart.draw_series([bar]).map_err(told)?;
        }
        let center = (x, arm.top1_percent);
        if let Some(quartiles) = (frame.axis.quartiles)(arm) {
            let ends = quartiles.map(|x| (x, arm.top1_percent));
            let bar = PathElement::new(ends, color.mix(0.55).stroke_width(1));
            chart.draw_series([bar]).map_err(told)?;
        }
        let shape = EmptyElement::at(center) + Polygon::new(marker(index, (0, 0)), color.filled());
        chart.draw_series([shape]).map_err(told)?;
        // The first curve's labels stand above its points, the others' below.
        let v_pos = if index == 0 { VPos::Bottom } else { VPos::Top };
        let style = (FONT, 11).into_font().color(&color).pos(Pos::new(HPos::Center, v_pos));
        let offset = if index == 0 { -7 } else { 7 };
        let text = EmptyElement::at(center) + Text::new(label.to_string(), (0, offset), style);
        chart.draw_series([text]).map_err(told)?;
    }
    Ok(())
}

/// The corners of a curve's marker around `(x, y)`: square, triangle, diamond, and again.
fn marker(index: usize, (x, y): (i32, i32)) -> Vec<(i32, i32)> {
    let corners: &[(i32, i32)] = match index % 3 {
        0 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        1 => &[(0, -5), (5, 4), (-5, 4)],
        _ => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
    };
    corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect()
}

/// Differences with their intervals, one row each, and what was predicted.
///
/// # Errors
/// As of [`accuracy`].
pub(super) fn differences(study: &Study, results: &Results, note: &str) -> Result<String> {
    let rows = results.comparisons.len();
    let size = (2 * PANEL.0, HEADER + 60 + ROW * rows as u32);
    let title = format!("{}: differences of top-1 accuracy", study.name);
    let subtitle =
        format!("dot and bar: difference and 95 % interval; diamond or band: predicted{note}");
    draw(size, |root| {
        let body = header(root, &title, &subtitle)?;
        let mut x = Bounds(Some((0.0, 0.0)));
        for comparison in &results.comparisons {
            x.include(comparison.difference);
            for value in predicted_range(comparison.predicted) {
                x.include(value);
            }
            if let Some(interval) = comparison.deciding() {
                x.include(interval.low);
                x.include(interval.high);
            }
        }
        let x = x.padded();
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
            .x_desc("percentage points of top-1 accuracy")
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
