//! Parameters under the reference's names, to and from a slab.
//!
//! The reference keeps queries, keys and values apart; ours are columns of one kernel. All
//! else is the same numbers under another name.

use crate::checkpoint::{Array, Arrays};
use crate::model::ModelConfig;
use crate::{Error, Result};
use sparsely_tensor::{Layout, Slab};
use std::path::Path;
use std::sync::Arc;

/// An array of the reference and the columns of our parameter that hold it.
struct Piece {
    theirs: String,
    their_shape: Vec<usize>,
    ours: String,
    first_column: usize,
}

/// All pieces of a model, from our layout.
fn pieces(config: &ModelConfig, layout: &Layout) -> Vec<Piece> {
    layout
        .views()
        .iter()
        .flat_map(|view| pieces_of(config, &view.name, view.param.shape().axes()))
        .collect()
}

fn pieces_of(config: &ModelConfig, ours: &str, shape: &[usize]) -> Vec<Piece> {
    let (d, h) = (config.width, config.heads);
    let a = d / h;
    let (folder, leaf) = ours.rsplit_once('/').unwrap_or(("", ours));
    let one = |theirs: String, their_shape: Vec<usize>| {
        vec![Piece { theirs, their_shape, ours: ours.into(), first_column: 0 }]
    };
    let parts = |base: String, names: &[&str], heads_last: bool| {
        let piece = |(i, name): (usize, &&str)| {
            let mut their_shape = if leaf == "kernel" { vec![d] } else { vec![] };
            their_shape.extend(if heads_last { vec![h, a] } else { vec![d] });
            let theirs = format!("{base}/{name}/{leaf}");
            Piece { theirs, their_shape, ours: ours.into(), first_column: i * d }
        };
        names.iter().enumerate().map(piece).collect::<Vec<_>>()
    };
    if let Some((attention, layer)) = split_attention(folder, leaf) {
        let base = their_path(attention);
        return match (layer, leaf) {
            ("qkv", _) => parts(base, &["query", "key", "value"], true),
            ("q", _) => parts(base, &["query"], true),
            ("kv", _) => parts(base, &["key", "value"], true),
            ("out", "kernel") => one(format!("{base}/out/kernel"), vec![h, a, d]),
            ("out", _) => one(format!("{base}/out/bias"), vec![d]),
            (_, "query_norm") => one(format!("{base}/query_ln/scale"), vec![a]),
            _ => one(format!("{base}/key_ln/scale"), vec![a]),
        };
    }
    let patch = config.patch_size;
    match ours {
        "cls" => one("cls".into(), vec![1, 1, d]),
        "positions" => one("Encoder/posembed_input/pos_embedding".into(), vec![1, shape[0], d]),
        "embedding/kernel" => one(ours.into(), vec![patch, patch, config.channels, d]),
        "pool/probe" => one("MapHead/probe".into(), vec![1, 1, d]),
        // A scalar there.
        _ if ours.ends_with("router/scale") => one(their_path(ours), vec![]),
        _ => one(their_path(ours), shape.to_vec()),
    }
}

/// The folder of attention parameters and the layer in it, if the parameter is one.
fn split_attention<'a>(folder: &'a str, leaf: &str) -> Option<(&'a str, &'a str)> {
    if leaf == "query_norm" || leaf == "key_norm" {
        return Some((folder, ""));
    }
    let (attention, layer) = folder.rsplit_once('/')?;
    let is_attention = attention.ends_with("/attention") || attention == "pool";
    (is_attention && matches!(layer, "qkv" | "q" | "kv" | "out")).then_some((attention, layer))
}

/// Our path in the reference's words.
fn their_path(ours: &str) -> String {
    let words = ours.split('/').scan("", |before, word| {
        let theirs = match (*before, word) {
            (_, "blocks") => None,
            ("blocks", index) => Some(format!("Encoder/encoderblock_{index}")),
            ("", "norm") => Some("Encoder/encoder_norm".into()),
            ("pool", "norm") => Some("LayerNorm".into()),
            ("", "pool") if ours == "pool" => Some("MapHead/MultiHeadDotProductAttention".into()),
            ("", "pool") => Some("MapHead".into()),
            (_, "norm_0") => Some("LayerNorm_0".into()),
            (_, "norm_1") => Some("LayerNorm_1".into()),
            (_, "attention") => Some("SelfAttention".into()),
            (_, "mlp" | "experts") => Some("Mlp".into()),
            (_, "dense_0") => Some("Dense_0".into()),
            (_, "dense_1") => Some("Dense_1".into()),
            (_, "moe") => Some("Moe".into()),
            (_, "router") => Some("Router".into()),
            ("router", "kernel") => Some("dense/kernel".into()),
            (_, "w_in") => Some("Dense_0/kernel".into()),
            (_, "b_in") => Some("Dense_0/bias".into()),
            (_, "w_out") => Some("Dense_1/kernel".into()),
            (_, "b_out") => Some("Dense_1/bias".into()),
            (_, word) => Some(word.to_string()),
        };
        *before = word;
        Some(theirs)
    });
    words.flatten().collect::<Vec<_>>().join("/")
}

/// A slab with the reference's parameters; `path` is named in errors.
///
/// # Errors
/// All arrays that are missing, unknown or of another shape, at once.
pub fn from_arrays(
    config: &ModelConfig,
    layout: &Arc<Layout>,
    arrays: &Arrays,
    path: &Path,
) -> Result<Slab> {
    let pieces = pieces(config, layout);
    let expected: Vec<(&str, &[usize])> =
        pieces.iter().map(|piece| (&*piece.theirs, &*piece.their_shape)).collect();
    crate::checkpoint::check_shapes(path, arrays, &expected)?;
    let mut slab = Slab::zeros(layout.clone());
    for piece in &pieces {
        let param = find(layout, &piece.ours)?;
        let (values, columns) = (&arrays[&piece.theirs].values, param.shape().width());
        let width = piece.width(columns);
        for (row, theirs) in slab.view_mut(&param).chunks_mut(columns).zip(values.chunks(width)) {
            row[piece.first_column..piece.first_column + width].copy_from_slice(theirs);
        }
    }
    Ok(slab)
}

/// A slab (parameters or gradients) as the reference's arrays.
///
/// # Errors
/// Never for the layout of a model of `config`.
pub fn to_arrays(config: &ModelConfig, slab: &Slab) -> Result<Arrays> {
    let layout = slab.layout();
    let piece_to_array = |piece: Piece| {
        let param = find(layout, &piece.ours)?;
        let columns = param.shape().width();
        let width = piece.width(columns);
        let rows = slab.view(&param).chunks(columns);
        let values = rows.flat_map(|row| &row[piece.first_column..piece.first_column + width]);
        let array = Array { values: values.copied().collect(), shape: piece.their_shape };
        Ok((piece.theirs, array))
    };
    pieces(config, layout).into_iter().map(piece_to_array).collect()
}

impl Piece {
    /// Columns of our parameter, of `columns`, that the piece fills.
    fn width(&self, columns: usize) -> usize {
        let split = ["/query/", "/key/", "/value/"].iter().any(|part| self.theirs.contains(part));
        // A query, key or value has as many columns as all heads together.
        if split { self.their_shape.iter().rev().take(2).product() } else { columns }
    }
}

fn find(layout: &Layout, name: &str) -> Result<sparsely_tensor::Param> {
    layout.find(name).map(|view| view.param).ok_or_else(|| Error::Argument {
        op: "parameter lookup",
        expected: format!("a model with `{name}`"),
        got: "none of that name".into(),
    })
}
