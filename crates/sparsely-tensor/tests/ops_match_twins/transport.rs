//! Transport plans.

use super::*;
use crate::twins::transport;
use sparsely_tensor::{Sinkhorn, SparseTransport, Spread};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sinkhorn(
        g in 1_usize..4, s in 1_usize..60, e in 1_usize..20, iterations in 1_usize..24, wide: bool, seed: u32,
    ) {
        let settings = Sinkhorn { group_rows: s, iterations, epsilon: if wide { 0.1 } else { 1.0 } };
        let inputs = vec![Input::value([g * s, e], seed.into())];
        let twin = transport::Sinkhorn { settings, e };
        // Elements of a plan reach S/E, and a gradient goes through 2·20 sums of them over ε.
        let scale = (s as f64 / e as f64).max(1.0) / f64::from(settings.epsilon) * 4.0;
        Case { twin: &twin, inputs, seed: seed.into(), scale }
            .check(|vars, _| vars[0].sinkhorn(&settings));
    }

    #[test]
    fn sparse_transport(
        g in 1_usize..4, s in 1_usize..50, e in 1_usize..12, rows: bool, support in 1_usize..60, seed: u32,
    ) {
        let spread = if rows { Spread::Rows } else { Spread::Columns };
        let support = support % if rows { e } else { s } + 1;
        // Steps of Adam divide a gradient by its own size: at 0 two precisions part ways. None here; the
        // golden numbers hold the steps against another program.
        let settings = SparseTransport { group_rows: s, spread, support, steps: 0, lr: 1e-2 };
        let inputs = vec![Input::value([g * s, e], seed.into())];
        let twin = transport::SparseTransport { settings, e };
        let scale = (s as f64 / e as f64).max(1.0);
        Case { twin: &twin, inputs, seed: seed.into(), scale }
            .check(|vars, _| vars[0].sparse_transport(&settings));
    }
}

/// What the plan at logits far apart is: logits on the tape of no parameters.
fn plan_of(logits: &[f32], e: usize, settings: &Sinkhorn) -> Vec<f32> {
    let params = Slab::zeros(Arc::new(Layout::default()));
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let x = tape.constant([logits.len() / e, e], logits).unwrap();
    x.sinkhorn(settings).unwrap().values().to_vec()
}

#[test]
fn logits_hundreds_apart_still_make_a_plan() {
    // All tokens want expert 0 by 300: the shifts cancel, every token gives each expert its half.
    let settings = Sinkhorn { group_rows: 4, iterations: 20, epsilon: 1.0 };
    let plan = plan_of(&[300.0, 0.0].repeat(4), 2, &settings);
    plan.iter().for_each(|t| assert!((t - 0.5).abs() < 1e-6, "{plan:?}"));
    // Three want expert 0 and one wants it less: rows sum to 1 whatever the logits are.
    let plan = plan_of(&[1e4, -1e4, 1e4, 0.0, 1e4, 0.0, -1e4, 1e4], 2, &settings);
    for row in plan.chunks(2) {
        assert!((row[0] + row[1] - 1.0).abs() < 1e-6, "{plan:?}");
    }
}

#[test]
fn twenty_steps_agree_with_the_twin_where_no_gradient_is_near_zero() {
    let (s, e) = (16, 4);
    for (spread, support) in [(Spread::Columns, 4), (Spread::Columns, 16), (Spread::Rows, 2)] {
        let settings = SparseTransport { group_rows: s, spread, support, steps: 20, lr: 1e-2 };
        let twin = transport::SparseTransport { settings, e };
        let inputs = vec![Input::value([s, e], 5)];
        check(&twin, 6, inputs, |vars, _| vars[0].sparse_transport(&settings));
    }
}
