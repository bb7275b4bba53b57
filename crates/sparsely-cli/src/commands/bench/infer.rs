//! `sparsely bench infer`: time and memory of dense, per-image and per-token models of equal FLOPs, and of a V-MoE
//! beside its dense model.
//!
//! Models are written to a folder and each is measured from its file by processes of its own, in turn, so that
//! memory is that of the model alone and a slow moment of the machine is not one model's misfortune.

use super::speed::median;
use crate::args::BenchArgs;
use crate::commands::Trained;
use crate::memory::{peak_bytes, resident_bytes};
use crate::table::{cells, say_aligned};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sparsely::checkpoint::{RunFolder, write_atomic};
use sparsely::cost::forward_flops;
use sparsely::eval::{SavedModel, numbered_classes};
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::{Capacity, Dial, Granularity, Group, Priority};
use sparsely::nn::{Mode, Precision};
use sparsely::study::{Latency, MAX_FLOPS_GAP, latency_svg};
use sparsely::train::{RunConfig, preset};
use sparsely_tensor::measure::{peak_flops, product_kernel};
use sparsely_tensor::{Pool, Tape};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Mobile V-MoE's smallest and largest at 224 pixels in patches of 32, and their cousins at 32 in patches of 4;
/// V-MoE's S/32.
const SIZES: [&str; 5] = ["6x96", "12x192", "6x96/4", "12x192/4", V_MOE];
/// The size whose experts a token chooses two of, as V-MoE does: its models do not have equal FLOPs.
const V_MOE: &str = "s32";
const ROUTED: [&str; 3] = ["dense", "image", "token"];
/// Classes of the V-MoE.
const V_MOE_CLASSES: usize = 1000;
/// Processes that measure each model, in turn.
const ROUNDS: usize = 5;
/// How long a process measures.
const MEASURED: Duration = Duration::from_millis(200);
/// Different images that single ones are taken from.
const IMAGES: usize = 32;

/// What a process tells.
#[derive(Serialize, Deserialize)]
struct Sample {
    milliseconds: f64,
    peak_flops_per_second: f64,
    resident_bytes: u64,
    peak_bytes: u64,
    weights_bytes: u64,
    experts_used: [usize; 2],
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if let Some(run) = &args.run {
        let sample = measure(run, args)?;
        say!("{}", serde_json::to_string(&sample)?);
        return Ok(ExitCode::SUCCESS);
    }
    let sizes: Vec<&str> = match &args.model {
        Some(size) => match SIZES.iter().find(|known| *known == size) {
            Some(size) => vec![size],
            None => bail!("there is no size `{size}` to measure; there are {}", SIZES.join(", ")),
        },
        None => SIZES.to_vec(),
    };
    let models = tempfile::tempdir().context("cannot make a folder for the models")?;
    let mut found = Vec::new();
    for size in sizes {
        found.extend(measure_size(models.path(), size, args)?);
    }
    if args.json {
        found.iter().try_for_each(|latency| {
            say!("{}", serde_json::to_string(latency)?);
            anyhow::Ok(())
        })?;
    } else {
        print(&found);
    }
    if let Some(out) = &args.out {
        write(out, found)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All models of a size, in turn.
fn measure_size(models: &Path, size: &str, args: &BenchArgs) -> Result<Vec<Latency>> {
    let (configs, batches) = match size {
        V_MOE => (v_moe()?, [1, 8]),
        _ => (of_equal_flops(size)?, [1, 32]),
    };
    let precision = args.precision.or(Precision::F32);
    let mut found = Vec::new();
    for (routed, config) in configs {
        let folder = models.join(format!("{}-{routed}", size.replace('/', "-")));
        let flops = forward_flops(&config.model, &config.eval.dial)?;
        found.push((save(&folder, config, precision)?, folder, routed, flops));
    }
    let mut samples: Vec<Vec<Sample>> = Vec::new();
    samples.resize_with(found.len() * batches.len(), Vec::new);
    for round in 0..ROUNDS {
        for turn in 0..samples.len() {
            let which = (turn + round) % samples.len();
            let (_, folder, ..) = &found[which / batches.len()];
            samples[which].push(ask(folder, batches[which % batches.len()])?);
        }
    }
    let latencies = samples.into_iter().enumerate().map(|(which, mut samples)| {
        let (file_bytes, _, routed, flops) = &found[which / batches.len()];
        samples.sort_by(|a, b| a.milliseconds.total_cmp(&b.milliseconds));
        let middle = &samples[samples.len() / 2];
        Latency {
            size: size.into(),
            routed: (*routed).to_string(),
            batch: batches[which % batches.len()],
            precision,
            threads: rayon::current_num_threads(),
            flops: *flops,
            milliseconds: middle.milliseconds,
            milliseconds_range: [samples[0].milliseconds, samples[samples.len() - 1].milliseconds],
            kernel: Some(product_kernel(precision.into()).into()),
            share_of_peak: Some(1e3 * flops / middle.milliseconds / middle.peak_flops_per_second),
            resident_bytes: middle.resident_bytes,
            peak_bytes: middle.peak_bytes,
            weights_bytes: middle.weights_bytes,
            file_bytes: *file_bytes,
            experts_used: middle.experts_used,
        }
    });
    Ok(latencies.collect())
}

/// Dense, per-image and per-token, one expert for each image or token, of equal FLOPs.
fn of_equal_flops(size: &str) -> Result<Vec<(&'static str, RunConfig)>> {
    let image = preset(&format!("mobile-{size}"))?.model;
    let configs = ROUTED.map(|routed| {
        let mut model = image.clone();
        match (routed, &mut model.moe) {
            ("dense", moe) => *moe = None,
            ("token", Some(moe)) => moe.granularity = Granularity::Token,
            _ => {}
        }
        (routed, RunConfig { model, ..RunConfig::default() })
    });
    let flops = configs.iter().map(|(_, run)| forward_flops(&run.model, &Dial::default()));
    let flops = flops.collect::<sparsely::Result<Vec<f64>>>()?;
    let (least, most) = flops.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), flops| {
        (least.min(*flops), most.max(*flops))
    });
    if most > (1.0 + MAX_FLOPS_GAP) * least {
        bail!(
            "models of {size}: expected FLOPs equal to {} %, got {least} to {most}",
            100.0 * MAX_FLOPS_GAP
        );
    }
    Ok(configs.into())
}

