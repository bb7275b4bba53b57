//! What tables, pictures and the summary tell of studies of text.

use super::{Text, TextFound};
use crate::study::collect::{DRAW_SEEDS, draws};
use crate::study::plot::{CostAxis, Told};
use crate::study::statistics::{Interval, Unit, interval};
use crate::study::summary::line;
use crate::study::table::optional;
use crate::study::{ArmResult, Cell, Column, Results};

/// Columns of the table of arms, after bits per byte.
pub(super) const COLUMNS: [Column<Text>; 4] = [
    ("perplexity", |arm| format!("{:.3}", arm.found.perplexity)),
    ("over seeds", |arm| {
        perplexity_over_seeds(arm)
            .map_or("–".into(), |Interval { low, high }| format!("[{low:.3}, {high:.3}]"))
    }),
    ("ms/step", |arm| format!("{:.1}", arm.milliseconds)),
    ("J/step", |arm| format!("{:.2}", arm.millijoules / 1e3)),
];

fn perplexity_over_seeds(arm: &ArmResult<Text>) -> Option<Interval> {
    let of_seeds: Vec<Unit> =
        arm.seeds.iter().map(|seed| Unit::single(seed.found.perplexity)).collect();
    interval(&of_seeds, &mut draws(&arm.arm, DRAW_SEEDS))
}

/// What tables tell of an arm for a seed.
pub(super) fn cells(found: &TextFound) -> Vec<Cell> {
    vec![
        ("perplexity", found.perplexity.to_string()),
        ("params", found.params.to_string()),
        ("macs_per_token", found.macs_per_token.to_string()),
        ("attention_macs_per_token", found.attention_macs_per_token.to_string()),
        ("kept_bytes_per_token", found.kept_bytes_per_token.to_string()),
        ("attention_kept_bytes_per_token", found.attention_kept_bytes_per_token.to_string()),
        ("imbalance", optional(found.imbalance)),
    ]
}

/// What bits per byte are drawn against.
pub(super) fn axes() -> [CostAxis<Text>; 3] {
    [
        CostAxis {
            file: "macs",
            title: "computation",
            label: "forward MMAC per token",
            value: |arm| arm.found.macs_per_token / 1e6,
            quartiles: None,
            told: Told::Nothing,
        },
        CostAxis {
            file: "memory",
            title: "memory",
            label: "kB kept per token until the way back",
            value: |arm| arm.found.kept_bytes_per_token / 1e3,
            quartiles: None,
            told: Told::Nothing,
        },
        CostAxis {
            file: "time",
            title: "time",
            label: "ms per training step, measured: median and quartiles",
            value: |arm| arm.milliseconds,
            quartiles: Some(|arm| arm.milliseconds_quartiles),
            told: Told::Threads,
        },
    ]
}

/// What models have and cost, as shares of the first arm too.
pub(super) fn sections(results: &Results<Text>) -> String {
    let mut page = String::new();
    let Some(first) = results.arms.first() else { return page };
    line(&mut page, "## Costs by the cost model\n");
    line(
        &mut page,
        &format!(
            "As executed: a token after a full memory. In brackets: percent of `{}`. Kept: what a training step \
             keeps of its forward pass, in f32; attention matrices are computed again, not kept. Imbalance: largest load \
             of an expert over the mean load, mean over routers and seeds.\n",
            first.arm
        ),
    );
    line(
        &mut page,
        "| arm | parameters | MMAC/token | of attention | kept kB/token | of attention | imbalance |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
    );
    for arm in &results.arms {
        let share = |of: fn(&TextFound) -> f64, unit: f64| {
            let (own, whole) = (of(&arm.found), of(&first.found));
            format!("{:.3} ({:.1})", own / unit, 100.0 * own / whole)
        };
        line(
            &mut page,
            &format!(
                "| `{}` | {} | {} | {} | {} | {} | {} |",
                arm.arm,
                arm.found.params,
                share(|found| found.macs_per_token, 1e6),
                share(|found| found.attention_macs_per_token, 1e6),
                share(|found| found.kept_bytes_per_token, 1e3),
                share(|found| found.attention_kept_bytes_per_token, 1e3),
                arm.found.imbalance.map_or("–".into(), |imbalance| format!("{imbalance:.2}"))
            ),
        );
    }
    line(&mut page, "");
    page
}
