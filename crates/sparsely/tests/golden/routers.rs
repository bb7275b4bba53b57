//! The reference's routers by themselves: plans, and what they combine with.

use serde_json::Value;
use sparsely::checkpoint::reference::parse_router;
use sparsely::checkpoint::{Array, Arrays, read_npy};
use sparsely::moe::router::{RouteSettings, Support};
use sparsely::moe::{Capacity, Dial, Mixing, RouterConfig};
use sparsely::nn::{Initializer, Mode};
use sparsely_tensor as engine;
use sparsely_tensor::{Activation, Pool, Slab, Spread, Tape, Var};

use crate::agreement::{Agreement, Quantity};
use crate::case;

// Twenty iterations, or steps of Adam, in single precision in both programs.
const PLANS: Quantity = Quantity { name: "transport plans", tolerance: 1e-5 };
const COMBINE: Quantity = Quantity { name: "combine weights", tolerance: 1e-5 };

/// Compares every router whose arrays are there.
pub(crate) fn compare(agreement: &mut Agreement) {
    let folder = case::root().join("routers");
    let folder = if folder.is_dir() { folder } else { case::fixtures().join("routers") };
    let cases = case::json(&folder.join("cases.json")).expect("the cases");
    let mut compared = 0;
    for (name, case) in cases.as_object().expect("cases by name") {
        let Some(arrays) = arrays(&folder, name) else { continue };
        compared += 1;
        if let Err(failure) = compare_router(name, case, &arrays, agreement) {
            agreement.fail(format!("{name}: {failure}"));
        }
    }
    agreement.require(compared >= 5, || format!("{compared} routers compared"));
}

/// The case's own arrays and those that all have in common.
fn arrays(folder: &std::path::Path, name: &str) -> Option<Arrays> {
    if let Some(all) = case::named::<f32>(folder, "routers") {
        let prefix = format!("{name}/");
        let own = |(key, array): (String, Array)| {
            let key = key.strip_prefix(&prefix).map(str::to_string);
            key.map(|key| (key, array))
        };
        let mut arrays: Arrays = all.clone().into_iter().filter_map(own).collect();
        if arrays.is_empty() {
            return None;
        }
        for common in ["inputs", "router_dense_kernel"] {
            arrays.insert(common.into(), all[common].clone());
        }
        return Some(arrays);
    }
    let mut arrays = case::named::<f32>(folder, name)?;
    for common in ["inputs", "router_dense_kernel"] {
        arrays.insert(common.into(), read_npy(&folder.join(format!("{common}.npy"))).unwrap());
    }
    Some(arrays)
}

fn compare_router(
    name: &str,
    case: &Value,
    arrays: &Arrays,
    agreement: &mut Agreement,
) -> Result<(), String> {
    let (inputs, kernel) = (&arrays["inputs"], &arrays["router_dense_kernel"]);
    let &[g, s, d] = &*inputs.shape else { return Err("inputs are not [G, S, D]".into()) };
    let e = kernel.shape[1];
    let mut settings = case["kwargs"].clone();
    settings["name"] = case["class_name"].clone();
    let config = parse_router(&settings).map_err(|error| error.to_string())?.config;

    let mut init = Initializer::default();
    let router = config.init(&mut init, [d, e, s]);
    let mut params: Slab = init.finish(0);
    let param = params.layout().find("router/kernel").expect("a kernel").param;
    params.view_mut(&param).copy_from_slice(&kernel.values);
    let tape = Tape::inference(&params, &Pool::new());
    let x_td = tape.constant([g * s, d], &inputs.values).map_err(|error| error.to_string())?;
    let logits = x_td.linear(Activation::Identity, &param, None, None).unwrap();
    let plan = plan(&config, &logits, [s, e]);
    agreement.check(PLANS, name, plan.values(), &arrays["plan"].values);

    let settings = RouteSettings { group_tokens: s, dial: Dial::default() };
    let routing = router.route(&x_td, &settings, &mut Mode::Eval).map_err(|e| e.to_string())?;
    let Mixing::Tokens(gates_n) = &routing.mixing else { return Err("no pairs".into()) };
    let mut ours = vec![0.0; g * s * e];
    for expert in 0..e {
        for entry in routing.rows.group(expert) {
            ours[routing.rows.rows()[entry] as usize * e + expert] = gates_n.values()[entry];
        }
    }
    let capacity = arrays["combine_weights"].shape[3];
    let theirs = arrays["combine_weights"].values.chunks(capacity);
    let theirs: Vec<f32> = theirs.map(|seats| seats.iter().sum()).collect();
    agreement.check(COMBINE, name, &ours, &theirs);
    let error = routing.stats.marginal_error.ok_or("no marginal error")?;
    let told = marginal_error(&arrays["plan"]);
    agreement.require((error - told).abs() < 1e-5, || {
        format!("{name}: marginal error {error} instead of {told}")
    });
    Ok(())
}

fn plan<'t>(config: &RouterConfig, logits: &Var<'t>, [s, e]: [usize; 2]) -> Var<'t> {
    let sinkhorn = |plan: &sparsely::moe::router::Sinkhorn| engine::Sinkhorn {
        group_rows: s,
        iterations: plan.iterations,
        epsilon: plan.epsilon,
    };
    match config {
        RouterConfig::SinkhornTokenChoice(router) => logits.sinkhorn(&sinkhorn(&router.plan)),
        RouterConfig::SinkhornExpertChoice(router) => logits.sinkhorn(&sinkhorn(&router.plan)),
        RouterConfig::SparseExpertChoice(router) => {
            let seats = |capacity: Capacity| capacity.seats(s, e).unwrap();
            let support = match router.plan.support {
                Support::Selected => seats(router.capacity),
                Support::Any => s,
            };
            let (steps, lr) = (router.plan.steps, router.plan.lr);
            let spread = Spread::Columns;
            let settings = engine::SparseTransport { group_rows: s, spread, support, steps, lr };
            logits.softmax().sparse_transport(&settings)
        }
        other => panic!("no plan in {other:?}"),
    }
    .unwrap()
}

/// The largest distance of a sum from 1 or S/E, as a share of it.
fn marginal_error(plan: &Array) -> f64 {
    let &[_, s, e] = &*plan.shape else { panic!("plans are not [G, S, E]") };
    let sum = |values: &mut dyn Iterator<Item = &f32>| values.map(|v| f64::from(*v)).sum::<f64>();
    let mut errors = Vec::new();
    for plan_se in plan.values.chunks(s * e) {
        errors.extend(plan_se.chunks(e).map(|row| (sum(&mut row.iter()) - 1.0).abs()));
        let column = |j: usize| sum(&mut plan_se.iter().skip(j).step_by(e)) * e as f64 / s as f64;
        errors.extend((0..e).map(|j| (column(j) - 1.0).abs()));
    }
    errors.into_iter().fold(0.0, f64::max)
}
