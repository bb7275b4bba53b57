//! Every case against our model: outputs, gradients or a training trajectory.

use sparsely::checkpoint::reference::to_arrays;
use sparsely::nn::Mode;
use sparsely_tensor::{CrossEntropy, Pool, Slab, Tape};

use crate::agreement::{Agreement, Quantity};
use crate::case::Case;
use crate::subject::{Refusal, Replay, Subject, auxiliary};
use crate::trajectory;

// Single precision against double, of values around 1 through four blocks: a few 1e-6.
pub(crate) const LOGITS: Quantity = Quantity { name: "logits", tolerance: 1e-5 };
// A value near the middle of two bf16 numbers falls to either side with the last bit of an f32, and is then off by
// 2⁻⁸ of itself; the reference's own f32 differs from its f64 by 1.7e-4 of logits around 1.
pub(crate) const ROUNDED_LOGITS: Quantity =
    Quantity { name: "logits rounded through bf16", tolerance: 2e-4 };
const AUXILIARY: Quantity = Quantity { name: "auxiliary loss", tolerance: 1e-5 };
// Here the reference is of single precision too.
const UNROUNDED_LOGITS: Quantity = Quantity { name: "logits without rounding", tolerance: 1e-5 };
const NOISY_LOGITS: Quantity = Quantity { name: "logits under noise", tolerance: 1e-5 };
const LOSSES: Quantity = Quantity { name: "training losses", tolerance: 1e-5 };
const GRADIENTS: Quantity = Quantity { name: "gradients", tolerance: 1e-4 };
// Two cotangents of each layer are rounded too.
const ROUNDED_GRADIENTS: Quantity =
    Quantity { name: "gradients rounded through bf16", tolerance: 5e-4 };

/// In theory its gradient is 0, and in both programs the noise of rounding.
pub(crate) const WITHOUT_GRADIENT: &str = "SelfAttention/key/bias";

/// How many cases were compared, and which the library refused as unsupported.
pub(crate) struct Census {
    pub(crate) checked: usize,
    pub(crate) unsupported: Vec<String>,
}

/// Compares all `cases`.
pub(crate) fn run(cases: &[Case], agreement: &mut Agreement) -> Census {
    let mut census = Census { checked: 0, unsupported: Vec::new() };
    for case in cases {
        match Subject::new(case) {
            Err(Refusal::Unsupported) => census.unsupported.push(case.name.clone()),
            Err(Refusal::Failure(failure)) => agreement.fail(format!("{}: {failure}", case.name)),
            Ok(subject) => {
                census.checked += 1;
                if let Err(failure) = compare(case, &subject, agreement) {
                    agreement.fail(format!("{}: {failure}", case.name));
                }
            }
        }
    }
    census
}

fn compare(case: &Case, subject: &Subject, agreement: &mut Agreement) -> Result<(), String> {
    if case.trajectory.is_some() {
        return trajectory::compare(case, subject, agreement);
    }
    if case.losses.is_empty() {
        return compare_outputs(case, subject, agreement);
    }
    compare_gradients(case, subject, agreement)
}

fn compare_outputs(
    case: &Case,
    subject: &Subject,
    agreement: &mut Agreement,
) -> Result<(), String> {
    let tape = Tape::inference(&subject.params, &Pool::new());
    let output = subject.forward(&tape, case, &mut Mode::Eval)?;
    let logits = case.logits_f64.as_ref().ok_or("no logits to compare with")?;
    let shape = output.logits_bv.shape();
    agreement.require(shape.axes() == logits.shape, || {
        format!("{}: logits {shape:?} instead of {:?}", case.name, logits.shape)
    });
    let quantity = if subject.rounds() { ROUNDED_LOGITS } else { LOGITS };
    agreement.check(quantity, &case.name, output.logits_bv.values(), &logits.values);
    if let Some(aux) = case.aux_f64 {
        agreement.check(AUXILIARY, &case.name, &[auxiliary(&output)], &[aux]);
    }
    Ok(())
}

