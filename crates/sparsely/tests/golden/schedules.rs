//! Learning rates by step.

use serde_json::Value;
use sparsely::train::Schedule;
use sparsely::train::schedule::Decay;

use crate::agreement::{Agreement, Quantity};
use crate::units;

// Those of the reference are of single precision.
const RATES: Quantity = Quantity { name: "learning rates", tolerance: 1e-6 };

/// Every recorded schedule at every recorded step.
pub(crate) fn compare(agreement: &mut Agreement) {
    let table = units::table("schedules");
    for (name, recorded) in table.as_object().expect("schedules") {
        let config = &recorded["config"];
        let total_steps = config["total_steps"].as_u64().expect("a number of steps");
        let list = |key: &str| recorded[key].as_array().expect("a list").iter();
        let steps = list("steps").map(|step| step.as_u64().expect("a step"));
        let ours: Vec<f64> = steps.map(|step| schedule(config).at(step, total_steps)).collect();
        let theirs: Vec<f64> = list("values").map(|rate| rate.as_f64().expect("a rate")).collect();
        agreement.check(RATES, name, &ours, &theirs);
    }
}

/// Our schedule for one of the reference's.
pub(crate) fn schedule(config: &Value) -> Schedule {
    let number = |key: &str| config[key].as_f64().unwrap_or_else(|| panic!("no `{key}`"));
    let steps = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no `{key}`"));
    let decay = match config["schedule"].as_str() {
        Some("constant") => {
            let lr_peak = number("value");
            return Schedule { lr_peak, warmup_steps: 0, decay: Decay::Constant };
        }
        Some("warmup_linear_decay") => Decay::Linear { lr_end: number("end_value") },
        Some("warmup_cosine_decay") => Decay::Cosine { lr_end: number("end_value") },
        Some("warmup_polynomial_decay") => {
            Decay::Polynomial { lr_end: number("end_value"), power: number("power") }
        }
        Some("warmup_exponential_decay") => Decay::Exponential {
            rate: number("decay_rate"),
            transition_steps: steps("transition_steps"),
        },
        Some("big_vision_rsqrt") => {
            Decay::Rsqrt { timescale: steps("timescale"), cooldown_steps: steps("cooldown_steps") }
        }
        other => panic!("schedule {other:?}"),
    };
    Schedule { lr_peak: number("peak_value"), warmup_steps: steps("warmup_steps"), decay }
}
