//! The sums over groups of rows from which auxiliary losses are made, in f64 inside.

use crate::kernel::isa::Fused;
use crate::kernel::math::erf;
use crate::tape::{Var, Write};
use crate::{Error, Result, Shape};

impl<'t> Var<'t> {
    /// Sums over each group of `group_rows` rows: `[G·S, E]` → `[G, E]`.
    ///
    /// # Errors
    /// If the groups do not divide the rows.
    pub fn sum_groups(&self, group_rows: usize) -> Result<Var<'t>> {
        let [t, e] = self.dims("sum_groups")?;
        if group_rows == 0 || !t.is_multiple_of(group_rows) {
            let expected = format!("a divisor of {t} rows");
            return Err(Error::shape("sum_groups", expected, format!("{group_rows}")));
        }
        let (tape, groups) = (self.tape, t / group_rows);
        let mut y = tape.take(groups * e);
        for (g, y) in y.as_f32_mut().chunks_mut(e).enumerate() {
            let rows = &self.values()[g * group_rows * e..][..group_rows * e];
            for (column, y) in y.iter_mut().enumerate() {
                *y = rows.iter().skip(column).step_by(e).map(|v| f64::from(*v)).sum::<f64>() as f32;
            }
        }
        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, dy| {
            backward.contribute(x, t * e, |dx, write| {
                for (row, dx) in dx.chunks_mut(e).enumerate() {
                    let dy = &dy.as_f32()[row / group_rows * e..][..e];
                    put(dx, dy.iter().copied(), write);
                }
            });
        });
        Ok(tape.var(Shape::from([groups, e]), y, out))
    }

    /// Mean over rows of var/mean² (population) of each row: `[G, E]` → one element.
    ///
    /// # Errors
    /// If there are not two axes.
    pub fn cv_squared(&self) -> Result<Var<'t>> {
        let [g, e] = self.dims("cv_squared")?;
        let mut total = 0.0;
        let mut slopes = Vec::with_capacity(g * e);
        for row in self.values().chunks(e) {
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / e as f64;
            let variance =
                row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / e as f64;
            let cv2 = variance / mean.powi(2);
            total += cv2;
            // d(var/mean²)/dx = 2(x − mean)/(E mean²) − 2 var/(E mean³)
            slopes.extend(row.iter().map(|v| {
                2.0 * ((f64::from(*v) - mean) / mean - cv2) / (e as f64 * mean * g as f64)
            }));
        }
        Ok(self.scalar_with_slopes(total / g as f64, slopes))
    }

    /// Σ m ln m with m = x / `count`, for sums x of shares over so many rows → one element. 0 ln 0 is 0.
    pub fn negative_entropy(&self, count: usize) -> Var<'t> {
        let share = |x: &f32| f64::from(*x) / count as f64;
        let log = |m: f64| if m > 0.0 { m.ln() } else { 0.0 };
        let total = self.values().iter().map(share).map(|m| m * log(m)).sum();
        let slopes = self.values().iter().map(share).map(|m| (log(m) + 1.0) / count as f64);
        self.scalar_with_slopes(total, slopes.collect())
    }

    /// Σ c·x with fixed coefficients, one an element → one element.
    ///
    /// # Errors
    /// If the number of coefficients is not that of the elements.
    pub fn dot_constant(&self, coefficients: &[f64]) -> Result<Var<'t>> {
        if coefficients.len() != self.shape.len() {
            let expected = format!("{} coefficients", self.shape.len());
            return Err(Error::shape("dot_constant", expected, format!("{}", coefficients.len())));
        }
        let total = self.values().iter().zip(coefficients).map(|(x, c)| f64::from(*x) * c).sum();
        Ok(self.scalar_with_slopes(total, coefficients.to_vec()))
    }

    /// Mean over rows of log(Σ eˣ)²: `[T, E]` → one element.
    ///
    /// # Errors
    /// If there are not two axes.
    pub fn mean_squared_log_sum_exp(&self) -> Result<Var<'t>> {
        let [t, e] = self.dims("mean_squared_log_sum_exp")?;
        let mut total = 0.0;
        let mut slopes = Vec::with_capacity(t * e);
        for row in self.values().chunks(e) {
            let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let lse = max + row.iter().map(|x| (f64::from(*x) - max).exp()).sum::<f64>().ln();
            total += lse * lse;
            slopes.extend(row.iter().map(|x| 2.0 * lse * (f64::from(*x) - lse).exp() / t as f64));
        }
        Ok(self.scalar_with_slopes(total / t as f64, slopes))
    }

    fn scalar_with_slopes(&self, value: f64, slopes: Vec<f64>) -> Var<'t> {
        let tape = self.tape;
        let out = tape.grad_id_if(&[self]);
        let (x, len) = (self.grad, self.shape.len());
        tape.record(out, move |backward, dy| {
            let factor = f64::from(dy.as_f32()[0]);
            backward.contribute(x, len, |dx, write| {
                put(dx, slopes.iter().map(|slope| (factor * slope) as f32), write);
            });
        });
        tape.var(Shape::from([1]), tape.pool().copy_of(&[value as f32]), out)
    }

    /// p_te = 1 − Φ((θ_t − x_te)/σ), θ_t the `k`-th largest of row t of `noisy`: the chance
    /// that a fresh draw of the noise puts entry e among the largest `k`. `[T, E]` twice → `[T, E]`.
    ///
    /// # Errors
    /// If the shapes differ or `k` is not in 1..=E.
    pub fn chance_among_largest(&self, noisy: &Var<'t>, k: usize, sigma: f32) -> Result<Var<'t>> {
        let [t, e] = self.dims("chance_among_largest")?;
        if noisy.shape != self.shape || k == 0 || k > e {
            let expected = format!("noisy {:?} and k in 1..={e}", self.shape);
            let got = format!("noisy {:?} and k {k}", noisy.shape);
            return Err(Error::shape("chance_among_largest", expected, got));
        }
        let tape = self.tape;
        let mut y = tape.take(t * e);
        let (mut slopes, mut thresholds) = (Vec::with_capacity(t * e), Vec::with_capacity(t));
        let rows = self.values().chunks(e).zip(noisy.values().chunks(e));
        for ((x, noisy), y) in rows.zip(y.as_f32_mut().chunks_mut(e)) {
            let at = kth_largest(noisy, k);
            thresholds.push(at);
            for (x, y) in x.iter().zip(y) {
                let z = (noisy[at] - x) / sigma;
                *y = 0.5 - 0.5 * erf::<Fused>(z * std::f32::consts::FRAC_1_SQRT_2);
                slopes.push((-0.5 * z * z).exp() / (sigma * (std::f32::consts::TAU).sqrt()));
            }
        }
        let out = tape.grad_id_if(&[self, noisy]);
        let (x, noisy) = (self.grad, noisy.grad);
        tape.record(out, move |backward, dy| {
            let d: Vec<f32> = dy.as_f32().iter().zip(&slopes).map(|(d, s)| d * s).collect();
            backward.contribute(x, t * e, |dx, write| put(dx, d.iter().copied(), write));
            backward.contribute(noisy, t * e, |dn, write| {
                if write == Write::Replace {
                    dn.fill(0.0);
                }
                for ((dn, d), at) in dn.chunks_mut(e).zip(d.chunks(e)).zip(&thresholds) {
                    dn[*at] -= d.iter().sum::<f32>();
                }
            });
        });
        Ok(tape.var(self.shape, y, out))
    }
}

/// Index of the `k`-th largest element; of equal elements the first counts as larger.
fn kth_largest(row: &[f32], k: usize) -> usize {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
    order[k - 1]
}

fn put(dx: &mut [f32], values: impl Iterator<Item = f32>, write: Write) {
    for (d, v) in dx.iter_mut().zip(values) {
        match write {
            Write::Replace => *d = v,
            Write::Add => *d += v,
        }
    }
}