/// Compares the cases that round through bfloat16 as if they did not; returns how many.
pub(crate) fn run_without_rounding(cases: Vec<Case>, agreement: &mut Agreement) -> usize {
    let mut checked = 0;
    for mut case in cases {
        let Some(logits) = case.logits_nobf16.take() else { continue };
        let subject = match Subject::unrounded(&case) {
            Err(Refusal::Unsupported) => continue,
            Err(Refusal::Failure(failure)) => {
                agreement.fail(format!("{}: {failure}", case.name));
                continue;
            }
            Ok(subject) => subject,
        };
        checked += 1;
        let tape = Tape::inference(&subject.params, &Pool::new());
        match subject.forward(&tape, &case, &mut Mode::Eval) {
            Err(failure) => agreement.fail(format!("{}: {failure}", case.name)),
            Ok(output) => {
                let ours = output.logits_bv.values();
                agreement.check(UNROUNDED_LOGITS, &case.name, ours, &logits.values);
            }
        }
    }
    checked
}

fn compare_gradients(
    case: &Case,
    subject: &Subject,
    agreement: &mut Agreement,
) -> Result<(), String> {
    for (kind, losses) in &case.losses {
        let place = format!("{} {kind}", case.name);
        let cross_entropy = match kind.as_str() {
            "softmax_xent" => CrossEntropy::Softmax,
            "sigmoid_xent" => CrossEntropy::Sigmoid,
            other => return Err(format!("unknown task loss `{other}`")),
        };
        let mut draw = Replay::of(case);
        let step = train(case, subject, cross_entropy, &mut Mode::Train(&mut draw))?;
        agreement.require(draw.left() == 0, || format!("{place}: {} draws left", draw.left()));
        if let Some(logits) = &case.logits {
            let quantity = if subject.rounds() { ROUNDED_LOGITS } else { NOISY_LOGITS };
            agreement.check(quantity, &place, &step.logits, &logits.values);
        }
        for (part, ours, theirs) in [
            ("total", step.total, losses.total),
            ("main", step.main, losses.main),
            ("aux", step.aux, losses.aux),
        ] {
            agreement.check(LOSSES, &format!("{place}: {part}"), &[ours], &[theirs]);
        }
        let ours = to_arrays(&subject.config, &step.grads).map_err(|error| error.to_string())?;
        for (name, theirs) in &case.grads[kind] {
            if name.ends_with(WITHOUT_GRADIENT) {
                continue;
            }
            let ours = ours.get(name).ok_or_else(|| format!("no gradient of `{name}`"))?;
            let place = format!("{place}: {name}");
            let quantity = if subject.rounds() { ROUNDED_GRADIENTS } else { GRADIENTS };
            agreement.check(quantity, &place, &ours.values, &theirs.values);
        }
    }
    Ok(())
}

/// One forward and backward pass.
pub(crate) struct TrainStep {
    logits: Vec<f32>,
    pub(crate) total: f64,
    pub(crate) main: f64,
    pub(crate) aux: f64,
    pub(crate) grads: Slab,
}

/// The gradient of the mean task loss and the auxiliary losses.
pub(crate) fn train(
    case: &Case,
    subject: &Subject,
    cross_entropy: CrossEntropy,
    mode: &mut Mode<'_>,
) -> Result<TrainStep, String> {
    let labels = case.labels.as_ref().ok_or("no labels")?;
    let mut grads = Slab::zeros(subject.params.layout().clone());
    let tape = Tape::recording(&subject.params, &Pool::new());
    let output = subject.forward(&tape, case, mode)?;
    let engine = |error: sparsely_tensor::Error| error.to_string();
    let main = output.logits_bv.cross_entropy(cross_entropy, &labels.values).map_err(engine)?;
    let aux = auxiliary(&output);
    let main_value = f64::from(main.values()[0]);
    let mut terms = output.losses;
    terms.push((main, 1.0));
    let total = tape.weighted_sum(&terms).map_err(engine)?;
    tape.backward(&total, &mut grads).map_err(engine)?;
    Ok(TrainStep {
        logits: output.logits_bv.values().to_vec(),
        total: f64::from(total.values()[0]),
        main: main_value,
        aux,
        grads,
    })
}
