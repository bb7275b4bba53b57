//! Auxiliary losses, means over groups. V-MoE appendix A; GShard (arXiv 2006.16668); z-loss
//! (ST-MoE, arXiv 2202.08906); entropy of usage (sigma-MoE, arXiv 2310.10837).

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

/// Σ m ln m, m the mean over all tokens of softmax(logits), whatever the gate is: the negative entropy of how the
/// experts are used. Logits `[T, R·E]` are those of R routers of E experts each, whose losses are summed: from
/// −R ln E, where all are used alike, to 0, where each router knows one expert alone.
///
/// # Errors
/// If E does not divide the logits of a token.
pub fn usage_entropy_loss<'t>(logits_tn: &Var<'t>, e: usize) -> Result<Var<'t>> {
    let [t, n] = logits_tn.dims("usage_entropy_loss")?;
    let shares_tn = logits_tn.reshape([t * n / e.max(1), e])?.softmax().reshape([t, n])?;
    Ok(shares_tn.sum_groups(t)?.negative_entropy(t))
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
    fn usage_entropy_loss_is_a_sum_over_routers() {
        // Two tokens, two routers of two experts. Softmax (¾, ¼) and (¼, ¾): mean ½ each, −ln 2. Softmax (½, ½)
        // and (1, 0) as far as f32 goes: mean (¾, ¼), ¾ ln ¾ + ¼ ln ¼.
        let l = 3.0_f32.ln();
        let logits = [l, 0.0, 1.0, 1.0, 0.0, l, 200.0, 0.0];
        let loss = value(|tape| usage_entropy_loss(&tape.constant([2, 4], &logits)?, 2));
        let expected = -2.0_f32.ln() + 0.75 * 0.75_f32.ln() + 0.25 * 0.25_f32.ln();
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    /// The gradient on the tape against central differences of plain loops in f64.
    #[test]
    fn usage_entropy_loss_has_the_slope_of_its_formula() {
        let (t, r, e) = (5, 2, 3);
        let twin = |logits: &[f64]| -> f64 {
            let mut m = vec![0.0; r * e];
            for (row, logits) in logits.chunks(e).enumerate() {
                let total: f64 = logits.iter().map(|l| l.exp()).sum();
                for (i, logit) in logits.iter().enumerate() {
                    m[row % r * e + i] += logit.exp() / total / t as f64;
                }
            }
            m.iter().map(|m| m * m.ln()).sum()
        };
        let logits: Vec<f32> = (0..t * r * e).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect();
        let mut layout = Layout::default();
        let param = layout.add("logits", [t, r * e], 0.0);
        let mut params = Slab::zeros(Arc::new(layout));
        params.view_mut(&param).copy_from_slice(&logits);
        let pool = Pool::new();
        let tape = Tape::recording(&params, &pool);
        let loss = usage_entropy_loss(&tape.param(&param), e).unwrap();
        let mut grads = Slab::zeros(params.layout().clone());
        tape.backward(&loss, &mut grads).unwrap();
        let exact: Vec<f64> = logits.iter().map(|l| f64::from(*l)).collect();
        assert!((f64::from(loss.values()[0]) - twin(&exact)).abs() < 1e-6);
        for (i, grad) in grads.view(&param).iter().enumerate() {
            const H: f64 = 1e-5;
            let at = |step: f64| {
                let mut moved = exact.clone();
                moved[i] += step;
                twin(&moved)
            };
            // Gradients around 0.1 in f32.
            let slope = (at(H) - at(-H)) / (2.0 * H);
            assert!((f64::from(*grad) - slope).abs() < 1e-7, "{i}: {grad} for {slope}");
        }
    }

    #[test]
    fn z_loss_of_two_zeros_is_the_square_of_log_two() {
        let loss = value(|tape| z_loss(&tape.constant([1, 2], &[0.0, 0.0])?));
        assert!((loss - 2.0_f32.ln().powi(2)).abs() < 1e-6);
    }
}
