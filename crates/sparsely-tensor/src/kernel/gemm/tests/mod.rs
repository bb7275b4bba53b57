//! Every kernel of this processor against plain loops.

use super::*;
use crate::Activation;
use crate::kernel::elementwise::{self, activate};
use crate::precision::{Bf16, Stored, nearest_bf16};
use rand::{Rng, SeedableRng};

mod panels;
mod scatter;
mod stored;

const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn round(precision: Precision, x: f32) -> f64 {
    f64::from(if precision == Precision::Bf16 { nearest_bf16(x) } else { x })
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_others() {
    for precision in BOTH {
        for (k, n) in [
            (1, 1),
            (16, 1),
            (192, 1),
            (192, 2),
            (192, 3),
            (192, 10),
            (48, 192),
            (768, 192),
            (3072, 40),
            (17, 33),
        ] {
            let (a, b) = (random(200 * k, 1), random(k * n, 2));
            let b = Right::new(mat(&b, k, n), precision);
            let mut all = vec![0.0; 200 * n];
            gemm_by_rows(mat_mut(&mut all, 200, n), Start::Zero, mat(&a, 200, k).into(), b);
            for m in (1..=64).chain([127, 128, 129]) {
                let mut few = vec![0.0; m * n];
                let rows = mat(&a[7 * k..], m, k);
                gemm_by_rows(mat_mut(&mut few, m, n), Start::Zero, rows.into(), b);
                assert!(few == all[7 * n..(7 + m) * n], "{precision:?}, {m} rows, k {k}, n {n}");
            }
        }
    }
}

/// The same of every kernel that this processor has, whichever is chosen.
#[test]
fn every_kernel_gives_a_row_its_own_bits() {
    let shapes = [(65, 70), (777, 40), (192, 1), (192, 2), (17, 3)];
    for (precision, (k, n)) in BOTH.iter().flat_map(|p| shapes.map(|s| (*p, s))) {
        let (a, b) = (random(70 * k, 1), random(k * n, 2));
        let asked = |rows, first: usize| Asked {
            start: Start::Zero,
            left: mat(&a[first * k..], rows, k).into(),
            right: Right::new(mat(&b, k, n), precision),
            finish: Finish::None,
        };
        for (name, run) in implementations(precision) {
            let mut all = vec![0.0; 70 * n];
            run(mat_mut(&mut all, 70, n).into(), &asked(70, 0));
            for m in [1, 2, 7, 8, 16, 17, 33, 48] {
                let mut few = vec![0.0; m * n];
                run(mat_mut(&mut few, m, n).into(), &asked(m, 9));
                assert!(few == all[9 * n..(9 + m) * n], "{name}, {m} rows, k {k}, n {n}");
            }
        }
    }
}

/// Of an inner dimension of nothing there is what the product begins with.
#[test]
fn a_product_of_nothing_is_where_it_starts() {
    let n = 5;
    for (precision, m) in BOTH.iter().flat_map(|p| [1, 3, 9].map(|m| (*p, m))) {
        let (at, bias) = (random(m * n, 1), random(n, 2));
        let terms = Start::Terms { bias: Some(&bias), residual: Some(mat(&at, m, n)) };
        let slope = Finish::Slope { act: Activation::Tanh, at: mat(&at, m, n).into() };
        for start in [Start::Zero, Start::Output, terms] {
            for finish in [Finish::None, slope] {
                let run = |dst: ValuesMut<'_>| {
                    let left = Left::active(mat(&[], m, 0), Activation::Gelu);
                    let right = Right::new(mat(&[], 0, n), precision);
                    product(dst, start, left, &right, finish);
                };
                let want: Vec<f32> = (0..m * n)
                    .map(|i| {
                        let begin = match start {
                            Start::Zero => 0.0,
                            Start::Output => 9.0,
                            Start::Terms { .. } => bias[i % n] + at[i],
                        };
                        match finish {
                            Finish::None => begin,
                            Finish::Slope { .. } => begin * (1.0 - at[i].tanh().powi(2)),
                        }
                    })
                    .collect();
                let is_near = |(x, want): (f32, &f32), most: f32| (x - want).abs() <= most;
                let mut c = vec![9.0; m * n];
                run(mat_mut(&mut c, m, n).into());
                assert!(c.iter().copied().zip(&want).all(|pair| is_near(pair, 1e-5)), "{c:?}");
                if matches!(start, Start::Output) {
                    continue;
                }
                let mut c = vec![Bf16::nearest(9.0); m * n];
                run(ValuesMut::Bf16(faer::MatMut::from_row_major_slice_mut(&mut c, m, n)));
                let wide = c.iter().map(|x| x.value());
                assert!(wide.zip(&want).all(|pair| is_near(pair, 1e-2)), "{m} rows in bf16");
            }
        }
    }
}

