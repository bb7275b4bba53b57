//! Ten training steps on one batch, optimiser and schedule included.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sparsely::checkpoint::reference::to_arrays;
use sparsely::nn::Mode;
use sparsely::rng::{Purpose, stream};
use sparsely::train::Schedule;
use sparsely_tensor::optim::{Moments, Rule, Step, global_norm};
use sparsely_tensor::{CrossEntropy, Layout, Slab};

use crate::agreement::{Agreement, Quantity};
use crate::case::Case;
use crate::run::{WITHOUT_GRADIENT, train};
use crate::schedules::schedule;
use crate::subject::Subject;

// Both programs are of single precision, and each step feeds its rounding to the next; Adam
// divides a gradient by its own size, so that of small gradients the rounding weighs as much as
// that of large ones. Losses and norms drift apart by 1e-5, single weights by 4e-5.
const LOSSES: Quantity = Quantity { name: "trajectory losses", tolerance: 1e-4 };
const NORMS: Quantity = Quantity { name: "trajectory norms", tolerance: 1e-4 };
const START: Quantity = Quantity { name: "parameters after 1 step", tolerance: 0.0 };
const END: Quantity = Quantity { name: "parameters after 10 steps", tolerance: 1e-4 };

/// Compares the trajectories of all optimisers that are recorded.
pub(crate) fn compare(
    case: &Case,
    subject: &Subject,
    agreement: &mut Agreement,
) -> Result<(), String> {
    for (name, recorded) in case.trajectory.iter().filter_map(Value::as_object).flatten() {
        // Adafactor is out of scope.
        if name.starts_with("adafactor") {
            continue;
        }
        let recipe = Recipe::new(&recorded["optimizer"], &recorded["total_steps"]);
        follow(case, subject, (name, &recipe, &recorded["trajectory"]), agreement)?;
    }
    Ok(())
}

/// Takes the recorded steps.
fn follow(
    case: &Case,
    start: &Subject,
    (name, recipe, recorded): (&str, &Recipe, &Value),
    agreement: &mut Agreement,
) -> Result<(), String> {
    let mut subject = Subject::new(case).map_err(|_| "refused")?;
    subject.params = with_decays(start, &recipe.decays)?;
    let mut moments = Moments::zeros(&subject.params);
    for (index, theirs) in recorded.as_array().ok_or("no steps")?.iter().enumerate() {
        let place = format!("{} {name} step {}", case.name, index + 1);
        let mut rng = stream(0, Purpose::Model, 0);
        let ours = train(case, &subject, CrossEntropy::Softmax, &mut Mode::Train(&mut rng))?;
        let before = subject.params.clone();
        let norm = global_norm(&ours.grads);
        let step = recipe.step(index, norm);
        step.apply(&mut subject.params, &ours.grads, &mut moments);
        let mut updates = subject.params.clone();
        updates.values_mut().iter_mut().zip(before.values()).for_each(|(a, b)| *a -= b);
        for (quantity, part, ours) in [
            (LOSSES, "total", ours.total),
            (LOSSES, "main", ours.main),
            (LOSSES, "aux", ours.aux),
            (NORMS, "global_norm_grads", norm),
            (NORMS, "global_norm_params", global_norm(&subject.params)),
            (NORMS, "global_norm_updates", global_norm(&updates)),
        ] {
            let theirs = theirs[part].as_f64().ok_or_else(|| format!("no `{part}`"))?;
            agreement.check(quantity, &format!("{place}: {part}"), &[ours], &[theirs]);
        }
        let key = format!("{name}_params_after_{}", index + 1);
        let Some(theirs) = case.params_after.get(&key) else { continue };
        let ours = to_arrays(&subject.config, &subject.params).map_err(|e| e.to_string())?;
        for (name, theirs) in theirs.iter().filter(|(name, _)| !name.ends_with(WITHOUT_GRADIENT)) {
            // The first rate is 0.
            let quantity = if index == 0 { START } else { END };
            agreement.check(
                quantity,
                &format!("{place}: {name}"),
                &ours[name].values,
                &theirs.values,
            );
        }
    }
    Ok(())
}

/// An optimiser of the reference.
struct Recipe {
    rule: Rule,
    /// Patterns of whole names, the first that matches wins.
    decays: Vec<(String, f32)>,
    clip_norm: f64,
    schedule: Schedule,
    total_steps: u64,
}

impl Recipe {
    fn new(optimizer: &Value, total_steps: &Value) -> Recipe {
        let number = |key: &str| optimizer[key].as_f64().expect("a number") as f32;
        let rule = match optimizer["name"].as_str() {
            Some("adam") => Rule::AdamW { beta1: number("b1"), beta2: number("b2"), eps: 1e-8 },
            Some("sgd") => Rule::Sgd { momentum: number("momentum") },
            other => panic!("optimiser {other:?}"),
        };
        let pair = |pair: &Value| {
            (
                pair[0].as_str().expect("a pattern").to_string(),
                pair[1].as_f64().expect("a rate") as f32,
            )
        };
        let decays = optimizer["weight_decay"].as_array().into_iter().flatten().map(pair).collect();
        Recipe {
            rule,
            decays,
            clip_norm: optimizer["gradient_clip"]["global_norm"].as_f64().expect("a norm"),
            schedule: schedule(&optimizer["learning_rate"]),
            total_steps: total_steps.as_u64().expect("a number of steps"),
        }
    }

    /// The step of that index, from 0.
    fn step(&self, index: usize, norm: f64) -> Step {
        Step {
            rule: self.rule,
            lr: self.schedule.at(index as u64, self.total_steps) as f32,
            decay: 1.0,
            number: index as u64 + 1,
            grad_scale: (self.clip_norm / norm).min(1.0) as f32,
        }
    }
}

/// The parameters in a layout whose decays are those of the patterns.
fn with_decays(subject: &Subject, decays: &[(String, f32)]) -> Result<Slab, String> {
    let mut layout = Layout::clone(subject.params.layout());
    let names = reference_names(subject)?;
    for (index, view) in layout.views_mut().iter_mut().enumerate() {
        let rate = |name: &String| {
            let first = decays.iter().find(|(pattern, _)| matches(pattern, name));
            first.map_or(0.0, |(_, rate)| *rate)
        };
        let mut rates: Vec<f32> = names[&index].iter().map(rate).collect();
        rates.dedup();
        let [rate] = rates[..] else { return Err(format!("several decays of `{}`", view.name)) };
        view.decay = rate;
    }
    let mut params = Slab::zeros(Arc::new(layout));
    params.values_mut().copy_from_slice(subject.params.values());
    Ok(params)
}

/// The reference's names of each of our parameters, by index: each is filled with its index.
fn reference_names(subject: &Subject) -> Result<BTreeMap<usize, Vec<String>>, String> {
    let mut indices = subject.params.clone();
    for (index, view) in Arc::clone(indices.layout()).views().iter().enumerate() {
        indices.view_mut(&view.param).fill(index as f32);
    }
    let mut names = BTreeMap::<usize, Vec<String>>::new();
    let arrays = to_arrays(&subject.config, &indices).map_err(|error| error.to_string())?;
    for (name, array) in arrays {
        names.entry(array.values[0] as usize).or_default().push(name);
    }
    Ok(names)
}

/// Whether the whole name fits the pattern: literal text and `.*`, all that the recipes use.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once(".*") {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}
