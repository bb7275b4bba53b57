//! A plan to train a model on many devices.

use super::Subject;
use crate::NO;
use crate::args::{ClusterArgs, CostArgs};
use crate::quantity::{bytes, parse, seconds, short, with_unit};
use crate::table::{cells, say_aligned};
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::cost::plan::{ASSUMPTIONS, Cluster, Plan, Split, Workload, plan};
use std::process::ExitCode;

pub(super) fn print(subject: &Subject, devices: usize, args: &CostArgs) -> Result<ExitCode> {
    let cluster = cluster(&args.cluster, devices)?;
    let batch = args.batch.unwrap_or(subject.batch.saturating_mul(devices));
    if batch == 0 || !batch.is_multiple_of(devices) {
        bail!(
            "--batch: expected a multiple of {devices} images, a share for each device, got {batch}"
        );
    }
    let work = Workload::of(&subject.model, &subject.dial, batch / devices)?;
    let plan = plan(&work, &cluster);
    let reason = plan.best.is_none().then(|| reason(&plan, &cluster));
    if args.json {
        let best = plan.best.map(|best| plan.splits[best]);
        let steps: Vec<f64> = plan.splits.iter().map(Split::step_seconds).collect();
        say!(
            "{}",
            json!({
                "model": subject.name, "batch": batch, "cluster": cluster, "work": work,
                "splits": plan.splits, "step_seconds": steps, "recommended": best,
                "reason": reason, "assumptions": ASSUMPTIONS,
            })
        );
    } else {
        describe(subject, batch, &cluster, &work);
        say!();
        say_aligned(&memory(&plan, &cluster));
        say!();
        say_aligned(&times(&plan));
        say!();
        say!("assumed:");
        ASSUMPTIONS.iter().for_each(|assumption| say!("  {assumption}"));
        say!();
        match &reason {
            None => recommend(&plan, batch),
            Some(reason) => say!("{reason}"),
        }
    }
    Ok(if reason.is_some() { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

fn cluster(args: &ClusterArgs, devices: usize) -> Result<Cluster> {
    if devices == 0 {
        bail!("--devices: expected at least 1, got 0");
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(Cluster {
        devices,
        memory: parse("memory", &text(&args.memory), &["B"], "80GB")?,
        link: parse("link", &text(&args.link), &["B/s", "B"], "50GB/s")?,
        flops: parse("flops", &text(&args.flops), &["", "FLOPS", "FLOP/s"], "400T")?,
        bandwidth: parse("bandwidth", &args.bandwidth, &["B/s", "B"], "2TB/s")?,
    })
}

fn describe(subject: &Subject, batch: usize, cluster: &Cluster, work: &Workload) {
    let experts = match work.expert_params {
        0 => String::new(),
        params => {
            format!(", {} of them in {} experts a layer", short(params as f64), work.num_experts)
        }
    };
    say!(
        "{}: {} parameters{experts}; {} devices, {} images a step, {} on each",
        subject.name,
        short((work.dense_params + work.expert_params) as f64),
        cluster.devices,
        batch,
        batch / cluster.devices
    );
    say!(
        "each device: {} of memory at {}/s, {}/s to others, {}/s",
        bytes(cluster.memory),
        bytes(cluster.bandwidth),
        bytes(cluster.link),
        with_unit(cluster.flops, "FLOPs")
    );
}

/// What lies in the memory of one device.
fn memory(plan: &Plan, cluster: &Cluster) -> Vec<Vec<String>> {
    let mut rows = vec![cells([
        "expert-parallel",
        "data-parallel",
        "weights",
        "gradients",
        "moments",
        "activations",
        "all",
        "fits",
    ])];
    rows.extend(plan.splits.iter().map(|split| {
        let memory = &split.memory;
        let held = [memory.weights, memory.gradients, memory.moments, memory.activations];
        let held = held.into_iter().chain([memory.total()]).map(|value| bytes(value as f64));
        let fits = if split.fits(cluster) { "yes" } else { "no" };
        degrees(split).into_iter().chain(held).chain([fits.to_string()]).collect()
    }));
    rows
}

/// What one device sends, and how long everything takes.
fn times(plan: &Plan) -> Vec<Vec<String>> {
    let mut rows = vec![cells([
        "expert-parallel",
        "data-parallel",
        "all-to-all",
        "all-reduce",
        "compute",
        "memory",
        "link",
        "step",
    ])];
    rows.extend(plan.splits.iter().map(|split| {
        let sent = [split.all_to_all, split.all_reduce].map(bytes);
        let times =
            [split.compute_seconds, split.memory_seconds, split.link_seconds, split.step_seconds()];
        degrees(split).into_iter().chain(sent).chain(times.map(seconds)).collect()
    }));
    rows
}

fn degrees(split: &Split) -> [String; 2] {
    [split.expert_parallel, split.data_parallel].map(|degree| degree.to_string())
}

fn recommend(plan: &Plan, batch: usize) {
    let Some(split) = plan.best.map(|best| &plan.splits[best]) else { return };
    say!(
        "recommended: expert-parallel {} × data-parallel {}: a step takes {} (bound by {}; {} in \
         turn), {:.0} images/s",
        split.expert_parallel,
        split.data_parallel,
        seconds(split.step_seconds()),
        split.bound(),
        seconds(split.seconds_in_turn()),
        batch as f64 / split.step_seconds()
    );
}

/// Why nothing fits.
fn reason(plan: &Plan, cluster: &Cluster) -> String {
    let smallest = plan.splits.iter().min_by_key(|split| split.memory.total());
    let smallest = smallest.expect("one device is always a split");
    let state = smallest.memory.total() - smallest.memory.activations;
    let (all, activations) = (smallest.memory.total() as f64, smallest.memory.activations as f64);
    let way_out = if state as f64 > cluster.memory {
        "no batch is small enough"
    } else {
        "a smaller --batch may fit"
    };
    format!(
        "nothing fits: expert-parallel {1} asks for {0} on each device, {2} of it activations, but \
         there are {3}; {way_out}",
        bytes(all),
        smallest.expert_parallel,
        bytes(activations),
        bytes(cluster.memory)
    )
}
