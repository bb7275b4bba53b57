//! Optimisers: one fused pass over the slabs.

use crate::kernel::isa::simd;
use crate::slab::{Layout, Slab};
use rayon::prelude::*;

/// Elements of a task; part of the bits of the global norm.
const TASK: usize = 1 << 15;

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam with decoupled decay (Loshchilov & Hutter, arXiv 1711.05101):
    /// p −= lr · (m̂ / (√v̂ + eps) + decay · p).
    AdamW {
        /// Rate of the first moment.
        beta1: f32,
        /// Rate of the second moment.
        beta2: f32,
        /// Added to √v̂.
        eps: f32,
    },
    /// Momentum: t = g + momentum · t; p −= lr · (t + decay · p).
    Sgd {
        /// Share of the previous step that is kept.
        momentum: f32,
    },
}

/// One optimiser step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The rule.
    pub rule: Rule,
    /// Learning rate.
    pub lr: f32,
    /// Decay, multiplied by each parameter's own factor.
    pub decay: f32,
    /// Number of the step, from 1, for Adam's bias correction.
    pub number: u64,
    /// Factor of the gradients (clipping).
    pub grad_scale: f32,
}

/// The moments that the rule carries from step to step: two slabs for AdamW, one for SGD.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Adam's m, or SGD's trace.
    pub first: Slab,
    /// Adam's v; unused by SGD.
    pub second: Slab,
}

impl Moments {
    /// All zeros.
    pub fn zeros(params: &Slab) -> Moments {
        let zeros = Slab::zeros(params.layout().clone());
        Moments { first: zeros.clone(), second: zeros }
    }
}

/// √Σ g², summed in f64 in a fixed order.
pub fn global_norm(grads: &Slab) -> f64 {
    let squares = |task: &[f32]| task.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let partial: Vec<f64> = grads.values().par_chunks(TASK).map(squares).collect();
    partial.iter().sum::<f64>().sqrt()
}

impl Step {
    /// Moves `params` (and `moments`) by one step; frozen parameters stay.
    pub fn apply(&self, params: &mut Slab, grads: &Slab, moments: &mut Moments) {
        let layout = params.layout().clone();
        let p = cut(&layout, params.values_mut());
        let m = cut(&layout, moments.first.values_mut());
        let v = cut(&layout, moments.second.values_mut());
        let g = layout.views().iter().flat_map(|view| grads.view(&view.param).chunks(TASK));
        let decays = layout.views().iter().flat_map(|view| {
            let tasks = view.param.shape().len().div_ceil(TASK);
            std::iter::repeat_n((!view.frozen).then_some(view.decay * self.decay), tasks)
        });
        let tasks: Vec<_> = p.into_iter().zip(g).zip(m).zip(v).zip(decays).collect();
        tasks.into_par_iter().for_each(|((((p, g), m), v), decay)| {
            let Some(decay) = decay else { return };
            match self.rule {
                Rule::AdamW { beta1, beta2, eps } => {
                    adamw(p, g, m, v, self.adam(beta1, beta2, eps, decay));
                }
                Rule::Sgd { momentum } => sgd(p, g, m, momentum, self.grad_scale, self.lr, decay),
            }
        });
    }

    fn adam(&self, beta1: f32, beta2: f32, eps: f32, decay: f32) -> Adam {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.number.min(1 << 30) as i32);
        Adam {
            beta1,
            beta2,
            eps,
            scale: self.grad_scale,
            // m̂/(√v̂ + eps) = (m/c₁) / (√v/√c₂ + eps)
            m_correction: (1.0 / correction(beta1)) as f32,
            v_correction: (1.0 / correction(beta2)) as f32,
            lr: self.lr,
            decay,
        }
    }
}

/// The views' elements in tasks.
fn cut<'a>(layout: &Layout, mut values: &'a mut [f32]) -> Vec<&'a mut [f32]> {
    let mut tasks = Vec::new();
    let mut position = 0;
    for view in layout.views() {
        let range = view.param.range();
        let (_, rest) = std::mem::take(&mut values).split_at_mut(range.start - position);
        let (own, rest) = rest.split_at_mut(range.len());
        tasks.extend(own.chunks_mut(TASK));
        (values, position) = (rest, range.end);
    }
    tasks
}

#[derive(Clone, Copy)]
struct Adam {
    beta1: f32,
    beta2: f32,
    eps: f32,
    scale: f32,
    m_correction: f32,
    v_correction: f32,
    lr: f32,
    decay: f32,
}

simd! {
    fn adamw<I>(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], a: Adam) {
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let grad = a.scale * g[i];
            m[i] = I::fma(a.beta1, m[i], (1.0 - a.beta1) * grad);
            v[i] = I::fma(a.beta2, v[i], (1.0 - a.beta2) * grad * grad);
            let direction = m[i] * a.m_correction / ((v[i] * a.v_correction).sqrt() + a.eps);
            p[i] -= a.lr * I::fma(a.decay, p[i], direction);
        }
    }
}

simd! {
    fn sgd<I>(p: &mut [f32], g: &[f32], trace: &mut [f32], momentum: f32, scale: f32, lr: f32, decay: f32) {
        for ((p, g), trace) in p.iter_mut().zip(g).zip(trace) {
            *trace = I::fma(momentum, *trace, scale * g);
            *p -= lr * I::fma(decay, *p, *trace);
        }
    }
}
