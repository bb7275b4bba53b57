use super::*;
use crate::attention::{AttentionConfig, GateContext, RelativePositions, SwitchHeadConfig};
use crate::moe::{MoeConfig, TokenChoiceConfig};

#[test]
fn the_default_is_valid() {
    LanguageConfig::default().validate().unwrap();
}

#[test]
fn all_problems_are_told_at_once() {
    let attention = AttentionConfig::SwitchHead(SwitchHeadConfig {
        head_width: 6,
        num_selected: 5,
        positions: RelativePositions::Rope { fraction: 0.5 },
        ..SwitchHeadConfig::default()
    });
    let exception = BlockException { blocks: vec![7], ..BlockException::default() };
    let config = LanguageConfig {
        width: 0,
        dropout: 1.0,
        attention,
        exceptions: vec![exception],
        ..LanguageConfig::default()
    };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "invalid configuration: model.width must be at least 1; model.dropout 1 is not in [0, 1); \
         model.attention.num_selected 5 is not in 1..=4, the number of experts; \
         model.attention.positions rotates 3 of 6 channels, an odd number: channels turn in pairs; \
         model.exceptions[0]: there is no block 7 among 4"
    );
}

#[test]
fn options_of_gates_are_checked() {
    let said = |change: fn(&mut SwitchHeadConfig)| {
        let mut config = SwitchHeadConfig::default();
        change(&mut config);
        let attention = AttentionConfig::SwitchHead(config);
        let config = LanguageConfig { attention, ..LanguageConfig::default() };
        config.validate().err().map_or_else(String::new, |error| error.to_string())
    };
    let context = |width| Some(GateContext { width, ..GateContext::default() });
    assert_eq!(
        said(|config| (config.bias_rate, config.entropy_weight) = (-1.0, f32::NAN)),
        "invalid configuration: model.attention.bias_rate -1 is not a number from 0; \
         model.attention.entropy_weight NaN is not a number from 0"
    );
    assert_eq!(
        said(|config| {
            (config.num_experts, config.num_selected) = (1, 1);
            (config.bias_rate, config.entropy_weight) = (0.1, 0.1);
            config.context = Some(GateContext::default());
        }),
        "invalid configuration: \
         model.attention.bias_rate is of a choice: with num_experts 1 there is none; \
         model.attention.entropy_weight is of a choice: with num_experts 1 there is none; \
         model.attention.context is of a choice: with num_experts 1 there is none"
    );
    assert_eq!(
        said(|config| config.context = Some(GateContext { width: Some(0), stop_gradient: false })),
        "invalid configuration: model.attention.context.width must be at least 1; leave it out for all channels"
    );
    let attention = |context| {
        AttentionConfig::SwitchHead(SwitchHeadConfig { context, ..SwitchHeadConfig::default() })
    };
    let one = LanguageConfig {
        depth: 1,
        attention: attention(context(None)),
        ..LanguageConfig::default()
    };
    assert_eq!(
        one.validate().unwrap_err().to_string(),
        "invalid configuration: model.attention.context: no block reads one, the first has no attention before it"
    );
    let exception =
        BlockException { blocks: vec![0], attention: Some(attention(context(Some(4)))), mlp: None };
    let only_first = LanguageConfig { exceptions: vec![exception], ..LanguageConfig::default() };
    assert!(only_first.validate().is_err());
    let two = LanguageConfig { depth: 2, ..one };
    two.validate().unwrap();
    assert_eq!(two.blocks_that_read_contexts(), [false, true]);
}

/// What is said of a model with the router.
fn said_of(router: RouterConfig) -> String {
    let moe = LanguageMoeConfig {
        moe: MoeConfig { router, ..MoeConfig::default() },
        ..LanguageMoeConfig::default()
    };
    let config = LanguageConfig { mlp: MlpConfig::Moe(moe), ..LanguageConfig::default() };
    config.validate().err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn routers_that_see_the_future_are_refused_with_the_reason() {
    let told = |reason: &str| {
        format!(
            "invalid configuration: model.mlp.moe.router: a causal model cannot have it: {reason}"
        )
    };
    assert_eq!(
        said_of(RouterConfig::ExpertChoice(Default::default())),
        told("experts choose among all tokens, so later ones displace earlier ones")
    );
    assert_eq!(
        said_of(RouterConfig::SinkhornTokenChoice(Default::default())),
        told("a transport plan is made of all tokens, later ones too")
    );
    assert_eq!(
        said_of(RouterConfig::SparseExpertChoice(Default::default())),
        told("experts choose among all tokens, so later ones displace earlier ones")
    );
    assert_eq!(
        said_of(RouterConfig::Soft(Default::default())),
        told("its slots are mixtures of all tokens, later ones too")
    );
    let token_choice = |capacity, priority| {
        said_of(RouterConfig::TokenChoice(TokenChoiceConfig {
            capacity,
            priority,
            ..TokenChoiceConfig::default()
        }))
    };
    assert_eq!(
        token_choice(Capacity::factor(1.0), Priority::MaxGate),
        told(
            "batch prioritized routing seats later tokens before earlier ones: set its capacity to `unlimited`"
        )
    );
    assert_eq!(
        token_choice(Capacity::factor(1.0), Priority::Position),
        told(
            "with few seats the first choice of a later token takes the seat of an earlier token's second \
             choice: set its capacity to `unlimited`"
        )
    );
    assert_eq!(token_choice(Capacity::Unlimited, Priority::Position), "");
    assert_eq!(said_of(RouterConfig::Relu(Default::default())), "");
    assert_eq!(said_of(RouterConfig::Random(Default::default())), "");
}
