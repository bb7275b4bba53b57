//! `sparsely bench moe`: the experts of a layer beside a dense MLP of as many rows.

use super::dropless;
use super::speed::median;
use crate::args::BenchArgs;
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::moe::{ExpertInit, Experts, Mixing, RouterStats, Routing};
use sparsely::nn::{Init, Initializer, Mlp, Mode, Precision};
use sparsely_tensor::measure::{product_kernel, read_bandwidth};
use sparsely_tensor::{PackedSlab, Param, Pool, RowGroups, Slab, Tape, Var};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

pub(super) const WIDTH: usize = 384;
/// Width of the MLP ÷ that of the rows.
pub(super) const MLP_RATIO: usize = 4;
/// A width with which the weights of eight experts fit the second-level caches of two cores in inference (2.4 MB in f32).
const NARROW: usize = 96;
/// Calls of each before the clock starts.
const WARM_UP: usize = 2;

/// Experts and rows: who computes how many.
pub(super) struct Loads {
    name: &'static str,
    rows_e: Vec<usize>,
    /// Of the rows.
    width: usize,
}

impl Loads {
    pub(super) fn balanced(e: usize, rows: usize) -> Loads {
        Loads { name: "balanced", rows_e: vec![rows; e], width: WIDTH }
    }

    /// As [`Loads::balanced`] in sum, the load of each rank 1/rank of the first.
    fn zipf(e: usize, rows: usize) -> Loads {
        let harmonic: f64 = (1..=e).map(|rank| 1.0 / rank as f64).sum();
        let share = |rank: usize| (e * rows) as f64 / harmonic / rank as f64;
        let mut rows_e: Vec<usize> = (1..=e).map(|rank| share(rank) as usize).collect();
        rows_e[0] += e * rows - rows_e.iter().sum::<usize>();
        Loads { name: "zipf", rows_e, width: WIDTH }
    }

    /// The same of another width.
    fn of_width(self, width: usize) -> Loads {
        Loads { width, ..self }
    }

    fn mlp_width(&self) -> usize {
        MLP_RATIO * self.width
    }

    fn num_rows(&self) -> usize {
        self.rows_e.iter().sum()
    }

