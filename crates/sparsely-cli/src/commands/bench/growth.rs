//! `sparsely bench growth`: time against tokens, experts, blocks and threads, beside the ideal.

use super::moe::{self, Loads};
use super::speed::median;
use super::train::{DENSE, Steps};
use crate::args::BenchArgs;
use anyhow::Result;
use serde_json::json;
use sparsely::checkpoint::write_atomic;
use sparsely::model::ModelConfig;
use sparsely::study::{Growth, Ideal, growth_svg};
use sparsely_tensor::Precision;
use sparsely_tensor::Slab;
use sparsely_tensor::measure::product_kernel;
use sparsely_tensor::optim::{Moments, Rule, Step};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Images of a step, where their number is not the axis.
const IMAGES: usize = 32;
/// Rows that all experts share, where their number is the axis: 100 each at the most experts.
const ROWS: usize = 12_800;
/// Calls before the clock starts.
const WARM_UP: usize = 2;

/// One point of an axis: does its work once and tells the seconds.
type Point<'a> = (f64, Box<dyn FnMut() -> Result<f64> + 'a>);

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let mut all = Vec::new();
    for growth in [tokens(args)?, blocks(args)?, threads(args)?] {
        tell(args, &growth);
        all.push(growth);
    }
    for growth in experts(args)? {
        tell(args, &growth);
        all.push(growth);
    }
    if let Some(out) = &args.out {
        write(out, &all)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Medians of points that are measured in turn: the machine's own changes meet all of them.
fn in_turn(points: &mut [Point<'_>], rounds: usize) -> Result<Vec<[f64; 2]>> {
    let mut seconds = vec![Vec::new(); points.len()];
    for round in 0..WARM_UP + rounds {
        for ((_, work), seconds) in points.iter_mut().zip(&mut seconds) {
            let own = work()?;
            if round >= WARM_UP {
                seconds.push(own);
            }
        }
    }
    Ok(points.iter().zip(seconds).map(|((value, _), seconds)| [*value, median(seconds)]).collect())
}

/// Training steps of more and more images.
fn tokens(args: &BenchArgs) -> Result<Growth> {
    let tokens = 64.0;
    let mut points = Vec::new();
    for images in [8, 16, 32, 64, 128] {
        let mut steps = Steps::new("vmoe-192x6-e8-k1-last2", images, |config| config)?;
        points.push((images as f64 * tokens, Box::new(move || steps.step()) as Box<_>));
    }
    Ok(Growth {
        axis: "tokens of a step".into(),
        what: "training step, V-MoE 192×6, E 8, K 1".into(),
        ideal: Ideal::Linear,
        points: in_turn(&mut points, args.steps.get())?,
    })
}

/// Training steps of deeper and deeper models.
fn blocks(args: &BenchArgs) -> Result<Growth> {
    let mut points = Vec::new();
    for depth in [1, 2, 4, 8, 16] {
        let of_depth = |config| ModelConfig { depth, ..config };
        let mut steps = Steps::new(DENSE, IMAGES, of_depth)?;
        points.push((depth as f64, Box::new(move || steps.step()) as Box<_>));
    }
    Ok(Growth {
        axis: "blocks".into(),
        what: format!("training step, ViT of width 192, {IMAGES} images"),
        ideal: Ideal::Linear,
        points: in_turn(&mut points, args.steps.get())?,
    })
}

/// Training steps on more and more threads.
fn threads(args: &BenchArgs) -> Result<Growth> {
    let mut points = Vec::new();
    for threads in 1..=rayon::current_num_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut steps = Steps::new(DENSE, IMAGES, |config| config)?;
        let work = move || pool.install(|| steps.step());
        points.push((threads as f64, Box::new(work) as Box<_>));
    }
    Ok(Growth {
        axis: "threads".into(),
        what: format!("training step, ViT 192×6, {IMAGES} images"),
        ideal: Ideal::Inverse,
        points: in_turn(&mut points, args.steps.get())?,
    })
}

/// As many rows among more and more experts; and what the optimiser takes for all of their parameters.
fn experts(args: &BenchArgs) -> Result<[Growth; 2]> {
    let experts = [8, 16, 32, 64, 128];
    let mut layers = Vec::new();
    for e in experts {
        layers.push(moe::Subject::new(&Loads::balanced(e, ROWS / e))?);
    }
    let mut slabs: Vec<Updates> = layers.iter().map(|layer| Updates::of(layer.params())).collect();
    let forward = layers.iter().zip(experts).map(|(layer, e)| {
        let work = move || layer.forward_seconds();
        (e as f64, Box::new(work) as Box<_>)
    });
    let forward = in_turn(&mut forward.collect::<Vec<_>>(), args.steps.get())?;
    let updates = slabs.iter_mut().zip(experts).map(|(slab, e)| {
        let work = move || Ok(slab.seconds());
        (e as f64, Box::new(work) as Box<_>)
    });
    let updates = in_turn(&mut updates.collect::<Vec<_>>(), args.steps.get())?;
    let growth =
        |what: String, ideal, points| Growth { axis: "experts".into(), what, ideal, points };
    Ok([
        growth(format!("forward, {ROWS} rows in all, K 1"), Ideal::Flat, forward),
        growth("AdamW over the experts' parameters".into(), Ideal::Linear, updates),
    ])
}

/// Parameters that follow a gradient.
struct Updates {
    params: Slab,
    grads: Slab,
    moments: Moments,
}

impl Updates {
    fn of(params: &Slab) -> Updates {
        let grads = params.clone();
        Updates { params: params.clone(), moments: Moments::zeros(&grads), grads }
    }

    fn seconds(&mut self) -> f64 {
        let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        let update = Step { rule, lr: 1e-4, decay: 0.0, number: 1, grad_scale: 1.0 };
        let begin = Instant::now();
        update.apply(&mut self.params, &self.grads, &mut self.moments);
        begin.elapsed().as_secs_f64()
    }
}

fn tell(args: &BenchArgs, growth: &Growth) {
    let threads = rayon::current_num_threads();
    for ([value, seconds], ideal) in growth.points.iter().zip(growth.ideal_seconds()) {
        if args.json {
            let line = json!({
                "axis": growth.axis, "what": growth.what, "value": value, "seconds": seconds,
                "ideal_seconds": ideal, "threads": threads, "kernel": product_kernel(Precision::F32),
            });
            say!("{line}");
        } else {
            say!(
                "{}: {value:>6} {:<16} {:>9.2} ms, {:.2} of the ideal",
                growth.what,
                growth.axis,
                1e3 * seconds,
                seconds / ideal
            );
        }
    }
}

fn write(out: &Path, all: &[Growth]) -> Result<()> {
    let note = format!(
        "medians in turn, {}, {} threads; dashed: the ideal through the first point",
        product_kernel(Precision::F32),
        rayon::current_num_threads()
    );
    let picture = out.join("growth.svg");
    let svg = growth_svg(all, &note)?;
    write_atomic(&picture, |file| file.write_all(svg.as_bytes()))?;
    let path = out.join("growth.jsonl");
    let lines = all.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    write_atomic(&path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
    say!("wrote {} and {}", path.display(), picture.display());
    Ok(())
}
