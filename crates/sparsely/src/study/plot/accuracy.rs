//! Scores against costs.

use super::{Bounds, COLORS, Drawn, FONT, GRID, HEADER, PANEL, Plane, digits, draw, header, told};
use crate::Result;
use crate::study::Panel;
use crate::study::statistics::Interval;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Shift of a curve's bars, as a share of the axis, so that curves' bars do not hide each other.
const DODGE: f64 = 0.008;
/// Pixels beside a panel whose points are numbered, and of a line there.
const KEY: u32 = 190;
const KEY_LINE: i32 = 19;

/// Scores against cost: panels that share the axis of scores.
pub(in crate::study) struct Picture<'a> {
    /// Large.
    pub(in crate::study) title: String,
    /// What points and bars are.
    pub(in crate::study) subtitle: String,
    /// The cost with its unit.
    pub(in crate::study) cost: &'a str,
    /// The score with its unit.
    pub(in crate::study) score: &'a str,
    /// The lowest and the highest score that can be.
    pub(in crate::study) range: [f64; 2],
    /// What is drawn beside what.
    pub(in crate::study) panels: &'a [Panel],
    /// Where the arms of the panels lie.
    pub(in crate::study) places: BTreeMap<&'a str, Place>,
}

/// Where an arm lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::study) struct Place {
    /// Cost.
    pub(in crate::study) x: f64,
    /// Quartiles of the cost, where it varies.
    pub(in crate::study) x_quartiles: Option<[f64; 2]>,
    /// The score.
    pub(in crate::study) y: f64,
    /// Its interval, if there is one.
    pub(in crate::study) y_interval: Option<Interval>,
    /// Pixels of the line of a ring around it, 0 for none.
    pub(in crate::study) ring: u32,
}

impl Picture<'_> {
    /// As SVG.
    ///
    /// # Errors
    /// Only for our own bugs: the picture is drawn in memory.
    pub(in crate::study) fn svg(&self) -> Result<String> {
        let columns = self.panels.len().clamp(1, 2);
        let rows = self.panels.len().div_ceil(columns);
        let key = if self.panels.iter().any(is_numbered) { KEY } else { 0 };
        let size = ((PANEL.0 + key) * columns as u32, PANEL.1 * rows as u32 + HEADER);
        draw(size, |root| {
            let body = header(root, &self.title, &self.subtitle)?;
            let frame = Frame { picture: self, y: self.scores() };
            for (panel, area) in self.panels.iter().zip(body.split_evenly((rows, columns))) {
                draw_panel(&area, panel, &frame)?;
            }
            Ok(())
        })
    }

    fn places_of<'b>(&'b self, panel: &'b Panel) -> impl Iterator<Item = &'b Place> {
        let points = panel.curves.iter().flat_map(|curve| &curve.points);
        points.filter_map(|point| self.places.get(&*point.arm))
    }

    /// The scores that all panels span.
    fn scores(&self) -> Range<f64> {
        let mut y = Bounds::default();
        for place in self.panels.iter().flat_map(|panel| self.places_of(panel)) {
            y.include(place.y);
            // An interval of few seeds may be wider than what can be: it is cut there.
            if let Some(interval) = place.y_interval {
                y.include(interval.low.max(self.range[0]));
                y.include(interval.high.min(self.range[1]));
            }
        }
        y.padded()
    }

    /// The costs that a panel spans.
    fn costs(&self, panel: &Panel) -> Range<f64> {
        let mut x = Bounds::default();
        for place in self.places_of(panel) {
            x.include(place.x);
            place.x_quartiles.into_iter().flatten().for_each(|x_q| x.include(x_q));
        }
        x.padded()
    }
}

/// Whether points have numbers and a key beside the panel: models of their own may lie close to one another.
fn is_numbered(panel: &Panel) -> bool {
    panel.curves.iter().all(|curve| curve.is_scattered)
}

