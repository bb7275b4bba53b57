//! A row has the bits alone that it has among others.

use super::{Model, PRECISIONS, bits};
use crate::draw::uniform;
use sparsely_tensor::{Activation, GroupedWeights, Pool, Result, RowGroups, Shape, Tape, Var};
use std::sync::Arc;

const MANY: usize = 200;
/// Where the few rows lie among the many.
const FIRST: usize = 7;

/// Compares `op` on 1..=64 rows of random `x` with the same rows of `op` on all of them. The
/// closure gets the range of rows that its input is.
pub(super) fn assert_rows_do_not_depend_on_others<F>(
    what: &str,
    model: &Model,
    row: &[usize],
    op: F,
) where
    F: for<'t> Fn(&Var<'t>, std::ops::Range<usize>) -> Result<Var<'t>>,
{
    let row_len: usize = row.iter().product();
    let x = uniform(MANY * row_len, 77);
    let pool = Pool::new();
    for precision in PRECISIONS {
        let tape = Tape::inference(&model.params, &pool);
        tape.compute_in(precision);
        let run = |rows: std::ops::Range<usize>| -> Vec<u32> {
            let values = &x[rows.start * row_len..rows.end * row_len];
            let shape: Shape = match *row {
                [d] => [rows.len(), d].into(),
                [l, d] => [rows.len(), l, d].into(),
                _ => unreachable!("a row has one or two axes"),
            };
            bits(op(&tape.constant(shape, values).unwrap(), rows).unwrap().values())
        };
        let all = run(0..MANY);
        let width = all.len() / MANY;
        for few in (1..=64).chain([127, 128, 129]) {
            let got = run(FIRST..FIRST + few);
            assert!(
                got == all[FIRST * width..(FIRST + few) * width],
                "{what}, {precision:?}: {few} rows"
            );
        }
    }
}

#[test]
fn a_row_of_a_linear_layer_has_the_bits_it_has_among_others() {
    for i in [1, 16, 17, 96, 192, 768] {
        for o in [1, 2, 3, 4, 5, 10, 16, 33, 96, 130, 300] {
            let model = Model::drawn(&[("w", [i, o].into()), ("b", [o].into())]);
            let (w, b) = (model.named("w"), model.named("b"));
            for act in [Activation::Identity, Activation::Gelu] {
                let what = format!("linear {act:?} {i} → {o}");
                assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, _| {
                    x.linear(act, &w, Some(&b), None)
                });
            }
            let twice = Model::drawn(&[("w", [i, i].into()), ("v", [i, o].into())]);
            for act in [Activation::Identity, Activation::Gelu] {
                let what = format!("rounded linear layers {act:?} {i} → {i} → {o}");
                assert_rows_do_not_depend_on_others(&what, &twice, &[i], |x, _| {
                    let z = x.linear_rounded(Activation::Identity, &twice.named("w"), None)?;
                    z.linear(act, &twice.named("v"), None, None)
                });
            }
            let residual = uniform(MANY * o, 3);
            let what = format!("linear with a residual {i} → {o}");
            assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, rows| {
                let own = &residual[rows.start * o..rows.end * o];
                let residual = x.tape().constant([rows.len(), o], own)?;
                x.linear(Activation::Identity, &w, None, Some(&residual))
            });
        }
    }
}

#[test]
fn a_normalised_row_has_the_bits_it_has_among_others() {
    for d in [1, 15, 48, 97] {
        let shapes = [("scale", [d].into()), ("bias", [d].into()), ("head", [8].into())];
        let model = Model::drawn(&shapes);
        assert_rows_do_not_depend_on_others("layer_norm", &model, &[d], |x, _| {
            x.layer_norm(&model.named("scale"), Some(&model.named("bias")), 1e-6)
        });
        assert_rows_do_not_depend_on_others("layer_norm_rounded", &model, &[d], |x, _| {
            x.layer_norm_rounded(&model.named("scale"), Some(&model.named("bias")), 1e-6)
        });
        assert_rows_do_not_depend_on_others("softmax", &model, &[d], |x, _| Ok(x.softmax()));
        assert_rows_do_not_depend_on_others("gelu", &model, &[d], |x, _| {
            Ok(x.activation(Activation::Gelu))
        });
        assert_rows_do_not_depend_on_others("head_norm", &model, &[48], |x, _| {
            x.head_norm(2, &[&model.named("head"), &model.named("head")], 1e-6)
        });
        assert_rows_do_not_depend_on_others("chance_among_largest", &model, &[d], |x, _| {
            x.chance_among_largest(x, 1, 0.5)
        });
    }
}

