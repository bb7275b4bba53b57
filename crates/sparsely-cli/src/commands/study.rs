//! `sparsely study`.

use super::program;
use super::train::stop_on_signals;
use crate::NO;
use crate::args::StudyArgs;
use crate::progress::Progress;
use anyhow::{Result, bail};
use indicatif::MultiProgress;
use sparsely::study::{
    Folder, Named, Observer, Plan, Request, Results, Stage, Study, Task, all, execute, named,
    report, study_command, told,
};
use sparsely::train;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where studies without a folder of their own go.
const ROOT: &str = "studies";

pub(crate) fn run(args: &StudyArgs) -> Result<ExitCode> {
    let Some(name) = &args.name else {
        all().iter().for_each(|study| say!("{}: {}", study.name(), study.question()));
        return Ok(ExitCode::SUCCESS);
    };
    match named(name)? {
        Named::Images(study) => run_study(study, args),
        Named::Text(study) => run_study(study, args),
    }
}

fn run_study<T: Task>(study: Study<T>, args: &StudyArgs) -> Result<ExitCode> {
    let name = study.name.clone();
    let request = Request {
        data: args.data.clone(),
        budget_seconds: args.budget.as_deref().map(parse_budget).transpose()?,
        watts_per_core: args.watts_per_core,
    };
    let source = request.data.as_deref().unwrap_or(T::source(&study.data));
    if !T::is_embedded(source) && !Path::new(source).exists() {
        let note = &study.data_note;
        bail!("study `{name}` needs {note}: there is no `{source}`, give the folder with --data");
    }
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(ROOT).join(&name));
    let (folder, program) = (Folder::new(&path), program());
    let (plan, is_new) = Plan::load_or_new(&folder, study, request, &program)?;
    tell(&plan, is_new);
    if !is_new {
        let seeds = &plan.study.seeds;
        let done = seeds.iter().filter(|seed| matches!(folder.costs(**seed), Ok(Some(_))));
        say!("{} of {} seeds are done", done.count(), seeds.len());
    }
    if args.dry_run {
        tell_arms(&plan)?;
        say!("nothing was run or written (--dry-run)");
        return Ok(ExitCode::SUCCESS);
    }
    if is_new {
        folder.save_plan(&plan)?;
    }
    let stop = stop_on_signals()?;
    let progress = StudyProgress::new(&plan.study);
    let is_finished = execute(&plan, &folder, &program, &stop, &progress)?;
    if !is_finished {
        say!("stopped; go on with: {}", study_command(&plan, &folder));
        return Ok(ExitCode::from(NO));
    }
    tell_answers(&plan, &report(&plan, &folder)?, &folder);
    Ok(ExitCode::SUCCESS)
}

/// Whole seconds of a time such as `60m`.
fn parse_budget(text: &str) -> Result<u64> {
    match humantime::parse_duration(text) {
        Ok(budget) if budget.as_secs() > 0 => Ok(budget.as_secs()),
        _ => bail!("--budget: expected a time such as 45m or `1h 30m`, got `{text}`"),
    }
}

fn tell<T: Task>(plan: &Plan<T>, is_new: bool) {
    let Plan { study, sizes, .. } = plan;
    say!("{}: {}", study.name, study.question);
    if let Some(smaller) = plan.smaller() {
        say!("{smaller}");
    }
    say!(
        "{}: {} training, {} validation, {} test {}; seeds {:?}",
        T::source(&study.data),
        sizes.train,
        sizes.validation,
        sizes.test,
        T::WORDS.data,
        study.seeds
    );
    for cost in &plan.training {
        let params = cost.params.map_or(String::new(), |params| format!("{params} parameters, "));
        say!(
            "model {}: {params}{} steps, {:.3e} training FLOPs and about {} for each seed",
            cost.model,
            cost.steps,
            cost.flops,
            told(plan.rate.seconds_of_training(study, &cost.model, sizes))
        );
    }
    let measured = if is_new {
        "a few steps and batches just now".to_string()
    } else {
        format!("the rate that was stored with the plan, measured {}", plan.rate.date)
    };
    say!(
        "{} arms, {} comparisons; expected {} on {} threads, by {measured}",
        study.arms.len(),
        study.comparisons.len(),
        told(plan.expected_seconds),
        plan.rate.threads
    );
}

fn tell_arms<T: Task>(plan: &Plan<T>) -> Result<()> {
    for arm in &plan.study.arms {
        let [counted, unit] = T::forward_cost(&plan.study, arm)?;
        let seconds = plan.rate.seconds_per_unit.get(&arm.name).copied().unwrap_or(f64::NAN);
        say!(
            "arm {:20} of {}  {counted}  {:.3} ms/{unit} before training",
            arm.name,
            arm.model,
            1e3 * seconds
        );
    }
    for comparison in &plan.study.comparisons {
        say!(
            "{}: predicted {}",
            comparison.name,
            comparison.predicted.told(T::WORDS.difference[0])
        );
    }
    Ok(())
}

fn tell_answers<T: Task>(plan: &Plan<T>, results: &Results<T>, folder: &Folder) {
    let (digits, unit) = (T::WORDS.digits, T::WORDS.difference[0]);
    for found in &results.comparisons {
        let interval = found.deciding().map_or("no interval".into(), |interval| {
            format!("{:+.digits$} to {:+.digits$}", interval.low, interval.high)
        });
        say!(
            "{}: {:+.digits$} {unit} ({interval}; {}), predicted {}: {}",
            found.name,
            found.difference,
            found.unit.name(&T::WORDS),
            found.predicted.told(unit),
            found.verdict
        );
    }
    if let Some(smaller) = plan.smaller() {
        say!("{smaller}");
    }
    say!("summary {}", folder.path().join("summary.md").display());
}

/// Tells a person where the study is, and its runs as `train` does.
struct StudyProgress {
    bars: MultiProgress,
    seeds: Vec<u64>,
}

impl StudyProgress {
    fn new<T: Task>(study: &Study<T>) -> StudyProgress {
        StudyProgress { bars: MultiProgress::new(), seeds: study.seeds.clone() }
    }

    fn place(&self, seed: u64) -> String {
        let index = self.seeds.iter().position(|known| *known == seed).unwrap_or(0);
        format!("seed {seed} ({} of {})", index + 1, self.seeds.len())
    }
}

impl Observer for StudyProgress {
    fn stage(&self, stage: &Stage<'_>) {
        let line = match *stage {
            Stage::Trial { model, lr_peak } => {
                format!("trial of {model} at learning rate {lr_peak}")
            }
            Stage::Training { model, seed } => format!("{}: training {model}", self.place(seed)),
            Stage::Evaluating { arm, seed } => format!("{}: evaluating {arm}", self.place(seed)),
            Stage::Measuring { seed } => format!("{}: time and energy in turn", self.place(seed)),
        };
        self.bars.suspend(|| say!("{line}"));
    }

    fn run(&self, stage: &Stage<'_>) -> Box<dyn train::Observer + '_> {
        let name = match *stage {
            Stage::Trial { model, lr_peak } => format!("{model}, rate {lr_peak}: "),
            Stage::Training { model, seed } => format!("{model}, seed {seed}: "),
            Stage::Evaluating { .. } | Stage::Measuring { .. } => String::new(),
        };
        Box::new(Progress::of(name, self.bars.clone()))
    }
}
