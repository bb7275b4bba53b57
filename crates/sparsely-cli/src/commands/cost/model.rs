//! What one model costs, by part and by layer.

use super::Subject;
use crate::quantity::{bytes, short, with_unit};
use crate::table::{cells, say_aligned};
use anyhow::Result;
use serde_json::{Value, json};
use sparsely::cost::{Call, Memory, ModelCost, Part, PartCost};
use std::process::ExitCode;

/// The parts in the order in which they are told, with their names.
const PARTS: [(Part, &str); 10] = [
    (Part::Embedding, "embedding"),
    (Part::Norm, "norms"),
    (Part::Attention, "attention"),
    (Part::Mlp, "dense MLPs"),
    (Part::Router, "routers"),
    (Part::Dispatch, "dispatch, combine"),
    (Part::Experts, "experts"),
    (Part::Pool, "pool"),
    (Part::PreLogits, "pre-logits"),
    (Part::Head, "head"),
];

/// What the columns mean.
const NOTES: [&str; 4] = [
    "MACs: of matrix products and gated sums. FLOPs: 2 for each, 5 for a value of a norm or",
    "softmax, 8 for a GELU, 1 for an addition. Active: what one token meets. Touched: weights once",
    "for the batch, and what each operation reads and writes. Kept: for the backward pass. All",
    "values are f32.",
];

pub(super) fn print(subject: &Subject, batch: usize, as_json: bool) -> Result<ExitCode> {
    let call = Call { dial: subject.dial.clone(), ..Call::balanced(batch) };
    let cost = ModelCost::of(&subject.model, &call)?;
    if as_json {
        say!("{}", to_json(subject, &cost));
        return Ok(ExitCode::SUCCESS);
    }
    for line in describe(subject, &cost) {
        say!("{line}");
    }
    say!();
    say_aligned(&by_part(&cost));
    say!();
    say_aligned(&by_layer(&cost));
    say!();
    say_aligned(&memory(&cost));
    say!();
    say!(
        "a training step is {}, {} of them forward",
        with_unit(cost.training_flops() as f64, "FLOPs"),
        with_unit(cost.flops() as f64, "FLOPs")
    );
    say!();
    NOTES.iter().for_each(|note| say!("{note}"));
    Ok(ExitCode::SUCCESS)
}

/// Under which conditions the numbers hold.
fn describe(subject: &Subject, cost: &ModelCost) -> Vec<String> {
    let Subject { name, model, dial, .. } = subject;
    let (size, channels) = (model.image_size, model.channels);
    let mut lines = vec![format!(
        "{name}: images of {size}×{size}×{channels}, {} tokens each, {} classes, batch {}",
        cost.length,
        model.num_classes.map_or("no".to_string(), |v| v.to_string()),
        cost.batch
    )];
    if let Some(moe) = &model.moe {
        let layers = cost.parts.iter().filter(|part| part.part == Part::Experts);
        // Those that are left out compute nothing.
        let layers = layers.filter(|part| part.rows > 0);
        let asked = layers.clone().count();
        let rows: u64 = layers.map(|part| part.rows).sum();
        let experts = match dial.num_experts(moe.num_experts) {
            left if left < moe.num_experts => format!("{left} of {}", moe.num_experts),
            all => all.to_string(),
        };
        lines.push(format!(
            "{experts} experts in {asked} blocks, groups of {}, chosen equally often: {} rows for {} tokens \
             in each",
            dial.group.unwrap_or(moe.group),
            rows / asked.max(1) as u64,
            cost.batch * cost.length
        ));
    }
    lines
}

fn header(first: &str) -> Vec<String> {
    cells([
        first,
        "params",
        "active",
        "MACs/image",
        "FLOPs/image",
        "share",
        "touched/image",
        "kept/image",
    ])
}

/// The sum of some parts as cells.
fn row(name: &str, parts: &[&PartCost], cost: &ModelCost) -> Vec<String> {
    let sum = |of: fn(&PartCost) -> u64| parts.iter().map(|part| of(part)).sum::<u64>() as f64;
    let images = cost.batch as f64;
    let flops = sum(PartCost::flops);
    vec![
        name.to_string(),
        short(sum(|part| part.params)),
        short(sum(|part| part.active_params)),
        short(sum(|part| part.macs) / images),
        short(flops / images),
        format!("{:.1} %", 100.0 * flops / cost.flops() as f64),
        bytes(sum(PartCost::touched_bytes) / images),
        bytes(sum(PartCost::kept_bytes) / images),
    ]
}

