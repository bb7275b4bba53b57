//! What will be run and what is expected of it, on disk before the first run.

use super::budget::{Fitted, shrink};
use super::rate::now;
use super::{Folder, Images, Rate, Sizes, Study, Task, TrainingCost};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a person asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Another place of the data.
    pub data: Option<String>,
    /// Seconds that the study may take.
    pub budget_seconds: Option<u64>,
    /// Another assumed power of a busy core.
    pub watts_per_core: Option<f64>,
}

/// A study as it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Plan<T: Task = Images> {
    /// When it was written: predictions are older than results.
    pub date: String,
    /// Version and commit of the program that wrote it.
    pub program: String,
    /// What was asked for.
    pub request: Request,
    /// What a budget took away from the study, one phrase each.
    pub shrunk: Vec<String>,
    /// The study at the size at which it is run.
    pub study: Study<T>,
    /// Images of each split, or tokens to predict.
    pub sizes: Sizes,
    /// Proof that models have in common what they must.
    pub training: Vec<TrainingCost>,
    /// How fast the machine was.
    pub rate: Rate,
    /// What it should take at that rate.
    pub expected_seconds: f64,
}

impl<T: Task> Plan<T> {
    /// Opens the data, checks everything, measures the machine and fits the study into the budget.
    /// Writes nothing.
    ///
    /// # Errors
    /// If the data cannot be used, the study is not fair, or the budget is too small.
    pub fn new(mut study: Study<T>, request: Request, program: &str) -> Result<Plan<T>> {
        if let Some(data) = &request.data {
            T::source_mut(&mut study.data).clone_from(data);
        }
        if let Some(watts) = request.watts_per_core {
            study.watts_per_core = watts;
        }
        let (sizes, rate) = T::look(&mut study)?;
        let Fitted { study, sizes, shrunk } = match request.budget_seconds {
            Some(seconds) => shrink(study, sizes, &rate, Duration::from_secs(seconds))?,
            None => Fitted { study, sizes, shrunk: Vec::new() },
        };
        let training = study.check(&sizes)?;
        let expected_seconds = rate.seconds(&study, &sizes);
        Ok(Plan {
            date: now(),
            program: program.to_string(),
            request,
            shrunk,
            study,
            sizes,
            training,
            rate,
            expected_seconds,
        })
    }

    /// The plan that lies in `folder`, which must have been asked for by the same `request`; or a
    /// new one, not yet written.
    ///
    /// # Errors
    /// As of [`Plan::new`], or if a plan lies there that is damaged or was asked for otherwise.
    pub fn load_or_new(
        folder: &Folder,
        study: Study<T>,
        request: Request,
        program: &str,
    ) -> Result<(Plan<T>, bool)> {
        let Some(plan) = folder.plan()? else {
            return Ok((Plan::new(study, request, program)?, true));
        };
        if plan.study.name != study.name || plan.request != request {
            let told = |name: &str, request: &Request| {
                let json = serde_json::to_string(request).unwrap_or_default();
                format!("study `{name}` as asked for by {json}")
            };
            return Err(Error::format(
                &folder.plan_path(),
                told(&study.name, &request),
                format!(
                    "{}, which goes on with the same flags; another --out begins anew",
                    told(&plan.study.name, &plan.request)
                ),
            ));
        }
        plan.study.check(&plan.sizes)?;
        Ok((plan, false))
    }
}
