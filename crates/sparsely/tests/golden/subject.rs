//! Our model with a case's parameters.

use std::path::Path;
use std::sync::Arc;

use sparsely::Error;
use sparsely::checkpoint::reference::{from_arrays, parse_config};
use sparsely::model::{ModelConfig, Output, Vit};
use sparsely::moe::Dial;
use sparsely::nn::{Draw, Mode};
use sparsely_tensor::{Slab, Tape};

use crate::case::Case;

/// A model of ours that should compute what the reference computed.
pub(crate) struct Subject {
    pub(crate) config: ModelConfig,
    pub(crate) vit: Vit,
    pub(crate) params: Slab,
}

/// Why there is none.
pub(crate) enum Refusal {
    /// The library says so itself.
    Unsupported,
    /// It should be.
    Failure(String),
}

impl Subject {
    pub(crate) fn new(case: &Case) -> Result<Subject, Refusal> {
        Subject::with(case, |_| ())
    }

    /// The case as if it did not round through bf16.
    pub(crate) fn unrounded(case: &Case) -> Result<Subject, Refusal> {
        Subject::with(case, |config| {
            config.moe.iter_mut().for_each(|moe| moe.through_bf16 = false);
        })
    }

    /// Whether it rounds through bf16.
    pub(crate) fn rounds(&self) -> bool {
        self.config.moe.as_ref().is_some_and(|moe| moe.through_bf16)
    }

    fn with(case: &Case, change: impl FnOnce(&mut ModelConfig)) -> Result<Subject, Refusal> {
        let &[_, height, width, channels] = &*case.input.shape else {
            return Err(Refusal::Failure("the images have not four axes".into()));
        };
        if height != width {
            return Err(Refusal::Failure(format!("images of {height}×{width}")));
        }
        let mut config =
            parse_config(&case.config, height, channels).map_err(|error| refusal(&error))?;
        change(&mut config);
        let (vit, fresh) = Vit::init(&config, 0).map_err(|error| failure(&error))?;
        let layout = Arc::clone(fresh.layout());
        let params = from_arrays(&config, &layout, &case.params, Path::new(&case.name));
        Ok(Subject { config, vit, params: params.map_err(|error| failure(&error))? })
    }

    pub(crate) fn forward<'t>(
        &self,
        tape: &'t Tape<'t>,
        case: &Case,
        mode: &mut Mode<'_>,
    ) -> Result<Output<'t>, String> {
        let output = self.vit.forward(tape, &case.input.values, &Dial::default(), mode);
        output.map_err(|error| error.to_string())
    }
}

/// Unsupported is only what has no other problem.
fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Config { problems } if problems.iter().all(|p| p.starts_with("unsupported")) => {
            Refusal::Unsupported
        }
        _ => failure(error),
    }
}

fn failure(error: &Error) -> Refusal {
    Refusal::Failure(error.to_string())
}

/// Weighted auxiliary losses, summed.
pub(crate) fn auxiliary(output: &Output<'_>) -> f64 {
    let weighted = |(loss, weight): &(sparsely_tensor::Var<'_>, f32)| {
        f64::from(loss.values()[0]) * f64::from(*weight)
    };
    output.losses.iter().map(weighted).sum()
}

/// The normals that the reference drew, in the order of its routers.
pub(crate) struct Replay<'a> {
    draws: std::slice::Iter<'a, sparsely::checkpoint::Array>,
}

impl Replay<'_> {
    pub(crate) fn of(case: &Case) -> Replay<'_> {
        Replay { draws: case.noise.iter() }
    }

    /// Draws that no router has asked for.
    pub(crate) fn left(&self) -> usize {
        self.draws.len()
    }
}

impl Draw for Replay<'_> {
    /// Nothing, which the router refuses, if there is no draw of that length.
    fn normals(&mut self, len: usize) -> Vec<f32> {
        let draw = self.draws.next().filter(|draw| draw.values.len() == len);
        draw.map(|draw| draw.values.clone()).unwrap_or_default()
    }

    fn seed(&mut self) -> u64 {
        unreachable!("the cases have no dropout")
    }
}
