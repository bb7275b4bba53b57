//! Single layers: attention of all kinds, sigma-MoE, and whole pre-norm layers.

use super::case::Case;
use super::names::{self, Ours};
use super::subject::{Subject, lay_out};
use super::{GRADIENT, OUTPUT, check};
use crate::agreement::Agreement;
use sparsely::attention::{
    AttentionConfig, AttentionLayer, DenseAttentionConfig, ExpertProjections, HeadGate, MoaConfig,
    MoaGate, MoaLossWeights, RelativePositions, Report, Scene, Sinusoids, SwitchHeadConfig,
};
use sparsely::moe::{SigmaGate, SigmaMoe, SigmaMoeConfig};
use sparsely::nn::{Init, LayerNorm, Linear, Mode};
use sparsely_tensor::{Activation, AttentionMask, Pool, Slab, Tape, Var};
use std::sync::Arc;

type Result<T> = std::result::Result<T, String>;

/// Gradients that are held against their value in double precision, by central differences (steps of 1e-4, 1e-5 and
/// 1e-6 agree in these digits) of the layer's loss written out in f64: of a value of 16.65, the recorded single-precision
/// one is 8.7e-6 from it, which leaves nothing of what is allowed for rounding on our side.
const IN_DOUBLE: [(&str, &str, f64); 1] =
    [("tr_layer_dense_xl", "attention/scale", -16.650_250_35)];

/// Errors of the library and of the engine, as text.
fn told<E: Into<sparsely::Error>>(error: E) -> String {
    error.into().to_string()
}

/// Output and gradients.
pub(crate) fn compare(case: &Case, agreement: &mut Agreement) -> Result<()> {
    match case.text("cls") {
        "MoE" => compare_sigma(case, agreement),
        "PrelnRelativeTransformerEncoderLayer" | "MoeAttentionRelativeTransformerEncoderLayer" => {
            compare_block(case, agreement)
        }
        _ => compare_attention(case, agreement),
    }
}

/// The attention that a case has.
fn attention_config(case: &Case) -> Result<AttentionConfig> {
    let heads = case.size("n_heads").unwrap_or(4);
    let head_width = case.size("d_head").or(case.size("projection_size")).unwrap_or(8);
    let fraction = case.config.get("rotate_fraction").and_then(serde_json::Value::as_f64);
    let rope = RelativePositions::Rope { fraction: fraction.unwrap_or(0.5) as f32 };
    let xl = RelativePositions::TransformerXl;
    let switch_head = |positions, experts| {
        AttentionConfig::SwitchHead(SwitchHeadConfig {
            heads,
            head_width,
            num_experts: case.size("n_experts").unwrap_or(1),
            num_selected: case.size("moe_k").unwrap_or(1),
            positions,
            experts,
            shared_router: case.flag("same_sel"),
            gate: match case.text("selection_mode") {
                "softmax" => HeadGate::SoftmaxOfSelected,
                _ => HeadGate::Sigmoid,
            },
            ..SwitchHeadConfig::default()
        })
    };
    let experts = ExpertProjections {
        queries: case.flag("q_expert"),
        keys: case.flag("k_expert"),
        ..ExpertProjections::default()
    };
    Ok(match case.text("cls") {
        "SwitchHeadRope" => switch_head(rope, experts),
        "SwitchHeadXL"
        | "FullMoeRelativeAttention"
        | "MoeAttentionRelativeTransformerEncoderLayer" => switch_head(xl, experts),
        "FastRopeAttention" => {
            AttentionConfig::Dense(DenseAttentionConfig { heads, head_width, positions: rope })
        }
        "FixedRelativeMultiheadAttention" | "PrelnRelativeTransformerEncoderLayer" => {
            AttentionConfig::Dense(DenseAttentionConfig { heads, head_width, positions: xl })
        }
        "MoA" => AttentionConfig::Moa(MoaConfig {
            num_experts: case.size("n_experts").ok_or("no n_experts")?,
            num_selected: heads,
            head_width,
            positions: xl,
            gate: match case.text("mode") {
                "moa" => MoaGate::Softmax,
                _ => MoaGate::Sigmoid,
            },
            loss: MoaLossWeights { cv: 0.01, switch: 0.01, z: 0.001 },
        }),
        other => return Err(format!("unknown class `{other}`")),
    })
}

/// Masks of the case; true removes.
fn mask(case: &Case) -> AttentionMask {
    let bools = |name: &str| {
        let array = case.array(name)?;
        Some(Arc::new(array.values.iter().map(|value| *value != 0.0).collect::<Vec<bool>>()))
    };
    let is_causal = case.text("mask").starts_with("causal") || case.text("mask").is_empty();
    AttentionMask { is_causal, keys: bools("src_length_mask"), pairs: bools("position_mask") }
}

