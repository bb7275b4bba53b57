//! The operations in f32, forward and backward, against their twins in f64 on the same inputs.

mod attention;
mod block;
mod dense;
mod glue;
mod grouped;
mod language;
mod mixing;
mod statistics;
mod transport;

use crate::draw::uniform;
use crate::twins::Both;
use proptest::prelude::*;
use sparsely_tensor::{Activation, DType, Layout, Param, Pool, Result, Shape, Slab, Tape, Var};
use std::sync::Arc;

/// What an operation takes an input as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A value of the tape.
    Value,
    /// A parameter, by name.
    Named,
    /// Not at all: the twin is given zeros.
    Absent,
}

struct Input {
    role: Role,
    shape: Shape,
    values: Vec<f32>,
}

impl Input {
    fn drawn(role: Role, shape: impl Into<Shape>, seed: u64) -> Input {
        let shape = shape.into();
        let values = match role {
            Role::Absent => vec![0.0; shape.len()],
            Role::Value | Role::Named => uniform(shape.len(), seed ^ 0xabcd),
        };
        Input { role, shape, values }
    }

    fn value(shape: impl Into<Shape>, seed: u64) -> Input {
        Input::drawn(Role::Value, shape, seed)
    }

    fn named(shape: impl Into<Shape>, seed: u64) -> Input {
        Input::drawn(Role::Named, shape, seed)
    }

    fn if_present(self, is_present: bool) -> Input {
        if is_present { self } else { Input::drawn(Role::Absent, self.shape, 0) }
    }
}

/// What else happens to the inputs on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The operation is the only source of gradient: it writes it.
    Alone,
    /// Each input is used before, so that its gradient comes from the operation first.
    Before,
    /// Each input is used after, so that the operation adds to a gradient that is there.
    After,
    /// The values are constants; only named parameters have gradients.
    Constant,
}

/// A share of the size of what is compared.
///
/// A sum of n terms of size 1 has partial sums of size √n; n roundings by 3e-8 of them make an
/// error of n · 3e-8, or 1e-6 of √n for the thousand rows here, and attention and GELU add a few
/// 1e-6 of their own. What is wrong in substance is wrong by the size of a term.
///
/// The size is that of the tensor's largest element, since small elements are small by
/// cancellation; but at least √rows for a gradient, which may be a sum over rows, and at least
/// `scale` for everything: 1, but where a normalisation divides by a small σ terms that cancel.
const ALLOWED: f64 = 1e-5;

/// For the twins themselves in f32, which add up to 75,000 terms one by one where the operations
/// sum by lanes and blocks or in f64: 75,000 · 6e-8 is 5e-3, and a sum may be of size 1 by
/// cancellation. An operation may not be as wrong as that.
const ALLOWED_TO_PLAIN_LOOPS: f64 = 1e-2;

/// The gradients that a use of an operation should leave.
struct Want<'a> {
    used: Use,
    grads: &'a [Vec<f64>],
    /// Rows that a gradient may be a sum over.
    rows: usize,
}

struct Case<'a, T> {
    twin: &'a T,
    inputs: Vec<Input>,
    seed: u64,
    /// What terms may reach that cancel.
    scale: f64,
}

fn check<T, F>(twin: &T, seed: u64, inputs: Vec<Input>, op: F)
where
    T: Both,
    F: for<'t> Fn(&[Var<'t>], &[Param]) -> Result<Var<'t>>,
{
    Case { twin, inputs, seed, scale: 1.0 }.check(op);
}

