//! Spectral clustering (Ng, Jordan & Weiss 2001), regularised for graphs with few edges (Qin & Rohe 2013,
//! arXiv 1309.4111).

use super::confusion::Graph;
use super::kmeans::k_means;
use crate::{Error, Result};
use nalgebra::{DMatrix, SymmetricEigen};

/// More than any symmetric matrix of this size needs.
const ITERATIONS: usize = 100_000;

/// `k` groups of the classes of a graph: k-means of the rows of the first eigenvectors of
/// D^(−1/2) (A + τ/V) D^(−1/2), τ the mean degree, each row of length 1.
pub(super) fn spectral(graph: &Graph, k: usize, seed: u64) -> Result<Vec<usize>> {
    let v = graph.num_classes();
    let degrees: Vec<f64> = (0..v).map(|class| graph.degree(class)).collect();
    let mean_degree = degrees.iter().sum::<f64>() / v as f64;
    let root = |class: usize| (degrees[class] + mean_degree).sqrt();
    let matrix = DMatrix::from_fn(v, v, |i, j| {
        (graph.weight(i, j) + mean_degree / v as f64) / (root(i) * root(j))
    });
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, ITERATIONS).ok_or_else(|| {
        let expected = "eigenvectors of the confusion graph".into();
        let got = format!("none after {ITERATIONS} iterations");
        Error::Argument { op: "spectral clustering", expected, got }
    })?;
    let mut by_value: Vec<usize> = (0..v).collect();
    by_value.sort_by(|i, j| eigen.eigenvalues[*j].total_cmp(&eigen.eigenvalues[*i]));
    let row = |class: usize| {
        let row = by_value.iter().take(k).map(|column| eigen.eigenvectors[(class, *column)]);
        let row: Vec<f64> = row.collect();
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|x| x / length).collect::<Vec<f64>>()
    };
    Ok(k_means(&(0..v).map(row).collect::<Vec<_>>(), k, seed))
}
