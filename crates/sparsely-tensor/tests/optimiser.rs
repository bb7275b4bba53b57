//! The optimisers against plain loops in f64.

use crate::draw::uniform;
use sparsely_tensor::optim::{Moments, Rule, Step, global_norm};
use sparsely_tensor::{Layout, Slab};
use std::sync::Arc;

const ADAMW: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

/// Views with different decays, one frozen, one longer than a task.
fn layout() -> Arc<Layout> {
    let mut layout = Layout::default();
    layout.add("decays", [7, 3], 1.0);
    layout.add("frozen", [19], 1.0);
    layout.add("does not decay", [1], 0.0);
    layout.add("is long", [70_001], 0.5);
    layout.views_mut()[1].frozen = true;
    Arc::new(layout)
}

fn drawn(layout: &Arc<Layout>, seed: u64) -> Slab {
    let mut slab = Slab::zeros(layout.clone());
    for view in layout.views() {
        let values = uniform(view.param.range().len(), seed * 10 + view.param.index() as u64);
        slab.view_mut(&view.param).copy_from_slice(&values);
    }
    slab
}

/// One parameter in f64.
#[derive(Clone, Copy)]
struct Plain {
    p: f64,
    first: f64,
    second: f64,
}

impl Plain {
    fn step(&mut self, step: &Step, gradient: f32, decay_factor: f32) {
        let g = f64::from(step.grad_scale) * f64::from(gradient);
        let decay = f64::from(step.decay) * f64::from(decay_factor);
        let direction = match step.rule {
            Rule::AdamW { beta1, beta2, eps } => {
                let (beta1, beta2, t) = (f64::from(beta1), f64::from(beta2), step.number as i32);
                self.first = beta1 * self.first + (1.0 - beta1) * g;
                self.second = beta2 * self.second + (1.0 - beta2) * g * g;
                let m = self.first / (1.0 - beta1.powi(t));
                let v = self.second / (1.0 - beta2.powi(t));
                m / (v.sqrt() + f64::from(eps))
            }
            Rule::Sgd { momentum } => {
                self.first = g + f64::from(momentum) * self.first;
                self.first
            }
        };
        self.p -= f64::from(step.lr) * (direction + decay * self.p);
    }
}

/// Twenty steps of up to lr · (1 + decay) each, rounded to 6e-8 of parameters and moments of size
/// up to 10: 20 · 6e-8 · 10 is 1e-5.
const ALLOWED: f64 = 1e-5;

fn assert_twenty_steps_match(rule: Rule) {
    let layout = layout();
    let mut params = drawn(&layout, 1);
    let mut moments = Moments::zeros(&params);
    let plain = |p: &f32| Plain { p: f64::from(*p), first: 0.0, second: 0.0 };
    let mut twins: Vec<Plain> = params.values().iter().map(plain).collect();
    for number in 1..=20 {
        let grads = drawn(&layout, 1 + number);
        let lr = 0.03 / number as f32;
        let step = Step { rule, lr, decay: 0.2, number, grad_scale: 1.0 / number as f32 };
        step.apply(&mut params, &grads, &mut moments);
        for view in layout.views().iter().filter(|view| !view.frozen) {
            for i in view.param.range() {
                twins[i].step(&step, grads.values()[i], view.decay);
            }
        }
    }
    for (i, twin) in twins.iter().enumerate() {
        for (got, want) in [
            (params.values()[i], twin.p),
            (moments.first.values()[i], twin.first),
            (moments.second.values()[i], twin.second),
        ] {
            assert!((f64::from(got) - want).abs() < ALLOWED, "element {i}: {got} for {want}");
        }
    }
}

#[test]
fn twenty_steps_of_adamw_match_a_plain_loop() {
    assert_twenty_steps_match(ADAMW);
}

