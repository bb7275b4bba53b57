//! Dropout, whose masks are drawn twice.

use crate::draw::uniform;
use sparsely_tensor::{Layout, Param, Pool, Slab, Tape};
use std::sync::Arc;

/// More than one stream of the generator, and not a whole number of them.
const LEN: usize = 50_001;

fn one_input(values: &[f32]) -> (Slab, Param) {
    let mut layout = Layout::default();
    let x = layout.add("x", [values.len()], 0.0);
    let mut params = Slab::zeros(Arc::new(layout));
    params.view_mut(&x).copy_from_slice(values);
    (params, x)
}

fn dropped(values: &[f32], rate: f32, seed: u64) -> Vec<f32> {
    let (params, x) = one_input(values);
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    tape.param(&x).dropout(rate, seed).unwrap().values().to_vec()
}

#[test]
fn rate_zero_is_the_identity() {
    let x = uniform(LEN, 1);
    assert!(dropped(&x, 0.0, 5) == x);
}

#[test]
fn an_element_is_dropped_or_scaled() {
    let x = uniform(LEN, 1);
    // 1 / (1 − ¾) = 4, a power of two: products are exact.
    for (y, x) in dropped(&x, 0.75, 5).iter().zip(&x) {
        assert!(*y == 0.0 || *y == 4.0 * x, "{y} from {x}");
    }
}

#[test]
fn the_kept_share_is_that_of_the_rate_and_the_mean_stays() {
    for (rate, seed) in [(0.1, 1), (0.5, 2), (0.9, 3)] {
        let y = dropped(&vec![1.0; LEN], rate, seed);
        let (keep, n) = (1.0 - f64::from(rate), LEN as f64);
        let kept = y.iter().filter(|y| **y != 0.0).count() as f64;
        let five_sigma = 5.0 * (n * keep * (1.0 - keep)).sqrt();
        assert!((kept - n * keep).abs() < five_sigma, "{kept} of {n} kept at rate {rate}");
        let mean = y.iter().map(|y| f64::from(*y)).sum::<f64>() / n;
        assert!((mean - 1.0).abs() < five_sigma / (n * keep) + 1e-6, "mean {mean}");
    }
}

#[test]
fn streams_of_the_generator_differ() {
    let y = dropped(&vec![1.0; 1 << 13], 0.5, 9);
    let (first, second) = y.split_at(1 << 12);
    assert_ne!(first, second);
}

#[test]
fn a_seed_is_a_mask() {
    let x = uniform(LEN, 1);
    assert!(dropped(&x, 0.5, 5) == dropped(&x, 0.5, 5));
    assert!(dropped(&x, 0.5, 5) != dropped(&x, 0.5, 6));
}

#[test]
fn the_mask_does_not_depend_on_the_number_of_threads() {
    let x = uniform(LEN, 1);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| dropped(&x, 0.3, 5))
    };
    assert!(on(1) == on(2) && on(1) == on(3));
}

#[test]
fn the_gradient_is_dropped_by_the_same_mask() {
    let (params, x) = one_input(&vec![1.0; LEN]);
    let mask = dropped(&vec![1.0; LEN], 0.75, 5);
    let (dy, direct) = (uniform(LEN, 2), uniform(LEN, 3));
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    // The input is used nowhere else, before (dropout writes its gradient), and after (it adds).
    for used in ["alone", "before", "after"] {
        let pool = Pool::new();
        let tape = Tape::recording(&params, &pool);
        let var = tape.param(&x);
        let mut terms = Vec::new();
        if used == "before" {
            terms.push((var.dot_constant(&wide(&direct)).unwrap(), 1.0));
        }
        let y = var.dropout(0.75, 5).unwrap();
        terms.push((y.dot_constant(&wide(&dy)).unwrap(), 1.0));
        if used == "after" {
            terms.push((var.dot_constant(&wide(&direct)).unwrap(), 1.0));
        }
        let mut grads = Slab::zeros(params.layout().clone());
        tape.backward(&tape.weighted_sum(&terms).unwrap(), &mut grads).unwrap();
        for (i, got) in grads.view(&x).iter().enumerate() {
            let direct = if used == "alone" { 0.0 } else { direct[i] };
            assert_eq!(*got, mask[i] * dy[i] + direct, "element {i}, used {used}");
        }
    }
}
