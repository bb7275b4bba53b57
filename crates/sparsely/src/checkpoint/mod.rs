//! What lasts on disk: named arrays, the resume state and the folder of a run.
//!
//! Files are read as if they came from strangers: every length is checked against the file
//! before memory is asked for, nothing is unpickled, and what does not fit is one line.

mod arrays;
mod atomic;
mod manifest;
mod metrics;
mod npy;
pub mod reference;
mod run_folder;
mod safetensors;
mod vmoe;

pub use arrays::{Array, ArrayRef, Arrays, Element, array_refs, check_shapes};
pub use atomic::{write_atomic, write_json};
pub use manifest::State;
pub use metrics::MetricsWriter;
pub use npy::{read_npy, read_npz, write_npy, write_npz};
pub use run_folder::{MappedModel, Model, RunFolder};
pub use safetensors::{Metadata, read_safetensors, write_safetensors};
pub use vmoe::{VmoeCheckpoint, write_vmoe};