#[test]
fn twenty_steps_of_momentum_match_a_plain_loop() {
    assert_twenty_steps_match(Rule::Sgd { momentum: 0.9 });
    assert_twenty_steps_match(Rule::Sgd { momentum: 0.0 });
}

#[test]
fn frozen_parameters_keep_their_bits() {
    let layout = layout();
    let frozen = layout.find("frozen").unwrap().param;
    for rule in [ADAMW, Rule::Sgd { momentum: 0.9 }] {
        let mut params = drawn(&layout, 1);
        let mut moments = Moments::zeros(&params);
        let step = Step { rule, lr: 0.1, decay: 0.1, number: 1, grad_scale: 1.0 };
        step.apply(&mut params, &drawn(&layout, 2), &mut moments);
        assert_eq!(params.view(&frozen), drawn(&layout, 1).view(&frozen));
        assert!(moments.first.view(&frozen).iter().all(|m| *m == 0.0));
    }
}

fn three_parameters(values: [f32; 3]) -> Slab {
    let mut layout = Layout::default();
    let param = layout.add("p", [3], 1.0);
    let mut slab = Slab::zeros(Arc::new(layout));
    slab.view_mut(&param).copy_from_slice(&values);
    slab
}

#[test]
fn first_step_of_adamw_without_eps_moves_by_the_rate_against_the_sign() {
    // m̂ = g and v̂ = g², so m̂/√v̂ = sign g whatever the size; β = ½ keeps it exact.
    let mut params = three_parameters([1.0, 2.0, -4.0]);
    let rule = Rule::AdamW { beta1: 0.5, beta2: 0.5, eps: 0.0 };
    let step = Step { rule, lr: 0.25, decay: 0.0, number: 1, grad_scale: 1.0 };
    let mut moments = Moments::zeros(&params);
    step.apply(&mut params, &three_parameters([8.0, -0.5, 1024.0]), &mut moments);
    assert_eq!(params.values()[..3], [0.75, 2.25, -4.25]);
    assert_eq!(moments.first.values()[..3], [4.0, -0.25, 512.0]);
    assert_eq!(moments.second.values()[..3], [32.0, 0.125, 524_288.0]);
}

#[test]
fn second_step_of_momentum_adds_half_of_the_first() {
    // Gradient 2 twice, momentum ½, rate ¼, decay ½: t = 2, then 3;
    // p = 4 − ¼(2 + ½·4) = 3, then 3 − ¼(3 + ½·3) = 1.875.
    let mut params = three_parameters([4.0; 3]);
    let grads = three_parameters([2.0; 3]);
    let mut moments = Moments::zeros(&params);
    for (number, want) in [(1, 3.0), (2, 1.875)] {
        let rule = Rule::Sgd { momentum: 0.5 };
        let step = Step { rule, lr: 0.25, decay: 0.5, number, grad_scale: 1.0 };
        step.apply(&mut params, &grads, &mut moments);
        assert_eq!(params.values()[..3], [want; 3]);
    }
}

#[test]
fn padding_stays_zero() {
    let layout = layout();
    let mut params = drawn(&layout, 1);
    let mut grads = Slab::zeros(layout.clone());
    grads.values_mut().fill(1.0);
    let mut moments = Moments::zeros(&params);
    let step = Step { rule: ADAMW, lr: 0.1, decay: 0.1, number: 1, grad_scale: 1.0 };
    step.apply(&mut params, &grads, &mut moments);
    let last = layout.views().last().unwrap().param.range().end;
    assert!(last < layout.len(), "the last view ends before its cache line does");
    assert!(params.values()[last..].iter().all(|p| *p == 0.0));
}

#[test]
fn global_norm_is_the_root_of_the_sum_of_squares() {
    assert_eq!(global_norm(&three_parameters([2.0, -3.0, 6.0])), 7.0);
    let slab = drawn(&layout(), 3);
    let plain: f64 = slab.values().iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    assert!((global_norm(&slab) / plain.sqrt() - 1.0).abs() < 1e-13);
}
