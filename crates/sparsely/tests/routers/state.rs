//! What routers adapt by rule, and what a dial cannot ask of them.

use sparsely::moe::router::*;
use sparsely::moe::{Capacity, Dial, Priority, RouterConfig, RouterStats};
use sparsely::nn::Initializer;
use sparsely_tensor::Slab;

fn adapted(config: &RouterConfig, stats: &RouterStats, name: &str) -> Vec<f32> {
    let mut init = Initializer::default();
    let router = config.init(&mut init, [2, 4, 8]);
    let mut params: Slab = init.finish(0);
    let view = params.layout().find(name).unwrap().clone();
    assert!(view.frozen, "the optimiser must leave it alone");
    router.adapt(&mut params, &Learned { layer: stats, model: stats });
    params.view(&view.param).to_vec()
}

#[test]
fn a_bias_moves_towards_the_mean_load() {
    let config = RouterConfig::LossFree(LossFreeConfig { bias_rate: 0.5, ..Default::default() });
    // Mean 2: experts 0 and 3 have too few, 2 has too many.
    let stats = RouterStats { asked_e: vec![1, 2, 5, 0], ..Default::default() };
    assert_eq!(adapted(&config, &stats, "router/balance"), [0.5, 0.0, -0.5, 0.5]);
}

#[test]
fn a_penalty_grows_while_tokens_have_too_many_experts() {
    let config = RouterConfig::Relu(ReluConfig {
        num_selected: 2.0,
        l1_start: 0.5,
        l1_growth: 4.0,
        balances: true,
    });
    let after = |asked_e: Vec<u64>| {
        let stats = RouterStats { asked_e, tokens: 10, ..Default::default() };
        adapted(&config, &stats, "router/l1")[0]
    };
    // Ten tokens at two experts each are 20 choices.
    assert_eq!(after(vec![10, 5, 5, 1]), 2.0);
    assert_eq!(after(vec![10, 5, 5, 0]), 0.5);
    assert_eq!(after(vec![1, 5, 5, 0]), 0.125);
}

#[test]
fn what_a_router_does_not_have_is_refused_with_the_reason() {
    let k = Dial { num_selected: Some(2), ..Dial::default() };
    let priority = Dial { priority: Some(Priority::MaxGate), ..Dial::default() };
    let seats = Dial { capacity: Some(Capacity::factor(0.5)), ..Dial::default() };
    let unlimited = Dial { capacity: Some(Capacity::Unlimited), ..Dial::default() };
    let soft = RouterConfig::Soft(SoftConfig::default());
    let relu = RouterConfig::Relu(ReluConfig::default());
    let experts = RouterConfig::ExpertChoice(ExpertChoiceConfig::default());
    let tokens = RouterConfig::default();
    let random = RouterConfig::Random(RandomConfig::default());
    let learned = Dial { priority: Some(Priority::Learned), ..Dial::default() };
    for (config, dial, reason) in [
        (
            &experts,
            &k,
            "expert choice has no K: each expert takes its tokens, as many as its capacity says",
        ),
        (&soft, &k, "Soft MoE has no K: every expert sees a mixture of all tokens"),
        (&relu, &k, "ReLU routing has no K: each token takes the experts whose gate is above 0"),
        (&experts, &priority, "expert choice has no priority: tokens do not queue for seats"),
        (&soft, &seats, "Soft MoE has no capacity: its slots are parameters"),
        (&relu, &seats, "ReLU routing has no capacity: it computes every expert that is asked"),
        (&random, &seats, "random routing has no seats: it computes every expert that it draws"),
        (&random, &priority, "random routing has no seats: it computes every expert that it draws"),
        (&tokens, &learned, "this router was not trained with a learned priority"),
    ] {
        assert_eq!(config.refusal(dial).as_deref(), Some(reason));
    }
    for config in [&soft, &relu, &experts, &tokens, &random] {
        assert_eq!(config.refusal(&unlimited), None);
        assert_eq!(config.refusal(&Dial::default()), None);
    }
    assert_eq!(experts.refusal(&seats), None);
}

#[test]
fn settings_that_leave_nothing_to_compute_are_told() {
    let problems = |config: RouterConfig| {
        let dial = Dial::default();
        config.problems(&Asked { dial: &dial, num_experts: 8, group_tokens: 16, place: "router" })
    };
    let slots = |slots| RouterConfig::Soft(SoftConfig { slots, ..Default::default() });
    assert_eq!(
        problems(slots(Slots::Exact { n: 0 })),
        ["slots: expected at least one for each expert, got 0 slots for 16 tokens among 8 experts"]
    );
    // 16 · 0.2 / 8 = 0.4 slots.
    assert_eq!(
        problems(slots(Slots::Factor { factor: 0.2 })),
        [
            "slots: expected at least one for each expert, got a factor of 0.2 for 16 tokens among 8 experts"
        ]
    );
    let experts = |capacity| {
        RouterConfig::ExpertChoice(ExpertChoiceConfig { capacity, ..Default::default() })
    };
    assert_eq!(
        problems(experts(Capacity::Exact { seats: 0 })),
        [
            "capacity: expected at least one seat for each expert, got 0 seats for 16 choices among 8 experts"
        ]
    );
    assert_eq!(
        problems(experts(Capacity::Unlimited)),
        ["expert choice needs a capacity: without one every expert takes every token"]
    );
    let plan = Sinkhorn { iterations: 0, epsilon: 1.0 };
    assert_eq!(
        problems(RouterConfig::SinkhornExpertChoice(PlanExpertChoice {
            plan,
            ..Default::default()
        })),
        ["model.moe.router.plan needs iterations from 1 and an epsilon above 0"]
    );
}
