use super::*;

/// 1 G dense parameters, 8 G in 8 experts; 1 G values routed, 2 T FLOPs, 10 G activations, 1 G
/// moved.
const WORK: Workload = Workload {
    dense_params: 1_000_000_000,
    expert_params: 8_000_000_000,
    num_experts: 8,
    routed_values: 1_000_000_000,
    flops: 2e12,
    activations: 10_000_000_000,
    moved_values: 1_000_000_000,
};

/// 80 GB, 10 GB/s of link, 1 TB/s of memory, 1 TFLOP/s.
fn cluster(devices: usize) -> Cluster {
    Cluster { devices, memory: 80e9, link: 10e9, bandwidth: 1e12, flops: 1e12 }
}

#[test]
fn eight_devices_with_an_expert_each() {
    let split = Split::of(&WORK, &cluster(8), 8);
    assert_eq!((split.expert_parallel, split.data_parallel), (8, 1));
    // 1 G dense + 1 G of one expert: 2 G parameters of 4 bytes; 10 G activations of 2.
    let Memory { weights, gradients, moments, activations } = split.memory;
    assert_eq!(
        [weights, gradients, moments, activations].map(|b| b / 1_000_000_000),
        [8, 8, 16, 20]
    );
    assert_eq!(split.memory.total(), 52_000_000_000);
    // 2 GB cross 4 times, 7 of 8 parts go away.
    assert_eq!(split.all_to_all, 7e9);
    // A ring sends 2 · 7/8 of the dense 4 GB; an expert is there once.
    assert_eq!(split.all_reduce, 7e9);
    // 2 T / 1 T; 10 passes of 8 GB and 3 of 2 GB at 1 TB/s; 14 GB at 10 GB/s.
    assert_eq!(split.compute_seconds, 2.0);
    assert_eq!(split.memory_seconds, 0.086);
    assert_eq!(split.link_seconds, 1.4);
    assert_eq!((split.step_seconds(), split.bound()), (2.0, "compute"));
    assert!((split.seconds_in_turn() - 3.486).abs() < 1e-12);
}

#[test]
fn pairs_of_devices_with_half_of_the_experts() {
    let split = Split::of(&WORK, &cluster(4), 2);
    assert_eq!((split.expert_parallel, split.data_parallel), (2, 2));
    // 1 + 4 G parameters.
    assert_eq!(split.memory.weights, 20_000_000_000);
    // 2 GB cross 4 times, half goes away.
    assert_eq!(split.all_to_all, 4e9);
    // Dense: 2 · 3/4 · 4 GB over 4 devices; experts: 2 · 1/2 · 16 GB over 2.
    assert_eq!(split.all_reduce, 6e9 + 16e9);
    assert_eq!((split.link_seconds, split.bound()), (2.6, "link"));
}

#[test]
fn one_device_sends_nothing() {
    let split = Split::of(&WORK, &cluster(1), 1);
    assert_eq!((split.all_to_all, split.all_reduce), (0.0, 0.0));
}

#[test]
fn degrees_divide_experts_and_devices() {
    let degrees = |devices| {
        let splits = plan(&WORK, &cluster(devices)).splits;
        splits.iter().map(|split| split.expert_parallel).collect::<Vec<_>>()
    };
    assert_eq!(degrees(8), [1, 2, 4, 8]);
    assert_eq!(degrees(12), [1, 2, 4]);
    assert_eq!(degrees(64), [1, 2, 4, 8]);
    assert_eq!(degrees(3), [1]);
}

#[test]
fn the_recommended_split_is_the_quickest_that_fits() {
    // With half of the experts 5 G parameters take 80 GB, and activations 20: too much. A quarter:
    // 3 G take 48 + 20. An eighth fits too. Both wait 2 s for compute. Sent with a quarter: 6 + 7 +
    // 2 · 1/2 · 8 = 21 GB; with an eighth 14 GB: quicker in turn.
    let eight = plan(&WORK, &cluster(8));
    let fits: Vec<bool> = eight.splits.iter().map(|split| split.fits(&cluster(8))).collect();
    assert_eq!(fits, [false, false, true, true]);
    assert_eq!(eight.splits[2].all_to_all + eight.splits[2].all_reduce, 21e9);
    assert_eq!(eight.best, Some(3));
}

#[test]
fn nothing_is_recommended_where_nothing_fits() {
    let small = Cluster { memory: 51e9, ..cluster(8) };
    assert_eq!(plan(&WORK, &small).best, None);
    assert_eq!(plan(&WORK, &Cluster { memory: 52e9, ..cluster(8) }).best, Some(3));
}

/// A dense model is all-reduced and never sent anywhere.
#[test]
fn a_dense_model_has_one_split() {
    let dense = Workload { expert_params: 0, num_experts: 1, routed_values: 0, ..WORK };
    let plan = plan(&dense, &cluster(8));
    assert_eq!(plan.splits.len(), 1);
    assert_eq!((plan.splits[0].all_to_all, plan.splits[0].all_reduce), (0.0, 7e9));
}
