//! Super-classes: classes that a model takes for one another, grouped, one group for each expert (Mobile
//! V-MoE, arXiv 2309.04354, section 2.2).
//!
//! A confusion matrix of held-out images becomes a graph of classes, and the graph is cut into groups.

mod balance;
mod confusion;
mod file;
mod kmeans;
mod modularity;
mod picture;
mod spectral;

pub use confusion::{Confusion, Graph, chance_share};
pub use file::{Found, SuperClass, SuperClassFile, groups_of};
pub use picture::picture;

use crate::rng::{Purpose, stream};
use crate::{Error, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// How classes are grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// By what.
    pub method: Method,
    /// Whether sizes are brought within 1 of each other.
    pub balanced: bool,
    /// Decides starts and what is random.
    pub seed: u64,
}

/// By what classes are grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the first eigenvectors of the normalised graph.
    Spectral,
    /// By modularity.
    Modularity,
    /// By chance, in groups of these sizes, or of equal ones: the control.
    Random {
        /// One for each group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sizes: Option<Vec<usize>>,
    },
}

impl Grouping {
    /// Whether it can make `k` groups of `v` classes.
    ///
    /// # Errors
    /// If there are fewer classes than groups, or the sizes asked for are not those of all classes.
    pub fn check(&self, v: usize, k: usize) -> Result<()> {
        if k == 0 || k > v {
            return Err(Error::Argument {
                op: "super-classes",
                expected: format!("1 to {v} experts, each with a class of its own or more"),
                got: format!("{k}"),
            });
        }
        let Method::Random { sizes: Some(sizes) } = &self.method else { return Ok(()) };
        if sizes.len() != k || sizes.iter().sum::<usize>() != v || sizes.contains(&0) {
            return Err(Error::Argument {
                op: "random groups",
                expected: format!("sizes of {k} groups of {v} classes"),
                got: format!("{sizes:?}"),
            });
        }
        Ok(())
    }
}

/// `k` groups of the classes of a graph, none empty: the larger ones first, classes ascending.
///
/// # Errors
/// As of [`Grouping::check`].
pub fn group(graph: &Graph, k: usize, grouping: &Grouping) -> Result<Vec<Vec<usize>>> {
    let v = graph.num_classes();
    grouping.check(v, k)?;
    let mut groups = match &grouping.method {
        Method::Spectral => {
            let mut groups = vec![Vec::new(); k];
            let clusters = spectral::spectral(graph, k, grouping.seed)?;
            clusters.iter().enumerate().for_each(|(class, own)| groups[*own].push(class));
            groups
        }
        Method::Modularity => modularity::communities(graph, k),
        Method::Random { sizes } => random(v, k, sizes.as_deref(), grouping.seed),
    };
    if grouping.balanced && !matches!(grouping.method, Method::Random { .. }) {
        balance::balance(graph, &mut groups);
    }
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort_by_key(|group| (usize::MAX - group.len(), group[0]));
    Ok(groups)
}

fn random(v: usize, k: usize, sizes: Option<&[usize]>, seed: u64) -> Vec<Vec<usize>> {
    let equal = balance::equal_sizes(v, k);
    let sizes = sizes.unwrap_or(&equal);
    let mut classes: Vec<usize> = (0..v).collect();
    classes.shuffle(&mut stream(seed, Purpose::SuperClasses, 0));
    let mut left = classes.into_iter();
    sizes.iter().map(|size| left.by_ref().take(*size).collect()).collect()
}

#[cfg(test)]
mod tests;