/// What no kernel reads is refused, however few the rows.
#[test]
fn factors_that_are_contiguous_nowhere_are_refused() {
    let x = random(400, 1);
    for (m, is_left) in [(1, true), (3, true), (9, true), (1, false), (3, false), (9, false)] {
        let refused = std::panic::catch_unwind(|| {
            // SAFETY: every second element of rows of 20, of which there are 20.
            let strided =
                |rows, cols| unsafe { MatRef::from_raw_parts(x.as_ptr(), rows, cols, 20, 2) };
            let (left, right) = match is_left {
                true => (strided(m, 4), mat(&x, 4, 6)),
                false => (mat(&x, m, 4), strided(4, 6)),
            };
            let mut c = vec![0.0; m * 6];
            let right = Right::new(right, Precision::F32);
            product(mat_mut(&mut c, m, 6), Start::Zero, left.into(), &right, Finish::None);
        });
        let error = refused.expect_err("a refusal");
        let text = error.downcast_ref::<String>().expect("a text");
        assert_eq!(text, "a factor of which an axis is contiguous, not of strides 20, 2");
    }
}

/// In f64: Σ a·b.
fn plain(
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
    k: usize,
    [i, j]: [usize; 2],
) -> f64 {
    (0..k).map(|p| a(i, p) * b(p, j)).sum()
}

#[test]
fn row_blocks_and_strands_cover_the_product() {
    let shapes = [
        (1, 5, 700),
        (130, 3, 2),
        (129, 7, 300),
        (300, 600, 90),
        (5, 0, 9),
        (40, 2100, 50),
        (8, 3100, 9),
    ];
    for (precision, (m, k, n)) in BOTH.iter().flat_map(|p| shapes.map(|shape| (*p, shape))) {
        let (a, b) = (random(m * k, 3), random(k * n, 4));
        let right = Right::new(mat(&b, k, n), precision);
        let by_rows = |c: &mut [f32]| {
            gemm_by_rows(mat_mut(c, m, n), Start::Output, mat(&a, m, k).into(), right);
        };
        let a_t: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let outer = |c: &mut [f32]| {
            add_outer(c, mat(&a_t, k, m).into(), right);
        };
        for run in [&by_rows as &dyn Fn(&mut [f32]), &outer] {
            let mut c = vec![1.0; m * n];
            run(&mut c);
            for i in 0..m {
                for j in 0..n {
                    let (a, b) = (
                        |i, p| round(precision, a[i * k + p]),
                        |p, j| round(precision, b[p * n + j]),
                    );
                    let error = f64::from(c[i * n + j]) - (1.0 + plain(a, b, k, [i, j]));
                    assert!(error.abs() < 2e-4, "{precision:?} {m}×{k}×{n} at {i}, {j}: {error}");
                }
            }
        }
    }
}

/// What a test asks of an implementation.
struct Asked<'a> {
    start: Start<'a>,
    left: Left<'a>,
    right: Right<'a>,
    finish: Finish<'a>,
}

/// A product by one implementation; false if it does not write such a result.
type Implementation = Box<dyn Fn(ValuesMut<'_>, &Asked<'_>) -> bool>;

