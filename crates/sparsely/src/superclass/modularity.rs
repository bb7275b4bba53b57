//! Communities of large modularity (Newman 2004): greedy merging (Clauset, Newman & Moore 2004,
//! cond-mat/0408187), then single classes move while that gains.

use super::confusion::Graph;

/// Gains below this are rounding.
const GAIN: f64 = 1e-12;

/// Exactly `k` groups: merging goes on below the largest modularity where that asks for more of them, and ends
/// early where it asks for fewer.
pub(super) fn communities(graph: &Graph, k: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = (0..graph.num_classes()).map(|class| vec![class]).collect();
    let mut linked: Vec<Vec<f64>> = (0..groups.len())
        .map(|i| (0..groups.len()).map(|j| graph.weight(i, j)).collect())
        .collect();
    let mut degrees: Vec<f64> = (0..groups.len()).map(|class| graph.degree(class)).collect();
    let total: f64 = degrees.iter().sum();
    while groups.len() > k {
        let (one, other) = best_merge(&linked, &degrees, total);
        let merged = groups.swap_remove(other);
        groups[one].extend(merged);
        degrees[one] += degrees[other];
        degrees.swap_remove(other);
        let row = linked[other].clone();
        linked[one].iter_mut().zip(&row).for_each(|(link, more)| *link += more);
        for (to, more) in linked.iter_mut().zip(&row) {
            to[one] += more;
            to.swap_remove(other);
        }
        linked.swap_remove(other);
    }
    while move_one(graph, &mut groups) {}
    groups
}

/// The pair, lower index first, whose merger gains most: 2 (e_ij − a_i a_j).
fn best_merge(linked: &[Vec<f64>], degrees: &[f64], total: f64) -> (usize, usize) {
    let gain = |i: usize, j: usize| linked[i][j] / total - degrees[i] * degrees[j] / total.powi(2);
    let pairs = (0..degrees.len()).flat_map(|i| (i + 1..degrees.len()).map(move |j| (i, j)));
    let best = pairs.reduce(
        |best, next| {
            if gain(next.0, next.1) > gain(best.0, best.1) { next } else { best }
        },
    );
    best.unwrap_or((0, 0))
}

/// Moves the class that gains most by it to another group, if one gains and is not alone in its own.
fn move_one(graph: &Graph, groups: &mut [Vec<usize>]) -> bool {
    let v = graph.num_classes();
    let degrees: Vec<f64> = (0..v).map(|class| graph.degree(class)).collect();
    let total: f64 = degrees.iter().sum();
    let volumes: Vec<f64> =
        groups.iter().map(|group| group.iter().map(|class| degrees[*class]).sum()).collect();
    let mut best = (GAIN, 0, 0, 0);
    for (from, group) in groups.iter().enumerate().filter(|(_, group)| group.len() > 1) {
        for (at, class) in group.iter().enumerate() {
            let degree = degrees[*class];
            let own = graph.link(*class, group) - degree * (volumes[from] - degree) / total;
            for (to, other) in groups.iter().enumerate().filter(|(to, _)| *to != from) {
                let gain = graph.link(*class, other) - degree * volumes[to] / total - own;
                if gain > best.0 {
                    best = (gain, from, at, to);
                }
            }
        }
    }
    let (gain, from, at, to) = best;
    if gain > GAIN {
        let class = groups[from].remove(at);
        groups[to].push(class);
    }
    gain > GAIN
}