/// Dense, two experts a token, and the same with half the seats for the tokens of largest gate; each image alone.
fn v_moe() -> Result<Vec<(&'static str, RunConfig)>> {
    let run = |name: &str, capacity: Option<Capacity>| -> Result<RunConfig> {
        let mut run = preset(name)?;
        run.model.num_classes = Some(V_MOE_CLASSES);
        let priority = capacity.map(|_| Priority::MaxGate);
        let group = Some(Group::Images { n: 1 });
        run.eval.dial = Dial { capacity, priority, group, ..Dial::default() };
        Ok(run)
    };
    let half = Some(Capacity::factor(0.5));
    Ok(vec![
        ("dense", run(&format!("vit-{V_MOE}"), None)?),
        ("token, K 2", run(&format!("vmoe-{V_MOE}"), None)?),
        ("BPR, C 0.5", run(&format!("vmoe-{V_MOE}"), half)?),
    ])
}

/// Writes a fresh model as a run; the size of its file.
fn save(folder: &Path, mut config: RunConfig, precision: Precision) -> Result<u64> {
    config.model.precision = precision;
    let (_, params) = Vit::init(&config.model, 0)?;
    let run = RunFolder::create(Some(folder), folder)?;
    run.save_config(&config.to_toml()?)?;
    let class_names = numbered_classes(config.model.num_classes.unwrap_or(0));
    let saved = SavedModel { model: config.model, class_names, step: 0, imported_from: None };
    saved.save(&run, &params)?;
    Ok(std::fs::metadata(run.model_path()).context("cannot read the model's file")?.len())
}

/// A process of its own for a model and a batch size.
fn ask(folder: &Path, batch: usize) -> Result<Sample> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let threads = rayon::current_num_threads().to_string();
    let output = Command::new(this)
        .args(["--threads", &threads, "bench", "infer", "--batch", &batch.to_string(), "--run"])
        .arg(folder)
        .output()
        .context("cannot run this program again")?;
    if !output.status.success() {
        bail!("measuring failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cannot read what was measured")
}

