//! Accuracy against what an image costs.

use super::{Bounds, COLORS, Drawn, FONT, GRID, HEADER, PANEL, Plane, digits, draw, header, told};
use crate::Result;
use crate::study::results::{ArmResult, Results};
use crate::study::{Panel, Study};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// Shift of a curve's bars, as a share of the axis, so that curves' bars do not hide each other.
const DODGE: f64 = 0.008;

/// What accuracy is drawn against.
#[derive(Clone, Copy)]
pub(in crate::study) struct CostAxis {
    /// With its unit.
    pub(in crate::study) label: &'static str,
    /// The title's words.
    pub(in crate::study) title: &'static str,
    /// Its value.
    pub(in crate::study) value: fn(&ArmResult) -> f64,
    /// Its quartiles, where it varies.
    pub(in crate::study) quartiles: fn(&ArmResult) -> Option<[f64; 2]>,
}

/// Accuracy against FLOPs.
pub(in crate::study) const FLOPS: CostAxis = CostAxis {
    label: "forward MFLOP per image",
    title: "accuracy against computation",
    value: |arm| arm.flops_per_image / 1e6,
    quartiles: |_| None,
};

/// Accuracy against time.
pub(in crate::study) const TIME: CostAxis = CostAxis {
    label: "ms per image, measured: median and quartiles",
    title: "accuracy against time",
    value: |arm| arm.milliseconds,
    quartiles: |arm| Some(arm.milliseconds_quartiles),
};

/// Accuracy against energy.
pub(in crate::study) const ENERGY: CostAxis = CostAxis {
    label: "mJ per image",
    title: "accuracy against energy",
    value: |arm| arm.millijoules,
    quartiles: |_| None,
};

/// The study's panels with `axis` across.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub(in crate::study) fn accuracy(
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

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    frame: &Frame<'_>,
) -> Drawn {
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

/// An arm on a curve: where it lies, and what stands beside it.
struct Mark<'a> {
    x: f64,
    arm: &'a ArmResult,
    label: &'a str,
}

fn draw_curve<'a, 'b: 'a>(
    chart: &mut Plane<'a, 'b>,
    panel: &Panel,
    index: usize,
    frame: &Frame<'_>,
) -> Drawn {
    let (color, curve) = (COLORS[index % COLORS.len()], &panel.curves[index]);
    let marks = curve.points.iter().filter_map(|point| {
        let arm = frame.results.arm(&point.arm)?;
        Some(Mark { x: (frame.axis.value)(arm), arm, label: &point.label })
    });
    let marks: Vec<_> = marks.collect();
    let line = marks.iter().filter(|_| !curve.is_scattered);
    let line = line.map(|mark| (mark.x, mark.arm.top1_percent));
    let series = LineSeries::new(line, color.stroke_width(2));
    chart.draw_series(series).map_err(told)?.label(&curve.label).legend(move |at| {
        EmptyElement::at(at)
            + PathElement::new([(0, 0), (18, 0)], color.stroke_width(2))
            + Polygon::new(marker(index, (9, 0)), color.filled())
    });
    let range = chart.x_range();
    let aside = DODGE * (range.end - range.start) * (index as f64 - 0.5);
    for mark in &marks {
        draw_bars(chart, mark, frame, (color, aside))?;
        draw_mark(chart, mark, index)?;
    }
    Ok(())
}

/// The interval over seeds, a little `aside`, and the quartiles of the cost.
fn draw_bars(
    chart: &mut Plane<'_, '_>,
    mark: &Mark<'_>,
    frame: &Frame<'_>,
    (color, aside): (RGBColor, f64),
) -> Drawn {
    let y = mark.arm.top1_percent;
    let upright = mark.arm.top1_over_seeds.map(|interval| {
        [interval.low, interval.high].map(|y| (mark.x + aside, y.clamp(0.0, 100.0)))
    });
    let flat = (frame.axis.quartiles)(mark.arm).map(|quartiles| quartiles.map(|x| (x, y)));
    let bars = [upright, flat].into_iter().flatten();
    let bars = bars.map(|ends| PathElement::new(ends, color.mix(0.55).stroke_width(1)));
    chart.draw_series(bars).map(drop).map_err(told)
}

/// The point and its label: the first curve's labels stand above, the others' below.
fn draw_mark(chart: &mut Plane<'_, '_>, mark: &Mark<'_>, index: usize) -> Drawn {
    let color = COLORS[index % COLORS.len()];
    let (offset, v_pos) = if index == 0 { (-7, VPos::Bottom) } else { (7, VPos::Top) };
    let style = (FONT, 11).into_font().color(&color).pos(Pos::new(HPos::Center, v_pos));
    let drawn = EmptyElement::at((mark.x, mark.arm.top1_percent))
        + Polygon::new(marker(index, (0, 0)), color.filled())
        + Text::new(mark.label.to_string(), (0, offset), style);
    chart.draw_series([drawn]).map(drop).map_err(told)
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
