//! The dial of one trained model, measured: what each setting costs and how often it is right, so
//! that the cheapest that is good enough, or the best that is quick enough, can be chosen.
//!
//! Settings are chosen by validation images. Test images may be swept for a report, but nothing is
//! chosen by them.

mod choose;
mod measure;
mod picture;
mod settings;
mod store;

pub use measure::{Stage as SweepStage, Swept, sweep};
pub use settings::sweep_settings;

use crate::eval::{ImageCost, TimingConfig};
use crate::moe::Dial;
use crate::nn::Precision;
use serde::{Deserialize, Serialize};

/// Most accuracy that a setting may lose and still be good enough, in percentage points.
pub const MAX_LOSS_POINTS: f64 = 0.5;

/// The split that settings are chosen by.
pub const CHOOSING_SPLIT: &str = "validation";

/// What came out of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Version and commit of the program.
    pub program: String,
    /// When it was.
    pub date: String,
    /// Steps that the model had learned for.
    pub step: u64,
    /// CRC-32 of its parameters: another model's sweep says nothing of this one.
    pub params_crc32: u32,
    /// Where its images come from.
    pub data: String,
    /// `validation`, `test` or `train`.
    pub split: String,
    /// Images of the split.
    pub images: usize,
    /// How time was measured.
    pub timing: TimingConfig,
    /// Threads that computed.
    pub threads: usize,
    /// What the factors of matrix products were rounded to.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Where joules come from.
    pub energy_source: String,
    /// Most points below the run's own setting that are good enough.
    pub max_loss_points: f64,
    /// The run's own setting, and then the others.
    pub settings: Vec<Setting>,
}

/// A setting and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// `own`, or what was turned, as `k2-c0.5-bpr`.
    pub name: String,
    /// How the model routes.
    pub dial: Dial,
    /// Top-1 accuracy in percent.
    pub top1_percent: f64,
    /// Mean task loss.
    pub loss: f64,
    /// Share of the choices that found no seat, in [0, 1].
    pub dropped_share: f64,
    /// FLOPs of the forward pass of an image, by the cost model from the pairs of tokens and
    /// experts that were computed.
    pub flops_per_image: f64,
    /// Time and energy of an image, measured in turn with the other settings.
    pub cost: ImageCost,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings by name, accuracy in percent and seconds.
    pub(super) fn sweep(settings: &[(&str, f64, f64)]) -> Sweep {
        let setting = |&(name, top1_percent, seconds): &(&str, f64, f64)| Setting {
            name: name.into(),
            dial: Dial::default(),
            top1_percent,
            loss: 0.1,
            dropped_share: 0.0,
            flops_per_image: 1e6,
            cost: ImageCost { seconds, seconds_quartiles: [seconds; 2], joules: 1e-3 },
        };
        Sweep {
            program: "test".into(),
            date: "2026-01-01T00:00:00Z".into(),
            step: 1,
            params_crc32: 0,
            data: "digits".into(),
            split: CHOOSING_SPLIT.into(),
            images: 200,
            timing: TimingConfig { batch_size: 64, rounds: 3 },
            threads: 2,
            precision: Precision::F32,
            energy_source: "estimated".into(),
            max_loss_points: MAX_LOSS_POINTS,
            settings: settings.iter().map(setting).collect(),
        }
    }
}
