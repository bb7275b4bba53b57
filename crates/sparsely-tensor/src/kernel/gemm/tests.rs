//! Every kernel of this processor, and the portable one, against plain loops.

use super::*;
use crate::Activation;
use crate::kernel::elementwise::{self, activate};
use crate::precision::{Bf16, nearest_bf16};
use rand::{Rng, SeedableRng};

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
    for (precision, (k, n)) in BOTH.iter().flat_map(|p| [(65, 70), (777, 40)].map(|s| (*p, s))) {
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

/// Columns of a packed factor are read from its panels where those begin and end with them, and have their bits
/// anyway, on any number of threads.
#[test]
fn columns_of_a_packed_factor_have_their_bits() {
    for (precision, (m, k)) in
        BOTH.iter().flat_map(|p| [(1, 40), (7, 40), (50, 600)].map(|s| (*p, s)))
    {
        for n in [95, 96, 191, 192, 200, 208, 255, 256, 300, 384, 400] {
            let (a, b) = (random(m * k, 3), random(k * n, 4));
            let right = Right::new(mat(&b, k, n), precision);
            let left = || Left::from(mat(&a, m, k));
            let mut whole = vec![0.0; m * n];
            with_packed(&right, |right| {
                product(mat_mut(&mut whole, m, n), Start::Zero, left(), right, Finish::None);
                for threads in [1, 2, 3] {
                    let mut cut = vec![0.0; m * n];
                    let pool =
                        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| {
                        gemm_by_rows(mat_mut(&mut cut, m, n), Start::Zero, left(), *right);
                    });
                    assert!(cut == whole, "{precision:?} {m}×{k}×{n}, {threads} threads");
                }
                for first in [0, 48, 96, 100, 192, n - n.min(96)] {
                    for count in [1, 48, 96, n.saturating_sub(first)] {
                        if first + count > n || count == 0 {
                            continue;
                        }
                        let mut part = vec![0.0; m * count];
                        let right = right.subcols(first, count);
                        let dst = mat_mut(&mut part, m, count);
                        product(dst, Start::Zero, left(), &right, Finish::None);
                        let own = whole.chunks(n).flat_map(|row| &row[first..first + count]);
                        assert!(part.iter().eq(own), "{precision:?} {m}×{k}×{n} {first} {count}");
                    }
                }
                // Every kernel, with what is added by column.
                #[cfg(target_arch = "x86_64")]
                for entries in product::all_entries(precision) {
                    let (bias, more) = (random(n, 8), random(m * n, 9));
                    let own = Right::new(mat(&b, k, n), precision);
                    let mut panels = vec![0.0; (entries.packed_len)(k, n)];
                    assert!((entries.pack)(&own, &mut panels), "{}", entries.name);
                    let own = own.with_panels(Some(&panels));
                    let run = |[first, count]: [usize; 2]| {
                        let mut part = vec![0.0; m * count];
                        let residual = Some(mat(&more, m, n).subcols(first, count));
                        let bias = Some(&bias[first..first + count]);
                        let (start, right) =
                            (Start::Terms { bias, residual }, own.subcols(first, count));
                        let dst = (mat_mut(&mut part, m, count).into(), 2);
                        let product =
                            product::Product::new(dst, start, left(), &right, Finish::None);
                        // SAFETY: the processor has the kernel's instruction set, and the extents fit.
                        unsafe { (entries.run)(&product.expect("strides of our layers")) };
                        part
                    };
                    let whole = run([0, n]);
                    for first in [0, 96, 192, 288].into_iter().filter(|first| first + 96 <= n) {
                        for count in [96, n - first] {
                            let own = whole.chunks(n).flat_map(|row| &row[first..first + count]);
                            let part = run([first, count]);
                            assert!(part.iter().eq(own), "{} {n} {first} {count}", entries.name);
                        }
                    }
                }
                // Whole panels are not packed again, where there is a kernel that packs.
                if n >= 192 {
                    for columns in [right.subcols(0, 96), right.subcols(96, n - 96)] {
                        assert_eq!(columns.is_packed(), right.is_packed(), "{n}");
                    }
                }
            });
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

/// The product as layers ask for it, with its right factor packed before, by `faer`, and by every kernel that
/// this processor has.
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
    let portable: Implementation = Box::new(|dst, a| {
        let ValuesMut::F32(dst) = dst else { return false };
        portable(dst, a.start, a.left, &a.right, a.finish);
        true
    });
    let mut all =
        vec![("chosen".into(), chosen), ("packed".into(), packed), ("portable".into(), portable)];
    all.extend(own_implementations(precision));
    all
}

/// By every kernel that this processor has.
#[cfg(target_arch = "x86_64")]
fn own_implementations(precision: Precision) -> Vec<(String, Implementation)> {
    let implementation = |entries: &'static product::Entries| {
        let run: Implementation = Box::new(|dst, a| {
            let k = a.left.num_inner();
            let blocks = k.div_ceil((entries.block_len)(k));
            let is_there = matches!(dst, ValuesMut::F32(_)) || blocks == 1;
            let product = product::Product::new((dst, blocks), a.start, a.left, &a.right, a.finish);
            assert_eq!(product.is_some(), is_there, "strides of our layers");
            if let Some(product) = product {
                // SAFETY: the processor has the kernel's instruction set, and the extents fit.
                unsafe { (entries.run)(&product) };
            }
            is_there
        });
        (entries.name.into(), run)
    };
    product::all_entries(precision).into_iter().map(implementation).collect()
}

/// There is none.
#[cfg(not(target_arch = "x86_64"))]
fn own_implementations(_precision: Precision) -> Vec<(String, Implementation)> {
    Vec::new()
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

/// A product whose rows are named and go where they are told, by one implementation.
type Scattering = Box<dyn Fn(MatMut<'_>, (Left<'_>, &Right<'_>), Scatter<'_>, Option<Dots<'_>>)>;

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn scatterings(precision: Precision) -> Vec<(String, Scattering)> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut all: Vec<(String, Scattering)> = vec![
        ("chosen".into(), Box::new(product_scatter)),
        (
            "packed".into(),
            Box::new(|dst, (left, right), scatter, dots| {
                with_packed(right, |right| product_scatter(dst, (left, right), scatter, dots));
            }),
        ),
        ("portable".into(), Box::new(portable_scatter)),
    ];
    #[cfg(target_arch = "x86_64")]
    for entries in product::all_entries(precision) {
        let run: Scattering = Box::new(|dst, factors, scatter, dots| {
            // SAFETY: the processor has the kernel's instruction set, and the extents fit.
            let run = |product: &product::Product<'_>| unsafe { (entries.run)(product) };
            product::Product::scattering(dst, factors, scatter, dots, run).expect("our strides");
        });
        all.push((entries.name.into(), run));
    }
    all
}

/// Odd sizes, one row and many, rows that are named twice or by nobody, columns of a wider matrix.
#[test]
fn rows_are_gathered_and_scattered_as_by_the_plain_loop() {
    let shapes = [
        (1, 5, 3),
        (3, 500, 40),
        (9, 193, 65),
        (40, 64, 32),
        (300, 300, 70),
        (33, 1031, 32),
        (20, 96, 64),
    ];
    for (precision, (m, k, n)) in BOTH.iter().flat_map(|p| shapes.map(|shape| (*p, shape))) {
        let (inputs, outputs, first) = (m + 3, m / 2 + 2, 11);
        let (a, b, at) = (random(inputs * k, 5), random(k * n, 6), random(outputs * n, 7));
        let gates = random(m, 8);
        let from: Vec<u32> = (0..m as u32).map(|r| (r * 7 + 2) % inputs as u32).collect();
        let to: Vec<u32> = (0..m).map(|r| (first + r * (outputs - 1) / m) as u32).collect();
        for case in 0..8 {
            let right = if case & 1 > 0 { mat(&b, n, k).transpose() } else { mat(&b, k, n) };
            let gates = (case & 2 > 0).then_some(gates.as_slice());
            let row = |r: usize| -> Vec<f64> {
                let a = |_, p| round(precision, a[from[r] as usize * k + p]);
                let b = |p, j| round(precision, right[(p, j)]);
                (0..n).map(|j| plain(a, b, k, [0, j])).collect()
            };
            let mut want = vec![0.5_f64; outputs * n];
            let mut want_sums = vec![0.0_f64; m];
            for r in 0..m {
                let to = to[r] as usize - first;
                let gate = gates.map_or(1.0, |gates| f64::from(gates[r]));
                for (j, x) in row(r).into_iter().enumerate() {
                    want[to * n + j] += gate * x;
                    want_sums[r] += x * f64::from(at[to * n + j]);
                }
            }
            for (name, run) in scatterings(precision) {
                let mut c = vec![0.5; outputs * (n + 3)];
                let mut sums = vec![9.0; m];
                let dots = Dots { at: mat(&at, outputs, n), sums: &mut sums };
                run(
                    mat_mut(&mut c, outputs, n + 3).subcols_mut(2, n),
                    (Left::of_rows(mat(&a, inputs, k), &from), &Right::new(right, precision)),
                    Scatter { rows: &to, first, gates },
                    (case & 4 > 0).then_some(dots),
                );
                for (row, want) in c.chunks(n + 3).zip(want.chunks(n)) {
                    assert_eq!([row[0], row[1], row[n + 2]], [0.5; 3], "{name}");
                    for (x, want) in row[2..].iter().zip(want) {
                        let error = f64::from(*x) - want;
                        assert!(error.abs() < 2e-4, "{name} {m}×{k}×{n} {case}: {error}");
                    }
                }
                if case & 4 > 0 {
                    for (sum, want) in sums.iter().zip(&want_sums) {
                        let error = f64::from(*sum) - want;
                        assert!(error.abs() < 1e-3, "{name} {m}×{k}×{n} {case}: dots {error}");
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

/// `[rows + pad, cols + pad]`.
fn stored(values: &[Bf16], [rows, cols]: [usize; 2], pad: usize) -> Values<'_> {
    Values::Bf16(faer::MatRef::from_row_major_slice(values, rows + pad, cols + pad))
}

/// How a right factor lies.
#[derive(Clone, Copy, Debug)]
enum Lies {
    RowMajor,
    Turned,
    ByName,
}

/// Factors and a slope that are stored as bf16 give the bits of their values in f32: row after row, column
/// after column, by name, activated or not, in the middle of wider matrices. The last three are read where they lie by
/// kernels that multiply pairs, if their rows begin with whole ones.
#[test]
fn what_is_stored_as_bf16_has_the_bits_of_its_values() {
    let shapes = [
        (1, 5, 3),
        (5, 33, 40),
        (40, 64, 32),
        (300, 300, 70),
        (33, 1031, 32),
        (48, 64, 32),
        (32, 96, 70),
        (48, 2080, 40),
    ];
    let cases = shapes.iter().flat_map(|shape| [(*shape, 3, 2), (*shape, 4, 2), (*shape, 4, 1)]);
    let cases = cases.flat_map(|case| BOTH.map(|precision| (precision, case)));
    for (precision, ((m, k, n), pad, first)) in cases {
        let narrowed = |len, seed| {
            let mut narrow = vec![Bf16::nearest(0.0); len];
            elementwise::narrow(&random(len, seed), &mut narrow);
            // Below the normal range.
            narrow.iter_mut().step_by(37).for_each(|x| *x = Bf16::nearest(-3.3e-39));
            let mut wide = vec![0.0; len];
            elementwise::widen(&narrow, &mut wide);
            (narrow, wide)
        };
        let ((a, a_wide), (at, at_wide)) =
            (narrowed((m + pad) * (k + pad), 5), narrowed((m + pad) * (n + pad), 6));
        let (b, b_wide) = narrowed((k + pad) * (n + pad), 7);
        let backwards = |count: usize| -> Vec<u32> { (0..count as u32).rev().collect() };
        let (rows, inner) = (backwards(m), backwards(k));
        for case in 0..24 {
            let (is_turned, is_named) = (case & 1 > 0, case & 4 > 0);
            let act = if case & 2 > 0 { Activation::Gelu } else { Activation::Identity };
            let lies = [Lies::RowMajor, Lies::Turned, Lies::ByName][case / 8];
            let [row, col] = if is_turned { [k, m] } else { [m, k] };
            let [b_row, b_col] = if matches!(lies, Lies::Turned) { [n, k] } else { [k, n] };
            let asked = |a: Values<'_>, b: Values<'_>, at: Values<'_>, run: &Implementation| {
                let a = a.part([1, row], [first, col]);
                let at = at.part([1, m], [first, n]);
                let mut left = Left::active(if is_turned { a.transpose() } else { a }, act);
                match is_turned {
                    true => left.inner = is_named.then_some(&inner),
                    false => left.rows = is_named.then_some(&rows),
                }
                let b = b.part([1, b_row], [first, b_col]);
                let right = match lies {
                    Lies::RowMajor => Right::new(b, precision),
                    Lies::Turned => Right::new(b.transpose(), precision),
                    Lies::ByName => Right::of_rows(b, &inner, precision),
                };
                let finish = Finish::Slope { act: Activation::Tanh, at };
                let asked = Asked { start: Start::Zero, left, right, finish };
                let mut c = vec![9.0; m * n];
                run(mat_mut(&mut c, m, n).into(), &asked);
                c
            };
            for (name, run) in implementations(precision) {
                let (at, b) = (stored(&at, [m, n], pad), stored(&b, [b_row, b_col], pad));
                let narrow = asked(stored(&a, [row, col], pad), b, at, &run);
                let a = mat(&a_wide, row + pad, col + pad).into();
                let b = mat(&b_wide, b_row + pad, b_col + pad).into();
                let wide = asked(a, b, mat(&at_wide, m + pad, n + pad).into(), &run);
                let what = format!("{name} {m}×{k}×{n} {case} {precision:?}, {pad}, {first}");
                assert!(narrow == wide, "{what}");
            }
        }
    }
}

/// A result that is stored as bf16 is the f32 one rounded once, inside a wider matrix whose other columns stay: one
/// row and many, panels that it does not fill, inner dimensions of one block and of several.
#[test]
fn what_is_rounded_has_the_bits_of_the_result() {
    let shapes = [
        (1, 5, 3),
        (8, 192, 48),
        (17, 64, 33),
        (32, 96, 64),
        (40, 300, 95),
        (70, 64, 130),
        (96, 192, 200),
        (300, 96, 70),
        (33, 1031, 32),
        // Sums that do not stay near.
        (1400, 1031, 208),
    ];
    let kept = Bf16::nearest(9.0);
    for (precision, (m, k, n)) in BOTH.iter().flat_map(|p| shapes.map(|shape| (*p, shape))) {
        let (a, b, at) = (random(m * k, 5), random(k * n, 6), random(m * n, 7));
        let bias = random(n, 8);
        let narrow: Vec<Bf16> = at.iter().map(|x| Bf16::nearest(*x)).collect();
        let stored = Values::Bf16(faer::MatRef::from_row_major_slice(&narrow, m, n));
        for case in 0..8 {
            // The second bit: with a residual, or slopes that are stored.
            let residual = (case & 2 > 0).then(|| mat(&at, m, n));
            let terms = Start::Terms { bias: Some(&bias), residual };
            let slopes = if case & 2 > 0 { stored } else { mat(&at, m, n).into() };
            let slope = Finish::Slope { act: Activation::Gelu, at: slopes };
            let asked = Asked {
                start: if case & 1 > 0 { terms } else { Start::Zero },
                left: mat(&a, m, k).into(),
                right: Right::new(mat(&b, k, n), precision),
                finish: if case & 4 > 0 { slope } else { Finish::None },
            };
            for (name, run) in implementations(precision) {
                let mut rounded = vec![kept; m * (n + 3)];
                let all = faer::MatMut::from_row_major_slice_mut(&mut rounded, m, n + 3);
                if !run(ValuesMut::Bf16(all.subcols_mut(2, n)), &asked) {
                    continue;
                }
                let mut wide = vec![9.0; m * (n + 3)];
                run(mat_mut(&mut wide, m, n + 3).subcols_mut(2, n).into(), &asked);
                let want: Vec<Bf16> = wide.iter().map(|x| Bf16::nearest(*x)).collect();
                assert!(rounded == want, "{name} {m}×{k}×{n} {case} {precision:?}");
            }
        }
    }
}

/// How many rows go together, and who packed, does not move a row's bits.
#[test]
fn a_scattered_row_has_its_own_bits() {
    for (precision, (k, n)) in BOTH.iter().flat_map(|p| [(65, 70), (777, 40)].map(|s| (*p, s))) {
        let (a, b, gates) = (random(70 * k, 1), random(k * n, 2), random(70, 3));
        let rows: Vec<u32> = (0..70).collect();
        // Each row of the output from two of the product.
        let to: Vec<u32> = rows.iter().map(|row| row / 2).collect();
        let right = Right::new(mat(&b, k, n), precision);
        let run = |own: std::ops::Range<usize>, right: &Right<'_>| {
            let mut c = random(35 * n, 4);
            let left = Left::of_rows(mat(&a, 70, k), &rows[own.clone()]);
            let gates = Some(&gates[own.clone()]);
            let scatter = Scatter { rows: &to[own], first: 0, gates };
            product_scatter(mat_mut(&mut c, 35, n), (left, right), scatter, None);
            c
        };
        let all = run(0..70, &right);
        assert!(with_packed(&right, |right| run(0..70, right)) == all);
        for count in [2, 4, 6, 8, 16, 18, 34, 48] {
            let few = run(10..10 + count, &right);
            let own = 5 * n..(10 + count) / 2 * n;
            assert!(few[own.clone()] == all[own], "{count} rows");
        }
    }
}

#[test]
fn a_scatter_of_nothing_changes_nothing() {
    for precision in BOTH {
        for [m, k, n] in [[0, 5, 3], [2, 0, 3], [2, 5, 0]] {
            let (a, b, at) = (random(2 * k, 1), random(k * n, 2), random(2 * n, 3));
            let names: Vec<u32> = (0..m as u32).collect();
            let mut c = vec![0.5; 2 * n];
            let mut sums = vec![9.0; m];
            product_scatter(
                mat_mut(&mut c, 2, n),
                (Left::of_rows(mat(&a, 2, k), &names), &Right::new(mat(&b, k, n), precision)),
                Scatter { rows: &names, first: 0, gates: None },
                Some(Dots { at: mat(&at, 2, n), sums: &mut sums }),
            );
            assert!(c.iter().all(|x| *x == 0.5) && sums.iter().all(|x| *x == 0.0));
        }
    }
}

/// Some packed before, some refused, some that are not there.
#[test]
fn packing_all_keeps_what_is_there() {
    let (a, b) = (random(3 * 40, 1), random(40 * 33, 2));
    let right = Right::new(mat(&b, 40, 33), Precision::F32);
    with_packed(&right, |packed| {
        let all = vec![Some(right), None, Some(*packed), Some(right)];
        with_all_packed(
            all,
            |group| group != 3,
            |all| {
                assert!(all[1].is_none() && !all[3].is_some_and(|right| right.is_packed()));
                let results = all.iter().flatten().map(|right| {
                    let mut c = vec![0.0; 3 * 33];
                    product(
                        mat_mut(&mut c, 3, 33),
                        Start::Zero,
                        mat(&a, 3, 40).into(),
                        right,
                        Finish::None,
                    );
                    c
                });
                let results: Vec<Vec<f32>> = results.collect();
                assert!(results.iter().all(|c| *c == results[0]));
            },
        );
    });
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
