//! `sparsely eval --sweep`, and the settings that `sparsely predict --budget` takes from it.

use super::{Trained, program};
use crate::args::EvalArgs;
use crate::progress::Steps;
use crate::quantity::{short, time};
use crate::table::{cells, say_aligned};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use sparsely::checkpoint::{RunFolder, write_atomic};
use sparsely::data::Split;
use sparsely::model::ModelConfig;
use sparsely::study::{
    ArmRouting, CHOOSING_SPLIT, Setting, Sweep, SweepStage, Swept, sweep, sweep_settings,
};
use std::path::Path;
use std::process::ExitCode;

/// Sweeps the run's model on a split.
pub(super) fn run(
    args: &EvalArgs,
    trained: &Trained,
    (split, images): (&str, &Split),
) -> Result<ExitCode> {
    let Trained { config, saved, model, params } = trained;
    let asked = args.dial.asked();
    let settings = sweep_settings(model.config(), &config.eval.dial, &asked)?;
    if images.is_empty() && split == CHOOSING_SPLIT {
        bail!(
            "settings are chosen by validation images and the run keeps none apart: a table without \
             a choice is had with --split test"
        );
    }
    if let Some(out) = &args.sweep.out {
        // Before minutes of work, not after them.
        std::fs::create_dir_all(out)
            .with_context(|| format!("cannot create `{}`", out.display()))?;
    }
    let swept = Swept {
        model,
        params,
        step: saved.step,
        eval: &config.eval,
        loss: config.train.loss.into(),
        data: &config.data.source,
        split,
        images,
        program: &program(),
        max_loss_points: args.sweep.max_loss,
    };
    let steps = Steps::new(settings.len() as u64);
    let found = sweep(&swept, &settings, &mut |stage| match *stage {
        SweepStage::Evaluating { setting, done } => steps.at(done as u64, setting),
        SweepStage::Measuring { rounds } => {
            steps.at(settings.len() as u64, &format!("time in turn, {rounds} rounds"));
        }
    });
    steps.clear();
    let found = found?;
    let written = write(&found, args, (model.config(), &asked))?;
    if args.json {
        say!("{}", to_json(&found, model.config()));
    } else {
        print(&found, model.config());
        written.iter().for_each(|path| say!("wrote {path}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes table and picture, and what `predict --budget` reads; where they went.
fn write(
    found: &Sweep,
    args: &EvalArgs,
    (model, asked): (&ModelConfig, &sparsely::moe::Dial),
) -> Result<Vec<String>> {
    let out = args.sweep.out.as_deref().unwrap_or(&args.run);
    let name = args.run.file_name().unwrap_or(args.run.as_os_str()).to_string_lossy();
    let texts = [("sweep.csv", found.csv(model)?), ("sweep.svg", found.svg(&name, model, asked)?)];
    let mut written = Vec::new();
    for (name, text) in texts {
        let path = out.join(name);
        write_atomic(&path, |file| file.write_all(text.as_bytes()))?;
        written.push(path.display().to_string());
    }
    if found.choice().is_some() {
        let folder = RunFolder::open(&args.run)?;
        found.save(&folder)?;
        written.push(format!("{}, for `predict --budget`", Sweep::path(&folder).display()));
    }
    Ok(written)
}

fn print(found: &Sweep, model: &ModelConfig) {
    say_aligned(&table(found, model));
    say!();
    let one = 100.0 / found.images as f64;
    say!("{} images of {}: n={}, one is {one:.2} points", found.split, found.data, found.images);
    say!(
        "time: median of {} rounds in turn, {} images at once, {} threads",
        found.timing.rounds,
        found.timing.batch_size,
        found.threads
    );
    say!("own: as `eval` routes without flags; front: no other is as accurate and as quick");
    match found.choice() {
        Some(cheapest) => say!(
            "cheapest within {} points of own: {}, {}",
            found.max_loss_points,
            if cheapest.name == found.own().name {
                "own itself".into()
            } else {
                flags(cheapest, model)
            },
            against_own(cheapest, found)
        ),
        None => say!(
            "nothing is chosen by {} images, and `predict --budget` does not use them",
            found.split
        ),
    }
}

fn table(found: &Sweep, model: &ModelConfig) -> Vec<Vec<String>> {
    let chosen = found.choice().map(|chosen| &*chosen.name);
    let head = [
        "setting",
        "K",
        "capacity",
        "priority",
        "top-1 %",
        "dropped %",
        "FLOPs/image",
        "ms/image",
        "",
    ];
    let mut rows = vec![cells(head)];
    for setting in &found.settings {
        let [k, capacity, priority, _] = routing(setting, model)
            .map(|routing| routing.words())
            .unwrap_or_default()
            .map(|word| if word.is_empty() { "–".into() } else { word });
        let mark = match (found.is_on_front(setting), chosen == Some(&*setting.name)) {
            (true, true) => "front, cheapest",
            (true, false) => "front",
            (false, true) => "cheapest",
            (false, false) => "",
        };
        rows.push(vec![
            setting.name.clone(),
            k,
            capacity,
            priority,
            format!("{:.1}", setting.top1_percent),
            format!("{:.1}", 100.0 * setting.dropped_share),
            short(setting.flops_per_image),
            format!("{:.4}", 1e3 * setting.cost.seconds),
            // To the left, unlike numbers.
            format!("{mark:<15}"),
        ]);
    }
    rows
}

fn routing(setting: &Setting, model: &ModelConfig) -> Option<ArmRouting> {
    model.moe.as_ref().map(|moe| ArmRouting::of(moe, &setting.dial))
}

/// The flags of `eval` that ask for a setting.
fn flags(setting: &Setting, model: &ModelConfig) -> String {
    routing(setting, model).map(|routing| routing.flags().join(" ")).unwrap_or_default()
}

fn against_own(setting: &Setting, found: &Sweep) -> String {
    let own = found.own();
    format!(
        "top-1 {:.1} % ({:+.2} points), {:.4} ms/image ({:.2} of own), {:.2} of own's FLOPs",
        setting.top1_percent,
        setting.top1_percent - own.top1_percent,
        1e3 * setting.cost.seconds,
        setting.cost.seconds / own.cost.seconds,
        setting.flops_per_image / own.flops_per_image
    )
}

fn to_json(found: &Sweep, model: &ModelConfig) -> serde_json::Value {
    let mut json = json!(found);
    let front = found.settings.iter().filter(|setting| found.is_on_front(setting));
    json["front"] = front.map(|setting| setting.name.as_str()).collect();
    json["cheapest"] = json!(found.choice().map(|cheapest| &cheapest.name));
    json["cheapest_flags"] = json!(found.choice().map(|cheapest| flags(cheapest, model)));
    json
}

/// The setting of the run's sweep for a `budget` of time an image, such as 3ms; tells on stderr which.
pub(super) fn within_budget(
    path: &Path,
    trained: &Trained,
    budget: &str,
) -> Result<sparsely::moe::Dial> {
    let seconds = time("budget", budget)?;
    let run = path.display();
    let again = format!("sparsely eval {run} --sweep");
    let found = Sweep::load(&RunFolder::open(path)?)?;
    let found = found.ok_or_else(|| {
        anyhow!("--budget needs the run's sweep, and `{run}` has none: run `{again}` first")
    })?;
    if !found.is_of(&trained.params.to_slab()?) {
        bail!(
            "the sweep of `{run}` is stale: it was of the model of step {}, which has changed since \
             (step {} now): run `{again}` again",
            found.step,
            trained.saved.step
        );
    }
    let model = trained.model.config();
    if found.precision != model.precision {
        let (own, asked) = (found.precision, model.precision);
        bail!(
            "the sweep of `{run}` was measured in {own} and {asked} is asked for: run `{again} --precision {asked}`"
        );
    }
    let describe = |setting: &Setting| {
        format!(
            "{}, {:.4} ms/image in batches of {} on {} threads, top-1 {:.1} % of validation",
            flags(setting, model),
            1e3 * setting.cost.seconds,
            found.timing.batch_size,
            found.threads,
            setting.top1_percent
        )
    };
    let setting = found.within(seconds).map_err(|cheapest| {
        anyhow!(
            "no setting of the sweep takes at most {budget} an image: the cheapest is {}",
            describe(cheapest)
        )
    })?;
    let now = rayon::current_num_threads();
    let differs = if now == found.threads { String::new() } else { format!("; now {now}") };
    eprintln!("sparsely: for {budget} an image: {}{differs}", describe(setting));
    Ok(setting.dial.clone())
}
