//! Groups of equal sizes that keep as much confusion as moves and swaps of single classes can.

use super::confusion::Graph;

/// Gains below this are rounding.
const GAIN: f64 = 1e-12;

/// Sizes of `k` groups of `classes`, which differ by at most 1; the larger ones first.
pub(super) fn equal_sizes(classes: usize, k: usize) -> Vec<usize> {
    (0..k).map(|group| classes / k + usize::from(group < classes % k)).collect()
}

/// Brings the sizes within 1 of each other, then swaps classes while that keeps more confusion.
pub(super) fn balance(graph: &Graph, groups: &mut [Vec<usize>]) {
    let (classes, k) = (graph.num_classes(), groups.len());
    let [floor, ceil] = [classes / k, classes.div_ceil(k)];
    while move_towards(graph, groups, [floor, ceil]) {}
    while swap_one(graph, groups) {}
}

/// The cheapest move out of a group that is too large, or else into one that is too small.
fn move_towards(graph: &Graph, groups: &mut [Vec<usize>], [floor, ceil]: [usize; 2]) -> bool {
    let too_large = groups.iter().any(|group| group.len() > ceil);
    let too_small = groups.iter().any(|group| group.len() < floor);
    if !too_large && !too_small {
        return false;
    }
    let gives = |group: &[usize]| group.len() > if too_large { ceil } else { floor };
    let takes = |group: &[usize]| group.len() < if too_small { floor } else { ceil };
    let mut best = (f64::NEG_INFINITY, 0, 0, 0);
    for (from, group) in groups.iter().enumerate().filter(|(_, group)| gives(group)) {
        for (at, class) in group.iter().enumerate() {
            for (to, other) in groups.iter().enumerate().filter(|(_, other)| takes(other)) {
                let gain = graph.link(*class, other) - graph.link(*class, group);
                if to != from && gain > best.0 {
                    best = (gain, from, at, to);
                }
            }
        }
    }
    let (_, from, at, to) = best;
    let class = groups[from].remove(at);
    groups[to].push(class);
    true
}

/// The swap that keeps most more confusion within groups, if one does.
fn swap_one(graph: &Graph, groups: &mut [Vec<usize>]) -> bool {
    // link[class][group]
    let link: Vec<Vec<f64>> = (0..graph.num_classes())
        .map(|class| groups.iter().map(|group| graph.link(class, group)).collect())
        .collect();
    let mut best = (GAIN, [0; 4]);
    for (g, one) in groups.iter().enumerate() {
        for (h, other) in groups.iter().enumerate().skip(g + 1) {
            for (i, a) in one.iter().enumerate() {
                for (j, b) in other.iter().enumerate() {
                    let gain = link[*a][h] - link[*a][g] + link[*b][g]
                        - link[*b][h]
                        - 2.0 * graph.weight(*a, *b);
                    if gain > best.0 {
                        best = (gain, [g, i, h, j]);
                    }
                }
            }
        }
    }
    let (gain, [g, i, h, j]) = best;
    if gain > GAIN {
        let (a, b) = (groups[g][i], groups[h][j]);
        (groups[g][i], groups[h][j]) = (b, a);
    }
    gain > GAIN
}
