use super::*;
use crate::attention::{AttentionConfig, RelativePositions, SwitchHeadConfig};
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
