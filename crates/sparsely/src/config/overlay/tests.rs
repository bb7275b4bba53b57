use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    model: Model,
    lr_peak: f64,
    name: String,
    seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    pooling: Pooling,
    moe: Moe,
    #[serde(default)]
    head: Option<Head>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moe {
    num_experts: usize,
    layers: Vec<usize>,
    capacity: Capacity,
    group_size: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    width: usize,
    bias: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pooling {
    Gap,
    Token,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Capacity {
    Exact { seats: usize },
    Factor { factor: f64, multiple_of: usize },
    Raised { factor: f64, by: usize },
    Unlimited,
}

fn base() -> Config {
    let capacity = Capacity::Factor { factor: 1.0, multiple_of: 4 };
    let moe = Moe { num_experts: 8, layers: vec![1], capacity, group_size: None };
    Config {
        model: Model { pooling: Pooling::Token, moe, head: None },
        lr_peak: 0.5,
        name: "base".into(),
        seed: 7,
    }
}

fn set(sets: &[&str]) -> Result<Config> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_string()).collect();
    apply_set(&base(), &sets)
}

fn refusal(sets: &[&str]) -> String {
    let message = set(sets).unwrap_err().to_string();
    message.strip_prefix("invalid configuration: ").unwrap().to_string()
}

#[test]
fn no_settings_leave_the_base() {
    assert_eq!(set(&[]).unwrap(), base());
}

#[test]
fn plain_values_of_every_kind_are_set_in_order() {
    let got = set(&[
        "model.moe.num_experts=32",
        "model.moe.layers=[1,3]",
        "model.moe.group_size = 16",
        "model.pooling=gap",
        "name=first",
        "name=\"7\"",
        "lr_peak=1",
        "seed=0",
    ])
    .unwrap();
    let mut wanted = base();
    wanted.model.moe.num_experts = 32;
    wanted.model.moe.layers = vec![1, 3];
    wanted.model.moe.group_size = Some(16);
    wanted.model.pooling = Pooling::Gap;
    wanted.name = "7".into();
    wanted.lr_peak = 1.0;
    wanted.seed = 0;
    assert_eq!(got, wanted);
    assert_eq!(set(&["lr_peak=1e-3"]).unwrap().lr_peak, 0.001);
}

#[test]
fn odd_texts_stay_texts() {
    for text in ["2024-01-01", "data/cifar 10", "a=b", "0x", "1\nseed = 3", "it's", "#", ""] {
        assert_eq!(set(&[&format!("name={text}")]).unwrap().name, text);
    }
}

#[test]
fn a_tagged_enum_is_set_in_part_or_whole() {
    let capacity = |sets: &[&str]| set(sets).unwrap().model.moe.capacity;
    assert_eq!(
        capacity(&["model.moe.capacity.factor=2"]),
        Capacity::Factor { factor: 2.0, multiple_of: 4 }
    );
    let exact = r#"model.moe.capacity={ kind = "exact", seats = 4 }"#;
    assert_eq!(capacity(&[exact]), Capacity::Exact { seats: 4 });
    assert_eq!(capacity(&[exact, "model.moe.capacity.seats=5"]), Capacity::Exact { seats: 5 });
    assert_eq!(capacity(&[r#"model.moe.capacity={ kind = "unlimited" }"#]), Capacity::Unlimited);
}

#[test]
fn an_absent_table_is_made_of_its_settings() {
    let head = set(&["model.head.width=4", "model.head.bias=-1.5"]).unwrap().model.head;
    assert_eq!(head, Some(Head { width: 4, bias: -1.5 }));
    assert_eq!(refusal(&["model.head.width=4"]), "`model.head.width`: missing field `bias`");
}

#[test]
fn a_misspelt_name_is_told_with_the_nearest() {
    assert_eq!(
        refusal(&["model.moe.num_expert=4"]),
        "unknown setting `model.moe.num_expert`; did you mean `num_experts`?"
    );
    assert_eq!(
        refusal(&["modell.moe.num_experts=4"]),
        "unknown setting `modell`; did you mean `model`?"
    );
    assert_eq!(
        refusal(&["zzz=4"]),
        "unknown setting `zzz`; there are `model`, `lr_peak`, `name`, `seed`"
    );
    assert_eq!(
        refusal(&["model.moe.capacity.factr=2"]),
        "unknown setting `model.moe.capacity.factr`; did you mean `factor`?"
    );
    assert_eq!(
        refusal(&["model.head={ width = 4, bais = 0 }"]),
        "unknown setting `model.head.bais`; did you mean `bias`?"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told() {
    assert_eq!(
        refusal(&["model.moe.num_experts=many"]),
        "`model.moe.num_experts`: expected usize, got string \"many\""
    );
    assert_eq!(
        refusal(&["model.moe.num_experts=-1"]),
        "`model.moe.num_experts`: expected usize, got integer `-1`"
    );
    assert_eq!(
        refusal(&["model.moe.layers=[1, \"b\"]"]),
        "`model.moe.layers`: expected usize, got string \"b\""
    );
    assert_eq!(
        refusal(&["model.moe.capacity.factor=big"]),
        "`model.moe.capacity.factor`: expected f64, got string \"big\""
    );
    assert_eq!(
        refusal(&["model.pooling=mean"]),
        "`model.pooling`: unknown variant `mean`, expected `gap` or `token`"
    );
    assert_eq!(refusal(&["name.first=1"]), "`name.first`: expected a table, got string");
}

#[test]
fn another_kind_keeps_the_settings_that_it_has_too() {
    let capacity = |sets: &[&str]| set(sets).unwrap().model.moe.capacity;
    let exact = ["model.moe.capacity.seats=3", "model.moe.capacity.kind=exact"];
    assert_eq!(capacity(&exact), Capacity::Exact { seats: 3 });
    assert_eq!(capacity(&["model.moe.capacity.kind=unlimited"]), Capacity::Unlimited);
    assert_eq!(
        capacity(&["model.moe.capacity.kind=raised", "model.moe.capacity.by=2"]),
        Capacity::Raised { factor: 1.0, by: 2 }
    );
    assert_eq!(
        refusal(&["model.moe.capacity.kind=exact"]),
        "`model.moe.capacity.kind`: missing field `seats`"
    );
    // What is asked for beside the kind is not dropped.
    assert_eq!(
        refusal(&[
            "model.moe.capacity={ kind = \"raised\", factor = 1.0, by = 2 }",
            "model.moe.capacity.seats=2"
        ]),
        "unknown setting `model.moe.capacity.seats`; there are `factor`, `by`"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    assert_eq!(
        refusal(&["seed", "lr_peak=1", "model..moe=1", "sed=1", "lr_peak=fast"]),
        "`seed`: expected `path.to.setting=value`, got no `=`; \
         `model..moe=1`: expected `path.to.setting=value`, got an empty name; \
         `lr_peak`: expected f64, got string \"fast\"; \
         unknown setting `sed`; did you mean `seed`?"
    );
}
