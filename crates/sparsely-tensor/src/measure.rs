//! Kernels alone and what the processor could do at most, for benchmarks.

use crate::kernel::gemm::{Right, add_outer, gemm, kernel_name, mat, mat_mut};
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
    /// `[M, K]·[K, N]`, as a layer's forward pass.
    Forward,
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
    let (a, b) = (values(count * m * k), values(count * k * n));
    // What layers keep for products and hand to the next one.
    let [mut rounded, mut y] = [m * k, m * n].map(|len| pool.take(precision.stored(), count * len));
    Output::of(&mut rounded).write(|values| values.copy_from_slice(a.as_f32()));
    let mut sums = pool.zeros(count * m * n);
    let right = |values| Right::new(values, precision);
    let mut once = || {
        let begin = Instant::now();
        match form {
            Form::Forward => linear_forward(&mut y, &rounded, &right(mat(b.as_f32(), k, n))),
            Form::InputGradient => {
                linear_forward(&mut sums, &a, &right(mat(b.as_f32(), n, k).transpose()));
            }
            Form::WeightGradient => {
                let b = right(mat(b.as_f32(), k, n));
                add_outer(sums.as_f32_mut(), matrix(&rounded, k, m).into(), b);
            }
            Form::Many(_) => {
                let factors = a.as_f32().par_chunks(m * k).zip(b.as_f32().par_chunks(k * n));
                let c = sums.as_f32_mut();
                c.par_chunks_mut(m * n).zip(factors).for_each(|(c, (a, b))| {
                    gemm(mat_mut(c, m, n), Write::Replace, mat(a, m, k), right(mat(b, k, n)));
                });
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        black_box([&sums, &y]);
        seconds
    };
    once();
    (0..rounds).map(|_| once()).collect()
}
