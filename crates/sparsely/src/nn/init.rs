//! Initial values: a layer says what it wants while it is laid out, [`fill`] draws it.

use super::renormalise::{Renormalised, renormalise, scale_to, transpose_into};
use crate::rng::{Purpose, Rng, counter_of, stream};
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use sparsely_tensor::{Layout, Param, Shape, Slab};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same value.
    Constant(f32),
    /// N(0, std²).
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// N(0, 1/fan_in) cut at two standard deviations and rescaled to keep its variance
    /// (`lecun_normal` of the reference).
    LecunNormal {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// U(−a, a) with a = √(6 / (fan_in + fan_out)) (`xavier_uniform`, Glorot & Bengio 2010).
    XavierUniform {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs of one input.
        fan_out: usize,
    },
    /// U(−limit, limit).
    Uniform {
        /// Largest absolute value.
        limit: f32,
    },
    /// A normal cut at two standard deviations, then scaled so that the unbiased standard deviation of
    /// the values drawn is exactly `std` (dense layers of arXiv 2312.07987's code).
    TruncatedExactly {
        /// Standard deviation.
        std: f32,
    },
    /// A router `[D, E]` whose columns are renormalised after N(0, std²) was drawn.
    Router {
        /// Standard deviation.
        std: f32,
        /// E.
        columns: usize,
        /// What a column keeps.
        keeps: Renormalised,
    },
}

/// Standard deviation of N(0, 1) cut at ±2.
const TRUNCATED_STD: f32 = 0.879_625_7;

impl Init {
    fn draw(self, rng: &mut Rng) -> f32 {
        match self {
            Init::Constant(value) => value,
            Init::Normal { std } | Init::Router { std, .. } => std * normal(rng),
            Init::LecunNormal { fan_in } => {
                (1.0 / fan_in as f32).sqrt() / TRUNCATED_STD * truncated(rng)
            }
            Init::TruncatedExactly { std } => std * truncated(rng),
            Init::Uniform { limit } => rng.random_range(-limit..limit),
            Init::XavierUniform { fan_in, fan_out } => {
                let limit = (6.0 / (fan_in + fan_out) as f32).sqrt();
                rng.random_range(-limit..limit)
            }
        }
    }
}

/// N(0, 1) cut at ±2.
fn truncated(rng: &mut Rng) -> f32 {
    loop {
        let z = normal(rng);
        if z.abs() <= 2.0 {
            return z;
        }
    }
}

