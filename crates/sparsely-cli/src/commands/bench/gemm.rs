//! `sparsely bench gemm`: the matrix product alone, beside what the processor can do at most.

use super::speed::{Speed, Turn, median};
use crate::args::BenchArgs;
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::nn::Precision;
use sparsely_tensor::measure::{Form, product_seconds};
use std::process::ExitCode;

/// Products of a training step: ViT Ti, a MoE layer of ViT S, one image, ViT B, a square, heads; then those of layers
/// whose weights are packed once.
const PRODUCTS: [(Form, [usize; 3]); 15] = [
    (Form::Forward, [3136, 192, 768]),
    (Form::Forward, [3136, 768, 192]),
    (Form::InputGradient, [3136, 768, 192]),
    (Form::WeightGradient, [192, 3136, 768]),
    (Form::Forward, [392, 384, 1536]),
    (Form::Forward, [49, 192, 768]),
    (Form::Forward, [1600, 768, 3072]),
    (Form::WeightGradient, [768, 1600, 3072]),
    (Form::Forward, [1024, 1024, 1024]),
    (Form::Many(192), [64, 64, 64]),
    (Form::Inference, [3136, 192, 768]),
    (Form::Inference, [392, 384, 1536]),
    (Form::Inference, [49, 192, 768]),
    (Form::Inference, [1600, 768, 3072]),
    (Form::Inference, [1024, 1024, 1024]),
];

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let form = args.model.as_deref();
    if let Some(form) = form.filter(|form| PRODUCTS.iter().all(|(own, _)| name(*own) != *form)) {
        let mut known: Vec<&str> = PRODUCTS.iter().map(|(form, _)| name(*form)).collect();
        known.sort_unstable();
        known.dedup();
        bail!("there is no product `{form}` to measure; there are {}", known.join(", "));
    }
    let asked = args.precision.asked();
    for precision in [Precision::F32, Precision::Bf16] {
        if asked.is_none_or(|asked| asked == precision) {
            measure(precision, args);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(precision: Precision, args: &BenchArgs) {
    let threads = rayon::current_num_threads();
    let is_asked = |form| args.model.as_deref().is_none_or(|asked| asked == name(form));
    for (form, [m, k, n]) in PRODUCTS.into_iter().filter(|(form, _)| is_asked(*form)) {
        let count = if let Form::Many(count) = form { count } else { 1 };
        let macs = count * m * k * n;
        let rounds = args.steps.get().max(rounds(macs));
        let seconds = median(product_seconds(precision.into(), form, [m, k, n], rounds));
        let speed = Speed::of(precision, vec![Turn::of(precision, macs as u64, seconds)]);
        if args.json {
            let line = json!({
                "product": name(form), "m": m, "k": k, "n": n, "count": count, "precision": precision,
                "threads": threads, "seconds": seconds,
            });
            say!("{}", speed.beside(line));
        } else {
            let times = if count > 1 { format!("{count} × ") } else { String::new() };
            say!("{:<15} {:<18} {speed}", name(form), format!("{times}{m}×{k}×{n}"));
        }
    }
}

/// Enough for a tenth of a second of a core.
fn rounds(macs: usize) -> usize {
    5_000_000_000 / macs
}

fn name(form: Form) -> &'static str {
    match form {
        Form::Forward => "forward",
        Form::Inference => "inference",
        Form::InputGradient => "input gradient",
        Form::WeightGradient => "weight gradient",
        Form::Many(_) => "many",
    }
}
