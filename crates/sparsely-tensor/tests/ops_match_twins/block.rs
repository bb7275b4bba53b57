//! One whole pre-norm block.

use super::*;
use crate::draw::row_groups;
use crate::twins::block::Block;
use sparsely_tensor::{CrossEntropy as Kind, GroupedWeights, RowGroups};

const IDENTITY: Activation = Activation::Identity;

/// The block of operations that [`Block::graph`] is of twins.
fn forward<'t>(block: &Block, vars: &[Var<'t>], names: &[Param]) -> Result<Var<'t>> {
    let (tokens, d, eps) = (block.b * block.l, block.d(), block.eps as f32);
    let groups = Arc::new(RowGroups::new(tokens, &block.groups)?);
    let x = &vars[0];
    let qkv = x.layer_norm(&names[1], Some(&names[2]), eps)?.linear(
        IDENTITY,
        &names[3],
        Some(&names[4]),
        None,
    )?;
    let mixed = qkv.self_attention(block.heads)?;
    let x = mixed.linear(IDENTITY, &names[5], Some(&names[6]), Some(x))?.reshape([tokens, d])?;
    let h = x.layer_norm(&names[7], Some(&names[8]), eps)?;
    let probabilities = h.linear(IDENTITY, &names[9], None, None)?.softmax();
    let gates = probabilities.pick(&Arc::new(block.gate_indices()))?;
    let z = h.gather_linear(&GroupedWeights { w: names[10], b: Some(names[11]) }, &groups)?;
    let w_out = GroupedWeights { w: names[12], b: Some(names[13]) };
    let x = z.scatter_linear(Activation::Gelu, &w_out, &groups, &gates, Some(&x))?;
    let pooled = x.reshape([block.b, block.l, d])?.mean_tokens()?;
    pooled
        .linear(IDENTITY, &names[14], Some(&names[15]), None)?
        .cross_entropy(Kind::Softmax, &block.targets)
}

fn shape(axes: &[usize]) -> Shape {
    match *axes {
        [a] => [a].into(),
        [a, b] => [a, b].into(),
        [a, b, c] => [a, b, c].into(),
        _ => unreachable!("an input has one to three axes"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_whole_block(
        b in 1_usize..4, l in 1_usize..12, heads in 1_usize..4, f in 1_usize..20, v in 1_usize..6, seed: u32,
    ) {
        let targets = (0..b * v).map(|i| if i % v == i / v % v { 1.0 } else { 0.0 }).collect();
        let groups = row_groups(b * l, 2, seed.into());
        // Heads of 8, so that no row to be normalised has few elements.
        let block = Block { b, l, heads, a: 8, f, v, eps: 1e-6, groups, targets };
        let inputs = block.inputs().into_iter().zip(u64::from(seed)..);
        let inputs = inputs.map(|((name, axes), seed)| {
            let mut input = match name {
                "x" => Input::value(shape(&axes), seed),
                name => Input::named(shape(&axes), seed).if_present(!name.starts_with("no ")),
            };
            // Weights of the size of initial ones: larger ones saturate every softmax.
            input.values.iter_mut().for_each(|v| *v *= 0.3);
            input
        });
        // Errors of one operation are inputs of the next: about ten of them in a row.
        Case { twin: &block.graph(), inputs: inputs.collect(), seed: seed.into(), scale: 10.0 }
            .check(|vars, names| forward(&block, vars, names));
    }
}
