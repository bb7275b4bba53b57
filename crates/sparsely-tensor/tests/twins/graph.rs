//! Twins that feed twins.

use super::{Both, Real, Twin, zeros};

struct Node {
    op: Box<dyn Both>,
    inputs: Vec<usize>,
}

/// A composition: values are the inputs, then one for each operation; the last is the output.
pub(crate) struct Graph {
    num_inputs: usize,
    nodes: Vec<Node>,
}

impl Graph {
    pub(crate) fn new(num_inputs: usize) -> Graph {
        Graph { num_inputs, nodes: Vec::new() }
    }

    /// Applies `op` to earlier values; returns the number of its output.
    pub(crate) fn push(&mut self, op: impl Both + 'static, inputs: &[usize]) -> usize {
        self.nodes.push(Node { op: Box::new(op), inputs: inputs.to_vec() });
        self.num_inputs + self.nodes.len() - 1
    }

    fn values<R: Real>(&self, inputs: &[Vec<R>]) -> Vec<Vec<R>>
    where
        dyn Both: Twin<R>,
    {
        let mut values = inputs.to_vec();
        for node in &self.nodes {
            values.push(node.op.forward(&inputs_of(node, &values)));
        }
        values
    }
}

fn inputs_of<R: Real>(node: &Node, values: &[Vec<R>]) -> Vec<Vec<R>> {
    node.inputs.iter().map(|i| values[*i].clone()).collect()
}

impl<R: Real> Twin<R> for Graph
where
    dyn Both: Twin<R>,
{
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.values(inputs).pop().expect("a graph has an operation")
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let values = self.values(inputs);
        let mut grads: Vec<Vec<R>> = values.iter().map(|value| zeros(value.len())).collect();
        *grads.last_mut().expect("a graph has an operation") = dy.to_vec();
        for (n, node) in self.nodes.iter().enumerate().rev() {
            let of_node = node.op.backward(&inputs_of(node, &values), &grads[self.num_inputs + n]);
            for (i, contribution) in node.inputs.iter().zip(of_node) {
                grads[*i].iter_mut().zip(contribution).for_each(|(g, c)| *g += c);
            }
        }
        grads.truncate(self.num_inputs);
        grads
    }
}