/// Attention of x over [memory; x], plus the residual.
fn attend<'t>(
    layer: &AttentionLayer,
    [memory, x]: [Option<&Var<'t>>; 2],
    mask: &AttentionMask,
    residual: Option<&Var<'t>>,
) -> Result<(Var<'t>, Report<'t>)> {
    let x = x.ok_or("no x")?;
    let source = memory.map_or_else(|| Ok(x.clone()), |m| m.append(x)).map_err(told)?;
    let [[_, l, d], [_, all, _]] = [x, &source].map(|x| x.dims::<3>("golden").expect("three axes"));
    let sinusoids = Sinusoids::new(x.tape(), [all - 1, l - 1], d).map_err(told)?;
    let distances = layer.distance_keys(&sinusoids).map_err(told)?;
    let mut report = Report::default();
    let source = layer.source(&source, 0, &mut Mode::Eval, &mut report).map_err(told)?;
    let scene = Scene { first_key: 0, offset: all - l, mask, distances: distances.as_ref() };
    let both = (&mut Mode::Eval, &mut report);
    let y = layer.attend(x, &source, &scene, residual, both).map_err(told)?;
    Ok((y, report))
}

fn compare_attention(case: &Case, agreement: &mut Agreement) -> Result<()> {
    let config = attention_config(case)?;
    let d = case.needed("x")?.shape[2];
    let (layer, mut subject) = lay_out(case, |init| AttentionLayer::init(init, &config, [d, 2]))?;
    let ours = |arrays| names::layer(arrays, "", "attention/");
    subject.fill(&ours(&case.params))?;
    let mask = mask(case);
    run(case, &subject, agreement, &ours(&case.grads), |tape| {
        let x = tape.param(&subject.x);
        let memory = subject.memory.map(|memory| tape.param(&memory));
        let (y, report) = attend(&layer, [memory.as_ref(), Some(&x)], &mask, None)?;
        let routed = [("sel_v", &report.source), ("sel_o", &report.destination)];
        for (name, routing) in routed {
            let chosen = case.array(&format!("{name}_topk_sorted_by_id"));
            let (Some(chosen), Some(routing)) = (chosen, routing) else { continue };
            let (e, h) = (case.size("n_experts").unwrap_or(1), case.size("n_heads").unwrap_or(1));
            let k = *chosen.shape.last().unwrap_or(&1);
            let mut counts = vec![0; h * e];
            for (i, expert) in chosen.values.iter().enumerate() {
                counts[i / k % h * e + *expert as usize] += 1_u64;
            }
            let asked_e = &routing.stats.asked_e;
            if counts != *asked_e {
                return Err(format!("{name}: experts {asked_e:?}, not {counts:?}"));
            }
        }
        Ok((y, Vec::new()))
    })
}

fn compare_sigma(case: &Case, agreement: &mut Agreement) -> Result<()> {
    let d = case.size("dmodel").ok_or("no dmodel")?;
    let config = SigmaMoeConfig {
        num_experts: case.size("n_experts").ok_or("no n_experts")?,
        expert_width: case.size("expert_size").ok_or("no expert_size")?,
        num_selected: case.size("k").ok_or("no k")?,
        gate: match (case.text("selection_mode"), case.flag("activation_after_topk")) {
            ("softmax", true) => SigmaGate::SoftmaxOfSelected,
            ("softmax", false) => SigmaGate::Softmax,
            _ => SigmaGate::Sigmoid,
        },
        has_bias: case.flag("bias"),
        entropy_weight: case.config["reg_coeff_in_loss"].as_f64().ok_or("no coefficient")? as f32,
        expert_dropout: 0.0,
    };
    let width = case.size("v_dim").unwrap_or(d);
    let (layer, mut subject) = lay_out(case, |init| SigmaMoe::init(init, &config, [d, width, 2]))?;
    let ours = |arrays: &sparsely::checkpoint::Arrays| {
        let mut ours = names::layer(arrays, "", "sigma_moe/");
        // Two axes that are no matrix.
        ours.extend(names::plain(arrays, &[("bias", "sigma_moe/bias")]));
        ours
    };
    subject.fill(&ours(&case.params))?;
    let theirs = case.config["reg_loss"].as_f64().ok_or("no reg_loss")?;
    run(case, &subject, agreement, &ours(&case.grads), |tape| {
        let x = tape.param(&subject.x);
        let x_td = x.reshape([x.shape().rows(), d]).map_err(told)?;
        let routing = layer.route(&x_td, &mut Mode::Eval).map_err(told)?;
        let own = f64::from(routing.losses[0].0.values()[0]);
        if (own - theirs).abs() > OUTPUT {
            return Err(format!("regulariser {own}, not {theirs}"));
        }
        let y = layer.forward(&x_td, &routing, None).map_err(told)?;
        Ok((y, routing.losses))
    })
}