fn by_part(cost: &ModelCost) -> Vec<Vec<String>> {
    let mut rows = vec![header("part")];
    for (part, name) in PARTS {
        let parts: Vec<_> = cost.parts.iter().filter(|cost| cost.part == part).collect();
        if !parts.is_empty() {
            rows.push(row(name, &parts, cost));
        }
    }
    rows.push(row("all", &cost.parts.iter().collect::<Vec<_>>(), cost));
    rows
}

/// Blocks that cost the same share a line, which tells one of them.
fn by_layer(cost: &ModelCost) -> Vec<Vec<String>> {
    let depth = cost.parts.iter().filter_map(|part| part.block).max().map_or(0, |last| last + 1);
    let block = |i: usize| cost.parts.iter().filter(move |part| part.block == Some(i));
    let same = |a: usize, b: usize| {
        block(a).count() == block(b).count()
            && block(a).zip(block(b)).all(|(a, b)| PartCost { block: b.block, ..a.clone() } == *b)
    };
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for i in 0..depth {
        match kinds.iter_mut().find(|kind| same(kind[0], i)) {
            Some(kind) => kind.push(i),
            None => kinds.push(vec![i]),
        }
    }
    let mut rows = vec![header("layer (one of them)")];
    for kind in kinds {
        let has_experts = block(kind[0]).any(|part| part.part == Part::Experts);
        let name = format!(
            "{} {}{}",
            if kind.len() == 1 { "block" } else { "blocks" },
            ranges(&kind),
            if has_experts { ", experts" } else { "" }
        );
        rows.push(row(&name, &block(kind[0]).collect::<Vec<_>>(), cost));
    }
    rows
}

/// `0–4 6`: ascending indices, runs of three and more joined. Every second one: `1 3 … 11`.
fn ranges(indices: &[usize]) -> String {
    let (first, last) = (indices[0], indices[indices.len() - 1]);
    if indices.len() > 3 && indices.iter().zip((first..).step_by(2)).all(|(a, b)| *a == b) {
        return format!("{first} {} … {last}", first + 2);
    }
    let mut texts: Vec<String> = Vec::new();
    for run in indices.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [first, _, .., last] => texts.push(format!("{first}–{last}")),
            _ => texts.extend(run.iter().map(ToString::to_string)),
        }
    }
    texts.join(" ")
}

fn memory(cost: &ModelCost) -> Vec<Vec<String>> {
    let mut rows = vec![cells(["memory", "weights", "gradients", "moments", "activations", "all"])];
    for (name, memory) in
        [("inference", cost.inference_memory()), ("training", cost.training_memory())]
    {
        let Memory { weights, gradients, moments, activations } = memory;
        let values = [weights, gradients, moments, activations, memory.total()];
        let cells = values.map(|value| if value == 0 { "–".into() } else { bytes(value as f64) });
        rows.push([name.to_string()].into_iter().chain(cells).collect());
    }
    rows
}

fn to_json(subject: &Subject, cost: &ModelCost) -> Value {
    let images = cost.batch as f64;
    json!({
        "model": subject.name,
        "batch": cost.batch,
        "tokens_per_image": cost.length,
        "params": cost.params(),
        "active_params": cost.active_params(),
        "macs_per_image": cost.macs() as f64 / images,
        "flops_per_image": cost.flops() as f64 / images,
        "touched_bytes_per_image": cost.touched_bytes() as f64 / images,
        "training_macs_per_step": cost.macs() + cost.backward_macs(),
        "training_flops_per_step": cost.training_flops(),
        "inference_memory": cost.inference_memory(),
        "training_memory": cost.training_memory(),
        "parts": cost.parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_in_runs() {
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[5, 7]), "5 7");
        assert_eq!(ranges(&[0, 1, 2, 3, 4, 6]), "0–4 6");
        assert_eq!(ranges(&[0, 1, 5]), "0 1 5");
        assert_eq!(ranges(&[1, 3, 5, 7, 9, 11]), "1 3 … 11");
    }
}
