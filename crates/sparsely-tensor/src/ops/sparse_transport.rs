//! Sparsity-constrained transport plans (Liu, Puigcerver & Blondel, arXiv 2209.15466).

use crate::kernel::transpose::transpose;
use crate::tape::Var;
use crate::{DType, Error, Result};
use rayon::prelude::*;

/// Below this many elements a group is one task.
const SMALL: usize = 1 << 14;

/// Who spreads mass over whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each row spreads 1 over at most `support` columns, which ask for S/E each.
    Rows,
    /// Each column spreads S/E over at most `support` rows, which ask for 1 each.
    Columns,
}

/// How a plan is looked for: Adam on the prices α of what is asked for, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseTransport {
    /// S: rows of a group.
    pub group_rows: usize,
    /// Who spreads mass.
    pub spread: Spread,
    /// Over how many others at most.
    pub support: usize,
    /// Steps of Adam.
    pub steps: usize,
    /// Their rate.
    pub lr: f32,
}

impl<'t> Var<'t> {
    /// The plan of each group for similarities x `[G·S, E]`: T_j = b · p_j with p_j the projection of the largest
    /// `support` elements of (α + x_j)/b onto the simplex, where each spender j has mass b, and α
    /// after some steps of Adam on the semi-dual Σ_j Ω*_b(α + x_j) − ⟨α, marginal⟩.
    ///
    /// What a spender spreads is b always; what is asked for is met only once α has converged.
    /// The backward pass takes α as a constant and centres the gradient on each spender's support.
    ///
    /// # Errors
    /// If the groups do not divide the rows, or the support is 0.
    pub fn sparse_transport(&self, settings: &SparseTransport) -> Result<Var<'t>> {
        let [t, e] = self.dims("sparse_transport")?;
        let &SparseTransport { group_rows: s, spread, support, .. } = settings;
        if s == 0 || !t.is_multiple_of(s) || support == 0 {
            let expected = format!("a divisor of {t} rows, a support of at least 1");
            return Err(Error::shape("sparse_transport", expected, format!("{s} rows, {support}")));
        }
        let tape = self.tape;
        let mut y = tape.take(t * e);
        let groups = y.as_f32_mut().par_chunks_mut(s * e).zip(self.values().par_chunks(s * e));
        groups.for_each(|(plan_se, x_se)| match spread {
            Spread::Rows => settings.solve(x_se, plan_se, e),
            Spread::Columns => {
                let (mut x_es, mut plan_es) = (vec![0.0; s * e], vec![0.0; s * e]);
                transpose(x_se, e, &mut x_es);
                settings.solve(&x_es, &mut plan_es, s);
                transpose(&plan_es, s, plan_se);
            }
        });

        let out = tape.grad_id_if(&[self]);
        let var = tape.var(self.shape, y, out);
        let (x, plan) = (self.grad, std::sync::Arc::clone(&var.value));
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.take(DType::F32, t * e);
            let groups = dx.as_f32_mut().par_chunks_mut(s * e).zip(plan.as_f32().par_chunks(s * e));
            groups.zip(dy.as_f32().par_chunks(s * e)).for_each(|((dx, plan), dy)| match spread {
                Spread::Rows => (0..s).for_each(|row| centre(plan, dy, dx, [row * e, 1, e])),
                Spread::Columns => (0..e).for_each(|column| centre(plan, dy, dx, [column, e, s])),
            });
            backward.give(x, dx);
        });
        Ok(var)
    }
}

/// dx = dy − mean(dy) on the support of one spender, whose `len` elements begin at `first`.
fn centre(plan: &[f32], dy: &[f32], dx: &mut [f32], [first, stride, len]: [usize; 3]) {
    let elements = || (0..len).map(|i| first + i * stride);
    let on_support = || elements().filter(|i| plan[*i] > 0.0);
    let mean = on_support().map(|i| f64::from(dy[i])).sum::<f64>() / on_support().count() as f64;
    for i in elements() {
        dx[i] = if plan[i] > 0.0 { (f64::from(dy[i]) - mean) as f32 } else { 0.0 };
    }
}

