//! What holds for any tokens.

use proptest::prelude::*;
use sparsely::moe::router::*;
use sparsely::moe::{
    Capacity, Dial, Mixing, Priority, RouterConfig, RouterStats, TokenChoiceConfig,
};
use sparsely::nn::{Initializer, Mode};
use sparsely_tensor::{Pool, Slab, Tape};

/// What a sparse router did.
pub(crate) struct Routed {
    /// Token, expert and weight, by expert and token.
    pub(crate) pairs: Vec<(usize, usize, f32)>,
    pub(crate) stats: RouterStats,
}

/// Routes tokens `[T, D]` in groups of S with a kernel `[D, E]`.
pub(crate) fn route(
    config: &RouterConfig,
    x_td: &[f32],
    [d, e, s]: [usize; 3],
    kernel: &[f32],
) -> Routed {
    let mut init = Initializer::default();
    let router = config.init(&mut init, [d, e, s]);
    let mut params: Slab = init.finish(0);
    let param = params.layout().find("router/kernel").unwrap().param;
    params.view_mut(&param).copy_from_slice(kernel);
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let x_td = tape.constant([x_td.len() / d, d], x_td).unwrap();
    let settings = RouteSettings { group_tokens: s, dial: Dial::default() };
    let routing = router.route(&x_td, &settings, &mut Mode::Eval).unwrap();
    let Mixing::Tokens(gates_n) = &routing.mixing else { panic!("a sparse router") };
    let of_expert = |expert: usize| {
        let entries = routing.rows.group(expert);
        entries.map(move |n| (n, expert))
    };
    let mut pairs: Vec<_> = (0..e)
        .flat_map(of_expert)
        .map(|(n, expert)| (routing.rows.rows()[n] as usize, expert, gates_n.values()[n]))
        .collect();
    pairs.sort_by_key(|(token, expert, _)| (*expert, *token));
    Routed { pairs, stats: routing.stats.clone() }
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.5..1.5)).collect()
}

