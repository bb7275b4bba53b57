//! What came out, for people: one page of Markdown.

use super::budget::told;
use super::command_line::{eval_command, study_command};
use super::results::{ComparisonResult, DecidingUnit, Results};
use super::statistics::{CONFIDENCE, Interval, POWER, RESAMPLES};
use super::{Folder, MAX_FLOPS_GAP, MAX_PARAMS_GAP, Matched, Plan, Study, Task, TrainingCost};
use crate::Result;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The page.
///
/// # Errors
/// If a configuration is not expressible as a command.
pub(super) fn summary<T: Task>(
    plan: &Plan<T>,
    folder: &Folder,
    results: &Results<T>,
) -> Result<String> {
    let mut page = String::new();
    let study = &plan.study;
    line(&mut page, &format!("# {}: {}\n", study.name, study.question));
    if let Some(smaller) = plan.smaller() {
        line(&mut page, &format!("**{smaller}**\n"));
    }
    answers(&mut page, results);
    what_was_run(&mut page, plan, results)?;
    arms(&mut page, results);
    page.push_str(&T::sections(results));
    how_to_read(&mut page, study, results);
    commands(&mut page, plan, folder, results)?;
    Ok(page)
}

pub(super) fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

/// Different values, as a phrase.
fn one_or_more(values: impl Iterator<Item = impl ToString>) -> String {
    let different: BTreeSet<_> = values.map(|value| value.to_string()).collect();
    different.into_iter().collect::<Vec<_>>().join(" or ")
}

impl<T: Task> Plan<T> {
    /// That the study is run smaller than described, and in what; `None` if it is not.
    pub fn smaller(&self) -> Option<String> {
        let budget = told(self.request.budget_seconds? as f64);
        (!self.shrunk.is_empty()).then(|| {
            format!("Smaller than described, to fit into {budget}: {}.", self.shrunk.join(", "))
        })
    }
}

fn in_brackets(interval: Option<Interval>, digits: usize) -> String {
    interval
        .map_or("–".into(), |Interval { low, high }| format!("[{low:.digits$}, {high:.digits$}]"))
}

fn answers<T: Task>(page: &mut String, results: &Results<T>) {
    let words = T::WORDS;
    let (digits, [unit, in_full, _]) = (words.digits, words.difference);
    line(page, "## Answers\n");
    line(
        page,
        &format!(
            "Differences in {in_full}, arm minus baseline, with {} % bootstrap intervals; the verdict is \
             that of the interval over the deciding unit.\n",
            100.0 * CONFIDENCE
        ),
    );
    line(
        page,
        &format!(
            "| comparison | predicted | difference | over {} | over seeds | decides | smallest detectable | \
             verdict |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
            words.units
        ),
    );
    for found in &results.comparisons {
        let ComparisonResult { name, predicted, difference, unit: decides, verdict, .. } = found;
        let [units, seeds] =
            [found.over_units, found.over_seeds].map(|interval| in_brackets(interval, digits));
        let detectable = found.detectable.map_or("–".into(), |least| format!("{least:.digits$}"));
        line(
            page,
            &format!(
                "| {name} | {} | {difference:+.digits$} | {units} | {seeds} | {} | {detectable} | {verdict} |",
                predicted.told(unit),
                decides.name(&words)
            ),
        );
    }
    line(page, "\n![differences](differences.svg)");
    for axis in T::axes() {
        line(page, &format!("\n![{}]({})", axis.name(&words), axis.file(&words)));
    }
    line(page, "");
}

fn what_was_run<T: Task>(page: &mut String, plan: &Plan<T>, results: &Results<T>) -> Result<()> {
    let Plan { study, sizes, training, .. } = plan;
    let words = T::WORDS;
    line(page, "## What was run\n");
    let mut item = |text: String| line(page, &format!("- {text}"));
    item(format!("Predictions written {} by {}, before the first run.", plan.date, plan.program));
    item(format!(
        "Data `{}`: {} training, {} validation, {} test {}. Seeds {:?}.",
        T::source(&study.data),
        sizes.train,
        sizes.validation,
        sizes.test,
        words.data,
        study.seeds
    ));
    for cost in training {
        let batch = study.model(&cost.model)?.train.batch_size;
        item(format!(
            "Model `{}`: {} steps of {batch} {}, {:.4e} training FLOPs by the cost model{}.",
            cost.model,
            cost.steps,
            words.batch,
            cost.flops,
            cost.params.map_or(String::new(), |params| format!(", {params} parameters"))
        ));
    }
    if training.len() > 1 {
        item(matched::<T>(training));
    }
    line(page, &tuning(study, results));
    let mut item = |text: String| line(page, &format!("- {text}"));
    let seeds = || results.arms.iter().flat_map(|arm| &arm.seeds);
    item(format!("Evaluated by {}.", one_or_more(seeds().map(|seed| &seed.program))));
    item(format!(
        "{} Energy: {}.",
        T::timing(study, &one_or_more(seeds().map(|seed| seed.threads))),
        results.energy_source()
    ));
    line(page, "");
    Ok(())
}

