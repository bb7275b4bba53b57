//! Checkpoints in the reference's own format, written by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sparsely::Error;
use sparsely::checkpoint::reference::{
    ReferenceParams, describe_config, from_arrays, parse_config, to_arrays,
};
use sparsely::checkpoint::{Arrays, VmoeCheckpoint, array_refs, read_npz, write_vmoe};
use sparsely::model::Vit;
use sparsely::moe::Dial;
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Tape};

use crate::agreement::Agreement;
use crate::case::{Case, fixtures, json, load_cases, root};
use crate::run::{LOGITS, ROUNDED_LOGITS};

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

/// Every checkpoint computes what the reference computes, and goes back into the arrays that it came
/// from.
pub(crate) fn compare_logits(agreement: &mut Agreement) {
    let mut compared = 0;
    for (prefix, case) in checkpoints() {
        let place = prefix.display().to_string();
        let loaded = ReferenceParams::open(&prefix).unwrap().into_model(&case.config, None);
        let (config, slab) = loaded.unwrap_or_else(|error| panic!("{place}: {error}"));
        let (vit, _) = Vit::new(&config).unwrap();
        let pool = Pool::new();
        let tape = Tape::inference(&slab, &pool);
        let images = &case.input.values;
        let output = vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap();
        let logits = case.logits_f64.as_ref().expect("the logits of the case");
        let rounds = config.moe.as_ref().is_some_and(|moe| moe.through_bf16);
        let quantity = if rounds { ROUNDED_LOGITS } else { LOGITS };
        agreement.check(quantity, &place, output.logits_bv.values(), &logits.values);
        let back = to_arrays(&config, &slab).unwrap();
        agreement
            .require(bits(&back) == bits(&case.params), || format!("{place}: other arrays back"));
        compared += 1;
    }
    agreement.require(compared >= 4, || format!("{compared} checkpoints were compared"));
}

/// Every case's model, whatever its router, goes out as a checkpoint with its configuration and
/// comes back the same.
pub(crate) fn compare_exports(agreement: &mut Agreement) {
    let target = tempfile::tempdir().unwrap();
    for case in load_cases() {
        let [_, size, _, channels] = case.input.shape[..] else { panic!("{}: images", case.name) };
        let config = match parse_config(&case.config, size, channels) {
            Err(Error::Config { problems })
                if problems.iter().all(|p| p.starts_with("unsupported")) =>
            {
                continue;
            }
            parsed => parsed.unwrap(),
        };
        let (_, layout) = Vit::new(&config).unwrap();
        let slab = from_arrays(&config, &layout, &case.params, Path::new(&case.name)).unwrap();
        let (prefix, arrays) = (target.path().join(&case.name), to_arrays(&config, &slab).unwrap());
        write_vmoe(&prefix, &array_refs(&arrays), 2).unwrap();
        let described = describe_config(&config).unwrap();
        let back =
            ReferenceParams::open(&prefix).unwrap().into_model(&described, Some(size)).unwrap();
        agreement.require(back.0 == config, || format!("{}: another model back", case.name));
        agreement.require(back.1.values() == slab.values(), || {
            format!("{}: other parameters back", case.name)
        });
    }
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