fn normal(rng: &mut Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Lays out the parameters of a model and remembers how each starts.
#[derive(Default)]
pub struct Initializer {
    layout: Layout,
    plans: Vec<Plan>,
    path: Vec<String>,
}

/// How a parameter is filled: `copies` equal (or separately drawn) parts.
#[derive(Clone, Copy)]
struct Plan {
    init: Init,
    equal_parts: usize,
}

impl Initializer {
    /// Calls `build` with `name/` put before the names of all parameters that it adds.
    pub fn scope<R>(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(name.into());
        let built = build(self);
        self.path.pop();
        built
    }

    /// A weight matrix: takes part in weight decay.
    pub fn kernel(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        self.add(name, shape.into(), init, 1.0, 1)
    }

    /// A stack of weight matrices along the first axis, all equal if `equal`.
    pub fn stack(&mut self, name: &str, shape: impl Into<Shape>, init: Init, equal: bool) -> Param {
        let shape = shape.into();
        let parts = if equal { shape.axes()[0] } else { 1 };
        let param = self.add(name, shape, init, 1.0, parts);
        self.layout.views_mut()[param.index()].stacked = true;
        param
    }

    /// A bias, scale or embedding: exempt from weight decay.
    pub fn vector(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        self.add(name, shape.into(), init, 0.0, 1)
    }

    /// Values that no gradient moves; saved with the model like all others.
    pub fn frozen(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        let param = self.add(name, shape.into(), init, 0.0, 1);
        self.layout.views_mut()[param.index()].frozen = true;
        param
    }

    /// A stack of biases, all equal if `equal`.
    pub fn stacked_vector(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        init: Init,
        equal: bool,
    ) -> Param {
        let shape = shape.into();
        let parts = if equal { shape.axes()[0] } else { 1 };
        self.add(name, shape, init, 0.0, parts)
    }

    fn add(
        &mut self,
        name: &str,
        shape: Shape,
        init: Init,
        decay: f32,
        equal_parts: usize,
    ) -> Param {
        self.plans.push(Plan { init, equal_parts });
        let path = self.path.iter().map(String::as_str).chain([name]);
        self.layout.add(path.collect::<Vec<_>>().join("/"), shape, decay)
    }

    /// The layout alone.
    pub fn into_layout(self) -> Layout {
        self.layout
    }

    /// The layout, with the fresh parameters that `seed` stands for.
    ///
    /// A parameter's start depends on the seed, its name, its shape and how it is initialised, not
    /// on the parameters around it: models that share a part share its start.
    pub fn finish(self, seed: u64) -> Slab {
        let layout = std::sync::Arc::new(self.layout);
        let mut slab = Slab::zeros(layout.clone());
        for (view, plan) in layout.views().iter().zip(&self.plans) {
            let mut rng = stream(seed, Purpose::Init, counter_of(&view.name));
            fill(slab.view_mut(&view.param), plan.init, plan.equal_parts, &mut rng);
        }
        slab
    }
}

/// Draws `values`; with `equal_parts` above 1 the first part is drawn and the others copy it.
pub fn fill(values: &mut [f32], init: Init, equal_parts: usize, rng: &mut Rng) {
    let part = values.len() / equal_parts;
    values[..part].iter_mut().for_each(|value| *value = init.draw(rng));
    match init {
        Init::TruncatedExactly { std } => scale_to(&mut values[..part], std),
        Init::Router { columns, keeps, .. } => {
            let mut rows = values[..part].to_vec();
            let d = part / columns;
            renormalise(&mut rows, d, keeps);
            transpose_into(&rows, d, &mut values[..part]);
        }
        _ => {}
    }
    for copy in 1..equal_parts {
        values.copy_within(..part, copy * part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init) -> (f64, f64, f32) {
        let mut values = vec![0.0; 100_000];
        fill(&mut values, init, 1, &mut stream(0, Purpose::Init, 0));
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 1e5;
        (mean, variance.sqrt(), values.iter().fold(0.0, |max, v| v.abs().max(max)))
    }

    #[test]
    fn lecun_normal_has_variance_one_over_fan_in_and_no_tail() {
        // Cut at 2σ before rescaling: |x| ≤ 2 · √(1/25) / 0.8796 = 0.4547.
        let (mean, std, max) = moments(Init::LecunNormal { fan_in: 25 });
        assert!(
            mean.abs() < 0.003 && (std - 0.2).abs() < 0.002 && max <= 0.4548,
            "{mean} {std} {max}"
        );
    }

    #[test]
    fn xavier_uniform_spans_six_over_the_sum_of_fans() {
        // a = √(6/150) = 0.2; the standard deviation of U(−a, a) is a/√3 = 0.1155.
        let (mean, std, max) = moments(Init::XavierUniform { fan_in: 50, fan_out: 100 });
        assert!(mean.abs() < 0.002 && (std - 0.1155).abs() < 0.001 && max <= 0.2);
    }

    #[test]
    fn a_parameter_starts_the_same_whatever_stands_before_it() {
        let normal = Init::Normal { std: 1.0 };
        let start = |before: &[&str], seed| {
            let mut init = Initializer::default();
            for name in before {
                init.kernel(name, [3, 2], normal);
            }
            let param = init.kernel("w", [2, 2], normal);
            init.finish(seed).view(&param).to_vec()
        };
        assert_eq!(start(&[], 0), start(&["u", "v"], 0));
        assert_ne!(start(&[], 0), start(&[], 1));
    }

    #[test]
    fn equal_parts_are_copies_of_the_first() {
        let mut values = vec![0.0; 12];
        fill(&mut values, Init::Normal { std: 1.0 }, 3, &mut stream(1, Purpose::Init, 0));
        assert_eq!(values[..4], values[4..8]);
        assert_eq!(values[..4], values[8..]);
        assert_ne!(values[0], values[1]);
    }
}
