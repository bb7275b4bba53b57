//! Transport plans: Sinkhorn's in the log domain, and sparse ones by projections onto the simplex.

use super::{Real, Twin, zeros};
use sparsely_tensor as engine;
use sparsely_tensor::Spread;

/// Inputs: x `[G·S, E]`.
pub(crate) struct Sinkhorn {
    pub(crate) settings: engine::Sinkhorn,
    pub(crate) e: usize,
}

fn log_sum_exp<R: Real>(x: &[R]) -> R {
    let max = x.iter().copied().fold(x[0], |a, b| if b > a { b } else { a });
    max + x.iter().map(|x| (*x - max).exp()).sum::<R>().ln()
}

/// exp(x − log Σ exp x).
fn shares<R: Real>(x: &[R]) -> Vec<R> {
    let total = log_sum_exp(x);
    x.iter().map(|x| (*x - total).exp()).collect()
}

impl Sinkhorn {
    /// Potentials (f_s, g_e) after each iteration, from f = 0: columns, then rows.
    fn potentials<R: Real>(&self, x_se: &[R]) -> Vec<(Vec<R>, Vec<R>)> {
        let (s, e) = (x_se.len() / self.e, self.e);
        let mass = R::of((s as f64 / e as f64).ln());
        let mut history = vec![(zeros(s), zeros(e))];
        for _ in 0..self.settings.iterations {
            let f = history.last().expect("a start").0.clone();
            let column = |j: usize| (0..s).map(|i| x_se[i * e + j] + f[i]).collect::<Vec<R>>();
            let g: Vec<R> = (0..e).map(|j| mass - log_sum_exp(&column(j))).collect();
            let row = |i: usize| (0..e).map(|j| x_se[i * e + j] + g[j]).collect::<Vec<R>>();
            let f = (0..s).map(|i| -log_sum_exp(&row(i))).collect();
            history.push((f, g));
        }
        history
    }

    fn scaled<R: Real>(&self, x: &[R]) -> Vec<R> {
        x.iter().map(|x| *x / R::of(self.settings.epsilon.into())).collect()
    }

    fn backward_group<R: Real>(&self, x_se: &[R], dy: &[R]) -> Vec<R> {
        let (s, e) = (x_se.len() / self.e, self.e);
        let history = self.potentials(x_se);
        let (f, g) = history.last().expect("a start");
        let (mut dx, mut df, mut dg) = (zeros(s * e), zeros::<R>(s), zeros::<R>(e));
        for i in 0..s {
            for j in 0..e {
                // T = exp(x + f + g).
                let d = dy[i * e + j] * (x_se[i * e + j] + f[i] + g[j]).exp();
                dx[i * e + j] += d;
                df[i] += d;
                dg[j] += d;
            }
        }
        for step in (1..history.len()).rev() {
            let (g, f_before) = (&history[step].1, &history[step - 1].0);
            for i in 0..s {
                let row: Vec<R> = (0..e).map(|j| x_se[i * e + j] + g[j]).collect();
                for (j, p) in shares(&row).into_iter().enumerate() {
                    dx[i * e + j] -= df[i] * p;
                    dg[j] -= df[i] * p;
                }
            }
            df = zeros(s);
            for j in 0..e {
                let column: Vec<R> = (0..s).map(|i| x_se[i * e + j] + f_before[i]).collect();
                for (i, p) in shares(&column).into_iter().enumerate() {
                    dx[i * e + j] -= dg[j] * p;
                    df[i] -= dg[j] * p;
                }
            }
            dg = zeros(e);
        }
        dx
    }
}

impl<R: Real> Twin<R> for Sinkhorn {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let of_group = |x_se: &[R]| {
            let (f, g) = self.potentials(x_se).pop().expect("a start");
            let plan = |(at, x): (usize, &R)| (*x + f[at / self.e] + g[at % self.e]).exp();
            x_se.iter().enumerate().map(plan).collect::<Vec<R>>()
        };
        let x = self.scaled(&inputs[0]);
        x.chunks(self.settings.group_rows * self.e).flat_map(of_group).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (x, len) = (self.scaled(&inputs[0]), self.settings.group_rows * self.e);
        let groups = x.chunks(len).zip(dy.chunks(len));
        let dx: Vec<R> = groups.flat_map(|(x, dy)| self.backward_group(x, dy)).collect();
        vec![self.scaled(&dx)]
    }
}