impl<T: Both> Case<'_, T> {
    fn check<F>(&self, op: F)
    where
        F: for<'t> Fn(&[Var<'t>], &[Param]) -> Result<Var<'t>>,
    {
        let (params, names) = self.params();
        let inputs: Vec<Vec<f64>> = self.inputs.iter().map(|input| wide(&input.values)).collect();
        let y = self.twin.forward(&inputs);
        let dy = uniform(y.len(), self.seed + 1);
        let grads = self.twin.backward(&inputs, &wide(&dy));

        let narrow: Vec<Vec<f32>> = self.inputs.iter().map(|input| input.values.clone()).collect();
        let to_plain_loops = ALLOWED_TO_PLAIN_LOOPS / ALLOWED * self.scale;
        assert_close(&self.twin.forward(&narrow), &y, to_plain_loops, "twin in f32");
        for (got, want) in self.twin.backward(&narrow, &dy).iter().zip(&grads) {
            assert_close(got, want, to_plain_loops, "gradient of the twin in f32");
        }

        let pool = self.poisoned_pool(y.len());
        for used in [Use::Alone, Use::Before, Use::After, Use::Constant] {
            let tape = Tape::recording(&params, &pool);
            let vars = self.vars(&tape, &names, used);
            let mut terms = Vec::new();
            if used == Use::Before {
                terms.extend(self.direct_terms(&vars));
            }
            let out = op(&vars, &names).unwrap();
            assert_close(out.values(), &y, self.scale, "output");
            terms.push((out.dot_constant(&wide(&dy)).unwrap(), 1.0));
            if used == Use::After {
                terms.extend(self.direct_terms(&vars));
            }
            let loss = tape.weighted_sum(&terms).unwrap();
            let shapes = self.inputs.iter().map(|input| input.shape).chain([out.shape()]);
            let rows = shapes.map(|shape| shape.rows()).max().unwrap_or(1);
            self.assert_gradients(&tape, &loss, &names, &Want { used, grads: &grads, rows });
            self.assert_inference_agrees(&params, &pool, &names, &op, out.values());
        }
    }

    /// The inputs as the parameters of a model.
    fn params(&self) -> (Slab, Vec<Param>) {
        let mut layout = Layout::default();
        let inputs = self.inputs.iter().enumerate();
        let names: Vec<Param> =
            inputs.map(|(i, input)| layout.add(format!("{i}"), input.shape, 0.0)).collect();
        let mut params = Slab::zeros(Arc::new(layout));
        for (name, input) in names.iter().zip(&self.inputs) {
            params.view_mut(name).copy_from_slice(&input.values);
        }
        (params, names)
    }

    fn vars<'t>(&self, tape: &'t Tape<'t>, names: &[Param], used: Use) -> Vec<Var<'t>> {
        let var = |(input, name): (&Input, &Param)| match used {
            Use::Constant => tape.constant(input.shape, &input.values).unwrap(),
            _ => tape.param(name),
        };
        self.inputs.iter().zip(names).map(var).collect()
    }

    fn direct_coefficients(&self, input: usize) -> Vec<f32> {
        uniform(self.inputs[input].values.len(), self.seed + 100 + input as u64)
    }

    /// Each input times coefficients of its own.
    fn direct_terms<'t>(&self, vars: &[Var<'t>]) -> Vec<(Var<'t>, f32)> {
        let term = |(i, var): (usize, &Var<'t>)| {
            (var.dot_constant(&wide(&self.direct_coefficients(i))).unwrap(), 1.0)
        };
        vars.iter().enumerate().map(term).collect()
    }

    fn assert_gradients(&self, tape: &Tape<'_>, loss: &Var<'_>, names: &[Param], want: &Want<'_>) {
        let Want { used, grads, rows } = *want;
        let scale = self.scale.max((rows as f64).sqrt());
        // Gradients are added to what the slab holds.
        let mut slab = self.params().0;
        let held = uniform(slab.values().len(), self.seed + 50);
        slab.values_mut().copy_from_slice(&held);
        tape.backward(loss, &mut slab).unwrap();
        for (i, name) in names.iter().enumerate() {
            let role = self.inputs[i].role;
            let mut want = wide(&held[name.range()]);
            if role == Role::Named || (role == Role::Value && used != Use::Constant) {
                want.iter_mut().zip(&grads[i]).for_each(|(w, g)| *w += g);
            }
            if matches!(used, Use::Before | Use::After) {
                want.iter_mut()
                    .zip(self.direct_coefficients(i))
                    .for_each(|(w, c)| *w += f64::from(c));
            }
            assert_close(slab.view(name), &want, scale, &format!("gradient {i} ({used:?})"));
        }
    }

    fn assert_inference_agrees<F>(
        &self,
        params: &Slab,
        pool: &Pool,
        names: &[Param],
        op: &F,
        recorded: &[f32],
    ) where
        F: for<'t> Fn(&[Var<'t>], &[Param]) -> Result<Var<'t>>,
    {
        let tape = Tape::inference(params, pool);
        let out = op(&self.vars(&tape, names, Use::Alone), names).unwrap();
        assert!(out.values() == recorded, "inference has other bits than recording");
    }

    /// A pool that hands out NaNs where buffers have the length of an input or of the output, so
    /// that a kernel which reads what it has not written is found.
    fn poisoned_pool(&self, output_len: usize) -> Pool {
        let pool = Pool::new();
        let lens = self.inputs.iter().map(|input| input.values.len()).chain([output_len]);
        let mut poison: Vec<_> = lens
            .flat_map(|len| (0..8).map(move |_| len))
            .map(|len| pool.take(DType::F32, len))
            .collect();
        poison.iter_mut().for_each(|buffer| buffer.as_f32_mut().fill(f32::NAN));
        pool
    }
}

fn assert_close(got: &[f32], want: &[f64], scale: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(scale, |size, w| size.max(w.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs() / size;
        assert!(error <= ALLOWED, "{what}[{i}]: {got} for {want}, size {size}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Numbers of rows: small ones, and ones beyond a block of rows and a chunk of a weight gradient.
fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1_usize..10, 3 => 60_usize..140, 1 => 250_usize..300, 1 => 513_usize..560, 1 => 1025_usize..1060]
}

/// Widths: one, around the lanes of a register, and more.
fn widths() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1_usize..7, 2 => 14_usize..19, 2 => 30_usize..36, 1 => 60_usize..70]
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Gelu),
        Just(Activation::Tanh),
        Just(Activation::Sigmoid),
        Just(Activation::Relu)
    ]
}
