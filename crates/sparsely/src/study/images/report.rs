//! What tables, pictures and the summary tell of studies of images.

use super::{Images, ImagesFound, Weights};
use crate::eval::LayerLoad;
use crate::study::plot::{CostAxis, Told};
use crate::study::summary::line;
use crate::study::table::optional;
use crate::study::{Cell, Column, Results};

/// Columns of the table of arms, after the accuracy.
pub(super) const COLUMNS: [Column<Images>; 4] = [
    ("dropped %", |arm| format!("{:.1}", 100.0 * arm.found.dropped_share)),
    ("MFLOP/image", |arm| format!("{:.2}", arm.found.flops_per_image / 1e6)),
    ("ms/image", |arm| format!("{:.3}", arm.milliseconds)),
    ("mJ/image", |arm| format!("{:.2}", arm.millijoules)),
];

/// What tables tell of an arm for a seed.
pub(super) fn cells(found: &ImagesFound) -> Vec<Cell> {
    let weight = |of: fn(&Weights) -> f64| optional(found.weights.as_ref().map(of));
    vec![
        ("dropped_share", found.dropped_share.to_string()),
        ("flops_per_image", found.flops_per_image.to_string()),
        ("params", weight(|w| w.params)),
        ("touched_params", weight(|w| w.touched_params)),
        ("experts_per_image", weight(|w| w.experts_per_image)),
        ("dead_experts", weight(|w| w.dead_experts)),
        ("load_variation", weight(|w| w.load_variation)),
        ("router_top1", optional(found.weights.and_then(|w| w.router_top1))),
    ]
}

/// What accuracy is drawn against.
pub(super) fn axes() -> [CostAxis<Images>; 3] {
    [
        CostAxis {
            file: "flops",
            title: "computation",
            label: "forward MFLOP per image",
            value: |arm| arm.found.flops_per_image / 1e6,
            quartiles: None,
            told: Told::Nothing,
        },
        CostAxis {
            file: "time",
            title: "time",
            label: "ms per image, measured: median and quartiles",
            value: |arm| arm.milliseconds,
            quartiles: Some(|arm| arm.milliseconds_quartiles),
            told: Told::Threads,
        },
        CostAxis {
            file: "energy",
            title: "energy",
            label: "mJ per image",
            value: |arm| arm.millijoules,
            quartiles: None,
            told: Told::Energy,
        },
    ]
}

/// What no other task has.
pub(super) fn sections(results: &Results) -> String {
    let mut page = String::new();
    weights(&mut page, results);
    layers(&mut page, results);
    page
}

/// What models have, and how much of it an image meets: where an arm has experts.
fn weights(page: &mut String, results: &Results) {
    let told: Vec<_> =
        results.arms.iter().filter_map(|arm| Some((&*arm.arm, arm.found.weights?))).collect();
    if told.iter().all(|(_, weights)| weights.experts_per_image == 0.0) {
        return;
    }
    line(page, "## Experts\n");
    line(
        page,
        "Means over seeds, and over MoE layers. An image meets the experts that at least one of its tokens \
         goes to; no test image meets a dead one.\n",
    );
    line(
        page,
        "| arm | parameters | an image meets | experts an image | dead | load variation | router top-1 % |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
    );
    for (arm, weights) in told {
        let Weights { params, touched_params, experts_per_image, .. } = weights;
        let router =
            weights.router_top1.map_or("–".into(), |top1| format!("{:.1}", 100.0 * top1));
        line(
            page,
            &format!(
                "| `{arm}` | {params:.0} | {touched_params:.0} | {experts_per_image:.2} | {:.1} | {:.2} | \
                 {router} |",
                weights.dead_experts, weights.load_variation
            ),
        );
    }
    line(page, "");
}

/// What the router of each layer did: where one was asked.
fn layers(page: &mut String, results: &Results) {
    let told: Vec<_> = results
        .arms
        .iter()
        .filter(|arm| arm.seeds.iter().any(|s| !s.found.layers.is_empty()))
        .collect();
    if told.is_empty() {
        return;
    }
    line(page, "## Routers, layer by layer\n");
    line(
        page,
        "Means over seeds, on the test images. Load variation: standard deviation of the experts' loads \
         over their mean. Entropy: of a token's gates, in nats (of an image's, where images are routed; over slots in Soft \
         MoE).\n",
    );
    line(
        page,
        "| arm | block | load variation | dropped % | entropy | dead |\n| --- | --- | --- | --- | --- | --- |",
    );
    for arm in told {
        let layers = arm.seeds.first().map_or(0, |seed| seed.found.layers.len());
        for index in 0..layers {
            let of_seeds: Vec<_> =
                arm.seeds.iter().filter_map(|seed| seed.found.layers.get(index)).collect();
            let mean = |value: fn(&LayerLoad) -> f64| {
                of_seeds.iter().map(|layer| value(layer)).sum::<f64>() / of_seeds.len() as f64
            };
            line(
                page,
                &format!(
                    "| `{}` | {} | {:.2} | {:.1} | {:.2} | {:.1} |",
                    arm.arm,
                    of_seeds.first().map_or(0, |layer| layer.block),
                    mean(|layer| layer.load_variation),
                    100.0 * mean(|layer| layer.dropped_share),
                    mean(|layer| layer.entropy),
                    mean(|layer| layer.asked.iter().filter(|asked| **asked == 0).count() as f64)
                ),
            );
        }
    }
    line(page, "");
}
