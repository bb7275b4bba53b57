//! Numbers of the reference implementation, run on small models, against the library's own.
//!
//! `SPARSELY_GOLDEN=FOLDER` tests the cases of another folder, packed or not: its own, and those of its
//! folders `vision` and `language`.

#[path = "golden/agreement.rs"]
mod agreement;
#[path = "golden/case.rs"]
mod case;
#[path = "golden/language/mod.rs"]
mod language;
#[path = "golden/losses.rs"]
mod losses;
#[path = "golden/native.rs"]
mod native;
#[path = "golden/positions.rs"]
mod positions;
#[path = "golden/routers.rs"]
mod routers;
#[path = "golden/run.rs"]
mod run;
#[path = "golden/schedules.rs"]
mod schedules;
#[path = "golden/subject.rs"]
mod subject;
#[path = "golden/trajectory.rs"]
mod trajectory;
#[path = "golden/units.rs"]
mod units;

use agreement::Agreement;
use case::{Case, load_cases};

#[test]
fn golden_cases_agree_with_the_reference() {
    let mut agreement = Agreement::default();
    let census = run::run(&load_cases(), &mut agreement);
    let unsupported = &census.unsupported;
    println!("checked {}, unsupported {}", census.checked, unsupported.len());
    unsupported.iter().for_each(|name| println!("unsupported: {name}"));
    agreement.require(census.checked > 0, || "no case was compared".into());
    agreement.require(unsupported.is_empty(), || format!("unsupported are {unsupported:?}"));
    agreement.finish();
}

#[test]
fn golden_bf16_cases_agree_where_nothing_is_rounded() {
    let mut agreement = Agreement::default();
    let checked = run::run_without_rounding(load_cases(), &mut agreement);
    let is_committed = std::env::var_os("SPARSELY_GOLDEN").is_none();
    agreement.require(checked > 0 || !is_committed, || "no case was compared".into());
    agreement.finish();
}

#[test]
fn golden_language_cases_agree_with_the_reference() {
    let mut agreement = Agreement::default();
    let checked = language::compare(&mut agreement);
    println!("checked {checked}");
    let is_committed = std::env::var_os("SPARSELY_GOLDEN").is_none();
    agreement.require(checked > 0 || !is_committed, || "no case was compared".into());
    agreement.finish();
}

#[test]
fn golden_language_routers_start_alike() {
    all_agree(language::compare_routers);
}

#[test]
fn golden_balancing_losses_of_attention_heads() {
    all_agree(language::compare_balancing_losses);
}

#[test]
fn golden_compute_capacity() {
    all_agree(units::compare_capacities);
}

#[test]
fn golden_dispatchers() {
    all_agree(units::compare_seating);
}

#[test]
fn golden_expert_choice() {
    all_agree(units::compare_expert_choice);
}

#[test]
fn golden_routers() {
    all_agree(routers::compare);
}

#[test]
fn golden_aux_losses() {
    all_agree(losses::compare);
}

#[test]
fn golden_importance_loss_of_balance_has_a_finite_gradient() {
    all_agree(losses::compare_balanced);
}

#[test]
fn golden_initialisers() {
    all_agree(units::compare_initial_values);
}

#[test]
fn golden_schedules() {
    all_agree(schedules::compare);
}

#[test]
fn golden_positions_of_another_size() {
    all_agree(positions::compare);
}

#[test]
fn golden_checkpoints_hold_the_arrays_of_their_cases_and_are_written_alike() {
    all_agree(native::compare_arrays);
}

#[test]
fn golden_checkpoints_compute_the_logits_of_their_cases() {
    all_agree(native::compare_logits);
}

#[test]
fn golden_cases_of_every_router_go_out_and_come_back() {
    all_agree(native::compare_exports);
}

#[test]
fn golden_checkpoint_of_several_number_types() {
    all_agree(native::compare_number_types);
}

#[test]
fn golden_checkpoint_of_a_training_state_has_its_names() {
    all_agree(native::compare_state_names);
}

fn all_agree(compare: fn(&mut Agreement)) {
    let mut agreement = Agreement::default();
    compare(&mut agreement);
    agreement.finish();
}

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