/// Every router that chooses pairs, with K experts a token where tokens choose.
pub(crate) fn sparse_routers(k: usize) -> Vec<RouterConfig> {
    let capacity = Capacity::factor(1.0);
    let plans = [Combine::Gates, Combine::CleanGates, Combine::Plan];
    let mut routers = vec![
        RouterConfig::TokenChoice(TokenChoiceConfig { num_selected: k, ..Default::default() }),
        RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: k,
            gate: Gate::Sigmoid,
            priority: Priority::Learned,
            ..Default::default()
        }),
        RouterConfig::ExpertChoice(ExpertChoiceConfig { capacity, ..Default::default() }),
        RouterConfig::ExpertChoice(ExpertChoiceConfig {
            gate: Gate::Sigmoid,
            ..Default::default()
        }),
        RouterConfig::LossFree(LossFreeConfig { num_selected: k, ..Default::default() }),
        RouterConfig::Relu(ReluConfig::default()),
    ];
    let any = SparsePlan { support: Support::Any, ..SparsePlan::default() };
    for combine in plans {
        routers.extend([
            RouterConfig::SinkhornTokenChoice(PlanTokenChoice {
                num_selected: k,
                combine,
                ..Default::default()
            }),
            RouterConfig::SparseTokenChoice(PlanTokenChoice {
                num_selected: k,
                combine,
                ..Default::default()
            }),
            RouterConfig::SinkhornExpertChoice(PlanExpertChoice { combine, ..Default::default() }),
            RouterConfig::SparseExpertChoice(PlanExpertChoice { combine, ..Default::default() }),
            RouterConfig::SparseExpertChoice(PlanExpertChoice {
                combine,
                plan: any,
                ..Default::default()
            }),
        ]);
    }
    routers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_router_breaks_its_bounds(
        groups in 1_usize..4, s in 2_usize..20, e in 1_usize..8, k in 1_usize..4, seed: u32,
    ) {
        let (d, k) = (5, k.min(e));
        let x = values(groups * s * d, seed.into());
        let kernel = values(d * e, u64::from(seed) + 1);
        for config in sparse_routers(k) {
            let problems = config.problems(&Asked {
                dial: &Dial::default(), num_experts: e, group_tokens: s, place: "",
            });
            if !problems.is_empty() {
                continue;
            }
            let routed = route(&config, &x, [d, e, s], &kernel);
            let stats = &routed.stats;
            prop_assert_eq!(stats.seated_e.iter().sum::<u64>() as usize, routed.pairs.len());
            prop_assert!((0.0..=(e as f64).ln() + 1e-5).contains(&stats.entropy()), "{config:?}");
            let mut of_token = vec![0; groups * s];
            let mut of_seat = vec![0; groups * e];
            for (token, expert, weight) in &routed.pairs {
                of_token[*token] += 1;
                of_seat[token / s * e + expert] += 1;
                prop_assert!(weight.is_finite() && *weight >= 0.0, "{config:?}: {weight}");
            }
            prop_assert_eq!(
                of_token.iter().filter(|n| **n == 0).count() as u64, stats.unserved_tokens, "{:?}", config
            );
            let most = config.num_selected().unwrap_or(e);
            prop_assert!(of_token.iter().all(|n| *n <= most), "{config:?}: {of_token:?}");
            let Some(capacity) = config.capacity() else { continue };
            let choices = config.num_selected().map_or(s, |k| s * k);
            let seats = capacity.seats(choices, e).unwrap();
            if config.num_selected().is_some() {
                prop_assert!(of_seat.iter().all(|n| *n <= seats), "{config:?}: {of_seat:?}");
            } else {
                // Expert choice fills every seat.
                prop_assert!(of_seat.iter().all(|n| *n == seats.min(s)), "{config:?}: {of_seat:?}");
            }
        }
    }

    #[test]
    fn a_converged_sinkhorn_plan_has_its_marginals_and_an_unconverged_one_says_so(
        s in 1_usize..30, e in 1_usize..8, seed: u32,
    ) {
        let (x, kernel) = (values(s * 5, seed.into()), values(5 * e, u64::from(seed) + 1));
        let error = |iterations| {
            let plan = Sinkhorn { iterations, epsilon: 1.0 };
            let capacity = Capacity::Exact { seats: 1 };
            let config = RouterConfig::SinkhornExpertChoice(PlanExpertChoice {
                plan, capacity, ..Default::default()
            });
            route(&config, &x, [5, e, s], &kernel).stats.marginal_error.unwrap()
        };
        prop_assert!(error(2000) < 1e-4, "{}", error(2000));
        prop_assert!(error(1) >= error(20) - 1e-5, "{} {}", error(1), error(20));
    }

    #[test]
    fn the_dispatch_of_soft_moe_sums_to_one_by_slot_and_its_combine_by_token(
        groups in 1_usize..4, s in 1_usize..20, e in 1_usize..5, p in 1_usize..4, seed: u32,
    ) {
        for mixing in [
            SoftMixing::Soft, SoftMixing::UniformDispatch, SoftMixing::UniformCombine, SoftMixing::Uniform,
        ] {
            let slots = Slots::Exact { n: p };
            let config = RouterConfig::Soft(SoftConfig { slots, mixing, noise_std: 0.0 });
            let mut init = Initializer::default();
            let router = config.init(&mut init, [5, e, s]);
            let params = init.finish(seed.into());
            let pool = Pool::new();
            let tape = Tape::inference(&params, &pool);
            let x_td = tape.constant([groups * s, 5], &values(groups * s * 5, seed.into())).unwrap();
            let settings = RouteSettings { group_tokens: s, dial: Dial::default() };
            let routing = router.route(&x_td, &settings, &mut Mode::Eval).unwrap();
            let Mixing::Slots { dispatch_tp, combine_tp, .. } = &routing.mixing else { panic!() };
            let n = e * p;
            for row in combine_tp.values().chunks(n) {
                prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
            for group in dispatch_tp.values().chunks(s * n) {
                for column in 0..n {
                    let sum: f32 = group.iter().skip(column).step_by(n).sum();
                    prop_assert!((sum - 1.0).abs() < 1e-5);
                }
            }
            // Every slot of every group belongs to one expert.
            let mut rows = routing.rows.rows().to_vec();
            rows.sort_unstable();
            prop_assert!(rows.into_iter().eq(0..(groups * n) as u32));
            prop_assert_eq!(routing.stats.dropped_share(), 0.0);
        }
    }
}

#[test]
fn a_sparse_plan_has_no_more_entries_than_are_selected() {
    // With the plan as weights, a weight above 0 is an entry: with capacity for all tokens, an expert still has at
    // most as many as its support.
    let (s, e) = (12, 3);
    let (x, kernel) = (values(s * 5, 1), values(5 * e, 2));
    for (support, most) in [(Support::Selected, 4), (Support::Any, s)] {
        let plan = SparsePlan { support, ..SparsePlan::default() };
        let config = RouterConfig::SparseExpertChoice(PlanExpertChoice {
            combine: Combine::Plan,
            plan,
            capacity: Capacity::factor(1.0),
            ..Default::default()
        });
        let routed = route(&config, &x, [5, e, s], &kernel);
        for expert in 0..e {
            let entries =
                routed.pairs.iter().filter(|(_, own, weight)| *own == expert && *weight > 0.0);
            assert!(entries.count() <= most);
        }
        // Each expert spreads S/E = 4; those of four entries spread it over the tokens that they take.
        if support == Support::Selected {
            let total: f32 = routed.pairs.iter().map(|(_, _, weight)| weight).sum();
            assert!((total - s as f32).abs() < 1e-4, "{total}");
        }
    }
}
