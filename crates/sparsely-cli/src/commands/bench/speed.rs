//! Times and speeds as benchmarks tell them.

use serde_json::{Value, json};
use sparsely::nn::Precision;
use sparsely_tensor::measure::{peak_flops, product_kernel};
use std::fmt;

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Matrix products, and the loop right after them.
pub(super) struct Turn {
    flops_per_second: f64,
    peak: f64,
}

impl Turn {
    /// `macs` multiply-accumulates that took `seconds` and ended just now.
    pub(super) fn of(precision: Precision, macs: u64, seconds: f64) -> Turn {
        let flops_per_second = 2.0 * macs as f64 / seconds;
        Turn { flops_per_second, peak: peak_flops(precision.into()) }
    }
}

/// How fast matrix products were, beside what the processor can do at most.
pub(super) struct Speed {
    precision: Precision,
    flops_per_second: f64,
    /// Of a loop that never leaves the registers, on all threads.
    peak: f64,
}

impl Speed {
    /// Of products that took turns with the loop: the machine changes its speed from second to second.
    pub(super) fn of(precision: Precision, turns: Vec<Turn>) -> Speed {
        let (speeds, peaks) =
            turns.into_iter().map(|turn| (turn.flops_per_second, turn.peak)).unzip();
        Speed { precision, flops_per_second: median(speeds), peak: median(peaks) }
    }

    fn share(&self) -> f64 {
        self.flops_per_second / self.peak
    }

    /// `line` with the kernel, the speed and its share of the peak.
    pub(super) fn beside(&self, mut line: Value) -> Value {
        line["kernel"] = json!(product_kernel(self.precision.into()));
        line["flops_per_second"] = json!(self.flops_per_second);
        line["peak_flops_per_second"] = json!(self.peak);
        line["share_of_peak"] = json!(self.share());
        line
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.1} GFLOP/s, {:>4.1} % of {:.0} ({}, {}, {} threads)",
            self.flops_per_second / 1e9,
            100.0 * self.share(),
            self.peak / 1e9,
            product_kernel(self.precision.into()),
            self.precision,
            rayon::current_num_threads()
        )
    }
}
