//! What an image costs models of equal FLOPs that touch different shares of their weights, as a picture.

use super::{Area, COLORS, Drawn, FONT, GRID, draw, header, told};
use crate::Result;
use crate::nn::Precision;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// A model of a size, at a batch size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Such as `6x96`.
    pub size: String,
    /// What is routed, such as `dense`, `image` or `token`.
    pub routed: String,
    /// Images that are computed together.
    pub batch: usize,
    /// What the factors of matrix products were rounded to.
    #[serde(default)]
    pub precision: Precision,
    /// Threads that computed.
    pub threads: usize,
    /// FLOPs of an image.
    pub flops: f64,
    /// Milliseconds of an image: median over processes.
    pub milliseconds: f64,
    /// Least and most of the processes.
    pub milliseconds_range: [f64; 2],
    /// What multiplied matrices; lines of before it was told have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// FLOPs a second as a share of what a loop of multiply-adds reached beside it; told with the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_peak: Option<f64>,
    /// Bytes resident after the first batch; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// The most that was resident while the first batch was computed.
    pub peak_bytes: u64,
    /// Bytes of the weights in use after the first batch.
    pub weights_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Experts' layers in use after the first batch, of how many.
    pub experts_used: [usize; 2],
}

const WIDTH: u32 = 1000;
/// Pixels of a bar with the gap after it, and of a group's title.
const BAR: i32 = 20;
const TITLE: i32 = 24;
/// Pixels left of the bars and right of the longest.
const LEFT: i32 = 70;
const RIGHT: i32 = 96;
const ROUTED: [&str; 3] = ["dense", "image", "token"];

/// A column of bars: what it tells, and of whom.
struct Column<'a> {
    title: &'a str,
    batch: usize,
    value: fn(&Latency) -> f64,
    unit: &'a str,
}

/// Time at the smallest and the largest batch of models whose sizes have equal FLOPs an image, and memory of a single batch of the smallest.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub fn latency_svg(found: &[Latency]) -> Result<String> {
    let mut sizes: Vec<&str> = Vec::new();
    for latency in found {
        if !sizes.contains(&&*latency.size) {
            sizes.push(&latency.size);
        }
    }
    let batches = found.iter().map(|latency| latency.batch);
    let (few, many) = (batches.clone().min().unwrap_or(1), batches.max().unwrap_or(1));
    let time: fn(&Latency) -> f64 = |latency| latency.milliseconds;
    let (one, all) = (format!("ms an image, batch {few}"), format!("ms an image, batch {many}"));
    let memory =
        format!("MB of weights in memory after {few} image{}", if few > 1 { "s" } else { "" });
    let columns = [
        Column { title: &one, batch: few, value: time, unit: "ms" },
        Column { title: &all, batch: many, value: time, unit: "ms" },
        Column {
            title: &memory,
            batch: few,
            value: |latency| latency.weights_bytes as f64 / 1e6,
            unit: "MB",
        },
    ];
    let height = 90 + sizes.len() as i32 * (TITLE + 3 * BAR);
    draw((WIDTH, height as u32), |root| {
        let threads = found.first().map_or(0, |latency| latency.threads);
        let note = format!(
            "bars of a size to its longest; whiskers: least and most of the processes; {threads} threads"
        );
        let body = header(root, "Models of equal FLOPs an image", &note)?;
        for (part, column) in body.split_evenly((1, 3)).iter().zip(&columns) {
            paint(part, column, &sizes, found)?;
        }
        Ok(())
    })
}

fn paint(area: &Area<'_>, column: &Column<'_>, sizes: &[&str], found: &[Latency]) -> Drawn {
    let write = |text: &str, (x, y): (i32, i32), size: i32| {
        let style = (FONT, size).into_font().color(&BLACK);
        area.draw(&Text::new(text.to_string(), (x, y), style)).map_err(told)
    };
    write(column.title, (14, 0), 14)?;
    let room = area.dim_in_pixel().0 as i32 - LEFT - RIGHT;
    let mut y = 24;
    for size in sizes {
        write(size, (14, y), 13)?;
        y += TITLE - 4;
        let is_in = |l: &&Latency| l.size == **size && l.batch == column.batch;
        let longest = found.iter().filter(is_in).map(column.value).fold(0.0, f64::max);
        let pixels = |value: f64| (value / longest.max(f64::MIN_POSITIVE) * f64::from(room)) as i32;
        for (routed, color) in ROUTED.iter().zip(COLORS) {
            let own = found.iter().filter(is_in).find(|l| l.routed == *routed);
            let Some(own) = own else { continue };
            let value = (column.value)(own);
            let bar = [(LEFT, y), (LEFT + pixels(value).max(1), y + BAR - 6)];
            area.draw(&Rectangle::new(bar, color.filled())).map_err(told)?;
            let mut end = bar[1].0;
            if column.unit == "ms" {
                let [low, high] = own.milliseconds_range.map(|ms| LEFT + pixels(ms).min(room + 20));
                let middle = y + (BAR - 6) / 2;
                let line = PathElement::new([(low, middle), (high, middle)], BLACK.stroke_width(1));
                area.draw(&line).map_err(told)?;
                end = end.max(high);
            }
            write(routed, (24, y + 1), 12)?;
            write(&format!("{value:.2} {}", column.unit), (end + 5, y + 1), 12)?;
            y += BAR;
        }
        let rule = PathElement::new([(14, y), (LEFT + room, y)], GRID.stroke_width(1));
        area.draw(&rule).map_err(told)?;
        y += 4;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_its_bars_and_numbers() {
        let latency = |routed: &str, batch: usize, milliseconds: f64| Latency {
            size: "6x96".into(),
            routed: routed.into(),
            batch,
            precision: Precision::F32,
            threads: 2,
            flops: 1e8,
            milliseconds,
            milliseconds_range: [milliseconds, milliseconds],
            kernel: None,
            share_of_peak: None,
            resident_bytes: 0,
            peak_bytes: 0,
            weights_bytes: 3_250_000,
            file_bytes: 10_000_000,
            experts_used: [2, 20],
        };
        let found =
            [latency("dense", 1, 0.5), latency("image", 1, 0.75), latency("image", 32, 0.25)];
        let svg = latency_svg(&found).unwrap();
        for told in ["0.50 ms", "0.75 ms", "0.25 ms", "3.25 MB", "6x96", "image", "batch 32"] {
            assert!(svg.contains(told), "{told} in {svg}");
        }
    }
}