impl SparseTransport {
    /// `x` `[J, I]` with a row for each of J spenders and a column for each of I askers.
    fn solve(&self, x: &[f32], plan: &mut [f32], askers: usize) {
        let spenders = x.len() / askers;
        // All that is spent is asked for: J · b = I · a, and the side of the tokens has mass 1.
        let (mass, asked) = match self.spread {
            Spread::Rows => (1.0, spenders as f64 / askers as f64),
            Spread::Columns => (askers as f64 / spenders as f64, 1.0),
        };
        let mut adam = Adam::new(askers, f64::from(self.lr));
        for _ in 0..self.steps {
            self.plan(x, &adam.prices, plan, mass as f32);
            let mut gradient = vec![-asked; askers];
            for plan in plan.chunks(askers) {
                gradient.iter_mut().zip(plan).for_each(|(sum, t)| *sum += f64::from(*t));
            }
            adam.step(&gradient);
        }
        self.plan(x, &adam.prices, plan, mass as f32);
    }

    /// The plan at given prices.
    fn plan(&self, x: &[f32], prices: &[f32], plan: &mut [f32], mass: f32) {
        let askers = prices.len();
        let each = |keys: &mut Vec<u64>, (plan, x): (&mut [f32], &[f32])| {
            project(x, prices, mass, self.support, plan, keys);
        };
        if x.len() < SMALL {
            let mut keys = Vec::new();
            plan.chunks_mut(askers).zip(x.chunks(askers)).for_each(|pair| each(&mut keys, pair));
        } else {
            let pairs = plan.par_chunks_mut(askers).zip(x.par_chunks(askers));
            pairs.for_each_init(Vec::new, each);
        }
    }
}

/// mass · p, p the projection of the `support` largest elements of (prices + x)/mass onto the
/// simplex, the others 0; ties to the lower index. `keys` is working memory.
fn project(
    x: &[f32],
    prices: &[f32],
    mass: f32,
    support: usize,
    plan: &mut [f32],
    keys: &mut Vec<u64>,
) {
    for ((value, x), price) in plan.iter_mut().zip(x).zip(prices) {
        *value = (x + price) / mass;
    }
    keys.clear();
    keys.extend(plan.iter().enumerate().map(|(i, value)| descending(*value) << 32 | i as u64));
    if support < keys.len() {
        keys.select_nth_unstable(support - 1);
        keys.truncate(support);
    }
    // The threshold τ with Σ max(v − τ, 0) = 1, from all elements on: whoever is below the one
    // that the others would have is out (Michelot 1986).
    let mut threshold = f64::NEG_INFINITY;
    loop {
        let sum: f64 = keys.iter().map(|key| f64::from(plan[*key as u32 as usize])).sum();
        let next = (sum - 1.0) / keys.len() as f64;
        let before = keys.len();
        keys.retain(|key| f64::from(plan[*key as u32 as usize]) > next);
        threshold = if keys.is_empty() { threshold } else { next };
        if keys.len() == before || keys.is_empty() {
            break;
        }
    }
    let chosen: Vec<(usize, f32)> = keys
        .iter()
        .map(|key| *key as u32 as usize)
        .map(|i| (i, (f64::from(mass) * (f64::from(plan[i]) - threshold)) as f32))
        .collect();
    plan.fill(0.0);
    chosen.into_iter().for_each(|(i, value)| plan[i] = value);
}

/// A number that is smaller for larger `value`.
fn descending(value: f32) -> u64 {
    let bits = value.to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!ascending)
}

/// Adam without decay, at its usual rates.
struct Adam {
    prices: Vec<f32>,
    first: Vec<f64>,
    second: Vec<f64>,
    lr: f64,
    steps: i32,
}

impl Adam {
    fn new(len: usize, lr: f64) -> Adam {
        Adam { prices: vec![0.0; len], first: vec![0.0; len], second: vec![0.0; len], lr, steps: 0 }
    }

    fn step(&mut self, gradient: &[f64]) {
        self.steps += 1;
        let [c1, c2] = [0.9_f64, 0.999].map(|beta| 1.0 - beta.powi(self.steps));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((price, (m, v)), g) in self.prices.iter_mut().zip(moments).zip(gradient) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *price -= (self.lr * (*m / c1) / ((*v / c2).sqrt() + 1e-8)) as f32;
        }
    }
}
