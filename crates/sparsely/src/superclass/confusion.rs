//! Which classes a model takes for which.

use crate::{Error, Result};

/// A confusion matrix: rows are the classes of images, columns what a model takes them for.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    num_classes: usize,
    mass_vv: Vec<f64>,
    images: usize,
    right: usize,
}

impl Confusion {
    /// No image yet of V classes.
    pub fn new(num_classes: usize) -> Confusion {
        Confusion {
            num_classes,
            mass_vv: vec![0.0; num_classes * num_classes],
            images: 0,
            right: 0,
        }
    }

    /// Counts an image of class `label` whose classes have these probabilities: as one of its most
    /// probable class (the first of equals), or, `by_probability`, as a share of each.
    pub fn add(&mut self, label: u32, probabilities_v: &[f64], by_probability: bool) {
        let largest = |best: usize, v: usize| {
            if probabilities_v[v] > probabilities_v[best] { v } else { best }
        };
        let taken_for = (1..probabilities_v.len()).fold(0, largest);
        let row = &mut self.mass_vv[label as usize * self.num_classes..][..self.num_classes];
        if by_probability {
            row.iter_mut().zip(probabilities_v).for_each(|(mass, p)| *mass += p);
        } else {
            row[taken_for] += 1.0;
        }
        self.images += 1;
        self.right += usize::from(taken_for == label as usize);
    }

    /// V.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Images that were counted.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Share of the images that were taken for what they are.
    pub fn top1(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    /// Share of the images of a class that is taken for another one, `[V, V]`; rows sum to 1, or to 0
    /// where a class has no image.
    pub fn shares(&self) -> Vec<f64> {
        let of_row = |row: &[f64]| {
            let sum: f64 = row.iter().sum();
            row.iter().map(|mass| if sum > 0.0 { mass / sum } else { 0.0 }).collect::<Vec<_>>()
        };
        self.mass_vv.chunks(self.num_classes.max(1)).flat_map(of_row).collect()
    }

    /// The graph of its confusions.
    ///
    /// # Errors
    /// If no class is taken for another: there is nothing to group by.
    pub fn graph(&self) -> Result<Graph> {
        let (v, shares) = (self.num_classes, self.shares());
        let weight = |i: usize, j: usize| {
            if i == j { 0.0 } else { (shares[i * v + j] + shares[j * v + i]) / 2.0 }
        };
        let weights_vv: Vec<f64> = (0..v * v).map(|at| weight(at / v, at % v)).collect();
        if weights_vv.iter().all(|weight| *weight == 0.0) {
            return Err(Error::Argument {
                op: "super-classes",
                expected: "a model that confuses classes (or their probabilities: --soft)".into(),
                got: format!("one that is right about all of {} images", self.images),
            });
        }
        Ok(Graph { num_classes: v, weights_vv })
    }
}

/// Classes with the weight of their confusion: symmetric, nothing on the diagonal.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    num_classes: usize,
    weights_vv: Vec<f64>,
}

impl Graph {
    /// V.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Half of the shares of either class that are taken for the other one.
    pub fn weight(&self, one: usize, other: usize) -> f64 {
        self.weights_vv[one * self.num_classes + other]
    }

    /// Sum of a class's weights.
    pub fn degree(&self, class: usize) -> f64 {
        self.weights_vv[class * self.num_classes..][..self.num_classes].iter().sum()
    }

    /// Sum of the weights of a class to those of a group.
    pub fn link(&self, class: usize, group: &[usize]) -> f64 {
        group.iter().map(|other| self.weight(class, *other)).sum()
    }

    /// Share of all confusion that lies within a group, in [0, 1].
    pub fn kept_share(&self, group: &[usize]) -> f64 {
        let within: f64 = group.iter().map(|class| self.link(*class, group)).sum();
        within / self.weights_vv.iter().sum::<f64>()
    }

    /// Newman's modularity: what lies within groups beyond what would by the degrees alone.
    pub fn modularity(&self, groups: &[Vec<usize>]) -> f64 {
        let total: f64 = self.weights_vv.iter().sum();
        let of_group = |group: &Vec<usize>| {
            let degrees: f64 = group.iter().map(|class| self.degree(*class)).sum();
            self.kept_share(group) - (degrees / total).powi(2)
        };
        groups.iter().map(of_group).sum()
    }
}

/// Share of all pairs of different classes that lie within groups: what random confusion would keep.
pub fn chance_share(groups: &[Vec<usize>]) -> f64 {
    let classes: usize = groups.iter().map(Vec::len).sum();
    let pairs: usize = groups.iter().map(|group| group.len() * (group.len().max(1) - 1)).sum();
    pairs as f64 / (classes * (classes.max(1) - 1)).max(1) as f64
}