/// The product as layers ask for it, with its right factor packed before, and by every kernel that this processor has.
fn implementations(precision: Precision) -> Vec<(String, Implementation)> {
    let chosen: Implementation = Box::new(|dst, a| {
        product(dst, a.start, a.left, &a.right, a.finish);
        true
    });
    let packed: Implementation = Box::new(|mut dst, a| {
        with_packed(&a.right, |right| {
            product(dst.rb_mut(), a.start, a.left, right, a.finish);
        });
        true
    });
    let own = |entries: &'static product::Entries| {
        let run: Implementation = Box::new(|dst, a| {
            let k = a.left.num_inner();
            let blocks = k.div_ceil((entries.block_len)(k));
            let is_there = matches!(dst, ValuesMut::F32(_)) || blocks == 1;
            let product = product::Product::new((dst, blocks), a.start, a.left, &a.right, a.finish);
            assert_eq!(product.is_some(), is_there, "one block");
            if let Some(product) = product {
                // SAFETY: the processor has the kernel's instruction set, and the extents fit.
                unsafe { (entries.run)(&product) };
            }
            is_there
        });
        (entries.name.into(), run)
    };
    let all = vec![("chosen".into(), chosen), ("packed".into(), packed)];
    all.into_iter().chain(product::all_entries(precision).into_iter().map(own)).collect()
}

/// All transpositions, starts, finishes and activations, inside a wider matrix whose other columns must stay as
/// they are.
#[test]
fn every_product_agrees_with_the_plain_loop() {
    let shapes = [
        (1, 1, 1),
        (3, 5, 2),
        (8, 192, 48),
        (9, 193, 65),
        (17, 64, 33),
        (70, 400, 17),
        (300, 300, 70),
        (20, 16, 130),
        (33, 1031, 32),
        // Panels of four registers, and more rows than AMX works on together.
        (20, 96, 60),
        (13, 96, 64),
        (9, 40, 112),
        (200, 64, 40),
    ];
    for (precision, (m, k, n)) in BOTH.iter().flat_map(|p| shapes.map(|shape| (*p, shape))) {
        let (a, b, at) = (random(m * k, 5), random(k * n, 6), random(m * n, 7));
        let bias = random(n, 8);
        for case in 0..16 {
            let left = if case & 1 > 0 { mat(&a, k, m).transpose() } else { mat(&a, m, k) };
            let right = if case & 2 > 0 { mat(&b, n, k).transpose() } else { mat(&b, k, n) };
            let act = if case & 4 > 0 { Activation::Gelu } else { Activation::Identity };
            let terms = Start::Terms { bias: Some(&bias), residual: Some(mat(&at, m, n)) };
            let asked = Asked {
                start: if case & 8 > 0 { terms } else { Start::Output },
                left: Left::active(left, act),
                right: Right::new(right, precision),
                finish: match case & 4 > 0 {
                    true => Finish::Slope { act: Activation::Tanh, at: mat(&at, m, n).into() },
                    false => Finish::None,
                },
            };
            let u = active(left, act);
            for (name, run) in implementations(precision) {
                let mut c = vec![0.5; m * (n + 3)];
                run(mat_mut(&mut c, m, n + 3).subcols_mut(2, n).into(), &asked);
                for (i, row) in c.chunks(n + 3).enumerate() {
                    assert_eq!([row[0], row[1], row[n + 2]], [0.5; 3]);
                    for j in 0..n {
                        let (bias, at) = (f64::from(bias[j]), f64::from(at[i * n + j]));
                        let begin = if case & 8 > 0 { bias + at } else { 0.5 };
                        let slope = if case & 4 > 0 { 1.0 - at.tanh().powi(2) } else { 1.0 };
                        let (a, b) = (
                            |i, p| round(precision, u[i * k + p]),
                            |p, j| round(precision, right[(p, j)]),
                        );
                        let want = (begin + plain(a, b, k, [i, j])) * slope;
                        let error = f64::from(row[2 + j]) - want;
                        // A thousand products of at most 1, summed in f32.
                        assert!(error.abs() < 1e-4, "{name} {m}×{k}×{n} {case}: {error}");
                    }
                }
            }
        }
    }
}

