use super::*;
use crate::moe::router::*;
use crate::moe::{Capacity, Priority, Rounding};
use serde_json::json;

/// A configuration in the words of the published ones, with `moe` as given.
fn model(moe: &Value) -> Value {
    json!({
        "name": "VisionTransformerMoe", "num_classes": 1000, "patch_size": [32, 32],
        "hidden_size": 512, "representation_size": 512,
        "encoder": {
            "num_layers": 8, "num_heads": 8, "mlp_dim": 2048, "dropout_rate": 0.1, "moe": moe
        }
    })
}

fn parse_moe(moe: &Value) -> MoeConfig {
    parse_config(&model(moe), 224, 3).unwrap().moe.unwrap()
}

#[test]
fn a_published_configuration_is_understood() {
    let moe = parse_moe(&json!({
        "num_experts": 8, "layers": [5, 7], "dropout_rate": 0.0, "group_size": 400,
        "split_rngs": false,
        "router": {
            "num_selected_experts": 2, "noise_std": 1.0, "importance_loss_weight": 0.005,
            "load_loss_weight": 0.005,
            "dispatcher": {
                "name": "einsum", "capacity": 50, "partition_spec": [["expert", "replica"]],
                "batch_priority": false
            }
        }
    }));
    let expected = MoeConfig {
        num_experts: 8,
        placement: Placement::Blocks { blocks: vec![5, 7] },
        group: Group::Tokens { n: 400 },
        router: RouterConfig::TokenChoice(TokenChoiceConfig {
            capacity: Capacity::Exact { seats: 50 },
            ..Default::default()
        }),
        expert_init: ExpertInit::Equal,
        ..MoeConfig::default()
    };
    assert_eq!(moe, expected);
}

#[test]
fn what_is_left_out_is_what_the_reference_assumes() {
    let moe = parse_moe(&json!({
        "num_experts": 4, "layers": [7], "group_size": 100,
        "router": { "dispatcher": { "capacity_factor": 1.5 } }
    }));
    let expected = MoeConfig {
        num_experts: 4,
        placement: Placement::Blocks { blocks: vec![7] },
        group: Group::Tokens { n: 100 },
        router: RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: 1,
            gate: Gate::Softmax,
            noise_std: 1.0,
            capacity: Capacity::Factor { factor: 1.5, rounding: Rounding::Ceil, multiple_of: 4 },
            priority: Priority::Position,
            loss: LossWeights { importance: 1.0, load: 1.0, gshard: 0.0, z: 0.0 },
        }),
        // The encoder's.
        expert_dropout: 0.1,
        expert_init: ExpertInit::Equal,
        ..MoeConfig::default()
    };
    assert_eq!(moe, expected);
}

#[test]
fn nothing_in_place_of_a_setting_is_its_absence() {
    let moe = parse_moe(&json!({
        "num_experts": 4, "layers": [7], "group_size": 100, "split_rngs": ["params"],
        "router": { "dispatcher": { "capacity_factor": 1.5, "capacity_multiple_of": null } }
    }));
    assert_eq!(moe.router.capacity(), Some(Capacity::factor(1.5)));
    assert_eq!(moe.expert_init, ExpertInit::Different);
    let mut dense = model(&Value::Null);
    dense["encoder"]["position_emb"] = Value::Null;
    dense["num_classes"] = json!(0);
    let dense = parse_config(&dense, 224, 3).unwrap();
    assert_eq!((dense.moe, dense.num_classes), (None, None));
    assert_eq!(dense.positions, Positions::Learned);
}

#[test]
fn all_that_is_unsupported_is_told_at_once() {
    let mut config = model(&json!({
        "num_experts": 4, "layers": [7], "group_size": 100, "mlp_dim": 64,
        "router": { "dispatcher": { "bfloat16": true } }
    }));
    config["encoder"]["position_emb"] = json!({ "name": "sincos2d", "temperature": 100.0 });
    assert_eq!(
        parse_config(&config, 224, 3).unwrap_err().to_string(),
        "invalid configuration: unsupported temperature of the positions; \
         unsupported experts of another width than the dense MLPs; \
         the dispatcher needs either `capacity` or `capacity_factor`"
    );
}

/// What a router's dictionary is read as.
fn parse(router: &Value) -> String {
    match parse_router(router) {
        Ok(router) => format!("{:?}", router.config),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_router_of_the_reference_is_understood() {
    let project = "vmoe.projects.sparsity_constrained_ot";
    let dispatcher = json!({ "capacity_factor": 1.0, "capacity_ceil_or_round": "round" });
    let named =
        |name: &str| json!({ "name": format!("{project}.{name}"), "dispatcher": dispatcher });
    let capacity = Capacity::Factor { factor: 1.0, rounding: Rounding::Round, multiple_of: 4 };
    let experts = PlanExpertChoice { capacity, ..PlanExpertChoice::<Sinkhorn>::default() };
    assert_eq!(
        parse(&named("kl_projection_routing.KLProjectionNoisyTopItemsPerExpertRouter")),
        format!("{:?}", RouterConfig::SinkhornExpertChoice(experts))
    );
    // Its noise moves the plan, not the gates.
    let tokens = PlanTokenChoice {
        num_selected: 1,
        capacity,
        combine: Combine::CleanGates,
        ..PlanTokenChoice::<Sinkhorn>::default()
    };
    assert_eq!(
        parse(&named("kl_projection_routing.KLProjectionNoisyTopExpertsPerItemRouter")),
        format!("{:?}", RouterConfig::SinkhornTokenChoice(tokens))
    );
    let plan = SparsePlan { support: Support::Any, ..SparsePlan::default() };
    let any = PlanExpertChoice { noise_std: 0.0, capacity, combine: Combine::Gates, plan };
    assert_eq!(
        parse(&named("sparse.SparseProjectionTransportTopItemsPerExpertRouter")),
        format!("{:?}", RouterConfig::SparseExpertChoice(any))
    );
    let soft = json!({ "name": "vmoe.projects.soft_moe.router.SoftRouter", "num_slots": 2 });
    assert!(parse_router(&soft).unwrap().through_bf16);
    let slots = SoftConfig { slots: Slots::Exact { n: 2 }, ..SoftConfig::default() };
    assert_eq!(parse(&soft), format!("{:?}", RouterConfig::Soft(slots)));
}

#[test]
fn a_router_that_is_not_understood_is_one_line() {
    assert_eq!(
        parse(&json!({ "name": "vmoe.nn.HashRouter" })),
        "invalid configuration: unsupported router `vmoe.nn.HashRouter`"
    );
    assert_eq!(
        parse(&json!({ "name": "SoftRouter", "num_slots": -1 })),
        "invalid configuration: router `num_slots`: invalid value: integer `-1`, expected usize"
    );
    assert_eq!(
        parse(&json!({ "name": "SoftRouter", "capacity_factor": null })),
        "invalid configuration: the router needs either `num_slots` or `capacity_factor`"
    );
    let lbfgs = json!({
        "name": "KLProjectionNoisyTopExpertsPerItemRouter", "use_lbfgs": true,
        "load_loss_weight": 0.1, "dispatcher": { "capacity": 3 }
    });
    assert_eq!(
        parse(&lbfgs),
        "invalid configuration: unsupported plans by L-BFGS; \
         unsupported auxiliary losses beside a transport plan"
    );
}
