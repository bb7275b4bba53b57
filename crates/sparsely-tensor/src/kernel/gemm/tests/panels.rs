//! Right factors that are packed before.

use super::*;

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
                for entries in product::all_entries(precision) {
                    let (bias, more) = (random(n, 8), random(m * n, 9));
                    let own = Right::new(mat(&b, k, n), precision);
                    let mut panels = vec![0.0; (entries.packed_len)(k, n)];
                    (entries.pack)(&own, &mut panels);
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
                        unsafe { (entries.run)(&product.expect("a result in f32")) };
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
                // Whole panels are not packed again.
                if n >= 192 {
                    for columns in [right.subcols(0, 96), right.subcols(96, n - 96)] {
                        assert!(columns.is_packed(), "{n}");
                    }
                }
            });
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
