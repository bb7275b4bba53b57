//! Auxiliary losses, means over groups. V-MoE appendix A; GShard (arXiv 2006.16668); z-loss
//! (ST-MoE, arXiv 2202.08906).

use crate::Result;
use sparsely_tensor::Var;

/// CV² of the gates summed over the tokens of a group: clean gates `[T, E]`, groups of S tokens.
///
/// var/mean² instead of (std/mean)², whose gradient at exact balance is NaN.
///
/// # Errors
/// If S does not divide T.
pub fn importance_loss<'t>(gates_te: &Var<'t>, s: usize) -> Result<Var<'t>> {
    Ok(gates_te.sum_groups(s)?.cv_squared()?)
}

/// CV² of the mean chance of each expert to be among a token's `k` under a fresh draw of the
/// noise of standard deviation `sigma`.
///
/// # Errors
/// If S does not divide T.
pub fn load_loss<'t>(
    clean_te: &Var<'t>,
    noisy_te: &Var<'t>,
    k: usize,
    sigma: f32,
    s: usize,
) -> Result<Var<'t>> {
    Ok(clean_te.chance_among_largest(noisy_te, k, sigma)?.sum_groups(s)?.cv_squared()?)
}

/// E² · mean_e(f_e · m_e), f the share of tokens whose largest gate is e, m the mean gate.
///
/// # Errors
/// If S does not divide T.
pub fn gshard_loss<'t>(gates_te: &Var<'t>, s: usize) -> Result<Var<'t>> {
    let [t, e] = gates_te.dims("gshard_loss")?;
    let sums_ge = gates_te.sum_groups(s)?;
    let groups = t / s;
    let mut first_ge = vec![0.0; groups * e];
    for (token, gates) in gates_te.values().chunks(e).enumerate() {
        first_ge[token / s * e + argmax(gates)] += 1.0;
    }
    // E² · (1/E) Σ_e (count_e/S)(sum_e/S), mean over groups.
    let factor = e as f64 / (s * s * groups) as f64;
    first_ge.iter_mut().for_each(|count| *count *= factor);
    Ok(sums_ge.dot_constant(&first_ge)?)
}

/// mean(logsumexp²) of the logits.
///
/// # Errors
/// If the logits are not `[T, E]`.
pub fn z_loss<'t>(logits_te: &Var<'t>) -> Result<Var<'t>> {
    Ok(logits_te.mean_squared_log_sum_exp()?)
}

fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparsely_tensor::{Layout, Pool, Slab, Tape};
    use std::sync::Arc;

    fn value(f: impl for<'t> Fn(&'t Tape<'t>) -> Result<Var<'t>>) -> f32 {
        let params = Slab::zeros(Arc::new(Layout::default()));
        let tape = Tape::inference(&params, &Pool::new());
        f(&tape).unwrap().values()[0]
    }

    #[test]
    fn importance_loss_of_three_to_one_is_a_quarter() {
        // importance = [.9 + .6, .1 + .4] = [1.5, .5]; mean 1; variance .25; CV² = .25
        let loss = value(|tape| importance_loss(&tape.constant([2, 2], &[0.9, 0.1, 0.6, 0.4])?, 2));
        assert!((loss - 0.25).abs() < 1e-6);
    }

    #[test]
    fn gshard_loss_of_perfect_balance_is_one() {
        // f = m = [1/2, 1/2]; E² · mean(1/4, 1/4) = 4 · 1/4 = 1
        let loss = value(|tape| gshard_loss(&tape.constant([2, 2], &[1.0, 0.0, 0.0, 1.0])?, 2));
        assert!((loss - 1.0).abs() < 1e-6);
    }

    #[test]
    fn z_loss_of_two_zeros_is_the_square_of_log_two() {
        let loss = value(|tape| z_loss(&tape.constant([1, 2], &[0.0, 0.0])?));
        assert!((loss - 2.0_f32.ln().powi(2)).abs() < 1e-6);
    }
}
