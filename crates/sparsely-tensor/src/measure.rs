//! Kernels alone and what the processor could do at most, for benchmarks.

use crate::kernel::gemm::{Right, add_outer, gemm, kernel_name, mat, with_packed};
use crate::kernel::isa::simd;
use crate::kernel::peak::multiply_adds;
use crate::kernel::reduce;
use crate::ops::{Output, linear_forward, matrix};
use crate::tape::Write;
use crate::{Buffer, Pool, Precision};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// What multiplies matrices.
pub fn product_kernel(precision: Precision) -> &'static str {
    kernel_name(precision)
}

/// FLOPs a second of a loop of multiply-adds on all threads of the current pool, the best of
/// several short ones.
pub fn peak_flops(precision: Precision) -> f64 {
    // Enough for some milliseconds.
    const MACS: usize = 400_000_000;
    const TRIES: usize = 7;
    let once = || {
        let begin = Instant::now();
        let rounds = MACS / multiply_adds(precision, 1).0;
        let macs: usize = rayon::broadcast(|_| {
            let (macs, sum) = multiply_adds(precision, black_box(rounds));
            black_box(sum);
            macs
        })
        .into_iter()
        .sum();
        2.0 * macs as f64 / begin.elapsed().as_secs_f64()
    };
    (0..TRIES).map(|_| once()).fold(0.0, f64::max)
}

/// Bytes a second that all threads of the current pool read from memory, the best of several sweeps over
/// more than the caches hold.
pub fn read_bandwidth() -> f64 {
    const LEN: usize = 1 << 26;
    const TRIES: usize = 5;
    let values = vec![1.0_f32; LEN];
    let once = || {
        let begin = Instant::now();
        let sum: f32 = values.par_chunks(1 << 20).map(sum_of).sum();
        black_box(sum);
        (LEN * size_of::<f32>()) as f64 / begin.elapsed().as_secs_f64()
    };
    (0..TRIES).map(|_| once()).fold(0.0, f64::max)
}

simd! {
    fn sum_of<I>(x: &[f32]) -> f32 {
        reduce::sum(x)
    }
}

/// A product as the layers ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `[M, K]·[K, N]`, as a layer's forward pass in training.
    Forward,
    /// The same with weights that were packed before, as in inference.
    Inference,
    /// `[M, K]·[N, K]ᵀ`, as the gradient of a layer's input.
    InputGradient,
    /// `[K, M]ᵀ·[K, N]`, as the gradient of a weight.
    WeightGradient,
    /// So many products `[M, K]·[K, N]`, each on one thread, as the heads of an attention.
    Many(usize),
}

/// Seconds of a product of random matrices on all threads of the current pool, one for each of `rounds`.
pub fn product_seconds(
    precision: Precision,
    form: Form,
    [m, k, n]: [usize; 3],
    rounds: usize,
) -> Vec<f64> {
    let count = if let Form::Many(count) = form { count } else { 1 };
    // The values do not change the time; denormal and infinite ones would. On pages as large as those of activations.
    let pool = Pool::new();
    let values = |len: usize| -> Buffer {
        let values = (0..len).map(|i| (i * 7919 % 2048) as f32 / 1024.0 - 1.0);
        pool.copy_of(&values.collect::<Vec<_>>())
    };
    // What layers hand to products and keep for them; weights are f32.
    let stored = |values: &Buffer| {
        let mut stored = pool.take(precision.stored(), values.len());
        Output::of(&mut stored).write(|own| own.copy_from_slice(values.as_f32()));
        stored
    };
    let w = values(count * k * n);
    let (a, b) = (stored(&values(count * m * k)), stored(&w));
    let mut y = pool.take(precision.stored(), count * m * n);
    let mut sums = pool.zeros(m * n);
    let weight = |rows, columns| mat(w.as_f32(), rows, columns);
    let right = Right::new(weight(k, n), precision);
    let mut once = |packed: &Right<'_>| {
        let begin = Instant::now();
        match form {
            Form::Forward => linear_forward(&mut y, &a, &right),
            Form::Inference => linear_forward(&mut y, &a, packed),
            Form::InputGradient => {
                linear_forward(&mut y, &a, &Right::new(weight(n, k).transpose(), precision));
            }
            Form::WeightGradient => {
                let b = Right::new(matrix(&b, k, n), precision);
                add_outer(sums.as_f32_mut(), matrix(&a, k, m).into(), b);
            }
            Form::Many(_) => {
                let (a, b) = (matrix(&a, count * m, k), matrix(&b, count * k, n));
                let heads = Output::of(&mut y).chunks(m * n).into_par_iter().enumerate();
                heads.for_each(|(i, y)| {
                    let (a, b) = (a.part([i * m, m], [0, k]), b.part([i * k, k], [0, n]));
                    gemm(y.matrix(m, n), Write::Replace, a, Right::new(b, precision));
                });
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        black_box([&sums, &y]);
        seconds
    };
    let mut all = |packed: &Right<'_>| {
        once(packed);
        (0..rounds).map(|_| once(packed)).collect()
    };
    if form == Form::Inference { with_packed(&right, all) } else { all(&right) }
}
