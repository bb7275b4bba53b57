//! Rows that are gathered by name and go where they are told.

use super::*;

/// A product whose rows are named and go where they are told, by one implementation.
type Scattering = Box<dyn Fn(MatMut<'_>, (Left<'_>, &Right<'_>), Scatter<'_>, Option<Dots<'_>>)>;

fn scatterings(precision: Precision) -> Vec<(String, Scattering)> {
    let mut all: Vec<(String, Scattering)> = vec![
        ("chosen".into(), Box::new(product_scatter)),
        (
            "packed".into(),
            Box::new(|dst, (left, right), scatter, dots| {
                with_packed(right, |right| product_scatter(dst, (left, right), scatter, dots));
            }),
        ),
    ];
    for entries in product::all_entries(precision) {
        let run: Scattering = Box::new(|dst, factors, scatter, dots| {
            // SAFETY: the processor has the kernel's instruction set, and the extents fit.
            let run = |product: &product::Product<'_>| unsafe { (entries.run)(product) };
            product::Product::scattering(dst, factors, scatter, dots, run);
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
