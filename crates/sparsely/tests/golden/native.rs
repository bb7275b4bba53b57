//! Checkpoints in the reference's own format, written by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sparsely::Error;
use sparsely::checkpoint::reference::{ReferenceParams, to_arrays};
use sparsely::checkpoint::{Arrays, VmoeCheckpoint, array_refs, read_npz, write_vmoe};
use sparsely::model::Vit;
use sparsely::moe::Dial;
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Tape};

use crate::agreement::{Agreement, Quantity};
use crate::case::{Case, fixtures, json, root};
use crate::run::ROUNDED_LOGITS;

const LOGITS: Quantity = Quantity { name: "logits of a checkpoint", tolerance: 1e-5 };
/// The whole training state is that of a model with the parameters of this case.
const STATE: (&str, &str) = ("train_state_v1", "vmoe_token_c1.0_vanilla");

/// Beside the cases in a folder of one's own, beside `golden` among the fixtures.
fn folder() -> PathBuf {
    let foreign =
        std::env::var_os("SPARSELY_GOLDEN").map(|root| PathBuf::from(root).join("native"));
    foreign.unwrap_or_else(|| fixtures().with_file_name("native"))
}

/// Prefixes of the checkpoints of models, with the case that each is the model of.
fn checkpoints() -> Vec<(PathBuf, Case)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "index") {
            continue;
        }
        let prefix = path.with_extension("");
        let name = prefix.file_name().unwrap().to_str().unwrap().to_string();
        // `CASE.how-it-was-written`, and a case may have a dot in its name.
        let case = if name == STATE.0 {
            Some(STATE.1)
        } else {
            name.rsplit_once('.').map(|(case, _)| case)
        };
        if let Some(case) = case.filter(|case| root().join(case).is_dir()) {
            found.push((prefix, Case::load(&root().join(case))));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// The parameters of a checkpoint, of a training state those alone.
fn params(prefix: &Path) -> Arrays {
    let checkpoint = VmoeCheckpoint::open(prefix).unwrap();
    let is_state = checkpoint.shapes().any(|(name, _)| name.starts_with("params/"));
    let arrays = checkpoint.read(|name| !is_state || name.starts_with("params/")).unwrap();
    let short = |name: String| name.strip_prefix("params/").unwrap_or(&name).to_string();
    arrays.into_iter().map(|(name, array)| (short(name), array)).collect()
}

/// Every checkpoint holds the bits of its case, and ours of them holds the same.
pub(crate) fn compare_arrays(agreement: &mut Agreement) {
    let (target, mut compared) = (tempfile::tempdir().unwrap(), 0);
    for (prefix, case) in checkpoints() {
        let (place, arrays) = (prefix.display().to_string(), params(&prefix));
        agreement.require(bits(&arrays) == bits(&case.params), || format!("{place}: other arrays"));
        for shards in [1, 3] {
            let ours = target.path().join(format!("{compared}-{shards}"));
            write_vmoe(&ours, &array_refs(&arrays), shards).unwrap();
            let back = params(&ours);
            agreement.require(bits(&back) == bits(&arrays), || format!("{place}: not as written"));
        }
        if place.ends_with(".1shard") {
            let ours = target.path().join(format!("{compared}-1"));
            for file in ["index", "data-00000-of-00001"] {
                let bytes =
                    |prefix: &Path| std::fs::read(format!("{}.{file}", prefix.display())).unwrap();
                agreement.require(bytes(&ours) == bytes(&prefix), || {
                    format!("{place}.{file}: other bytes than the reference writes")
                });
            }
        }
        compared += 1;
    }
    agreement.require(compared >= 3, || format!("{compared} checkpoints were compared"));
}

fn bits(arrays: &Arrays) -> BTreeMap<&str, (&[usize], Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    arrays.iter().map(|(name, a)| (&**name, (&*a.shape, bits(&a.values)))).collect()
}

/// Every checkpoint of a supported model computes what the reference computes, and goes back into
/// the arrays that it came from.
pub(crate) fn compare_logits(agreement: &mut Agreement) {
    let mut compared = 0;
    for (prefix, case) in checkpoints() {
        let place = prefix.display().to_string();
        let (config, slab) =
            match ReferenceParams::open(&prefix).unwrap().into_model(&case.config, None) {
                Err(Error::Config { problems })
                    if problems.iter().all(|p| p.starts_with("unsupported")) =>
                {
                    println!("unsupported: {place}");
                    continue;
                }
                loaded => loaded.unwrap(),
            };
        let (vit, _) = Vit::new(&config).unwrap();
        let pool = Pool::new();
        let tape = Tape::inference(&slab, &pool);
        let output =
            vit.forward(&tape, &case.input.values, &Dial::default(), &mut Mode::Eval).unwrap();
        let logits = case.logits_f64.as_ref().expect("the logits of the case");
        let is_rounded = config.moe.as_ref().is_some_and(|moe| moe.through_bf16);
        let quantity = if is_rounded { ROUNDED_LOGITS } else { LOGITS };
        agreement.check(quantity, &place, output.logits_bv.values(), &logits.values);
        let back = to_arrays(&config, &slab).unwrap();
        agreement
            .require(bits(&back) == bits(&case.params), || format!("{place}: other arrays back"));
        compared += 1;
    }
    agreement.require(compared >= 3, || format!("{compared} checkpoints were compared"));
}

/// A checkpoint of several number types, as the values of the same names.
pub(crate) fn compare_number_types(agreement: &mut Agreement) {
    let expected: Arrays<f64> = read_npz(&folder().join("dtypes_expected.npz")).unwrap();
    let arrays: Arrays<f64> =
        VmoeCheckpoint::open(&folder().join("dtypes")).unwrap().read(|_| true).unwrap();
    agreement.require(!expected.is_empty() && arrays == expected, || format!("{arrays:?}"));
}

/// The names of a whole training state.
pub(crate) fn compare_state_names(agreement: &mut Agreement) {
    let names = json(&folder().join("train_state_keys.json")).expect("the names");
    let names: Vec<&str> =
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let state = VmoeCheckpoint::open(&folder().join(STATE.0)).unwrap();
    let ours: Vec<&str> = state.shapes().map(|(name, _)| name).collect();
    agreement.require(ours == names, || format!("{ours:?}"));
    let all: Arrays = state.read(|name| !name.starts_with("rngs")).unwrap();
    agreement.require(all["step"].shape.is_empty(), || "a step that is no number".into());
}