/// Memory after the first batch of a run's model, then time over batches of other images.
fn measure(run: &Path, args: &BenchArgs) -> Result<Sample> {
    let Trained { config, saved, model, params } = Trained::open(run, &args.precision)?;
    let batch = args.batch_or(1);
    let (mut images, pool) = (synthetic(&saved.model, 0, batch), Pool::new());
    let dial = config.eval.dial;
    let infer = |images: &[f32]| -> Result<()> {
        let tape = Tape::inference(&params, &pool);
        model.forward(&tape, images, &dial, &mut Mode::Eval)?;
        Ok(())
    };
    infer(&images)?;
    let usage = params.usage();
    let [resident, peak] = [resident_bytes(), peak_bytes()].map(Option::unwrap_or_default);
    images.extend(synthetic(&saved.model, batch, IMAGES.saturating_sub(batch)));
    let batches: Vec<&[f32]> = images.chunks_exact(batch * saved.model.image_pixels()).collect();
    // Each expert is packed once before the clock starts.
    batches.iter().try_for_each(|images| infer(images))?;
    let (mut seconds, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < MEASURED || seconds.len() < batches.len() {
        let own = Instant::now();
        infer(batches[seconds.len() % batches.len()])?;
        seconds.push(own.elapsed().as_secs_f64());
    }
    Ok(Sample {
        milliseconds: 1e3 * median(seconds) / batch as f64,
        peak_flops_per_second: peak_flops(saved.model.precision.into()),
        resident_bytes: resident,
        peak_bytes: peak,
        weights_bytes: usage.packed_bytes as u64,
        experts_used: [usage.stacked_used, usage.stacked],
    })
}

/// Images `first..` whose patches differ in colour, around a colour of the image's own, so that routers of tokens and of
/// images have something to tell apart.
fn synthetic(config: &ModelConfig, first: usize, count: usize) -> Vec<f32> {
    let (size, channels, patch) = (config.image_size, config.channels, config.patch_size);
    // A number in [−1, 1] that looks random.
    let drawn = |numbers: [usize; 3]| {
        let mixed = numbers.iter().fold(17_u32, |mixed, number| {
            (mixed ^ *number as u32).wrapping_mul(0x9e37_79b1).rotate_left(13)
        });
        f64::from(mixed) as f32 / (u32::MAX as f32 / 2.0) - 1.0
    };
    let value = |image: usize, i: usize| {
        let (row, col, channel) = (i / channels / size, i / channels % size, i % channels);
        let cell = row / patch * size + col / patch + 1;
        let texture = if (row + col) % 3 == 0 { 0.1 } else { -0.1 };
        0.3 * drawn([image, 0, channel]) + 0.6 * drawn([image, cell, channel]) + texture
    };
    let pixels = config.image_pixels();
    (first..first + count).flat_map(|image| (0..pixels).map(move |i| value(image, i))).collect()
}

fn print(found: &[Latency]) {
    let head = [
        "model",
        "routed",
        "batch",
        "precision",
        "MFLOP/image",
        "ms/image",
        "least–most",
        "÷ dense",
        "% of peak",
        "weights MB",
        "file MB",
        "resident MB",
        "peak MB",
        "experts' layers",
    ];
    let mut rows = vec![cells(head)];
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    for own in found {
        let is_dense =
            |l: &&Latency| l.size == own.size && l.batch == own.batch && l.routed == ROUTED[0];
        let dense = found.iter().find(is_dense).map_or(f64::NAN, |dense| dense.milliseconds);
        let [low, high] = own.milliseconds_range;
        let [used, all] = own.experts_used;
        rows.push(vec![
            own.size.clone(),
            own.routed.clone(),
            own.batch.to_string(),
            own.precision.to_string(),
            format!("{:.1}", own.flops / 1e6),
            format!("{:.3}", own.milliseconds),
            format!("{low:.3}–{high:.3}"),
            format!("{:.2}", own.milliseconds / dense),
            own.share_of_peak.map_or("–".into(), |share| format!("{:.1}", 100.0 * share)),
            megabytes(own.weights_bytes),
            megabytes(own.file_bytes),
            megabytes(own.resident_bytes),
            megabytes(own.peak_bytes),
            if all == 0 { "–".into() } else { format!("{used} of {all}") },
        ]);
    }
    say_aligned(&rows);
    say!(
        "median of {ROUNDS} processes in turn, {} threads; products by {}, of whose peak the share is; memory after \
         the first batch; weights: as they are packed for products",
        rayon::current_num_threads(),
        found.first().and_then(|own| own.kernel.as_deref()).unwrap_or("none")
    );
}

/// Puts what was found beside what was found before of other sizes, and draws all of it.
fn write(out: &Path, found: Vec<Latency>) -> Result<()> {
    let path = out.join("infer.jsonl");
    let mut all: Vec<Latency> = match std::fs::read_to_string(&path) {
        Ok(text) => text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .with_context(|| format!("`{}`: expected lines of this command", path.display()))?,
        Err(_) => Vec::new(),
    };
    let is_again = |old: &Latency| {
        found.iter().any(|new| new.size == old.size && new.precision == old.precision)
    };
    all.retain(|old| !is_again(old));
    all.extend(found);
    all.sort_by_key(|latency| SIZES.iter().position(|size| *size == latency.size));
    let lines = all.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    write_atomic(&path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
    // The picture is of models of equal FLOPs.
    all.retain(|latency| latency.size != V_MOE && latency.precision == Precision::F32);
    say!("wrote {}", path.display());
    if all.is_empty() {
        return Ok(());
    }
    let svg = latency_svg(&all)?;
    let picture = out.join("infer.svg");
    write_atomic(&picture, |file| file.write_all(svg.as_bytes()))?;
    say!("wrote {}", picture.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v_moe_is_measured_beside_its_dense_model_and_at_half_the_seats() {
        let rows = v_moe().unwrap();
        let told = rows.iter().map(|(routed, run)| {
            let moe = run.model.moe.as_ref();
            (*routed, moe.map(|moe| moe.num_experts), run.eval.dial.capacity)
        });
        let half = Some(Capacity::factor(0.5));
        let expected =
            [("dense", None, None), ("token, K 2", Some(8), None), ("BPR, C 0.5", Some(8), half)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        let flops = rows.iter().map(|(_, run)| forward_flops(&run.model, &run.eval.dial).unwrap());
        let [dense, all, half] = flops.collect::<Vec<_>>()[..] else { panic!("three rows") };
        assert!(dense < half && half < all, "{dense}, {half}, {all}");
    }
}
