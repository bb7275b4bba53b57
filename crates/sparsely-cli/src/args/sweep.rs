//! What can be asked of a sweep, and of its results.

use clap::Args;
use sparsely::study::MAX_LOSS_POINTS;
use std::path::PathBuf;

/// Measures many settings instead of one, by validation images unless `--split` says otherwise.
#[derive(Args)]
pub(crate) struct SweepArgs {
    /// Measure K 1 to 4 × capacity × priority (what other flags set stays so) and name the cheapest
    #[arg(long)]
    pub(crate) sweep: bool,
    /// Points of top-1 that the cheapest may lose against the run's own setting
    #[arg(long, value_name = "POINTS", default_value_t = MAX_LOSS_POINTS, value_parser = parse_points,
          allow_negative_numbers = true, requires = "sweep")]
    pub(crate) max_loss: f64,
    /// Where sweep.csv and sweep.svg go [default: the run's folder]
    #[arg(long, value_name = "FOLDER", requires = "sweep")]
    pub(crate) out: Option<PathBuf>,
}

fn parse_points(text: &str) -> Result<f64, String> {
    let points = text.parse().ok().filter(|points: &f64| (0.0..=100.0).contains(points));
    points.ok_or("expected percentage points from 0 to 100".into())
}

/// How `predict` routes by what a sweep has measured.
#[derive(Args)]
pub(crate) struct BudgetArgs {
    /// Take the most accurate setting of the run's sweep whose time an image fits, such as 3ms
    #[arg(long, value_name = "TIME",
          conflicts_with_all = ["k", "capacity", "priority", "group", "experts", "skip_moe"])]
    pub(crate) budget: Option<String>,
}