/// What models have in common.
fn matched<T: Task>(training: &[TrainingCost]) -> String {
    let data = T::WORDS.data;
    let same = format!(
        "Models of a seed see the same {data} in the same order and start with equal weights wherever they \
         share a parameter's name and shape; their"
    );
    match T::MATCHED {
        Matched::TrainingFlops => format!(
            "{same} training FLOPs, in balanced routing and without transport plans, are equal to {} %.",
            100.0 * MAX_FLOPS_GAP
        ),
        Matched::Parameters => {
            let flops = || training.iter().map(|cost| cost.flops);
            let (least, most) =
                (flops().fold(f64::INFINITY, f64::min), flops().fold(0.0, f64::max));
            format!(
                "{same} parameters are equal to {} %, and their steps; the FLOPs of their training are not \
                 (the costliest has {:.2} times those of the cheapest).",
                100.0 * MAX_PARAMS_GAP,
                most / least
            )
        }
    }
}

/// How learning rates came about, as items.
fn tuning<T: Task>(study: &Study<T>, results: &Results<T>) -> String {
    let Some(tuning) = &study.tuning else { return "- No setting was tuned.".into() };
    let mut items = vec![format!(
        "- Learning rates: each model had one trial for each of {:?} at {} of the length with seed {}, \
         chosen on validation images.",
        tuning.lr_peaks, tuning.length, tuning.seed
    )];
    items.extend(results.trials.iter().map(|trial| {
        let top1 = trial.validation_top1;
        format!(
            "- Trial of `{}` at {}: validation {}loss {:.4}.",
            trial.model,
            trial.lr_peak,
            top1.map_or(String::new(), |top1| format!("top-1 {:.2} %, ", 100.0 * top1)),
            trial.validation_loss
        )
    }));
    items.join("\n")
}

fn arms<T: Task>(page: &mut String, results: &Results<T>) {
    let (words, columns) = (T::WORDS, T::columns());
    let digits = words.digits;
    line(page, "## Arms\n");
    line(
        page,
        "Means over seeds; time and energy medians over seeds. Each seed is a line of `arms.csv`.\n",
    );
    let mut headings = vec!["arm", words.heading, "over seeds"];
    headings.extend(columns.iter().map(|(heading, _)| *heading));
    line(page, &format!("| {} |\n|{}", headings.join(" | "), " --- |".repeat(headings.len())));
    for arm in &results.arms {
        let mut row = vec![
            format!("`{}`", arm.arm),
            format!("{:.digits$}", arm.score.value),
            in_brackets(arm.score.over_seeds, digits),
        ];
        row.extend(columns.iter().map(|(_, value)| value(arm)));
        line(page, &format!("| {} |", row.join(" | ")));
    }
    line(page, "");
}

fn how_to_read<T: Task>(page: &mut String, study: &Study<T>, results: &Results<T>) {
    let words = T::WORDS;
    line(page, "## How to read the intervals\n");
    let mut item = |text: String| line(page, &format!("- {text}"));
    let of_unit = |unit| results.comparisons.iter().filter(move |found| found.unit == unit);
    let both = DecidingUnit::UnitsAndSeeds;
    if of_unit(both).next().is_some() {
        let together = one_or_more(of_unit(both).map(|found| found.drawn_together));
        item(format!(
            "Unit `{}`: both arms are the same trained models. Over {units}, differences are averaged over \
             the {} seeds for each, and {}; over seeds, a seed is drawn whole. What holds both intervals \
             decides.",
            both.name(&words),
            study.seeds.len(),
            words.drawn.replace("{}", &together),
            units = words.units,
        ));
    }
    if of_unit(DecidingUnit::Seeds).next().is_some() {
        item(format!(
            "Unit `seeds`: the arms were trained apart, so the claim is about training runs that were not \
             made, on these test {}. One difference for each seed.",
            words.data
        ));
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

fn commands<T: Task>(
    page: &mut String,
    plan: &Plan<T>,
    folder: &Folder,
    results: &Results<T>,
) -> Result<()> {
    line(page, "## Commands\n\n```sh");
    line(page, &study_command(plan, folder));
    line(page, "\n# Each run alone: the same bits.");
    let study = &plan.study;
    for model in &study.models {
        for (lr_peak, config) in study.trial_configs(model) {
            line(page, &T::train_command(&config, &folder.trial_run(&model.name, lr_peak))?);
        }
        let arm = results.arms.iter().find(|arm| arm.model == model.name);
        for seed in arm.iter().flat_map(|arm| &arm.seeds) {
            let config = study.seeded_config(model, seed.seed, seed.lr_peak);
            let config = T::taught(config, folder, &model.name, seed.seed)?;
            line(page, &T::train_command(&config, &folder.run(&model.name, seed.seed))?);
        }
    }
    let first = study.seeds.first().copied().unwrap_or(0);
    let _ = writeln!(page, "\n# Each arm of seed {first}; other seeds have other folders.");
    for arm in &results.arms {
        let run = folder.run(&arm.model, first);
        line(page, &eval_command(&run, &T::eval_flags(study, arm)));
    }
    line(page, "```");
    Ok(())
}
