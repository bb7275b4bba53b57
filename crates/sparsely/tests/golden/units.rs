//! Single functions: capacities, seating, initial values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sparsely::checkpoint::reference::{parse_config, to_arrays};
use sparsely::checkpoint::{Array, Arrays};
use sparsely::model::Vit;
use sparsely::moe::selection::{top_k, top_tokens};
use sparsely::moe::{Capacity, ExpertInit, Priority, Rounding, Seat, Seating};

use crate::agreement::Agreement;
use crate::case;

/// The folder of the units: that of `SPARSELY_GOLDEN` if it has one.
fn folder() -> PathBuf {
    let given = case::root().join("units");
    if given.is_dir() { given } else { case::fixtures().join("units") }
}

/// `NAME.json` of the units.
pub(crate) fn table(name: &str) -> Value {
    case::json(&folder().join(format!("{name}.json"))).expect("the unit's numbers")
}

/// The arrays of the units by the name of their data set, the part before the first `/`.
pub(crate) fn sets(name: &str) -> BTreeMap<String, Arrays> {
    let arrays: Arrays = case::named(&folder(), name).expect("the unit's numbers");
    let mut sets = BTreeMap::<String, Arrays>::new();
    for (name, array) in arrays {
        if let Some((set, rest)) = name.split_once('/') {
            sets.entry(set.into()).or_default().insert(rest.into(), array);
        }
    }
    sets
}

/// Capacities, and that we refuse what the reference refuses.
pub(crate) fn compare_capacities(agreement: &mut Agreement) {
    let table = table("compute_capacity");
    let rows = table.as_array().expect("rows");
    let refused = rows.iter().filter(|row| row["capacity"] == "ValueError").count();
    assert!(refused > 0 && refused < rows.len());
    for row in rows {
        let size = |key: &str| row[key].as_u64().map(|size| size as usize);
        let capacity = Capacity::Factor {
            factor: row["capacity_factor"].as_f64().expect("a factor"),
            rounding: match row["ceil_or_round"].as_str() {
                Some("ceil") => Rounding::Ceil,
                Some("round") => Rounding::Round,
                other => panic!("rounding {other:?}"),
            },
            multiple_of: size("multiple_of").unwrap_or(1),
        };
        let ours = capacity.seats(size("num_tokens").unwrap(), size("num_experts").unwrap());
        agreement.require(ours.as_ref().ok() == size("capacity").as_ref(), || {
            format!("{row}: {ours:?}")
        });
    }
}

/// Who sits where, and with what weight: by position and by priority, with ties and overflow.
pub(crate) fn compare_seating(agreement: &mut Agreement) {
    let mut plans = 0;
    for (set, arrays) in sets("dispatchers") {
        let gates = &arrays["gates"];
        for (name, indices) in &arrays {
            let Some(plan) = name.strip_suffix("/indices") else { continue };
            let combine = ["einsum_combine", "indices_combine"]
                .map(|part| &arrays[&format!("{plan}/{part}")].values);
            let place = format!("{set}/{plan}");
            plans += 1;
            if let Err(difference) = compare_plan(plan, gates, &indices.values, combine) {
                agreement.fail(format!("{place}: {difference}"));
            }
        }
    }
    assert!(plans > 0);
}

/// One plan `k{K}_C{C}_{order}`; their indices are `[S, K, 2]`, expert and position.
fn compare_plan(
    plan: &str,
    gates: &Array,
    indices: &[f32],
    [einsum_sec, gates_of_choices_sk]: [&Vec<f32>; 2],
) -> Result<(), String> {
    let parts: Vec<&str> = plan.split('_').collect();
    let number = |at: usize| parts[at][1..].parse::<usize>().expect("a number");
    let (k, capacity) = (number(0), number(1));
    let priority = match parts[2] {
        "vanilla" => Priority::Position,
        "bpr" => Priority::MaxGate,
        other => panic!("order {other}"),
    };
    let e = gates.shape[1];
    let (choices_sk, gates_sk) = top_k(&gates.values, e, k);
    let order_s = priority.order(&gates_sk, k, &[]);
    let seating = Seating::new(&choices_sk, k, &order_s, e, capacity);

    let mut ours_sec = vec![0.0; gates.shape[0] * e * capacity];
    for (choice, (seat, theirs)) in seating.seats_sk.iter().zip(indices.chunks(2)).enumerate() {
        let (expert, position) = (theirs[0] as u32, theirs[1] as u32);
        let expected = ((position as usize) < capacity).then_some(Seat { expert, position });
        if *seat != expected || choices_sk[choice] != expert {
            return Err(format!("choice {choice} is {seat:?} instead of {expected:?}"));
        }
        if let Some(seat) = seat {
            let at = (choice / k * e + seat.expert as usize) * capacity + seat.position as usize;
            ours_sec[at] = gates_sk[choice];
        }
    }
    if indices.len() != 2 * choices_sk.len() {
        return Err(format!("{} indices for {} choices", indices.len(), choices_sk.len()));
    }
    if &ours_sec != einsum_sec || &gates_sk != gates_of_choices_sk {
        return Err("other combine weights".into());
    }
    Ok(())
}

