//! What matrix products are rounded to.

use clap::{Args, ValueEnum};
use sparsely::nn::Precision;

#[derive(Args, Default)]
pub(crate) struct PrecisionArgs {
    /// What the factors of matrix products are rounded to [default: what the model was trained with; f32 for a
    /// new one]
    #[arg(long)]
    precision: Option<PrecisionArg>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    /// Not at all
    F32,
    /// bf16; sums, parameters, norms, softmax, routers and losses stay f32
    Bf16,
}

impl PrecisionArgs {
    /// What was asked for, or `usual`.
    pub(crate) fn or(&self, usual: Precision) -> Precision {
        self.asked().unwrap_or(usual)
    }

    /// What was asked for.
    pub(crate) fn asked(&self) -> Option<Precision> {
        self.precision.map(|precision| match precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
        })
    }
}