    /// Rows go to experts as if drawn: neighbours to different ones.
    fn groups(&self) -> Result<RowGroups> {
        let t = self.num_rows();
        // A step that has no factor in common with T visits every row once.
        let step = (t * 5 / 8..).find(|step| gcd(*step, t) == 1).unwrap_or(1);
        let mut next = (0..t).map(|i| (i * step % t) as u32);
        let of_e = self.rows_e.iter().map(|rows| {
            let mut of: Vec<u32> = next.by_ref().take(*rows).collect();
            of.sort_unstable();
            of
        });
        Ok(RowGroups::new(t, &of_e.collect::<Vec<_>>())?)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Experts alone beside a dense MLP; whole layers beside those that drop.
const PARTS: [&str; 2] = ["experts", "dropless"];

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let asked = args.model.as_deref();
    if let Some(asked) = asked.filter(|asked| !PARTS.contains(asked)) {
        bail!("there is no part `{asked}` to measure; there are {}", PARTS.join(", "));
    }
    let [experts, dropless] = PARTS.map(|part| asked.is_none_or(|asked| asked == part));
    if experts {
        tell_experts(args)?;
    }
    if dropless {
        for case in [[1, 100], [2, 100], [1, 400], [2, 400]] {
            dropless::tell(args, case)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_experts(args: &BenchArgs) -> Result<()> {
    let bandwidth = read_bandwidth();
    let calls = args.steps.get();
    for rows in [1, 4, 25, 100, 400] {
        tell(args, &Loads::balanced(8, rows), bandwidth, calls)?;
    }
    tell(args, &Loads::balanced(8, 25).of_width(NARROW), bandwidth, calls)?;
    tell(args, &Loads::zipf(8, 100), bandwidth, calls)?;
    tell(args, &Loads::zipf(8, 400), bandwidth, calls)?;
    for experts in [16, 32, 64, 128] {
        tell(args, &Loads::balanced(experts, 100), bandwidth, calls)?;
    }
    Ok(())
}

fn tell(args: &BenchArgs, loads: &Loads, bandwidth: f64, calls: usize) -> Result<()> {
    let precision = args.precision.or(Precision::F32);
    let Measured {
        forward: [experts, dense],
        backward: [experts_back, dense_back],
        inference: [experts_packed, dense_packed],
    } = measure(loads, precision, calls)?;
    let (e, t) = (loads.rows_e.len(), loads.num_rows());
    let weights = (e * 2 * loads.width * loads.mlp_width() * size_of::<f32>()) as f64;
    let of_bandwidth = weights / experts / bandwidth;
    let threads = rayon::current_num_threads();
    if args.json {
        let line = json!({
            "loads": loads.name, "experts": e, "rows": t, "width": loads.width, "mlp_width": loads.mlp_width(),
            "precision": precision, "threads": threads,
            "kernel": product_kernel(precision.into()),
            "forward_seconds": experts, "dense_forward_seconds": dense,
            "backward_seconds": experts_back, "dense_backward_seconds": dense_back,
            "forward_over_dense": experts / dense, "backward_over_dense": experts_back / dense_back,
            "inference_seconds": experts_packed, "dense_inference_seconds": dense_packed,
            "inference_over_dense": experts_packed / dense_packed,
            "weight_bytes_per_second": weights / experts, "share_of_bandwidth": of_bandwidth,
        });
        say!("{line}");
    } else {
        say!(
            "{:<8} {e:>3} experts of width {:>3}, {:>3} rows each: forward {:>7.2} ms, {:.2} of dense, backward {:>7.2} ms, \
             {:.2} of dense, inference {:>7.2} ms, {:.2} of dense; weights read at {:.0} % of {:.1} GB/s ({precision}, {threads} threads)",
            loads.name,
            loads.width,
            t / e,
            1e3 * experts,
            experts / dense,
            1e3 * experts_back,
            experts_back / dense_back,
            1e3 * experts_packed,
            experts_packed / dense_packed,
            100.0 * of_bandwidth,
            bandwidth / 1e9
        );
    }
    Ok(())
}

/// Median seconds of the experts and of the dense MLP.
struct Measured {
    forward: [f64; 2],
    backward: [f64; 2],
    /// A forward pass with weights that were packed before.
    inference: [f64; 2],
}

/// Experts and a dense MLP of as many rows, with their input `[T, D]` as a parameter, so that its gradient is
/// computed too.
pub(super) struct Subject {
    x_td: Param,
    experts: Experts,
    dense: Mlp,
    rows: Arc<RowGroups>,
    params: Slab,
    pool: Pool,
}

fn measure(loads: &Loads, precision: Precision, calls: usize) -> Result<Measured> {
    let subject = Subject::new(loads)?;
    let mut grads = Slab::zeros(subject.params.layout().clone());
    let slopes: Vec<f64> =
        (0..loads.num_rows() * loads.width).map(|i| (i % 7) as f64 / 7.0 - 0.4).collect();
    let [mut forward, mut backward, mut inference] = [const { [vec![], vec![]] }; 3];
    for call in 0..WARM_UP + calls {
        for which in 0..2 {
            let tape = Tape::recording(&subject.params, &subject.pool);
            tape.compute_in(precision.into());
            let (y_td, seconds) = subject.forward(&tape, which)?;
            let loss = y_td.dot_constant(&slopes)?;
            let begin = Instant::now();
            tape.backward(&loss, &mut grads)?;
            let seconds_back = begin.elapsed().as_secs_f64();
            if call >= WARM_UP {
                forward[which].push(seconds);
                backward[which].push(seconds_back);
            }
        }
    }
    // Apart: training leaves other things in the caches.
    let packed = PackedSlab::new(subject.params.clone());
    for call in 0..WARM_UP + calls {
        for (which, all) in inference.iter_mut().enumerate() {
            let tape = Tape::inference(&packed, &subject.pool);
            tape.compute_in(precision.into());
            let (_, seconds) = subject.forward(&tape, which)?;
            if call >= WARM_UP {
                all.push(seconds);
            }
        }
    }
    Ok(Measured {
        forward: forward.map(median),
        backward: backward.map(median),
        inference: inference.map(median),
    })
}

impl Subject {
    pub(super) fn new(loads: &Loads) -> Result<Subject> {
        let (e, t) = (loads.rows_e.len(), loads.num_rows());
        let (width, mlp_width) = (loads.width, loads.mlp_width());
        let mut init = Initializer::default();
        Ok(Subject {
            x_td: init.vector("x", [t, width], Init::Normal { std: 1.0 }),
            experts: Experts::init(&mut init, [e, width, mlp_width], 0.0, ExpertInit::Different),
            dense: Mlp::init(&mut init, "mlp", [width, mlp_width], 0.0),
            rows: loads.groups()?.into(),
            params: init.finish(0),
            pool: Pool::new(),
        })
    }

    pub(super) fn params(&self) -> &Slab {
        &self.params
    }

    /// Seconds of the experts' forward pass.
    pub(super) fn forward_seconds(&self) -> Result<f64> {
        let tape = Tape::recording(&self.params, &self.pool);
        Ok(self.forward(&tape, 0)?.1)
    }

    /// The experts with gate 1, or the dense MLP; and the seconds that they took.
    fn forward<'t>(&self, tape: &'t Tape<'t>, which: usize) -> Result<(Var<'t>, f64)> {
        let x_td = tape.param(&self.x_td);
        if which == 1 {
            let begin = Instant::now();
            let y_td = self.dense.forward(&x_td, &x_td, &mut Mode::Eval)?;
            return Ok((y_td, begin.elapsed().as_secs_f64()));
        }
        let n = self.rows.num_entries();
        let begin = Instant::now();
        let gates_n = tape.constant([n], &vec![1.0; n])?;
        let (rows, mixing) = (RowGroups::clone(&self.rows), Mixing::Tokens(gates_n));
        let routing = Routing::new(rows, mixing, RouterStats::default());
        let y_td = self.experts.forward(&x_td, &routing, &x_td, &mut Mode::Eval)?;
        Ok((y_td, begin.elapsed().as_secs_f64()))
    }
}
