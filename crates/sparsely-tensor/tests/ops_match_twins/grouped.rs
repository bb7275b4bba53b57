//! Linear layers whose weights are stacked in groups of rows.

use super::*;
use crate::draw::row_groups;
use crate::twins::grouped;
use sparsely_tensor::{GroupedWeights, RowGroups};

fn gather(num_rows: usize, groups: Vec<Vec<u32>>, [i, o]: [usize; 2], seed: u64) {
    gather_with(num_rows, groups.clone(), [i, o], true, seed);
    gather_with(num_rows, groups, [i, o], false, seed);
}

fn gather_with(
    num_rows: usize,
    groups: Vec<Vec<u32>>,
    [i, o]: [usize; 2],
    has_bias: bool,
    seed: u64,
) {
    let e = groups.len();
    let row_groups = Arc::new(RowGroups::new(num_rows, &groups).unwrap());
    let inputs = vec![
        Input::value([num_rows, i], seed),
        Input::named([e, i, o], seed + 1),
        Input::named([e, o], seed + 2).if_present(has_bias),
    ];
    check(&grouped::GatherLinear { groups, i, o }, seed, inputs, |vars, names| {
        let weights = GroupedWeights { w: names[1], b: has_bias.then_some(names[2]) };
        vars[0].gather_linear(&weights, &row_groups)
    });
}

fn scatter(
    act: Activation,
    num_rows: usize,
    groups: Vec<Vec<u32>>,
    [i, o]: [usize; 2],
    has_residual: bool,
    seed: u64,
) {
    // Half of all, for either residual.
    let has_bias = seed.is_multiple_of(2);
    let e = groups.len();
    let row_groups = Arc::new(RowGroups::new(num_rows, &groups).unwrap());
    let n = row_groups.num_entries();
    let inputs = vec![
        Input::value([n, i], seed),
        Input::named([e, i, o], seed + 1),
        Input::named([e, o], seed + 2).if_present(has_bias),
        Input::value([n], seed + 3),
        Input::value([num_rows, o], seed + 4).if_present(has_residual),
    ];
    check(&grouped::ScatterLinear { act, groups, i, o }, seed, inputs, |vars, names| {
        let weights = GroupedWeights { w: names[1], b: has_bias.then_some(names[2]) };
        let residual = has_residual.then_some(&vars[4]);
        vars[0].scatter_linear(act, &weights, &row_groups, &vars[3], residual)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gather_linear_of_any_groups(
        t in rows(), e in 1_usize..6, i in widths(), o in widths(), seed: u32,
    ) {
        gather(t, row_groups(t, e, seed.into()), [i, o], seed.into());
    }

    #[test]
    fn scatter_linear_of_any_groups(
        act in activations(), t in rows(), e in 1_usize..6, i in widths(), o in widths(),
        has_residual: bool, seed: u32,
    ) {
        scatter(act, t, row_groups(t, e, seed.into()), [i, o], has_residual, seed.into());
    }
}

/// Three groups: every row and more than a chunk of them, none, and one row that is in the first
/// as well; the last row is in no group.
fn uneven_groups(num_rows: u32) -> Vec<Vec<u32>> {
    vec![(0..num_rows - 1).rev().collect(), vec![], vec![num_rows / 2]]
}

#[test]
fn groups_beyond_every_block() {
    gather(2100, uneven_groups(2100), [67, 150], 1);
    for act in [Activation::Identity, Activation::Gelu] {
        // Weights of more than one panel.
        scatter(act, 2100, uneven_groups(2100), [150, 67], true, 2);
    }
}

#[test]
fn a_row_may_be_in_a_group_twice() {
    let groups = vec![vec![2, 0, 2], vec![2]];
    gather(3, groups.clone(), [3, 2], 3);
    scatter(Activation::Tanh, 3, groups, [3, 2], true, 4);
}

#[test]
fn no_group_may_have_a_row() {
    gather(4, vec![vec![], vec![]], [3, 2], 5);
    scatter(Activation::Gelu, 4, vec![vec![], vec![]], [3, 2], true, 6);
    scatter(Activation::Gelu, 4, vec![vec![], vec![]], [3, 2], false, 7);
}
