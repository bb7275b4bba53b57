//! Small models of every kind.

use sparsely::attention::{
    AttentionConfig, DenseAttentionConfig, ExpertProjections, GateContext, HeadGate, MoaConfig,
    MoaGate, RelativePositions, SwitchHeadConfig,
};
use sparsely::model::language::{
    BlockException, DenseMlpConfig, LanguageConfig, LanguageMoeConfig, MlpConfig,
};
use sparsely::moe::router::{LossFreeConfig, RandomConfig, ReluConfig};
use sparsely::moe::{
    Capacity, MoeConfig, RouterConfig, SigmaGate, SigmaMoeConfig, TokenChoiceConfig,
};

pub(crate) const VOCABULARY: usize = 23;
pub(crate) const CONTEXT: usize = 6;

/// Tokens without much order.
pub(crate) fn tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 7 + i * 3 + seed * 11) % VOCABULARY) as u32).collect()
}

fn base(attention: AttentionConfig, mlp: MlpConfig) -> LanguageConfig {
    LanguageConfig {
        vocabulary: VOCABULARY,
        width: 20,
        depth: 2,
        context: CONTEXT,
        memory: CONTEXT,
        dropout: 0.0,
        attention,
        mlp,
        ..LanguageConfig::default()
    }
}

fn switch_head(change: impl FnOnce(&mut SwitchHeadConfig)) -> AttentionConfig {
    let mut config =
        SwitchHeadConfig { heads: 2, head_width: 6, num_experts: 3, ..SwitchHeadConfig::default() };
    change(&mut config);
    AttentionConfig::SwitchHead(config)
}

/// Three blocks, so that what one with a context gives is read too.
fn with_context(
    context: GateContext,
    change: impl FnOnce(&mut SwitchHeadConfig),
) -> LanguageConfig {
    let attention = switch_head(|config| {
        config.context = Some(context);
        change(config);
    });
    LanguageConfig { depth: 3, ..base(attention, mlp()) }
}

fn dense(positions: RelativePositions) -> AttentionConfig {
    AttentionConfig::Dense(DenseAttentionConfig { heads: 2, head_width: 6, positions })
}

fn moa(gate: MoaGate, positions: RelativePositions) -> AttentionConfig {
    AttentionConfig::Moa(MoaConfig {
        num_experts: 4,
        num_selected: 2,
        head_width: 6,
        gate,
        positions,
        ..MoaConfig::default()
    })
}

fn mlp() -> MlpConfig {
    MlpConfig::Dense(DenseMlpConfig { width: 24 })
}

fn sigma(gate: SigmaGate) -> MlpConfig {
    MlpConfig::SigmaMoe(SigmaMoeConfig {
        num_experts: 5,
        expert_width: 8,
        num_selected: 2,
        gate,
        has_bias: gate == SigmaGate::Softmax,
        ..SigmaMoeConfig::default()
    })
}

fn moe(router: RouterConfig) -> MlpConfig {
    let moe = MoeConfig { num_experts: 4, router, ..MoeConfig::default() };
    MlpConfig::Moe(LanguageMoeConfig { expert_width: 16, moe })
}

/// Names and models: all attentions, all MLPs, all routers that a causal model may have.
pub(crate) fn all() -> Vec<(&'static str, LanguageConfig)> {
    let (xl, none) = (RelativePositions::TransformerXl, RelativePositions::None);
    let rope = RelativePositions::Rope { fraction: 0.7 };
    let on = |values, keys, queries, outputs| ExpertProjections { values, keys, queries, outputs };
    let capacity = Capacity::Unlimited;
    let switch = || switch_head(|_| {});
    let token_choice =
        RouterConfig::TokenChoice(TokenChoiceConfig { capacity, ..TokenChoiceConfig::default() });
    let loss_free =
        RouterConfig::LossFree(LossFreeConfig { capacity, ..LossFreeConfig::default() });
    let mixed = LanguageConfig {
        exceptions: vec![BlockException {
            blocks: vec![1],
            attention: Some(dense(xl)),
            mlp: Some(sigma(SigmaGate::Sigmoid)),
        }],
        ..base(switch(), mlp())
    };
    vec![
        ("dense xl", base(dense(xl), mlp())),
        ("dense rope", base(dense(rope), mlp())),
        ("dense without positions", base(dense(none), mlp())),
        ("rope without memory", LanguageConfig { memory: 0, ..base(dense(rope), mlp()) }),
        ("xl without memory", LanguageConfig { memory: 0, ..base(switch(), mlp()) }),
        ("short memory", LanguageConfig { memory: 2, ..base(switch(), mlp()) }),
        ("long memory", LanguageConfig { memory: 2 * CONTEXT + 1, ..base(switch(), mlp()) }),
        ("switch head xl", base(switch(), mlp())),
        ("switch head rope", base(switch_head(|config| config.positions = rope), mlp())),
        (
            "switch head everywhere",
            base(switch_head(|config| config.experts = on(true, true, true, true)), mlp()),
        ),
        (
            "switch head of keys",
            base(switch_head(|config| config.experts = on(false, true, false, false)), mlp()),
        ),
        ("one router", base(switch_head(|config| config.shared_router = true), mlp())),
        (
            "softmax of selected",
            base(switch_head(|config| config.gate = HeadGate::SoftmaxOfSelected), mlp()),
        ),
        (
            "one expert",
            base(switch_head(|config| (config.num_experts, config.num_selected) = (1, 1)), mlp()),
        ),
        (
            "balanced heads",
            base(
                switch_head(|config| {
                    (config.bias_rate, config.entropy_weight) = (1e-3, 1e-3);
                    config.expert_dropout = 0.1;
                }),
                mlp(),
            ),
        ),
        ("gates with a context", with_context(GateContext::default(), |_| {})),
        (
            "gates with a short memory of a small context",
            LanguageConfig {
                memory: 2,
                ..with_context(GateContext { stop_gradient: true, width: Some(3) }, |config| {
                    config.shared_router = true;
                })
            },
        ),
        (
            "gates everywhere with a context, rotary, without memory",
            LanguageConfig {
                memory: 0,
                ..with_context(GateContext { stop_gradient: false, width: Some(3) }, |config| {
                    config.positions = rope;
                    config.experts = on(true, true, true, true);
                    config.gate = HeadGate::SoftmaxOfSelected;
                    config.bias_rate = 1e-3;
                })
            },
        ),
        (
            "gates with a context of dense attention",
            LanguageConfig {
                exceptions: vec![BlockException {
                    blocks: vec![0],
                    attention: Some(dense(xl)),
                    mlp: None,
                }],
                ..with_context(GateContext::default(), |_| {})
            },
        ),
        ("moa softmax", base(moa(MoaGate::Softmax, xl), mlp())),
        ("moa sigmoid rope", base(moa(MoaGate::Sigmoid, rope), mlp())),
        ("switch all", base(switch(), sigma(SigmaGate::Sigmoid))),
        ("sigma softmax", base(switch(), sigma(SigmaGate::Softmax))),
        ("sigma softmax of selected", base(switch(), sigma(SigmaGate::SoftmaxOfSelected))),
        ("token choice", base(switch(), moe(token_choice))),
        ("loss free", base(switch(), moe(loss_free))),
        ("relu", base(switch(), moe(RouterConfig::Relu(ReluConfig::default())))),
        ("random", base(switch(), moe(RouterConfig::Random(RandomConfig::default())))),
        ("blocks of two kinds", mixed),
    ]
}