/// The largest `k` elements of v projected onto the simplex, the others 0: sorted in
/// descending order, ρ is the last with 1/ρ + v_ρ − Σ_{i≤ρ} v_i / ρ > 0 (Michelot's threshold).
pub(crate) fn project<R: Real>(v: &[R], k: usize) -> Vec<R> {
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_by(|a, b| v[*b].partial_cmp(&v[*a]).expect("no NaN").then(a.cmp(b)));
    order.truncate(k);
    let one = R::of(1.0);
    let mean = |rho: usize| order[..rho].iter().map(|i| v[*i]).sum::<R>() / R::of(rho as f64);
    let is_in =
        |rho: &usize| one / R::of(*rho as f64) + v[order[rho - 1]] - mean(*rho) > R::of(0.0);
    let rho = (1..=order.len()).filter(is_in).max().expect("the largest is in");
    let tau = mean(rho) - one / R::of(rho as f64);
    let mut p = zeros(v.len());
    for i in order {
        p[i] = if v[i] > tau { v[i] - tau } else { R::of(0.0) };
    }
    p
}

/// Inputs: x `[G·S, E]`.
pub(crate) struct SparseTransport {
    pub(crate) settings: engine::SparseTransport,
    pub(crate) e: usize,
}

impl SparseTransport {
    /// Indices of the elements of each spender in a group of `s` rows.
    fn spenders(&self, s: usize) -> Vec<Vec<usize>> {
        let e = self.e;
        match self.settings.spread {
            Spread::Rows => (0..s).map(|i| (0..e).map(|j| i * e + j).collect()).collect(),
            Spread::Columns => (0..e).map(|j| (0..s).map(|i| i * e + j).collect()).collect(),
        }
    }

    fn mass(&self, s: usize) -> f64 {
        if self.settings.spread == Spread::Rows { 1.0 } else { s as f64 / self.e as f64 }
    }

    pub(crate) fn plan<R: Real>(&self, x_se: &[R], prices: &[R]) -> Vec<R> {
        let s = x_se.len() / self.e;
        let mass = R::of(self.mass(s));
        let mut plan = zeros(x_se.len());
        for elements in self.spenders(s) {
            let v: Vec<R> = elements
                .iter()
                .zip(prices)
                .map(|(at, price)| (x_se[*at] + *price) / mass)
                .collect();
            for (at, p) in elements.iter().zip(project(&v, self.settings.support)) {
                plan[*at] = mass * p;
            }
        }
        plan
    }

    /// Adam on the prices, from 0.
    pub(crate) fn prices<R: Real>(&self, x_se: &[R]) -> Vec<R> {
        let s = x_se.len() / self.e;
        let askers = if self.settings.spread == Spread::Rows { self.e } else { s };
        let spenders = self.spenders(s);
        let asked = R::of(self.mass(s) * spenders.len() as f64 / askers as f64);
        let [mut prices, mut m, mut v] = [(); 3].map(|()| zeros::<R>(askers));
        for step in 1..=self.settings.steps {
            let plan = self.plan(x_se, &prices);
            let [c1, c2] = [0.9_f64, 0.999].map(|beta| R::of(1.0 - beta.powi(step as i32)));
            for i in 0..askers {
                let g = spenders.iter().map(|elements| plan[elements[i]]).sum::<R>() - asked;
                m[i] = R::of(0.9) * m[i] + R::of(0.1) * g;
                v[i] = R::of(0.999) * v[i] + R::of(0.001) * g * g;
                let direction = m[i] / c1 / ((v[i] / c2).sqrt() + R::of(1e-8));
                prices[i] -= R::of(self.settings.lr.into()) * direction;
            }
        }
        prices
    }
}

impl<R: Real> Twin<R> for SparseTransport {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let of_group = |x: &[R]| self.plan(x, &self.prices(x));
        inputs[0].chunks(self.settings.group_rows * self.e).flat_map(of_group).collect()
    }

    /// The prices are constants.
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let len = self.settings.group_rows * self.e;
        let of_group = |(x, dy): (&[R], &[R])| at_prices(self, x, &self.prices(x), dy);
        vec![inputs[0].chunks(len).zip(dy.chunks(len)).flat_map(of_group).collect()]
    }
}

fn at_prices<R: Real>(twin: &SparseTransport, x: &[R], prices: &[R], dy: &[R]) -> Vec<R> {
    let plan = twin.plan(x, prices);
    let mut dx = zeros(x.len());
    for elements in twin.spenders(x.len() / twin.e) {
        let support: Vec<usize> =
            elements.into_iter().filter(|at| plan[*at] > R::of(0.0)).collect();
        let mean = support.iter().map(|at| dy[*at]).sum::<R>() / R::of(support.len() as f64);
        support.iter().for_each(|at| dx[*at] = dy[*at] - mean);
    }
    dx
}

/// One group of [`SparseTransport`] at given prices. Inputs: x `[S, E]`.
pub(crate) struct SparsePlan {
    pub(crate) transport: SparseTransport,
    pub(crate) prices: Vec<f64>,
}

impl SparsePlan {
    fn prices<R: Real>(&self) -> Vec<R> {
        self.prices.iter().map(|price| R::of(*price)).collect()
    }
}

impl<R: Real> Twin<R> for SparsePlan {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.transport.plan(&inputs[0], &self.prices())
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![at_prices(&self.transport, &inputs[0], &self.prices(), dy)]
    }
}
