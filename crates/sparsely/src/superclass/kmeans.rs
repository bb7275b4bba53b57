//! Lloyd's algorithm with the starts of k-means++ (Arthur & Vassilvitskii 2007), for a few hundred points.

use crate::rng::{Purpose, Rng, stream};
use rand::Rng as _;

/// Starts, of which the best is kept.
const RESTARTS: u64 = 20;
/// Rounds of a start, beyond what small sets take.
const MAX_ROUNDS: usize = 200;

/// The cluster of each point, `k` of them, none empty. `k` is at most the number of points.
pub(super) fn k_means(points: &[Vec<f64>], k: usize, seed: u64) -> Vec<usize> {
    let of_start = |start| run(points, k, &mut stream(seed, Purpose::SuperClasses, start));
    let starts = (0..RESTARTS).map(of_start);
    let best = starts.reduce(|best, next| if next.0 < best.0 { next } else { best });
    best.map(|(_, clusters)| clusters).unwrap_or_default()
}

/// The sum of squared distances, and the clusters.
fn run(points: &[Vec<f64>], k: usize, rng: &mut Rng) -> (f64, Vec<usize>) {
    let mut centres = starts(points, k, rng);
    let mut clusters = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let mut next: Vec<usize> = points.iter().map(|point| nearest(point, &centres).0).collect();
        fill_empty(points, &centres, &mut next);
        if next == clusters {
            break;
        }
        clusters = next;
        centres = (0..k).map(|cluster| mean(points, &clusters, cluster)).collect();
    }
    let distances = points.iter().zip(&clusters).map(|(point, own)| squared(point, &centres[*own]));
    (distances.sum(), clusters)
}

/// Each next centre is a point, drawn by its squared distance to the nearest one so far.
fn starts(points: &[Vec<f64>], k: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let mut centres = vec![points[rng.random_range(0..points.len())].clone()];
    while centres.len() < k {
        let distances: Vec<f64> = points.iter().map(|point| nearest(point, &centres).1).collect();
        let mut left = rng.random::<f64>() * distances.iter().sum::<f64>();
        let is_reached = |distance: &f64| {
            left -= distance;
            left < 0.0
        };
        // Where all points lie on centres, any will do; empty clusters are filled later.
        let chosen = distances.iter().position(is_reached).unwrap_or(points.len() - 1);
        centres.push(points[chosen].clone());
    }
    centres
}

/// Gives each cluster without points the one that is farthest from its centre, out of those that
/// are not alone in theirs.
fn fill_empty(points: &[Vec<f64>], centres: &[Vec<f64>], clusters: &mut [usize]) {
    for cluster in 0..centres.len() {
        if clusters.contains(&cluster) {
            continue;
        }
        let sizes = |own: usize| clusters.iter().filter(|other| **other == own).count();
        let distance = |point: usize| squared(&points[point], &centres[clusters[point]]);
        let movable = (0..points.len()).filter(|point| sizes(clusters[*point]) > 1);
        let farthest =
            movable.reduce(|far, point| if distance(point) > distance(far) { point } else { far });
        if let Some(point) = farthest {
            clusters[point] = cluster;
        }
    }
}

fn nearest(point: &[f64], centres: &[Vec<f64>]) -> (usize, f64) {
    let distances = centres.iter().map(|centre| squared(point, centre)).enumerate();
    distances.reduce(|best, next| if next.1 < best.1 { next } else { best }).unwrap_or((0, 0.0))
}

fn mean(points: &[Vec<f64>], clusters: &[usize], cluster: usize) -> Vec<f64> {
    let mut sum = vec![0.0; points[0].len()];
    let mut count = 0.0_f64;
    for (point, _) in points.iter().zip(clusters).filter(|(_, own)| **own == cluster) {
        sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= count.max(1.0));
    sum
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_heaps_on_a_line_are_three_clusters() {
        let points: Vec<Vec<f64>> = [0.0, 9.0, 0.2, 5.0, 9.1, 0.1].map(|x| vec![x]).to_vec();
        let clusters = k_means(&points, 3, 0);
        assert!(clusters[0] == clusters[2] && clusters[0] == clusters[5]);
        assert!(clusters[1] == clusters[4] && clusters[1] != clusters[0]);
        assert!(clusters[3] != clusters[0] && clusters[3] != clusters[1]);
    }

    #[test]
    fn equal_points_still_fill_every_cluster() {
        let mut clusters = k_means(&vec![vec![1.0, 2.0]; 4], 4, 1);
        clusters.sort_unstable();
        assert_eq!(clusters, [0, 1, 2, 3]);
    }
}
