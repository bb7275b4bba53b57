//! Our configuration of a model as the reference's `config.model` dictionary.

use crate::model::{Classifier, ModelConfig, Positions};
use crate::moe::router::{Gate, Slots, SoftMixing};
use crate::moe::{Capacity, ExpertInit, Granularity, MoeConfig, Priority, Rounding, RouterConfig};
use crate::{Error, Result};
use serde_json::{Value, json};

/// The configuration that [`parse_config`](super::parse_config) reads back as the same model, with
/// MoE blocks and groups told by their indices and tokens.
///
/// # Errors
/// What the reference has no word for, all at once.
pub fn describe_config(config: &ModelConfig) -> Result<Value> {
    let attention = config.attention.map(|_| "attention with experts inside its heads");
    let attention = attention.into_iter();
    let problems: Vec<String> =
        attention.chain(config.moe.iter().flat_map(inexpressible)).map(String::from).collect();
    if !problems.is_empty() {
        return Err(Error::Config { problems });
    }
    let mut encoder = json!({
        "num_layers": config.depth,
        "mlp_dim": config.mlp_width,
        "num_heads": config.heads,
        "dropout_rate": decimal(config.dropout),
        "attention_dropout_rate": 0.0,
    });
    if config.qk_norm {
        encoder["attention_qk_norm"] = true.into();
    }
    match config.positions {
        Positions::Learned => {}
        Positions::Sincos2d => encoder["position_emb"] = json!({ "name": "sincos2d" }),
        Positions::None => encoder["position_emb"] = json!({ "name": "none" }),
    }
    if let Some(moe) = &config.moe {
        encoder["moe"] = describe_moe(moe, config)?;
    }
    let classifier = match config.classifier {
        Classifier::Token => "token",
        Classifier::Gap => "gap",
        Classifier::Map => "map",
    };
    Ok(json!({
        "name": "VisionTransformerMoe",
        "num_classes": config.num_classes,
        "patch_size": [config.patch_size, config.patch_size],
        "hidden_size": config.width,
        "classifier": classifier,
        "representation_size": config.pre_logits,
        "head_bias_init": decimal(config.head_bias),
        "encoder": encoder,
    }))
}

fn inexpressible(moe: &MoeConfig) -> Vec<&'static str> {
    let router = &moe.router;
    let (gate, z, mixing) = match router {
        RouterConfig::TokenChoice(router) => (router.gate, router.loss.z, SoftMixing::Soft),
        RouterConfig::ExpertChoice(router) => (router.gate, 0.0, SoftMixing::Soft),
        RouterConfig::Soft(router) => (Gate::Softmax, 0.0, router.mixing),
        _ => return vec!["a router of this kind cannot be exported to the reference"],
    };
    let is_soft = matches!(router, RouterConfig::Soft(_));
    let checks = [
        (
            router.priority() == Some(Priority::SumGates),
            "the reference has no priority by the sum of gates",
        ),
        (router.priority() == Some(Priority::Learned), "the reference has no learned priority"),
        (z != 0.0, "the reference has no z-loss"),
        (gate != Gate::Softmax, "the reference has no sigmoid gates"),
        (mixing != SoftMixing::Soft, "the reference has no fixed mixing of slots"),
        (moe.granularity != Granularity::Token, "the reference has no routing of whole images"),
        (moe.num_shared > 0, "the reference has no shared experts"),
        (
            is_soft && !moe.through_bf16,
            "the reference's Soft MoE rounds through bf16 (set model.moe.through_bf16)",
        ),
    ];
    checks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, problem)| problem).collect()
}

fn describe_moe(moe: &MoeConfig, config: &ModelConfig) -> Result<Value> {
    let group_size = moe.group.tokens(config.length());
    Ok(json!({
        "layers": config.moe_blocks()?,
        "num_experts": moe.num_experts,
        "group_size": group_size,
        "dropout_rate": decimal(moe.expert_dropout),
        "split_rngs": moe.expert_init == ExpertInit::Different,
        "router": describe_router(moe, group_size),
    }))
}

/// The dictionary of a router that is not [`inexpressible`].
fn describe_router(moe: &MoeConfig, group_size: usize) -> Value {
    match &moe.router {
        RouterConfig::Soft(router) => {
            let (num_slots, capacity_factor) = match router.slots {
                Slots::Exact { n } => (Some(n), None),
                Slots::Factor { factor } => (None, Some(factor)),
            };
            json!({
                "name": "vmoe.projects.soft_moe.router.SoftRouter",
                "num_slots": num_slots,
                "capacity_factor": capacity_factor,
                "noise_std": decimal(router.noise_std),
            })
        }
        RouterConfig::TokenChoice(router) => json!({
            "num_selected_experts": router.num_selected,
            "noise_std": decimal(router.noise_std),
            "importance_loss_weight": decimal(router.loss.importance),
            "load_loss_weight": decimal(router.loss.load),
            "gshard_loss_weight": decimal(router.loss.gshard),
            "dispatcher": describe_dispatcher(moe, router.capacity, group_size),
        }),
        router => json!({
            "name": "NoisyTopItemsPerExpertRouter",
            "noise_std": decimal(router.noise_std()),
            "dispatcher": describe_dispatcher(
                moe,
                router.capacity().unwrap_or(Capacity::Unlimited),
                group_size,
            ),
        }),
    }
}

