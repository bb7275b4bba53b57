//! Spectral clustering (Ng, Jordan & Weiss 2001), regularised for graphs with few edges (Qin & Rohe 2013,
//! arXiv 1309.4111).

use super::confusion::Graph;
use super::kmeans::k_means;
use crate::{Error, Result};
use faer::{Mat, Side};

/// `k` groups of the classes of a graph: k-means of the rows of the first eigenvectors of
/// D^(−1/2) (A + τ/V) D^(−1/2), τ the mean degree, each row of length 1.
pub(super) fn spectral(graph: &Graph, k: usize, seed: u64) -> Result<Vec<usize>> {
    let v = graph.num_classes();
    let degrees: Vec<f64> = (0..v).map(|class| graph.degree(class)).collect();
    let mean_degree = degrees.iter().sum::<f64>() / v as f64;
    let root = |class: usize| (degrees[class] + mean_degree).sqrt();
    let matrix = Mat::from_fn(v, v, |i, j| {
        (graph.weight(i, j) + mean_degree / v as f64) / (root(i) * root(j))
    });
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|error| Error::Argument {
        op: "spectral clustering",
        expected: "eigenvectors of the confusion graph".into(),
        got: format!("{error:?}"),
    })?;
    // Eigenvalues ascend.
    let vectors = eigen.U();
    let row = |class: usize| {
        let row: Vec<f64> = (v - k..v).map(|column| vectors[(class, column)]).collect();
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|x| x / length).collect::<Vec<f64>>()
    };
    Ok(k_means(&(0..v).map(row).collect::<Vec<_>>(), k, seed))
}
