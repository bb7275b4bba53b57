//! A two-layer SwitchAll model over two blocks of text: logits, memory, cross-entropy, regulariser,
//! gradients of the second block.

use super::case::Case;
use super::names::{self, Ours};
use super::subject::fill;
use super::{MODEL, OUTPUT, check};
use crate::agreement::Agreement;
use sparsely::attention::{AttentionConfig, SwitchHeadConfig};
use sparsely::checkpoint::Arrays;
use sparsely::model::language::{LanguageConfig, LanguageModel, MlpConfig, Tokens};
use sparsely::moe::SigmaMoeConfig;
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Slab, Tape};

/// Errors of the library and of the engine, as text.
fn told<E: Into<sparsely::Error>>(error: E) -> String {
    error.into().to_string()
}

fn config(case: &Case) -> Option<LanguageConfig> {
    let layer = case.config.get("layer")?;
    let size = |key: &str| layer.get(key)?.as_u64().map(|size| size as usize);
    Some(LanguageConfig {
        vocabulary: case.size("vocab")?,
        width: case.size("d_model")?,
        depth: case.size("n_layers")?,
        context: 8,
        memory: 8 * size("context_blocks")?,
        attention: AttentionConfig::SwitchHead(SwitchHeadConfig {
            heads: size("n_heads")?,
            head_width: size("d_head")?,
            num_experts: size("att_n_experts")?,
            num_selected: size("att_k")?,
            ..SwitchHeadConfig::default()
        }),
        mlp: MlpConfig::SigmaMoe(SigmaMoeConfig {
            num_experts: size("ff_n_experts")?,
            expert_width: size("ff_expert_size")?,
            num_selected: size("ff_k")?,
            entropy_weight: layer.get("entropy_reg")?.as_f64()? as f32,
            ..SigmaMoeConfig::default()
        }),
        ..LanguageConfig::default()
    })
}

fn ours(arrays: &Arrays, depth: usize) -> Ours {
    let mut ours = names::plain(
        arrays,
        &[
            ("embedding.weight", "embedding"),
            ("out_norm.weight", "norm/scale"),
            ("out_norm.bias", "norm/bias"),
        ],
    );
    ours.extend(names::layer(arrays, "output.", "output/"));
    for i in 0..depth {
        let (theirs, own) = (format!("unique_layers.{i}."), format!("blocks/{i}/"));
        let attention = format!("{own}attention/");
        ours.extend(names::layer(arrays, &format!("{theirs}self_attn."), &attention));
        ours.extend(names::layer(arrays, &format!("{theirs}pkm."), &format!("{own}sigma_moe/")));
        for (norm, name) in [("norm1", "norm_0"), ("norm2", "norm_1")] {
            let pairs = [("weight", "scale"), ("bias", "bias")]
                .map(|(part, to)| (format!("{theirs}{norm}.{part}"), format!("{own}{name}/{to}")));
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
            ours.extend(names::plain(arrays, &pairs));
        }
    }
    ours
}

/// `[T, B, N]` → `[B, T, N]`.
fn batch_first(values: &[f32], [t, b]: [usize; 2]) -> Vec<f32> {
    let n = values.len() / (t * b);
    let rows = (0..b).flat_map(|b_at| (0..t).map(move |t_at| t_at * b + b_at));
    rows.flat_map(|row| values[row * n..(row + 1) * n].to_vec()).collect()
}

pub(crate) fn compare(case: &Case, agreement: &mut Agreement) -> Result<(), String> {
    let config = config(case).ok_or("a configuration that lacks something")?;
    let (model, mut params) = LanguageModel::init(&config, 0).map_err(told)?;
    fill(&mut params, &ours(&case.params, config.depth), &[])?;
    let tokens = case.needed("tokens_time_batch")?;
    let (b, t) = (tokens.shape[1], config.context);
    let rows = |first: usize| -> Vec<u32> {
        let of = |b_at: usize| (first..first + t).map(move |t_at| t_at * b + b_at);
        (0..b).flat_map(of).map(|at| tokens.values[at] as u32).collect()
    };
    let (first, second, targets) = (rows(0), rows(t), rows(t + 1));
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let block = |ids, memory| {
        model.forward(&tape, Tokens { ids, batch: b }, memory, &mut Mode::Eval).map_err(told)
    };
    let before = block(&first, None)?;
    let memory = before.memory.as_ref().ok_or("no memory")?;
    let after = block(&second, Some(memory))?;
    for (name, output) in [("logits_block1", &before), ("logits_block2", &after)] {
        let theirs = batch_first(&case.needed(name)?.values, [t, b]);
        check(agreement, (name, OUTPUT), output.logits_tv.values(), &theirs);
    }
    for (i, inputs) in memory.inputs.iter().enumerate() {
        let name = format!("state_layer{i}_after_block1");
        check(agreement, (&name, OUTPUT), inputs, &case.needed(&name)?.values);
    }

    let task = after.logits_tv.token_cross_entropy(&targets).map_err(told)?;
    let regulariser = tape.weighted_sum(&after.losses).map_err(told)?;
    let loss =
        tape.weighted_sum(&[(task.clone(), 1.0), (regulariser.clone(), 1.0)]).map_err(told)?;
    for (key, own) in [("ce_block2", &task), ("reg_block2", &regulariser), ("loss", &loss)] {
        let theirs = case.config[key].as_f64().ok_or("no loss")? as f32;
        check(agreement, (key, MODEL), own.values(), &[theirs]);
    }
    let mut grads = Slab::zeros(params.layout().clone());
    tape.backward(&loss, &mut grads).map_err(told)?;
    let theirs = ours(&case.grads, config.depth);
    for view in grads.layout().clone().views() {
        let theirs =
            theirs.get(&view.name).ok_or_else(|| format!("no gradient of `{}`", view.name))?;
        let place = format!("{}: {}", case.name, view.name);
        check(agreement, (&place, MODEL), grads.view(&view.param), theirs);
    }
    Ok(())
}