/// Which tokens each expert takes, and with what weight; ties among them.
pub(crate) fn compare_expert_choice(agreement: &mut Agreement) {
    let mut plans = 0;
    for (set, arrays) in sets("dispatchers") {
        let gates = &arrays["gates"];
        for (name, combine_sec) in &arrays {
            let Some(plan) = name.strip_suffix("/combine") else { continue };
            let &[s, e, capacity] = &*combine_sec.shape else { panic!("{name}: not [S, E, C]") };
            plans += 1;
            let mut ours_se = vec![0.0; s * e];
            for (expert, tokens) in top_tokens(&gates.values, e, capacity).iter().enumerate() {
                for token in tokens {
                    let at = *token as usize * e + expert;
                    ours_se[at] = gates.values[at];
                }
            }
            let theirs_se = combine_sec.values.chunks(capacity).map(|seats| seats.iter().sum());
            agreement.require(ours_se == theirs_se.collect::<Vec<f32>>(), || {
                format!("{set}/{plan}: other tokens or weights")
            });
        }
    }
    agreement.require(plans > 0 || case::root() != case::fixtures(), || "no plan".into());
}

/// The model of the recorded initial values.
fn initial_config(split_rngs: bool) -> Value {
    json!({
        "num_classes": 10, "patch_size": [8, 8], "hidden_size": 32, "representation_size": 32,
        "encoder": {
            "num_layers": 4, "mlp_dim": 64, "num_heads": 2, "attention_qk_norm": true,
            "moe": {
                "layers": [1, 3], "num_experts": 4, "group_size": 34, "split_rngs": split_rngs,
                "router": { "dispatcher": { "capacity_factor": 1.0 } }
            }
        }
    })
}

/// Fresh parameters under the reference's names.
fn fresh(split_rngs: bool, seed: u64) -> Arrays {
    let config = parse_config(&initial_config(split_rngs), 32, 3).unwrap();
    let expected = if split_rngs { ExpertInit::Different } else { ExpertInit::Equal };
    assert_eq!(config.moe.as_ref().unwrap().expert_init, expected);
    to_arrays(&config, &Vit::init(&config, seed).unwrap().1).unwrap()
}

/// Mean, deviation and bounds of fresh parameters, and that experts start equal, or do not.
pub(crate) fn compare_initial_values(agreement: &mut Agreement) {
    let stats = table("init_stats");
    let theirs = stats["vmoe"].as_object().expect("tensors");
    let (ours, different) = (fresh(false, 0), fresh(true, 0));
    let mut names: Vec<&String> = theirs.keys().collect();
    names.sort();
    agreement.require(ours.keys().eq(names), || format!("names: {:?}", ours.keys()));
    for (name, theirs) in theirs {
        let Some(array) = ours.get(name) else { continue };
        let stacked = theirs["experts_identical"].as_bool();
        let parts = if stacked == Some(true) { array.shape[0] } else { 1 };
        let independent = array.values.len() / parts;
        if let Some(identical) = stacked {
            let ours = all_parts_equal(array);
            agreement.require(ours == identical, || format!("{name}: equal experts: {ours}"));
            let equal = all_parts_equal(&different[name]);
            agreement.require(!equal, || format!("{name}: equal experts in spite of split_rngs"));
        }
        if let Err(difference) = compare_sample(name, array, theirs, independent) {
            agreement.fail(format!("{name}: {difference}"));
        }
    }
}

/// Both tensors are samples of `n` values: their means and deviations differ by chance, by more
/// than five times σ/√n (×√2 for the difference of two means) once in a million.
fn compare_sample(name: &str, ours: &Array, theirs: &Value, n: usize) -> Result<(), String> {
    let shape: Vec<usize> = serde_json::from_value(theirs["shape"].clone()).unwrap();
    let (mean, std) = (theirs["mean"].as_f64().unwrap(), theirs["std"].as_f64().unwrap());
    if ours.shape != shape {
        return Err(format!("shape {:?} instead of {shape:?}", ours.shape));
    }
    let (our_mean, our_std, largest) = moments(&ours.values);
    let error = std / (n as f64).sqrt();
    let near = |ours: f64, theirs: f64, errors: f64| (ours - theirs).abs() <= errors * error;
    if !near(our_mean, mean, 5.0 * 2.0_f64.sqrt()) || !near(our_std, std, 5.0) {
        return Err(format!("mean {our_mean} and deviation {our_std}, not {mean} and {std}"));
    }
    let bound = bound(name, &shape);
    if largest > bound {
        return Err(format!("a value of {largest} above {bound}"));
    }
    Ok(())
}

/// What no value of the reference's initialiser exceeds.
fn bound(name: &str, shape: &[usize]) -> f64 {
    // N(0, 1/fan_in), cut at two standard deviations, scaled up to keep its variance.
    let lecun = |fan_in: usize| 2.0 / 0.879_625_66 / (fan_in as f64).sqrt();
    let xavier = |fans: usize| (6.0 / fans as f64).sqrt();
    let single = 1.0 + 1e-6;
    single
        * match name.rsplit('/').collect::<Vec<_>>()[..] {
            ["kernel", "embedding"] => lecun(shape[..3].iter().product()),
            ["kernel", "pre_logits"] | ["kernel", "dense", ..] => lecun(shape[0]),
            ["kernel", "query" | "key" | "value", ..] => xavier(2 * shape[0]),
            ["kernel", "out", ..] => xavier(2 * shape[2]),
            ["kernel", "Dense_0" | "Dense_1", ..] => xavier(shape.iter().rev().take(2).sum()),
            _ => f64::INFINITY,
        }
}

fn moments(values: &[f32]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let largest = values.iter().fold(0.0, |max: f64, v| max.max(f64::from(v.abs())));
    (mean, variance.sqrt(), largest)
}

fn all_parts_equal(array: &Array) -> bool {
    let part = array.values.len() / array.shape[0];
    array.values.chunks(part).all(|values| values == &array.values[..part])
}