#[test]
fn an_image_has_the_bits_it_has_among_others() {
    let model = Model::drawn(&[("class", [24].into()), ("positions", [5, 24].into())]);
    for l in [1, 5, 17] {
        assert_rows_do_not_depend_on_others("self_attention", &model, &[l, 72], |x, _| {
            x.self_attention(3)
        });
        let kv = uniform(MANY * l * 48, 5);
        assert_rows_do_not_depend_on_others("cross_attention", &model, &[4, 24], |x, rows| {
            let own = &kv[rows.start * l * 48..rows.end * l * 48];
            x.cross_attention(&x.tape().constant([rows.len(), l, 48], own)?, 3)
        });
    }
    assert_rows_do_not_depend_on_others("tokens", &model, &[4, 24], |x, _| {
        let x = x.prepend(&model.named("class"))?.add_positions(&model.named("positions"))?;
        x.select_token(0)?.add(&x.mean_tokens()?)
    });
}

#[test]
fn the_classes_of_an_image_have_the_bits_they_have_among_others() {
    for v in [1, 2, 3, 4, 10, 1000] {
        let shapes = [("scale", [192].into()), ("w", [192, v].into()), ("b", [v].into())];
        let model = Model::drawn(&shapes);
        assert_rows_do_not_depend_on_others(&format!("head of {v}"), &model, &[3, 192], |x, _| {
            x.layer_norm(&model.named("scale"), None, 1e-6)?.select_token(0)?.linear(
                Activation::Identity,
                &model.named("w"),
                Some(&model.named("b")),
                None,
            )
        });
    }
}

/// Group 1 of three holds the rows at hand; its neighbours grow and shrink with the number of rows.
fn among_neighbours(rows: usize) -> Vec<Vec<u32>> {
    let own = (0..rows as u32).collect();
    vec![(0..rows as u32 / 3).rev().collect(), own, (0..rows as u32 / 2).collect()]
}

#[test]
fn a_row_of_a_group_has_the_bits_it_has_with_other_neighbours() {
    for (i, o) in [(1, 1), (48, 1), (48, 2), (48, 3), (48, 10), (96, 130), (192, 768), (768, 192)] {
        let model = Model::drawn(&[("w", [3, i, o].into()), ("b", [3, o].into())]);
        let weights = GroupedWeights { w: model.named("w"), b: Some(model.named("b")) };
        let what = format!("gather_linear {i} → {o}");
        assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, rows| {
            let lists = among_neighbours(rows.len());
            let groups = Arc::new(RowGroups::new(rows.len(), &lists)?);
            let z = x.gather_linear(&weights, &groups)?;
            let own = groups.group(1);
            z.tape().constant([own.len(), o], &z.values()[own.start * o..own.end * o])
        });
        let what = format!("scatter_linear {i} → {o}");
        let gates = uniform(MANY, 8);
        assert_rows_do_not_depend_on_others(&what, &model, &[i], |z, rows| {
            // The entries of the neighbours go to a row of their own, after the last.
            let n = rows.len();
            let others = |len: usize| vec![n as u32; len];
            let lists = [others(n / 3), (0..n as u32).collect(), others(n / 2)];
            let groups = Arc::new(RowGroups::new(n + 1, &lists)?);
            let filler = |len: usize| uniform(len, n as u64);
            let all_z = [filler(n / 3 * i), z.values().to_vec(), filler(n / 2 * i)].concat();
            let all_gates = [filler(n / 3), gates[rows].to_vec(), filler(n / 2)].concat();
            let entries = groups.num_entries();
            let all_z = z.tape().constant([entries, i], &all_z)?;
            let all_gates = z.tape().constant([entries], &all_gates)?;
            let y = all_z.scatter_linear(Activation::Gelu, &weights, &groups, &all_gates, None)?;
            z.tape().constant([n, o], &y.values()[..n * o])
        });
    }
}

#[test]
fn a_group_has_the_bits_it_has_among_others() {
    use sparsely_tensor::{Sinkhorn, SparseTransport, Spread};
    let (s, e, d) = (5, 3, 24);
    let model = Model::drawn(&[("mu", [d, e].into()), ("scale", [1].into())]);
    let in_groups = |what: &str, op: &dyn for<'t> Fn(&Var<'t>) -> Result<Var<'t>>| {
        assert_rows_do_not_depend_on_others(what, &model, &[s, d], |x, rows| {
            let n = rows.len();
            let y = op(&x.reshape([n * s, d])?.cosine_logits(
                &model.named("mu"),
                &model.named("scale"),
                1e-6,
            )?)?;
            y.reshape([n, y.shape().len() / n])
        });
    };
    in_groups("cosine_logits", &|x| Ok(x.clone()));
    in_groups("softmax_columns", &|x| x.softmax_columns(s));
    in_groups("mixtures", &|x| {
        x.gather_mix(&x.softmax_columns(s)?, s)?.scatter_mix(&x.softmax(), s, Some(x))
    });
    let sinkhorn = Sinkhorn { group_rows: s, iterations: 20, epsilon: 1.0 };
    in_groups("sinkhorn", &|x| x.sinkhorn(&sinkhorn));
    let spread = Spread::Columns;
    let sparse = SparseTransport { group_rows: s, spread, support: 2, steps: 20, lr: 1e-2 };
    in_groups("sparse_transport", &|x| x.sparse_transport(&sparse));
    in_groups("round_bf16", &|x| Ok(x.round_bf16()));
}
