//! Entropic transport plans by Sinkhorn's iterations (Cuturi 2013, arXiv 1306.0895).
//!
//! The iterations scale rows and columns of K = exp(logits) in turn. In the log domain each of
//! them takes an exponential of every element; here K is taken once, shifted so that each row and each column
//! has a largest element of 1. The shifts cancel in the plan, so that the two forms agree but
//! for rounding, as long as no element is below e^−60 of the largest of its row and column. Smaller
//! ones count as e^−60, which keeps every scaling within the range of f32.

use crate::kernel::elementwise::{axpy, dot};
use crate::kernel::isa::simd;
use crate::kernel::transpose::transpose;
use crate::kernel::{math, reduce};
use crate::tape::Var;
use crate::{DType, Error, Result};
use rayon::prelude::*;

/// Logarithm of the smallest element of K, relative to the largest of its row and column.
const FLOOR: f32 = -60.0;

/// Sinkhorn's iterations on groups of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinkhorn {
    /// S: rows of a group; each row sums to 1, each column to S/E.
    pub group_rows: usize,
    /// Scalings of all columns, each followed by one of all rows.
    pub iterations: usize,
    /// Weight of the entropy.
    pub epsilon: f32,
}

impl<'t> Var<'t> {
    /// The plan diag(u) exp(x/ε) diag(v) of each group: `[G·S, E]` → `[G·S, E]`. It maximises
    /// ⟨T, x⟩ + ε H(T) once it has converged; its rows sum to 1 always, its columns to S/E then.
    ///
    /// The backward pass goes through the iterations.
    ///
    /// # Errors
    /// If the groups do not divide the rows, or there is no iteration.
    pub fn sinkhorn(&self, settings: &Sinkhorn) -> Result<Var<'t>> {
        let [t, e] = self.dims("sinkhorn")?;
        let &Sinkhorn { group_rows: s, iterations, epsilon } = settings;
        if s == 0 || !t.is_multiple_of(s) || iterations == 0 || epsilon.is_nan() || epsilon <= 0.0 {
            let expected = format!("a divisor of {t} rows, at least one iteration, ε above 0");
            let got = format!("{s} rows, {iterations} iterations, ε {epsilon}");
            return Err(Error::shape("sinkhorn", expected, got));
        }
        let tape = self.tape;
        let mut y = tape.take(t * e);
        let groups = y.as_f32_mut().par_chunks_mut(s * e).zip(self.values().par_chunks(s * e));
        groups.for_each(|(plan, logits)| {
            let mut scaling = Scaling::new(logits, e, epsilon);
            (0..iterations).for_each(|_| scaling.iterate());
            scaling.write_plan(plan);
        });

        let out = tape.grad_id_if(&[self]);
        let x = self.clone_saved();
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.take(DType::F32, t * e);
            let groups =
                dx.as_f32_mut().par_chunks_mut(s * e).zip(x.value.as_f32().par_chunks(s * e));
            groups.zip(dy.as_f32().par_chunks(s * e)).for_each(|((dx, logits), dy)| {
                let scaling = Scaling::new(logits, e, epsilon);
                scaling.backward(iterations, dy, dx, epsilon);
            });
            backward.give(x.grad, dx);
        });
        Ok(tape.var(self.shape, y, out))
    }
}

/// The state of one group. Columns lie one after the other, so that loops run along rows.
struct Scaling {
    /// `[E, S]`.
    k_es: Vec<f32>,
    u_s: Vec<f32>,
    v_e: Vec<f32>,
    sums_s: Vec<f32>,
}

impl Scaling {
    fn new(logits_se: &[f32], e: usize, epsilon: f32) -> Scaling {
        let s = logits_se.len() / e;
        let mut k_es = vec![0.0; s * e];
        let mut u_s = vec![0.0; s];
        transpose(logits_se, e, &mut k_es);
        shifted_exp(&mut k_es, &mut u_s, 1.0 / epsilon);
        Scaling { k_es, u_s, v_e: vec![0.0; e], sums_s: vec![0.0; s] }
    }

    fn mass(&self) -> f32 {
        (self.u_s.len() as f64 / self.v_e.len() as f64) as f32
    }

