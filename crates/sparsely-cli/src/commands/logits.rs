//! `sparsely logits`: for comparison with other implementations, on their files.

use super::import::read_json;
use super::{Trained, dial};
use crate::args::LogitsArgs;
use anyhow::{Result, bail};
use sparsely::checkpoint::reference::ReferenceParams;
use sparsely::checkpoint::{Array, read_npy, write_npy};
use sparsely::model::Vit;
use sparsely::moe::Dial;
use sparsely::nn::Mode;
use sparsely_tensor::{PackedSlab, Pool, Slab, Tape};
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &LogitsArgs) -> Result<ExitCode> {
    let input: Array = read_npy(&args.input)?;
    let [_, height, width, channels] = input.shape[..] else {
        bail!(
            "`{}`: expected images [B, H, W, C], got shape {:?}",
            args.input.display(),
            input.shape
        );
    };
    if height != width {
        bail!("`{}`: expected square images, got {height}×{width}", args.input.display());
    }
    if let Some(i) = input.values.iter().position(|v| !v.is_finite()) {
        let value = input.values[i];
        bail!("`{}`: expected finite pixels, got {value} at {i}", args.input.display());
    }
    let (model, params) = match (&args.run, &args.config, &args.params) {
        (Some(run), _, _) => {
            let trained = Trained::open(run, &args.precision)?;
            (trained.model, trained.params)
        }
        (None, Some(config), Some(params)) => {
            let (model, params) = load_reference(config, params, height)?;
            let precision = args.precision.or(model.config().precision);
            (model.with_precision(precision), PackedSlab::new(params))
        }
        _ => unreachable!("clap asks for a run, or a configuration and parameters"),
    };
    let expected = [model.config().image_size, model.config().channels];
    if expected != [height, channels] {
        bail!(
            "`{}`: expected images of {2}×{2}×{3}, got {height}×{height}×{1}",
            args.input.display(),
            channels,
            expected[0],
            expected[1]
        );
    }
    // Routed as the configuration says: that is what is compared.
    let dial = dial(&args.dial, model.config(), &Dial::default())?;
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let logits = model.forward(&tape, &input.values, &dial, &mut Mode::Eval)?.logits_bv;
    let output = Array { shape: logits.shape().axes().to_vec(), values: logits.values().to_vec() };
    write_npy(&args.output, &output)?;
    Ok(ExitCode::SUCCESS)
}

fn load_reference(config: &Path, params: &Path, size: usize) -> Result<(Vit, Slab)> {
    let json = read_json(config)?;
    let params = ReferenceParams::open(params)?;
    let size = params.image_size().unwrap_or(size);
    let (config, params) = params.into_model(&json, Some(size))?;
    Ok((Vit::new(&config)?.0, params))
}
