//! One golden case, from the original folder of npz and npy files or from a packed one, which
//! `fixtures/make_golden.py` makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sparsely::checkpoint::{Array, Arrays, Element, read_npy, read_npz, read_safetensors};

/// The kinds of task loss that gradients are given for.
const LOSS_KINDS: [&str; 2] = ["softmax_xent", "sigmoid_xent"];

/// Inputs, parameters and what the reference made of them. Names are the reference's, joined by `/`.
#[derive(Debug)]
pub(crate) struct Case {
    /// Name of the folder.
    pub(crate) name: String,
    /// The reference's own configuration.
    pub(crate) config: Value,
    /// Parameters; of a trajectory those it begins with.
    pub(crate) params: Arrays,
    /// Images `[B, height, width, channels]`.
    pub(crate) input: Array,
    /// Labels `[B, V]` of a training case, as probabilities.
    pub(crate) labels: Option<Array>,
    /// Logits in single precision of a gradient case.
    pub(crate) logits: Option<Array>,
    /// Logits in double precision of an evaluation case.
    pub(crate) logits_f64: Option<Array<f64>>,
    /// Logits of a case that rounds through bfloat16, had it not.
    pub(crate) logits_nobf16: Option<Array>,
    /// Mean auxiliary loss of an evaluation case.
    pub(crate) aux_f64: Option<f64>,
    /// Standard normals `[G, S, E]`, one array for each router that draws.
    pub(crate) noise: Vec<Array>,
    /// Losses of a gradient case, by kind of task loss.
    pub(crate) losses: BTreeMap<String, Losses>,
    /// Gradients of the total loss, by kind of task loss.
    pub(crate) grads: BTreeMap<String, Arrays>,
    /// The steps of a trajectory, by optimiser.
    pub(crate) trajectory: Option<Value>,
    /// Parameters within a trajectory, by `{optimiser}_params_after_{steps}`.
    pub(crate) params_after: BTreeMap<String, Arrays>,
}

/// The parts of a training loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Losses {
    /// `main + aux`.
    pub(crate) total: f64,
    /// Mean task loss.
    pub(crate) main: f64,
    /// Mean auxiliary loss.
    pub(crate) aux: f64,
}

/// All cases of the committed fixtures, or of the folder in `SPARSELY_GOLDEN`, by name.
pub(crate) fn load_cases() -> Vec<Case> {
    let inside = root().join("vision");
    let root = if inside.is_dir() { inside } else { root() };
    let entries = fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // Language cases name the repository that they are from.
    let is_vision = |folder: &PathBuf| {
        json(&folder.join("config.json")).is_some_and(|config| config.get("repo").is_none())
    };
    folders.retain(is_vision);
    folders.sort();
    folders.iter().map(|folder| Case::load(folder)).collect()
}

/// The folder in `SPARSELY_GOLDEN`, or of the committed fixtures.
pub(crate) fn root() -> PathBuf {
    let committed = || fixtures().to_path_buf();
    std::env::var_os("SPARSELY_GOLDEN").map_or_else(committed, PathBuf::from)
}

/// The folder of the committed fixtures; those of single functions are in `units`.
pub(crate) fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden"))
}

impl Case {
    /// Loads either layout; a file that does not read is the test's failure.
    pub(crate) fn load(folder: &Path) -> Case {
        let is_packed = folder.join("case.safetensors").is_file();
        let case = if is_packed { packed(folder) } else { original(folder) };
        let part = |name: &str| case.get(name).map(to_f32);
        let scalar = |name: &str| case.get(name).map(|array| array.values[0]);
        let losses = LOSS_KINDS.into_iter().filter_map(|kind| {
            let part = |part: &str| scalar(&format!("losses/{kind}/{part}"));
            let losses = Losses { total: part("total")?, main: part("main")?, aux: part("aux")? };
            Some((kind.to_string(), losses))
        });
        let grads =
            LOSS_KINDS.into_iter().map(|kind| (kind, below(&case, &format!("grads_{kind}/"))));
        let params = named(folder, "params").or_else(|| named(folder, "params_init"));
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            config: json(&folder.join("config.json")).expect("the configuration"),
            params: params.expect("the parameters"),
            input: part("input").expect("the input"),
            labels: part("labels"),
            logits: part("logits"),
            logits_f64: case.get("logits_f64").cloned(),
            logits_nobf16: part("logits_nobf16"),
            aux_f64: scalar("aux_f64"),
            noise: below(&case, "noise/").into_values().collect(),
            losses: losses.collect(),
            grads: grads
                .filter(|(_, grads)| !grads.is_empty())
                .map(|(kind, grads)| (kind.to_string(), grads))
                .collect(),
            trajectory: json(&folder.join("trajectory.json")),
            params_after: params_after(folder),
        }
    }
}

fn packed(folder: &Path) -> Arrays<f64> {
    read_safetensors(&folder.join("case.safetensors")).unwrap().0
}

/// The arrays of an original folder, under the names that packing gives them.
fn original(folder: &Path) -> Arrays<f64> {
    let mut case = Arrays::new();
    for name in ["input", "labels", "logits", "logits_f64", "logits_nobf16", "aux_f64"] {
        let path = folder.join(format!("{name}.npy"));
        if path.is_file() {
            case.insert(name.into(), read_npy(&path).unwrap());
        }
    }
    for stem in ["noise", "grads_softmax_xent", "grads_sigmoid_xent"] {
        for (name, array) in named(folder, stem).unwrap_or_default() {
            case.insert(format!("{stem}/{name}"), array);
        }
    }
    for (kind, parts) in json(&folder.join("losses.json")).iter().flat_map(entries) {
        for (part, loss) in entries(parts) {
            let values = vec![loss.as_f64().unwrap()];
            case.insert(format!("losses/{kind}/{part}"), Array { shape: vec![], values });
        }
    }
    case
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// `STEM.safetensors` or `STEM.npz`, whichever is there.
pub(crate) fn named<T: Element>(folder: &Path, stem: &str) -> Option<Arrays<T>> {
    let safetensors = folder.join(format!("{stem}.safetensors"));
    let npz = folder.join(format!("{stem}.npz"));
    if safetensors.is_file() {
        return Some(read_safetensors(&safetensors).unwrap().0);
    }
    npz.is_file().then(|| read_npz(&npz).unwrap())
}

fn params_after(folder: &Path) -> BTreeMap<String, Arrays> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy();
        if stem.contains("_params_after_") {
            all.insert(stem.to_string(), named(folder, &stem).unwrap());
        }
    }
    all
}

/// The arrays whose names begin with `prefix`, without it.
fn below(case: &Arrays<f64>, prefix: &str) -> Arrays {
    let named = case.iter().filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)));
    named.map(|(name, array)| (name.to_string(), to_f32(array))).collect()
}

fn to_f32(array: &Array<f64>) -> Array {
    let values = array.values.iter().map(|&value| value as f32).collect();
    Array { shape: array.shape.clone(), values }
}

/// A file of JSON, if it is there.
pub(crate) fn json(path: &Path) -> Option<Value> {
    let text = path.is_file().then(|| fs::read_to_string(path).unwrap())?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}