    /// Columns, then rows.
    fn iterate(&mut self) {
        let (mass, s) = (self.mass(), self.u_s.len());
        self.sums_s.fill(0.0);
        for (k_s, v) in self.k_es.chunks(s).zip(&mut self.v_e) {
            *v = mass / dot(k_s, &self.u_s);
            axpy(&mut self.sums_s, *v, k_s);
        }
        for (u, sum) in self.u_s.iter_mut().zip(&self.sums_s) {
            *u = 1.0 / sum;
        }
    }

    fn write_plan(&self, plan_se: &mut [f32]) {
        let (s, e) = (self.u_s.len(), self.v_e.len());
        for (column, (k_s, v)) in self.k_es.chunks(s).zip(&self.v_e).enumerate() {
            for row in 0..s {
                plan_se[row * e + column] = self.u_s[row] * k_s[row] * v;
            }
        }
    }

    /// With the cotangents of u, v and K: the last row scaling u = 1/(K v) and the column scaling
    /// v = b/(Kᵀ u₋) before it, and so on to the first.
    fn backward(mut self, iterations: usize, dy_se: &[f32], dx_se: &mut [f32], epsilon: f32) {
        let (s, e) = (self.u_s.len(), self.v_e.len());
        let (mut us, mut vs) = (vec![self.u_s.clone()], Vec::new());
        for _ in 0..iterations {
            self.iterate();
            us.push(self.u_s.clone());
            vs.push(self.v_e.clone());
        }
        let mut dk_es = vec![0.0; s * e];
        transpose(dy_se, e, &mut dk_es);
        let (mut du_s, mut dv_e) = (vec![0.0; s], vec![0.0; e]);
        for (column, (dk_s, k_s)) in dk_es.chunks_mut(s).zip(self.k_es.chunks(s)).enumerate() {
            let v = self.v_e[column];
            for row in 0..s {
                let dt = dk_s[row];
                du_s[row] += dt * k_s[row] * v;
                dv_e[column] += dt * k_s[row] * self.u_s[row];
                dk_s[row] = dt * self.u_s[row] * v;
            }
        }
        let mass = self.mass();
        for step in (0..iterations).rev() {
            let (u_s, v_e, before_s) = (&us[step + 1], &vs[step], &us[step]);
            let d_sums: Vec<f32> = du_s.iter().zip(u_s).map(|(du, u)| -du * u * u).collect();
            du_s.fill(0.0);
            for (column, (dk_s, k_s)) in dk_es.chunks_mut(s).zip(self.k_es.chunks(s)).enumerate() {
                let v = v_e[column];
                axpy(dk_s, v, &d_sums);
                let d_sum = -(dv_e[column] + dot(k_s, &d_sums)) * v * v / mass;
                axpy(dk_s, d_sum, before_s);
                axpy(&mut du_s, d_sum, k_s);
            }
            dv_e.fill(0.0);
        }
        let smallest = FLOOR.exp() * 1.0001;
        for (column, (dk_s, k_s)) in dk_es.chunks(s).zip(self.k_es.chunks(s)).enumerate() {
            for row in 0..s {
                // What counts as the floor does not move with its logit.
                let slope = if k_s[row] > smallest { k_s[row] / epsilon } else { 0.0 };
                dx_se[row * e + column] = dk_s[row] * slope;
            }
        }
    }
}

simd! {
    /// `x` `[E, S]` times `factor` to K; `u` gets the exponentials of the row shifts.
    fn shifted_exp<I>(x: &mut [f32], u: &mut [f32], factor: f32) {
        let s = u.len();
        u.fill(f32::NEG_INFINITY);
        for x in x.chunks_exact_mut(s) {
            for (x, max) in x.iter_mut().zip(u.iter_mut()) {
                *x *= factor;
                *max = if *x > *max { *x } else { *max };
            }
        }
        for x in x.chunks_exact_mut(s) {
            for (x, max) in x.iter_mut().zip(u.iter()) {
                *x -= max;
            }
            let shift = reduce::max(x);
            for x in x.iter_mut() {
                let shifted = *x - shift;
                *x = math::exp::<I>(if shifted < FLOOR { FLOOR } else { shifted });
            }
        }
        let shift = reduce::max(u);
        for u in u.iter_mut() {
            let shifted = *u - shift;
            *u = math::exp::<I>(if shifted < FLOOR { FLOOR } else { shifted });
        }
    }
}
