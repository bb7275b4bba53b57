//! Numbers of the authors' SwitchHead, sigma-MoE, MoA and Transformer-XL classes, against our layers.

mod case;
mod layers;
mod model;
mod names;
mod routers;
mod subject;

use crate::agreement::Agreement;
use case::load_cases;

/// Outputs, in single precision on both sides.
pub(crate) const OUTPUT: f64 = 5e-6;
/// Gradients.
pub(crate) const GRADIENT: f64 = 1e-5;
/// Of the whole model, where a looser bound would let a missing regulariser pass.
pub(crate) const MODEL: f64 = 2e-6;

/// Largest absolute difference that agrees.
pub(crate) fn check(
    agreement: &mut Agreement,
    (place, tolerance): (&str, f64),
    ours: &[f32],
    theirs: &[f32],
) {
    let distance = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
    let worst = ours.iter().zip(theirs).map(distance).fold(0.0, f64::max);
    let has_nan = ours.iter().chain(theirs).any(|value| value.is_nan());
    agreement.require(ours.len() == theirs.len() && !has_nan && worst <= tolerance, || {
        format!(
            "{place}: {} against {} values differ by {worst:.2e}, allowed {tolerance:.0e}",
            ours.len(),
            theirs.len()
        )
    });
}

/// Every case; how many were compared.
pub(crate) fn compare(agreement: &mut Agreement) -> usize {
    let cases = load_cases();
    for case in &cases {
        let compared = match case.config.get("cls").and_then(|cls| cls.as_str()) {
            None => model::compare(case, agreement),
            Some(_) => layers::compare(case, agreement),
        };
        if let Err(failure) = compared {
            agreement.fail(format!("{}: {failure}", case.name));
        }
    }
    cases.len()
}

pub(crate) use layers::compare_balancing_losses;
pub(crate) use routers::compare as compare_routers;
