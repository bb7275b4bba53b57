//! `sparsely bench routers`: what routing costs beside what the experts cost.

use super::speed::median;
use crate::args::BenchArgs;
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::moe::router::{
    Asked, ExpertChoiceConfig, LossFreeConfig, PlanExpertChoice, PlanTokenChoice, RouteSettings,
    Router, Slots, SoftConfig,
};
use sparsely::moe::{Dial, Group, MoeConfig, MoeLayer, RouterConfig, TokenChoiceConfig};
use sparsely::nn::{Initializer, Mlp, Mode};
use sparsely_tensor::{Pool, Slab, Tape};
use std::process::ExitCode;
use std::time::Instant;

const WIDTH: usize = 384;
const MLP_WIDTH: usize = 1536;
/// Tokens of a group: a whole number of 224-pixel images of 16-pixel patches, or two groups of eight.
const TOKENS: [usize; 2] = [400, 1576];
const EXPERTS: [usize; 4] = [8, 32, 128, 256];
/// Calls before the clock starts.
const WARM_UP: usize = 2;

/// The routers by their kinds, one expert a token, or as many slots as tokens.
fn routers(s: usize, e: usize) -> Vec<(&'static str, RouterConfig)> {
    let soft = |slots| RouterConfig::Soft(SoftConfig { slots, ..SoftConfig::default() });
    vec![
        (
            "token_choice",
            RouterConfig::TokenChoice(TokenChoiceConfig { num_selected: 1, ..Default::default() }),
        ),
        ("expert_choice", RouterConfig::ExpertChoice(ExpertChoiceConfig::default())),
        (
            "sinkhorn_token_choice",
            RouterConfig::SinkhornTokenChoice(PlanTokenChoice {
                num_selected: 1,
                ..Default::default()
            }),
        ),
        ("sinkhorn_expert_choice", RouterConfig::SinkhornExpertChoice(PlanExpertChoice::default())),
        (
            "sparse_token_choice",
            RouterConfig::SparseTokenChoice(PlanTokenChoice {
                num_selected: 1,
                ..Default::default()
            }),
        ),
        ("sparse_expert_choice", RouterConfig::SparseExpertChoice(PlanExpertChoice::default())),
        (
            "loss_free",
            RouterConfig::LossFree(LossFreeConfig { num_selected: 1, ..Default::default() }),
        ),
        ("soft", soft(Slots::Exact { n: s / e })),
    ]
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let names: Vec<&str> = routers(TOKENS[0], EXPERTS[0]).iter().map(|(name, _)| *name).collect();
    if let Some(asked) = &args.model
        && !names.contains(&asked.as_str())
    {
        bail!("there is no router `{asked}` to measure; there are {}", names.join(", "));
    }
    for s in TOKENS {
        let dense = dense_seconds(s, args.steps.get())?;
        tell(args, &Measured { router: "dense", s, e: 1, seconds: [0.0, dense], dense });
        for e in EXPERTS {
            for (router, config) in routers(s, e) {
                if args.model.as_deref().is_some_and(|asked| asked != router) {
                    continue;
                }
                let asked =
                    Asked { dial: &Dial::default(), num_experts: e, group_tokens: s, place: "" };
                if let Some(problem) = config.problems(&asked).first() {
                    bail!("{router}: {problem}");
                }
                let seconds = seconds(config, [s, e], args.steps.get())?;
                tell(args, &Measured { router, s, e, seconds, dense });
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Medians for one group of S tokens and E experts.
struct Measured {
    router: &'static str,
    s: usize,
    e: usize,
    /// Of the router and of the layer.
    seconds: [f64; 2],
    /// Of a dense MLP on the same tokens.
    dense: f64,
}

fn tell(args: &BenchArgs, measured: &Measured) {
    let &Measured { router, s, e, seconds: [routing, layer], dense } = measured;
    let threads = rayon::current_num_threads();
    if args.json {
        let line = json!({
            "router": router, "tokens": s, "experts": e, "width": WIDTH, "mlp_width": MLP_WIDTH,
            "threads": threads, "router_seconds": routing, "layer_seconds": layer,
            "router_share": routing / layer, "layer_over_dense": layer / dense,
        });
        say!("{line}");
    } else {
        say!(
            "{router}, {s} tokens, {e} experts: router {:.3} ms, layer {:.2} ms, share {:.1} %, layer {:.2} of a \
             dense MLP ({threads} threads)",
            1e3 * routing,
            1e3 * layer,
            100.0 * routing / layer,
            layer / dense
        );
    }
}

fn seconds(router: RouterConfig, [s, e]: [usize; 2], calls: usize) -> Result<[f64; 2]> {
    let group = Group::Tokens { n: s };
    let config = MoeConfig { num_experts: e, group, router, ..MoeConfig::default() };
    let mut init = Initializer::default();
    let layer = MoeLayer::init(&mut init, &config, [WIDTH, MLP_WIDTH, s]);
    let params = init.finish(0);
    let mut init = Initializer::default();
    let router = router.init(&mut init, [WIDTH, e, s]);
    let router_params = init.finish(0);
    let (x, pool, dial) = (tokens(s), Pool::new(), Dial::default());
    let settings = RouteSettings { group_tokens: s, dial: dial.clone() };
    let routing = median_of(calls, || {
        let tape = Tape::inference(&router_params, &pool);
        let x_td = tape.constant([s, WIDTH], &x)?;
        let begin = Instant::now();
        Router::route(&*router, &x_td, &settings, &mut Mode::Eval)?;
        Ok(begin.elapsed().as_secs_f64())
    })?;
    let layer = median_of(calls, || {
        let tape = Tape::inference(&params, &pool);
        let x_bld = tape.constant([1, s, WIDTH], &x)?;
        let begin = Instant::now();
        layer.forward(&x_bld, &x_bld, &dial, &mut Mode::Eval)?;
        Ok(begin.elapsed().as_secs_f64())
    })?;
    Ok([routing, layer])
}

fn dense_seconds(s: usize, calls: usize) -> Result<f64> {
    let mut init = Initializer::default();
    let mlp = Mlp::init(&mut init, "mlp", [WIDTH, MLP_WIDTH], 0.0);
    let params: Slab = init.finish(0);
    let (x, pool) = (tokens(s), Pool::new());
    median_of(calls, || {
        let tape = Tape::inference(&params, &pool);
        let x = tape.constant([s, WIDTH], &x)?;
        let begin = Instant::now();
        mlp.forward(&x, &x, &mut Mode::Eval)?;
        Ok(begin.elapsed().as_secs_f64())
    })
}

/// Tokens without structure, of the size that a layer normalisation leaves.
fn tokens(s: usize) -> Vec<f32> {
    (0..s * WIDTH)
        .map(|i| ((i * 7919 + i / WIDTH * 104_729) % 2048) as f32 / 592.0 - 1.73)
        .collect()
}

fn median_of(calls: usize, mut call: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut seconds = Vec::with_capacity(calls);
    for index in 0..WARM_UP + calls {
        let own = call()?;
        if index >= WARM_UP {
            seconds.push(own);
        }
    }
    Ok(median(seconds))
}