/// x += attention(LN x, LN [memory; x]); x += MLP(LN x).
fn compare_block(case: &Case, agreement: &mut Agreement) -> Result<()> {
    let config = attention_config(case)?;
    let d = case.needed("x")?.shape[2];
    let f = case.params["linear1.bias"].values.len();
    let zero = Init::Constant(0.0);
    let ((attention, norms, mlp), mut subject) = lay_out(case, |init| {
        let attention = AttentionLayer::init(init, &config, [d, 2]);
        let norms = ["norm1", "norm2"].map(|name| LayerNorm::init(init, name, d).with_eps(1e-5));
        let mlp = [("linear1", [d, f]), ("linear2", [f, d])]
            .map(|(name, sizes)| Linear::init(init, name, sizes, zero, zero));
        (attention, norms, mlp)
    })?;
    let ours = |arrays: &sparsely::checkpoint::Arrays| -> Ours {
        let mut ours = names::layer(arrays, "self_attn.", "attention/");
        ours.extend(names::layer(arrays, "linear1.", "linear1/"));
        ours.extend(names::layer(arrays, "linear2.", "linear2/"));
        ours.extend(names::plain(
            arrays,
            &[
                ("norm1.weight", "norm1/scale"),
                ("norm1.bias", "norm1/bias"),
                ("norm2.weight", "norm2/scale"),
                ("norm2.bias", "norm2/bias"),
            ],
        ));
        ours
    };
    subject.fill(&ours(&case.params))?;
    let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
    run(case, &subject, agreement, &ours(&case.grads), |tape| {
        let x = tape.param(&subject.x);
        let memory = subject.memory.map(|memory| tape.param(&memory));
        let normed = norms[0].forward(&x).map_err(told)?;
        let memory = memory.map(|m| norms[0].forward(&m)).transpose().map_err(told)?;
        let x = attend(&attention, [memory.as_ref(), Some(&normed)], &mask, Some(&x))?.0;
        let z = mlp[0].forward(&norms[1].forward(&x).map_err(told)?).map_err(told)?;
        let y = mlp[1].activated(&z, Activation::Relu, Some(&x)).map_err(told)?;
        Ok((y, Vec::new()))
    })
}

/// Runs a layer on a recording tape: output, loss and gradients.
fn run(
    case: &Case,
    subject: &Subject,
    agreement: &mut Agreement,
    theirs: &Ours,
    forward: impl for<'t> Fn(&'t Tape<'t>) -> Result<(Var<'t>, Vec<(Var<'t>, f32)>)>,
) -> Result<()> {
    let pool = Pool::new();
    let tape = Tape::recording(&subject.params, &pool);
    let (y, losses) = forward(&tape)?;
    check(agreement, (&case.name, OUTPUT), y.values(), &case.needed("output")?.values);
    let weights = case.needed("loss_weight")?.values;
    let weights: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
    let mut terms = vec![(y.dot_constant(&weights).map_err(told)?, 1.0)];
    terms.extend(losses);
    let loss = tape.weighted_sum(&terms).map_err(told)?;
    let expected = case.config["loss_value"].as_f64().ok_or("no loss_value")?;
    let own = f64::from(loss.values()[0]);
    // A sum of a thousand products.
    agreement.require((own - expected).abs() < 1e-4, || {
        format!("{}: a loss of {own}, not {expected}", case.name)
    });
    let mut grads = Slab::zeros(subject.params.layout().clone());
    tape.backward(&loss, &mut grads).map_err(told)?;
    let mut theirs = theirs.clone();
    for (_, name, value) in IN_DOUBLE.iter().filter(|(of_case, ..)| *of_case == case.name) {
        let recorded = theirs.insert((*name).into(), vec![*value as f32]);
        let distance = recorded.map_or(f64::NAN, |own| (f64::from(own[0]) - value).abs());
        agreement
            .require(distance < GRADIENT, || format!("{name}: recorded {distance:.1e} from f64"));
    }
    for view in grads.layout().clone().views() {
        let theirs = theirs.get(&view.name).cloned();
        let theirs = theirs.or_else(|| case.grads.get(&view.name).map(|a| a.values.clone()));
        let theirs = theirs.ok_or_else(|| format!("no gradient of `{}`", view.name))?;
        let place = format!("{}: {}", case.name, view.name);
        check(agreement, (&place, GRADIENT), grads.view(&view.param), &theirs);
    }
    Ok(())
}

/// The balancing losses of MoA on the inputs of a case, without memory, as the specification has them.
pub(crate) fn compare_balancing_losses(agreement: &mut Agreement) {
    let cases = super::load_cases();
    let Some(case) = cases.iter().find(|case| case.name == "tr_moa_moa_softmax") else {
        agreement.require(!super::case::are_committed(), || "no case".into());
        return;
    };
    let config = attention_config(case).unwrap();
    let (layer, mut subject) =
        lay_out(case, |init| AttentionLayer::init(init, &config, [32, 2])).unwrap();
    subject.fill(&names::layer(&case.params, "", "attention/")).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&subject.params, &pool);
    let x = tape.param(&subject.x);
    let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
    let (_, report) = attend(&layer, [None, Some(&x)], &mask, None).unwrap();
    let ours: Vec<f32> = report.losses.iter().map(|(loss, _)| loss.values()[0]).collect();
    check(agreement, ("cv, switch, z", 5e-6), &ours, &[0.07893, 1.01709, 3.67031]);
}