fn describe_dispatcher(moe: &MoeConfig, capacity: Capacity, group_size: usize) -> Value {
    let mut dispatcher = json!({ "name": "einsum", "bfloat16": moe.through_bf16 });
    if let Some(priority) = moe.router.priority() {
        dispatcher["batch_priority"] = (priority == Priority::MaxGate).into();
    }
    match capacity {
        Capacity::Exact { seats } => dispatcher["capacity"] = seats.into(),
        // An expert is chosen at most once by each token.
        Capacity::Unlimited => dispatcher["capacity"] = group_size.into(),
        Capacity::Factor { factor, rounding, multiple_of } => {
            dispatcher["capacity_factor"] = factor.into();
            dispatcher["capacity_multiple_of"] = multiple_of.into();
            dispatcher["capacity_ceil_or_round"] = match rounding {
                Rounding::Ceil => "ceil".into(),
                Rounding::Round => "round".into(),
            };
        }
    }
    dispatcher
}

/// The shortest decimal that is this number in single precision: 0.005, not 0.004999999888….
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::reference::parse_config;
    use crate::moe::router::{ExpertChoiceConfig, SoftConfig};
    use crate::moe::{Group, LossWeights, Placement, TokenChoiceConfig};

    fn read_back(config: &ModelConfig) -> ModelConfig {
        let json = describe_config(config).unwrap();
        parse_config(&json, config.image_size, config.channels).unwrap()
    }

    fn token_choice(config: &mut ModelConfig) -> &mut TokenChoiceConfig {
        match &mut config.moe.as_mut().unwrap().router {
            RouterConfig::TokenChoice(router) => router,
            other => panic!("the default is token choice, not {other:?}"),
        }
    }

    #[test]
    fn a_description_reads_back_as_the_same_model() {
        let token_choice = TokenChoiceConfig {
            num_selected: 1,
            gate: Gate::Softmax,
            noise_std: 0.7,
            capacity: Capacity::Factor { factor: 1.3, rounding: Rounding::Round, multiple_of: 4 },
            priority: Priority::MaxGate,
            loss: LossWeights { importance: 0.005, load: 0.1, gshard: 0.3, z: 0.0 },
        };
        let moe = MoeConfig {
            num_experts: 3,
            placement: Placement::Blocks { blocks: vec![0, 3] },
            granularity: Granularity::Token,
            group: Group::Tokens { n: 34 },
            router: RouterConfig::TokenChoice(token_choice),
            num_shared: 0,
            through_bf16: true,
            expert_dropout: 0.2,
            expert_init: ExpertInit::Equal,
        };
        let sparse = ModelConfig {
            classifier: Classifier::Map,
            positions: Positions::Sincos2d,
            qk_norm: true,
            pre_logits: Some(5),
            head_bias: -6.9,
            dropout: 0.1,
            moe: Some(moe),
            ..ModelConfig::default()
        };
        assert_eq!(read_back(&sparse), sparse);
        let soft =
            SoftConfig { slots: Slots::Exact { n: 2 }, noise_std: 0.5, ..Default::default() };
        let experts = ExpertChoiceConfig { capacity: Capacity::factor(2.0), ..Default::default() };
        for router in [RouterConfig::Soft(soft), RouterConfig::ExpertChoice(experts)] {
            let mut other = sparse.clone();
            other.moe.as_mut().unwrap().router = router;
            assert_eq!(read_back(&other), other);
        }
        let dense = ModelConfig {
            moe: None,
            num_classes: None,
            classifier: Classifier::Token,
            positions: Positions::None,
            ..sparse
        };
        assert_eq!(read_back(&dense), dense);
    }

    #[test]
    fn blocks_groups_and_unlimited_capacity_are_told_in_numbers() {
        // 16 tokens an image, 8 images a group; the last two odd ones of four blocks.
        let mut config = ModelConfig::default();
        token_choice(&mut config).capacity = Capacity::Unlimited;
        let moe = read_back(&config).moe.unwrap();
        assert_eq!(moe.placement, Placement::Blocks { blocks: vec![1, 3] });
        assert_eq!(moe.group, Group::Tokens { n: 128 });
        assert_eq!(moe.router.capacity(), Some(Capacity::Exact { seats: 128 }));
    }

    #[test]
    fn what_the_reference_cannot_say_is_told_at_once() {
        let mut config = ModelConfig::default();
        let router = token_choice(&mut config);
        router.priority = Priority::SumGates;
        router.loss.z = 0.1;
        assert_eq!(
            describe_config(&config).unwrap_err().to_string(),
            "invalid configuration: the reference has no priority by the sum of gates; \
             the reference has no z-loss"
        );
    }
}
