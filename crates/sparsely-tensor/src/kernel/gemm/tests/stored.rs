//! Factors and results that are stored as bf16.

use super::*;

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
