//! Numbers of the reference implementation, run on small models, against the library's own.
//!
//! `SPARSELY_GOLDEN=FOLDER` tests the cases of another folder, packed or not.

#[path = "golden/case.rs"]
mod case;

use case::{Case, load_cases};

#[test]
fn golden_cases_load() {
    let cases = load_cases();
    assert!(!cases.is_empty());
    for case in &cases {
        assert!(!case.params.is_empty(), "{}", case.name);
        assert_eq!(case.input.shape.len(), 4, "{}", case.name);
        check_parts(case);
    }
}

/// A case is of evaluation, of gradients or of a trajectory, and has all parts of its kind.
fn check_parts(case: &Case) {
    let name = &case.name;
    let images = case.input.shape[0];
    assert!(case.config.is_object(), "{name}");
    let Some(labels) = &case.labels else {
        assert_eq!(case.logits_f64.as_ref().unwrap().shape[0], images, "{name}");
        assert!(case.aux_f64.unwrap().is_finite(), "{name}");
        return;
    };
    assert_eq!(labels.shape[0], images, "{name}");
    if let Some(trajectory) = &case.trajectory {
        assert!(trajectory.is_object(), "{name}");
        for (key, params) in &case.params_after {
            assert!(params.keys().eq(case.params.keys()), "{name}: {key}");
        }
        assert!(case.params_after.len() >= 4, "{name}");
        return;
    }
    assert!(case.logits.is_some(), "{name}");
    assert!(case.noise.iter().all(|noise| noise.shape.len() == 3), "{name}");
    assert!(case.losses.keys().eq(case.grads.keys()), "{name}");
    assert_eq!(case.losses.len(), 2, "{name}");
    for (kind, losses) in &case.losses {
        assert!((losses.total - losses.main - losses.aux).abs() < 1e-6, "{name}: {kind}");
        assert!(case.grads[kind].keys().eq(case.params.keys()), "{name}: {kind}");
    }
}
