//! What came out, for people: one page of Markdown.

use super::budget::told;
use super::command_line::{eval_command, study_command, train_command};
use super::results::{ArmResult, ComparisonResult, DecidingUnit, Results};
use super::statistics::{CONFIDENCE, Interval, POWER, RESAMPLES};
use super::taught::teach;
use super::{Folder, MAX_FLOPS_GAP, Plan, Study, Weights};
use crate::Result;
use crate::eval::LayerLoad;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The page.
///
/// # Errors
/// If a configuration is not expressible as a command.
pub(super) fn summary(plan: &Plan, folder: &Folder, results: &Results) -> Result<String> {
    let mut page = String::new();
    let study = &plan.study;
    line(&mut page, &format!("# {}: {}\n", study.name, study.question));
    if let Some(smaller) = plan.smaller() {
        line(&mut page, &format!("**{smaller}**\n"));
    }
    answers(&mut page, results);
    what_was_run(&mut page, plan, results)?;
    arms(&mut page, results);
    weights(&mut page, results);
    layers(&mut page, results);
    how_to_read(&mut page, study, results);
    commands(&mut page, plan, folder, results)?;
    Ok(page)
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

/// Different values, as a phrase.
fn one_or_more(values: impl Iterator<Item = impl ToString>) -> String {
    let different: BTreeSet<_> = values.map(|value| value.to_string()).collect();
    different.into_iter().collect::<Vec<_>>().join(" or ")
}

impl Plan {
    /// That the study is run smaller than described, and in what; `None` if it is not.
    pub fn smaller(&self) -> Option<String> {
        let budget = told(self.request.budget_seconds? as f64);
        (!self.shrunk.is_empty()).then(|| {
            format!("Smaller than described, to fit into {budget}: {}.", self.shrunk.join(", "))
        })
    }
}

fn in_brackets(interval: Option<Interval>) -> String {
    interval.map_or("–".into(), |Interval { low, high }| format!("[{low:.2}, {high:.2}]"))
}

fn answers(page: &mut String, results: &Results) {
    line(page, "## Answers\n");
    line(
        page,
        &format!(
            "Differences of top-1 accuracy, arm minus baseline, in percentage points with {} % \
             bootstrap intervals; the verdict is that of the interval over the deciding unit.\n",
            100.0 * CONFIDENCE
        ),
    );
    line(
        page,
        "| comparison | predicted | difference | over images | over seeds | decides | smallest \
         detectable | verdict |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
    );
    for found in &results.comparisons {
        let ComparisonResult { name, predicted, difference, unit, verdict, .. } = found;
        let (images, seeds) = (in_brackets(found.over_images), in_brackets(found.over_seeds));
        let detectable = found.detectable.map_or("–".into(), |points| format!("{points:.2}"));
        line(
            page,
            &format!(
                "| {name} | {predicted} | {difference:+.2} | {images} | {seeds} | {} | {detectable} | \
                 {verdict} |",
                unit.name()
            ),
        );
    }
    for (name, picture) in [
        ("differences", "differences.svg"),
        ("accuracy against computation", "accuracy-flops.svg"),
        ("accuracy against time", "accuracy-time.svg"),
        ("accuracy against energy", "accuracy-energy.svg"),
    ] {
        line(page, &format!("\n![{name}]({picture})"));
    }
    line(page, "");
}

fn what_was_run(page: &mut String, plan: &Plan, results: &Results) -> Result<()> {
    let Plan { study, sizes, training, .. } = plan;
    line(page, "## What was run\n");
    let mut item = |text: String| line(page, &format!("- {text}"));
    item(format!("Predictions written {} by {}, before the first run.", plan.date, plan.program));
    item(format!(
        "Data `{}`: {} training, {} validation, {} test images. Seeds {:?}.",
        study.data.source, sizes.train, sizes.validation, sizes.test, study.seeds
    ));
    for cost in training {
        item(format!(
            "Model `{}`: {} steps of {} images, {:.4e} training FLOPs by the cost model.",
            cost.model,
            cost.steps,
            study.model(&cost.model)?.train.batch_size,
            cost.flops
        ));
    }
    if training.len() > 1 {
        item(format!(
            "Models of a seed see the same images in the same order and start with equal weights \
             wherever they share a parameter's name and shape; their training FLOPs, in balanced \
             routing and without transport plans, are equal to {} %.",
            100.0 * MAX_FLOPS_GAP
        ));
    }
    line(page, &tuning(study, results));
    let mut item = |text: String| line(page, &format!("- {text}"));
    let seeds = || results.arms.iter().flat_map(|arm| &arm.seeds);
    item(format!("Evaluated by {}.", one_or_more(seeds().map(|seed| &seed.program))));
    item(format!(
        "Time: median over {} rounds in which all arms took turns on the same batches of {} images, {} \
         threads, decoding not counted. Energy: {}.",
        study.timing.rounds,
        study.timing.batch_size,
        one_or_more(seeds().map(|seed| seed.threads)),
        results.energy_source()
    ));
    line(page, "");
    Ok(())
}

/// How learning rates came about, as items.
fn tuning(study: &Study, results: &Results) -> String {
    let Some(tuning) = &study.tuning else { return "- No setting was tuned.".into() };
    let mut items = vec![format!(
        "- Learning rates: each model had one trial for each of {:?} at {} of the length with seed {}, \
         chosen on validation images.",
        tuning.lr_peaks, tuning.length, tuning.seed
    )];
    items.extend(results.trials.iter().map(|trial| {
        format!(
            "- Trial of `{}` at {}: validation top-1 {:.2} %, loss {:.4}.",
            trial.model,
            trial.lr_peak,
            100.0 * trial.validation_top1,
            trial.validation_loss
        )
    }));
    items.join("\n")
}

fn arms(page: &mut String, results: &Results) {
    line(page, "## Arms\n");
    line(
        page,
        "Means over seeds; time and energy medians over seeds. Each seed is a line of `arms.csv`.\n",
    );
    line(
        page,
        "| arm | top-1 % | over seeds | dropped % | MFLOP/image | ms/image | mJ/image |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
    );
    for arm in &results.arms {
        let ArmResult { top1_percent, flops_per_image, milliseconds, millijoules, .. } = arm;
        let over_seeds = in_brackets(arm.top1_over_seeds);
        line(
            page,
            &format!(
                "| `{}` | {top1_percent:.2} | {over_seeds} | {:.1} | {:.2} | {milliseconds:.3} | \
                 {millijoules:.2} |",
                arm.arm,
                100.0 * arm.dropped_share,
                flops_per_image / 1e6,
            ),
        );
    }
    line(page, "");
}

/// What models have, and how much of it an image meets: where an arm has experts.
fn weights(page: &mut String, results: &Results) {
    let told: Vec<_> =
        results.arms.iter().filter_map(|arm| Some((&*arm.arm, arm.weights?))).collect();
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
    let told: Vec<_> =
        results.arms.iter().filter(|arm| arm.seeds.iter().any(|s| !s.layers.is_empty())).collect();
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
        let layers = arm.seeds.first().map_or(0, |seed| seed.layers.len());
        for index in 0..layers {
            let of_seeds: Vec<_> =
                arm.seeds.iter().filter_map(|seed| seed.layers.get(index)).collect();
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

fn how_to_read(page: &mut String, study: &Study, results: &Results) {
    line(page, "## How to read the intervals\n");
    let mut item = |text: String| line(page, &format!("- {text}"));
    let units: BTreeSet<_> = results.comparisons.iter().map(|found| found.unit.name()).collect();
    if units.contains(DecidingUnit::ImagesAndSeeds.name()) {
        let of_images =
            results.comparisons.iter().filter(|c| c.unit == DecidingUnit::ImagesAndSeeds);
        let together = one_or_more(of_images.map(|found| found.images_per_unit));
        item(format!(
            "Unit `images and seeds`: both arms are the same trained models. Over images, differences are \
             averaged over the {} seeds for each image, and images that compete for seats are drawn \
             together, {} at a time; over seeds, a seed is drawn whole. What holds both intervals \
             decides.",
            study.seeds.len(),
            together
        ));
    }
    if units.contains(DecidingUnit::Seeds.name()) {
        item("Unit `seeds`: the arms were trained apart, so the claim is about training runs that were \
              not made, on these test images. One difference for each seed."
            .into());
    }
    item(format!(
        "Intervals are of the percentile bootstrap of paired differences, {RESAMPLES} resamples, \
         stretched by t(n−1)/z · √(n/(n−1)) for n units: without that, three seeds would cover 75 %."
    ));
    item("`cannot tell`: the interval is as wide as the predicted difference or wider, or there is no \
          interval since all units are alike. It does not say that there is no effect."
        .into());
    item(format!(
        "Smallest detectable: the true difference that this design would have shown with a chance of \
         {} %, two-sided at {:.0} %.",
        100.0 * POWER,
        100.0 * (1.0 - CONFIDENCE)
    ));
    let count = results.comparisons.len();
    if count > 1 {
        item(format!(
            "Of {count} intervals, about {:.1} miss the truth by chance.",
            (1.0 - CONFIDENCE) * count as f64
        ));
    }
    line(page, "");
}

fn commands(page: &mut String, plan: &Plan, folder: &Folder, results: &Results) -> Result<()> {
    line(page, "## Commands\n\n```sh");
    line(page, &study_command(plan, folder));
    line(page, "\n# Each run alone: the same bits.");
    let study = &plan.study;
    for model in &study.models {
        for config in study.trial_configs(model) {
            let out = folder.trial_run(&model.name, config.train.schedule.lr_peak);
            line(page, &train_command(&config, &out)?);
        }
        let arm = results.arms.iter().find(|arm| arm.model == model.name);
        for seed in arm.iter().flat_map(|arm| &arm.seeds) {
            let config = study.seeded_config(model, seed.seed, seed.lr_peak);
            let config = teach(config, folder.groups(&model.name, seed.seed)?.as_ref());
            line(page, &train_command(&config, &folder.run(&model.name, seed.seed))?);
        }
    }
    let first = study.seeds.first().copied().unwrap_or(0);
    let _ = writeln!(page, "\n# Each arm of seed {first}; other seeds have other folders.");
    for arm in &results.arms {
        let run = folder.run(&arm.model, first);
        line(page, &eval_command(plan, &run, arm.routing.as_ref()));
    }
    line(page, "```");
    Ok(())
}
