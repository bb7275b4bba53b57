//! `sparsely bench train`: whole training steps.

use super::speed::{Speed, Turn, median};
use crate::args::BenchArgs;
use crate::memory::peak_bytes;
use anyhow::{Context, Result, bail};
use serde_json::json;
use sparsely::data::{Batch, one_hot};
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::{Capacity, Group, MoeConfig, Placement, RouterConfig, TokenChoiceConfig};
use sparsely::nn::Precision;
use sparsely::train::{TrainConfig, Trainer};
use sparsely_tensor::macs;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Steps before the clock starts: pages are touched and buffers pooled.
const WARM_UP: u64 = 3;

/// Images of a step, unless others are asked for.
const IMAGES: usize = 64;

/// The dense model.
pub(super) const DENSE: &str = "vit-192x6";

/// Images whose tokens compete for seats.
const GROUP: usize = 8;

/// The models that are measured: width 192, 6 blocks, 3 heads, MLP 768, 64 tokens, 10 classes.
fn models() -> Vec<(&'static str, ModelConfig)> {
    let dense = ModelConfig {
        image_size: 32,
        channels: 3,
        patch_size: 4,
        depth: 6,
        width: 192,
        heads: 3,
        mlp_width: 768,
        moe: None,
        ..ModelConfig::default()
    };
    let sparse = |k: usize, placement: Placement| {
        let capacity = Capacity::factor(1.05);
        let router = RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: k,
            capacity,
            ..TokenChoiceConfig::default()
        });
        let group = Group::Images { n: GROUP };
        let moe = MoeConfig { num_experts: 8, router, placement, group, ..MoeConfig::default() };
        ModelConfig { moe: Some(moe), ..dense.clone() }
    };
    vec![
        (DENSE, dense.clone()),
        ("vmoe-192x6-e8-k1-last2", sparse(1, Placement::LastN { n: 2 })),
        ("vmoe-192x6-e8-k2-last2", sparse(2, Placement::LastN { n: 2 })),
        ("vmoe-192x6-e8-k1-every2", sparse(1, Placement::Every { n: 2 })),
        ("vmoe-192x6-e8-k2-every2", sparse(2, Placement::Every { n: 2 })),
    ]
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let batch = args.batch_or(IMAGES);
    if !batch.is_multiple_of(GROUP) {
        bail!("--batch: expected a multiple of {GROUP}, the images of a group, got {batch}");
    }
    match &args.model {
        Some(name) => measure(name, args)?,
        // Each model in a process of its own, so that its peak memory is its own.
        None => {
            for (name, _) in models() {
                let this = std::env::current_exe().context("cannot find this program")?;
                let again = std::env::args_os().skip(1);
                let status = Command::new(this).args(again).args(["--model", name]).status();
                if !status.context("cannot run this program again")?.success() {
                    bail!("measuring {name} failed");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> Result<ModelConfig> {
    let all = models();
    let Some((_, config)) = all.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        bail!("there is no model `{name}` to measure; there are {}", known.join(", "));
    };
    Ok(config.clone())
}

fn measure(name: &str, args: &BenchArgs) -> Result<()> {
    let precision = args.precision.or(Precision::F32);
    let config = &ModelConfig { precision, ..named(name)? };
    let images = args.batch_or(IMAGES);
    let mut steps = Steps::of(config, images)?;
    let (mut seconds, mut turns) = (Vec::new(), Vec::new());
    for step in 0..WARM_UP + args.steps.get() as u64 {
        let before = macs();
        let own = steps.step()?;
        let counted = macs() - before;
        if step >= WARM_UP {
            seconds.push(own);
            turns.push(Turn::of(precision, counted, own));
        }
    }
    let images_per_second = images as f64 / median(seconds);
    let speed = Speed::of(precision, turns);
    let threads = rayon::current_num_threads();
    let peak = peak_bytes();
    if args.json {
        let line = json!({
            "model": name, "precision": precision, "threads": threads, "batch": images,
            "images_per_second": images_per_second, "peak_bytes": peak,
        });
        say!("{}", speed.beside(line));
    } else {
        let peak = peak.map_or("unknown".into(), |bytes| format!("{} MB", bytes / 1_000_000));
        say!("{name}: {images_per_second:.1} images/s, peak memory {peak}, {speed}");
    }
    Ok(())
}

/// Training steps on images without structure.
pub(super) struct Steps {
    trainer: Trainer,
    batch: Batch,
    next: u64,
}

impl Steps {
    /// Of a model that is measured, changed by `change`.
    pub(super) fn new(
        name: &str,
        images: usize,
        change: impl Fn(ModelConfig) -> ModelConfig,
    ) -> Result<Steps> {
        Steps::of(&change(named(name)?), images)
    }

    fn of(config: &ModelConfig, images: usize) -> Result<Steps> {
        let (model, params) = Vit::init(config, 0)?;
        let train = TrainConfig { batch_size: images, ..TrainConfig::default() };
        let trainer = Trainer::new(model, params, train, 0, 10_000);
        Ok(Steps { trainer, batch: synthetic(config, images), next: 0 })
    }

    /// Seconds of one step.
    pub(super) fn step(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.trainer.step(self.next, &self.batch)?;
        self.next += 1;
        Ok(begin.elapsed().as_secs_f64())
    }
}

/// Images and labels without structure: the time of a step does not depend on them.
fn synthetic(config: &ModelConfig, batch: usize) -> Batch {
    let pixels = batch * config.image_pixels();
    let v = config.num_classes.unwrap_or(1);
    let labels_b: Vec<u32> = (0..batch).map(|b| (b % v) as u32).collect();
    Batch {
        images_bhwc: (0..pixels).map(|i| (i * 7919 % 256) as f32 / 127.5 - 1.0).collect(),
        targets_bv: one_hot(&labels_b, v),
        labels_b,
    }
}
