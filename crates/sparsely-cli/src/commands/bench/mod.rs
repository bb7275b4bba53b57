//! `sparsely bench`: what this machine does in a second, to be run beside `bench/peers/`.

mod attention;
mod decode;
mod dropless;
mod gemm;
mod growth;
mod infer;
mod moe;
mod routers;
mod speed;
mod train;

use crate::args::{BenchArgs, BenchKind};
use anyhow::{Context, Result, bail};
use sparsely::nn::Precision;
use std::process::ExitCode;

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let is_f32_alone = matches!(args.what, BenchKind::Routers | BenchKind::Growth);
    if is_f32_alone && args.precision.asked() == Some(Precision::Bf16) {
        bail!("--precision: expected f32 for this benchmark, got bf16");
    }
    // Before minutes of measurements that could not be kept.
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .with_context(|| format!("cannot create `{}`", out.display()))?;
    }
    match args.what {
        BenchKind::Train => train::run(args),
        BenchKind::Routers => routers::run(args),
        BenchKind::Gemm => gemm::run(args),
        BenchKind::Moe => moe::run(args),
        BenchKind::Infer => infer::run(args),
        BenchKind::Attention => attention::run(args),
        BenchKind::Decode => decode::run(args),
        BenchKind::Growth => growth::run(args),
    }
}
