//! `sparsely bench`: what this machine does in a second, to be run beside `bench/peers/`.

mod attention;
mod decode;
mod gemm;
mod growth;
mod infer;
mod moe;
mod routers;
mod time;
mod train;

use crate::args::{BenchArgs, BenchKind};
use anyhow::Result;
use std::process::ExitCode;

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
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
