//! The sums from which a router's auxiliary losses are made.

use super::*;
use crate::twins::statistics::{ChanceAmongLargest, CvSquared, MeanSquaredLogSumExp, SumGroups};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sum_groups(g in 1_usize..5, group_rows in rows(), e in widths(), seed: u32) {
        let inputs = vec![Input::value([g * group_rows, e], seed.into())];
        check(&SumGroups { group_rows, e }, seed.into(), inputs, |vars, _| vars[0].sum_groups(group_rows));
    }

    #[test]
    fn cv_squared(g in rows(), e in widths(), seed: u32) {
        // Positive, as sums of gates are: the mean is a divisor.
        let mut input = Input::value([g, e], seed.into());
        input.values.iter_mut().for_each(|x| *x = x.abs() + 0.3);
        check(&CvSquared { e }, seed.into(), vec![input], |vars, _| vars[0].cv_squared());
    }

    #[test]
    fn mean_squared_log_sum_exp(t in rows(), e in widths(), seed: u32) {
        let inputs = vec![Input::value([t, e], seed.into())];
        check(&MeanSquaredLogSumExp { e }, seed.into(), inputs, |vars, _| {
            vars[0].mean_squared_log_sum_exp()
        });
    }

    #[test]
    fn chance_among_largest(
        t in rows(), e in widths(), k in 0_usize..70, sigma in 0.25_f32..2.0, has_ties: bool, seed: u32,
    ) {
        let k = k % e + 1;
        let mut noisy = Input::value([t, e], u64::from(seed) + 1);
        if has_ties {
            // + 0 makes −0 a 0: their order is nobody's concern.
            noisy.values.iter_mut().for_each(|x| *x = x.round() + 0.0);
        }
        let inputs = vec![Input::value([t, e], seed.into()), noisy];
        let twin = ChanceAmongLargest { e, k, sigma: sigma.into() };
        check(&twin, seed.into(), inputs, |vars, _| vars[0].chance_among_largest(&vars[1], k, sigma));
    }
}
