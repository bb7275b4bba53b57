//! Six tokens and three experts, where the logits are the tokens themselves: the kernel is 1.

use super::properties::{Routed, route};
use sparsely::moe::router::{
    ExpertChoiceConfig, PlanExpertChoice, PlanTokenChoice, Sinkhorn, SparsePlan,
};
use sparsely::moe::{Capacity, RouterConfig};

/// Logits log 4 where a token prefers an expert, 0 elsewhere. Tokens 0–3 prefer expert 0, token 4 expert 1, token 5
/// expert 2.
fn logits_se() -> Vec<f32> {
    let preferred = [0, 0, 0, 0, 1, 2];
    let row = |expert: usize| (0..3).map(move |e| if e == expert { 4.0_f32.ln() } else { 0.0 });
    preferred.into_iter().flat_map(row).collect()
}

fn unit_kernel(config: &RouterConfig) -> Routed {
    let kernel: Vec<f32> = (0..9).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
    route(config, &logits_se(), [3, 3, 6], &kernel)
}

fn assert_weights(routed: &Routed, want: &[(usize, usize, f64)]) {
    let mut want = want.to_vec();
    want.sort_by_key(|(token, expert, _)| (*expert, *token));
    assert_eq!(routed.pairs.len(), want.len(), "{:?}", routed.pairs);
    for ((token, expert, weight), (want_token, want_expert, want)) in routed.pairs.iter().zip(want)
    {
        assert_eq!((*token, *expert), (want_token, want_expert), "{:?}", routed.pairs);
        assert!((f64::from(*weight) - want).abs() < 1e-5, "{weight} for {want}");
    }
}

#[test]
fn experts_take_two_tokens_each_ties_to_the_first() {
    // Gates: 4/6 for the preferred expert, 1/6 for the others. C = 6·1/3 = 2. Expert 0 takes 0 and 1 of its four;
    // experts 1 and 2 take the one that prefers them and, of the equal others, token 0.
    let config = RouterConfig::ExpertChoice(ExpertChoiceConfig {
        noise_std: 0.0,
        ..ExpertChoiceConfig::default()
    });
    let routed = unit_kernel(&config);
    let (high, low) = (4.0 / 6.0, 1.0 / 6.0);
    let want = [(0, 0, high), (1, 0, high), (0, 1, low), (4, 1, high), (0, 2, low), (5, 2, high)];
    assert_weights(&routed, &want);
    // Tokens 2 and 3 have no expert; each expert has its two.
    assert_eq!(routed.stats.unserved_tokens, 2);
    assert_eq!(routed.stats.asked_e, [2, 2, 2]);
    assert_eq!(routed.stats.dropped_share(), 0.0);
}

#[test]
fn one_sinkhorn_iteration_gives_the_rarely_preferred_experts_more() {
    // exp(logits): rows (4,1,1) four times, (1,4,1), (1,1,4). Column sums 18, 9, 9; each should be 2, so the columns
    // are scaled by 2/18, 2/9, 2/9 = (1, 2, 2)/9. Rows become (4,2,2), (1,8,2), (1,2,8) ninths, and by their sums
    // 8, 11, 11: (1/2, 1/4, 1/4), (1/11, 8/11, 2/11), (1/11, 2/11, 8/11).
    let plan = Sinkhorn { iterations: 1, epsilon: 1.0 };
    let combine = sparsely::moe::router::Combine::Plan;
    let config = RouterConfig::SinkhornExpertChoice(PlanExpertChoice {
        combine,
        noise_std: 0.0,
        plan,
        capacity: Capacity::Exact { seats: 3 },
    });
    let routed = unit_kernel(&config);
    // Expert 0 takes three of the halves; expert 1 the 8/11 and two of the quarters, which are more than 2/11.
    let want = [
        (0, 0, 0.5),
        (1, 0, 0.5),
        (2, 0, 0.5),
        (0, 1, 0.25),
        (1, 1, 0.25),
        (4, 1, 8.0 / 11.0),
        (0, 2, 0.25),
        (1, 2, 0.25),
        (5, 2, 8.0 / 11.0),
    ];
    assert_weights(&routed, &want);
    // Column 0 sums to 4/2 + 2/11 = 24/11 where 2 is asked for: 1/11 too much. Columns 1 and 2 to 4/4 + 10/11 =
    // 21/11, 1/22 too little.
    assert!((routed.stats.marginal_error.unwrap() - 1.0 / 11.0).abs() < 1e-6);
}

#[test]
fn one_sinkhorn_iteration_sends_tokens_where_the_plan_is_largest() {
    // The same plan: tokens 0–3 have 1/2 for expert 0; its two seats (6·1·1/3) go to 0 and 1. They combine with their
    // gates, 4/6.
    let plan = Sinkhorn { iterations: 1, epsilon: 1.0 };
    let config = RouterConfig::SinkhornTokenChoice(PlanTokenChoice {
        num_selected: 1,
        noise_std: 0.0,
        capacity: Capacity::factor(1.0),
        plan,
        ..PlanTokenChoice::default()
    });
    let routed = unit_kernel(&config);
    let gate = 4.0 / 6.0;
    assert_weights(&routed, &[(0, 0, gate), (1, 0, gate), (4, 1, gate), (5, 2, gate)]);
    assert_eq!(routed.stats.asked_e, [4, 1, 1]);
    assert_eq!(routed.stats.unserved_tokens, 2);
}

#[test]
fn a_sparse_plan_without_steps_is_a_projection() {
    // Prices 0. Expert 0: b = 6/3 = 2, similarities/b = 1/3 four times and 1/12 twice; of the two largest
    // 1/3 + 1/3 − 2τ = 1, so each is 1/2 and T = 2 · 1/2 = 1: tokens 0 and 1. Experts 1 and 2: 1/3 and 1/12 (token 0):
    // 5/12 − 2τ = 1, τ = −7/24, p = 15/24 and 9/24, T = 5/4 and 3/4.
    let plan = SparsePlan { steps: 0, ..SparsePlan::default() };
    let combine = sparsely::moe::router::Combine::Plan;
    let config = RouterConfig::SparseExpertChoice(PlanExpertChoice {
        combine,
        noise_std: 0.0,
        plan,
        capacity: Capacity::factor(1.0),
    });
    let routed = unit_kernel(&config);
    let want = [(0, 0, 1.0), (1, 0, 1.0), (0, 1, 0.75), (4, 1, 1.25), (0, 2, 0.75), (5, 2, 1.25)];
    assert_weights(&routed, &want);
    // Token 0 gets 2.5 where 1 is asked for.
    assert!((routed.stats.marginal_error.unwrap() - 1.5).abs() < 1e-6);
}