/// What is read by name has the bits of a copy, in either factor and on the inner dimension too.
#[test]
fn named_rows_have_the_bits_of_their_copies() {
    let copy = |x: &[f32], names: &[u32], width: usize| -> Vec<f32> {
        names.iter().flat_map(|name| x[*name as usize * width..][..width].to_vec()).collect()
    };
    let shapes = [(1, 5, 3), (9, 193, 65), (40, 64, 32), (300, 300, 70), (33, 1031, 32)];
    for (precision, (m, k, n)) in BOTH.iter().flat_map(|p| shapes.map(|shape| (*p, shape))) {
        // The inner dimension by name: a weight gradient.
        let (a, b) = (random((k + 2) * m, 5), random((k + 3) * n, 6));
        let a_names: Vec<u32> = (0..k as u32).map(|r| (r * 5 + 1) % (k as u32 + 2)).collect();
        let b_names: Vec<u32> = (0..k as u32).map(|r| (r * 3 + 2) % (k as u32 + 3)).collect();
        let (a_copy, b_copy) = (copy(&a, &a_names, m), copy(&b, &b_names, n));
        for act in [Activation::Identity, Activation::Gelu] {
            let named = Left { act, ..Left::of_rows(mat(&a, k + 2, m), &a_names) };
            let by_name = Asked {
                start: Start::Output,
                left: named.transpose(),
                right: Right::of_rows(mat(&b, k + 3, n), &b_names, precision),
                finish: Finish::None,
            };
            let copied = Asked {
                start: Start::Output,
                left: Left::active(mat(&a_copy, k, m), act).transpose(),
                right: Right::new(mat(&b_copy, k, n), precision),
                finish: Finish::None,
            };
            for (name, run) in implementations(precision) {
                let [mut c, mut want] = [vec![0.5; m * n], vec![0.5; m * n]];
                run(mat_mut(&mut c, m, n).into(), &by_name);
                run(mat_mut(&mut want, m, n).into(), &copied);
                assert!(c == want, "{name} {m}×{k}×{n} {act:?}");
            }
        }
    }
}

/// act(a), row-major: GELU against its formula within an ulp or two, so that what is rounded to bf16 afterwards
/// falls on the same side.
fn active(a: MatRef<'_>, act: Activation) -> Vec<f32> {
    let values: Vec<f32> =
        (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |p| a[(i, p)])).collect();
    let mut u = vec![0.0; values.len()];
    activate(act, &values, &mut u);
    if act == Activation::Gelu {
        let error = |(u, x): (&f32, &f32)| (f64::from(*u) - gelu(f64::from(*x))).abs();
        assert!(u.iter().zip(&values).map(error).all(|error| error < 1e-6));
    }
    u
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// NaN and infinity are not lost on the way through bf16.
#[test]
fn what_is_not_finite_stays_so() {
    for precision in BOTH {
        for (name, run) in implementations(precision) {
            for (bad, is_so) in [
                (f32::NAN, f32::is_nan as fn(f32) -> bool),
                (f32::INFINITY, f32::is_infinite as fn(f32) -> bool),
            ] {
                let (mut a, b, mut c) =
                    (vec![1.0; 40 * 33], vec![1.0; 33 * 20], vec![0.0; 40 * 20]);
                a[5 * 33 + 32] = bad;
                let asked = Asked {
                    start: Start::Zero,
                    left: mat(&a, 40, 33).into(),
                    right: Right::new(mat(&b, 33, 20), precision),
                    finish: Finish::None,
                };
                run(mat_mut(&mut c, 40, 20).into(), &asked);
                for (i, row) in c.chunks(20).enumerate() {
                    let fits = |x: &f32| if i == 5 { is_so(*x) } else { *x == 33.0 };
                    assert!(row.iter().all(fits), "{name}, {bad}, row {i}: {row:?}");
                }
            }
        }
    }
}
