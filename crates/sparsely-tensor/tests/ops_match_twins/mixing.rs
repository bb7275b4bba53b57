//! Dense mixtures of rows within groups.

use super::*;
use crate::draw::row_groups;
use crate::twins::mixing::{CosineLogits, GatherMix, Mul, ScatterMix, ScatterRows, SoftmaxColumns};
use sparsely_tensor::RowGroups;

/// Groups: one, few and many.
fn groups() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(1_usize), 2 => 2_usize..5, 1 => 8_usize..12]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cosine_logits(t in rows(), d in 3_usize..36, n in widths(), seed: u32) {
        let inputs = vec![
            Input::value([t, d], seed.into()),
            Input::named([d, n], u64::from(seed) + 1),
            Input::named([1], u64::from(seed) + 2),
        ];
        // Norms of three elements or more: 1/‖x‖ is at most 10 here, its slope at most 100.
        let twin = CosineLogits { d, eps: 1e-2 };
        Case { twin: &twin, inputs, seed: seed.into(), scale: 10.0 }
            .check(|vars, names| vars[0].cosine_logits(&names[1], &names[2], 1e-2));
    }

    #[test]
    fn softmax_columns(g in groups(), s in 1_usize..40, n in widths(), seed: u32) {
        let inputs = vec![Input::value([g * s, n], seed.into())];
        check(&SoftmaxColumns { s, n }, seed.into(), inputs, |vars, _| vars[0].softmax_columns(s));
    }

    #[test]
    fn gather_mix(g in groups(), s in 1_usize..40, n in widths(), d in widths(), seed: u32) {
        let seed = seed.into();
        let inputs = vec![Input::value([g * s, d], seed), Input::value([g * s, n], seed + 1)];
        check(&GatherMix { s, n, d }, seed, inputs, |vars, _| vars[0].gather_mix(&vars[1], s));
    }

    #[test]
    fn scatter_mix(
        g in groups(), s in 1_usize..40, n in widths(), d in widths(), has_residual: bool, seed: u32,
    ) {
        let seed = seed.into();
        let inputs = vec![
            Input::value([g * n, d], seed),
            Input::value([g * s, n], seed + 1),
            Input::value([g * s, d], seed + 2).if_present(has_residual),
        ];
        check(&ScatterMix { s, n, d }, seed, inputs, |vars, _| {
            vars[0].scatter_mix(&vars[1], s, has_residual.then_some(&vars[2]))
        });
    }

    #[test]
    fn scatter_rows(t in rows(), e in 1_usize..6, d in widths(), has_residual: bool, seed: u32) {
        let seed = seed.into();
        let lists = row_groups(t, e, seed);
        let groups = Arc::new(RowGroups::new(t, &lists).unwrap());
        let n = groups.num_entries();
        let inputs = vec![
            Input::value([n, d], seed),
            Input::value([n], seed + 1),
            Input::value([t, d], seed + 2).if_present(has_residual),
        ];
        check(&ScatterRows { rows: lists.concat(), d }, seed, inputs, |vars, _| {
            vars[0].scatter_rows(&groups, &vars[1], has_residual.then_some(&vars[2]))
        });
    }

    #[test]
    fn mul(r in rows(), d in widths(), seed: u32) {
        let inputs = vec![Input::value([r, d], seed.into()), Input::value([r, d], 1)];
        check(&Mul, seed.into(), inputs, |vars, _| vars[0].mul(&vars[1]));
    }
}

#[test]
fn a_large_single_group() {
    let (s, n, d) = (600, 530, 100);
    let inputs = || vec![Input::value([s, d], 1), Input::value([s, n], 2)];
    check(&GatherMix { s, n, d }, 3, inputs(), |vars, _| vars[0].gather_mix(&vars[1], s));
    // More than two blocks of rows.
    let inputs = vec![Input::value([2 * s, 19], 4)];
    check(&SoftmaxColumns { s, n: 19 }, 5, inputs, |vars, _| vars[0].softmax_columns(s));
}
