//! Auxiliary losses of a router's logits, and their gradients.

use std::sync::Arc;

use sparsely::moe::{gshard_loss, importance_loss, load_loss};
use sparsely_tensor::{Layout, Pool, Slab, Tape, Var};

use crate::agreement::{Agreement, Quantity};
use crate::units;

const VALUES: Quantity = Quantity { name: "losses", tolerance: 1e-5 };
const GRADIENTS: Quantity = Quantity { name: "gradients of losses", tolerance: 1e-5 };

/// All losses of all sets of logits, each one group.
pub(crate) fn compare(agreement: &mut Agreement) {
    for (name, set) in units::sets("aux_losses") {
        if name == "balanced" {
            continue;
        }
        let values = |part: &str| &*set[part].values;
        let logits = Logits {
            clean: values("logits"),
            noisy: values("logits_noisy"),
            shape: [set["logits"].shape[0], set["logits"].shape[1]],
            sigma: values("noise_std")[0],
        };
        for loss in ["importance", "gshard", "load_k1", "load_k2"] {
            let place = format!("{name}/{loss}");
            let ours = logits.loss(loss);
            agreement.check(VALUES, &place, &[ours.value], values(loss));
            let theirs = values(&format!("{loss}_grad_logits"));
            agreement.check(GRADIENTS, &format!("{place} clean"), &ours.grad_clean, theirs);
            match set.get(&format!("{loss}_grad_noisy")) {
                Some(theirs) => {
                    let place = format!("{place} noisy");
                    agreement.check(GRADIENTS, &place, &ours.grad_noisy, &theirs.values);
                }
                None => agreement.require(ours.grad_noisy.iter().all(|g| *g == 0.0), || {
                    format!("{place}: a gradient of the noisy logits")
                }),
            }
        }
    }
}

/// Where all experts are equally important, the reference's gradient is not a number.
pub(crate) fn compare_balanced(agreement: &mut Agreement) {
    let set = &units::sets("aux_losses")["balanced"];
    let theirs = &set["importance_grad_gates_in_this_snapshot"].values;
    assert!(theirs.iter().any(|g| g.is_nan()));
    let gates = &set["gates"];
    let ours = differentiate([&gates.values; 2], [gates.shape[0], gates.shape[1]], |gates, _| {
        importance_loss(gates, gates.shape().axes()[0]).unwrap()
    });
    agreement.check(VALUES, "balanced", &[ours.value], &set["importance"].values);
    agreement.require(ours.grad_clean.iter().all(|g| g.abs() < 1e-6), || {
        format!("balanced: gradient {:?}", ours.grad_clean)
    });
}

struct Logits<'a> {
    clean: &'a [f32],
    noisy: &'a [f32],
    shape: [usize; 2],
    sigma: f32,
}

struct Differentiated {
    value: f32,
    grad_clean: Vec<f32>,
    grad_noisy: Vec<f32>,
}

impl Logits<'_> {
    fn loss(&self, name: &str) -> Differentiated {
        let (s, sigma) = (self.shape[0], self.sigma);
        differentiate([self.clean, self.noisy], self.shape, |clean, noisy| {
            let loss = match name {
                "importance" => importance_loss(&clean.softmax(), s),
                "gshard" => gshard_loss(&clean.softmax(), s),
                "load_k1" => load_loss(clean, noisy, 1, sigma, s),
                "load_k2" => load_loss(clean, noisy, 2, sigma, s),
                other => panic!("loss {other}"),
            };
            loss.unwrap()
        })
    }
}

/// A loss of two tensors with its gradients.
fn differentiate(
    values: [&[f32]; 2],
    shape: [usize; 2],
    loss: impl for<'t> Fn(&Var<'t>, &Var<'t>) -> Var<'t>,
) -> Differentiated {
    let mut layout = Layout::default();
    let tensors = ["clean", "noisy"].map(|name| layout.add(name, shape, 0.0));
    let mut params = Slab::zeros(Arc::new(layout));
    for (tensor, values) in tensors.iter().zip(values) {
        params.view_mut(tensor).copy_from_slice(values);
    }
    let mut grads = Slab::zeros(Arc::clone(params.layout()));
    let tape = Tape::recording(&params, &Pool::new());
    let loss = loss(&tape.param(&tensors[0]), &tape.param(&tensors[1]));
    let value = loss.values()[0];
    tape.backward(&loss, &mut grads).unwrap();
    let [grad_clean, grad_noisy] = tensors.map(|tensor| grads.view(&tensor).to_vec());
    Differentiated { value, grad_clean, grad_noisy }
}