/// A picture and its axis of scores.
struct Frame<'a> {
    picture: &'a Picture<'a>,
    y: Range<f64>,
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    frame: &Frame<'_>,
) -> Drawn {
    let (area, key) = match is_numbered(panel) {
        true => area.split_horizontally(PANEL.0),
        false => (area.clone(), area.clone()),
    };
    let x = frame.picture.costs(panel);
    let (x_digits, y_digits) = (digits(&x), digits(&frame.y));
    let mut chart = ChartBuilder::on(&area)
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
        .x_desc(frame.picture.cost)
        .y_desc(frame.picture.score)
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
    if is_numbered(panel) {
        return draw_key(&key, panel);
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

/// The numbers of a panel's points and what they stand for.
fn draw_key(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Drawn {
    let points = panel
        .curves
        .iter()
        .enumerate()
        .flat_map(|(index, curve)| curve.points.iter().map(move |point| (index, point)));
    for (line, (index, point)) in points.enumerate() {
        let (color, y) = (COLORS[index % COLORS.len()], 36 + KEY_LINE * line as i32);
        let text = format!("{} {}", line + 1, point.label);
        let style = (FONT, 12).into_font().color(&color);
        area.draw(&Polygon::new(marker(index, (8, y)), color.filled())).map_err(told)?;
        area.draw(&Text::new(text, (20, y - 7), style)).map_err(told)?;
    }
    Ok(())
}

/// An arm on a curve: where it lies, and what stands beside it.
struct Mark<'a> {
    place: Place,
    label: Cow<'a, str>,
}

fn draw_curve<'a, 'b: 'a>(
    chart: &mut Plane<'a, 'b>,
    panel: &Panel,
    index: usize,
    frame: &Frame<'_>,
) -> Drawn {
    let (color, curve) = (COLORS[index % COLORS.len()], &panel.curves[index]);
    let before: usize = panel.curves[..index].iter().map(|curve| curve.points.len()).sum();
    let marks = curve.points.iter().enumerate().filter_map(|(i, point)| {
        let label = match is_numbered(panel) {
            true => Cow::Owned((before + i + 1).to_string()),
            false => Cow::Borrowed(&*point.label),
        };
        Some(Mark { place: *frame.picture.places.get(&*point.arm)?, label })
    });
    let marks: Vec<_> = marks.collect();
    let line = marks.iter().filter(|_| !curve.is_scattered);
    let line = line.map(|mark| (mark.place.x, mark.place.y));
    let series = LineSeries::new(line, color.stroke_width(2));
    chart.draw_series(series).map_err(told)?.label(&curve.label).legend(move |at| {
        EmptyElement::at(at)
            + PathElement::new([(0, 0), (18, 0)], color.stroke_width(2))
            + Polygon::new(marker(index, (9, 0)), color.filled())
    });
    let range = chart.x_range();
    let aside = DODGE * (range.end - range.start) * (index as f64 - 0.5);
    for mark in &marks {
        draw_bars(chart, &mark.place, (color, aside), frame.picture.range)?;
        draw_mark(chart, mark, index)?;
    }
    Ok(())
}

/// The interval of the score, a little `aside`, and the quartiles of the cost.
fn draw_bars(
    chart: &mut Plane<'_, '_>,
    place: &Place,
    (color, aside): (RGBColor, f64),
    [lowest, highest]: [f64; 2],
) -> Drawn {
    let upright = place.y_interval.map(|interval| {
        [interval.low, interval.high].map(|y| (place.x + aside, y.clamp(lowest, highest)))
    });
    let flat = place.x_quartiles.map(|quartiles| quartiles.map(|x| (x, place.y)));
    let bars = [upright, flat].into_iter().flatten();
    let bars = bars.map(|ends| PathElement::new(ends, color.mix(0.55).stroke_width(1)));
    chart.draw_series(bars).map(drop).map_err(told)
}

/// The point and its label: the first curve's labels stand above, the others' below.
fn draw_mark(chart: &mut Plane<'_, '_>, mark: &Mark<'_>, index: usize) -> Drawn {
    let color = COLORS[index % COLORS.len()];
    let (offset, v_pos) = if index == 0 { (-7, VPos::Bottom) } else { (7, VPos::Top) };
    let style = (FONT, 11).into_font().color(&color).pos(Pos::new(HPos::Center, v_pos));
    let at = (mark.place.x, mark.place.y);
    let drawn = EmptyElement::at(at)
        + Polygon::new(marker(index, (0, 0)), color.filled())
        + Text::new(mark.label.to_string(), (0, offset), style);
    chart.draw_series([drawn]).map_err(told)?;
    let ring =
        (mark.place.ring > 0).then(|| Circle::new(at, 8, BLACK.stroke_width(mark.place.ring)));
    chart.draw_series(ring).map(drop).map_err(told)
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
