//! A whole MoE layer that drops nothing beside the same one with seats: what dropless routing costs.

use super::moe::{MLP_RATIO, WIDTH};
use super::speed::median;
use crate::args::BenchArgs;
use anyhow::Result;
use serde_json::json;
use sparsely::moe::{Capacity, Dial, Group, MoeConfig, MoeLayer, RouterConfig, TokenChoiceConfig};
use sparsely::nn::{Init, Initializer, Mode, Precision};
use sparsely_tensor::measure::product_kernel;
use sparsely_tensor::{Param, Pool, Slab, Tape};
use std::time::Instant;

const EXPERTS: usize = 8;
/// Seats beside what nothing dropped takes, as V-MoE is trained.
const SEATS: f64 = 1.05;
/// Calls before the clock starts.
const WARM_UP: usize = 2;

/// A layer with T tokens `[1, T, D]` as a parameter, so that their gradient is computed too.
struct Subject {
    x: Param,
    layer: MoeLayer,
    params: Slab,
    pool: Pool,
}

/// Of a layer whose tokens choose `k` experts, `rows` an expert on average: both ways in turn.
pub(super) fn tell(args: &BenchArgs, [k, rows]: [usize; 2]) -> Result<()> {
    let precision = args.precision.or(Precision::F32);
    let tokens = EXPERTS * rows / k;
    let subject = Subject::new(k, tokens);
    let mut grads = Slab::zeros(subject.params.layout().clone());
    let dials = [Capacity::Unlimited, Capacity::factor(SEATS)]
        .map(|capacity| Dial { capacity: Some(capacity), ..Dial::default() });
    let (mut forward, mut both) = ([vec![], vec![]], [vec![], vec![]]);
    let mut seated = [0; 2];
    for call in 0..WARM_UP + args.steps.get() {
        for (which, dial) in dials.iter().enumerate() {
            let ([own, own_both], rows) = subject.seconds(precision, dial, &mut grads)?;
            seated[which] = rows;
            if call >= WARM_UP {
                forward[which].push(own);
                both[which].push(own_both);
            }
        }
    }
    let ([forward, with_seats], [both, both_with_seats]) = (forward.map(median), both.map(median));
    let share = seated[1] as f64 / seated[0] as f64;
    let threads = rayon::current_num_threads();
    if args.json {
        let line = json!({
            "loads": "routed", "experts": EXPERTS, "num_selected": k, "tokens": tokens, "width": WIDTH,
            "mlp_width": MLP_RATIO * WIDTH, "precision": precision, "threads": threads,
            "kernel": product_kernel(precision.into()), "capacity": SEATS,
            "kept_share": share, "forward_seconds": forward, "capacity_forward_seconds": with_seats,
            "both_seconds": both, "capacity_both_seconds": both_with_seats,
            "forward_over_capacity": forward / with_seats, "both_over_capacity": both / both_with_seats,
        });
        say!("{line}");
    } else {
        say!(
            "dropless, K {k}, {tokens} tokens: forward {:>7.2} ms, {:.2} of capacity {SEATS}, which keeps {:.0} % of the rows; \
             with backward {:>7.2} ms, {:.2} ({precision}, {threads} threads)",
            1e3 * forward,
            forward / with_seats,
            100.0 * share,
            1e3 * both,
            both / both_with_seats
        );
    }
    Ok(())
}

impl Subject {
    fn new(k: usize, tokens: usize) -> Subject {
        let router = RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: k,
            ..TokenChoiceConfig::default()
        });
        let group = Group::Tokens { n: tokens };
        let config = MoeConfig { num_experts: EXPERTS, router, group, ..MoeConfig::default() };
        let mut init = Initializer::default();
        let x = init.vector("x", [1, tokens, WIDTH], Init::Normal { std: 1.0 });
        let layer = MoeLayer::init(&mut init, &config, [WIDTH, MLP_RATIO * WIDTH, tokens]);
        Subject { x, layer, params: init.finish(0), pool: Pool::new() }
    }

    /// Seconds forward and with the way back, and the rows that experts computed.
    fn seconds(
        &self,
        precision: Precision,
        dial: &Dial,
        grads: &mut Slab,
    ) -> Result<([f64; 2], u64)> {
        let tape = Tape::recording(&self.params, &self.pool);
        tape.compute_in(precision.into());
        let x_bld = tape.param(&self.x);
        let slopes: Vec<f64> = (0..x_bld.shape().len()).map(|i| (i % 7) as f64 - 3.0).collect();
        let begin = Instant::now();
        let output = self.layer.forward(&x_bld, &x_bld, dial, &mut Mode::Eval)?;
        let forward = begin.elapsed().as_secs_f64();
        let loss = output.y_bld.dot_constant(&slopes)?;
        let begin = Instant::now();
        tape.backward(&loss, grads)?;
        let both = forward + begin.elapsed().as_secs_f64();
        Ok(([forward, both], output.stats.seated_e.iter().sum()))
    }
}
