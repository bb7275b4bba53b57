//! The names of other flat ViT files in the reference's words.
//!
//! Known are google-research/vision_transformer's released files
//! (`Transformer/encoderblock_0/MlpBlock_3/…`, `LayerNorm_2`) and big_vision's
//! (`Transformer/encoderblock_0/MlpBlock_0/…`, `pos_embedding`, `MAPHead_0`). Files in the
//! reference's own words stay as they are.

use crate::checkpoint::{Array, Arrays};
use crate::model::token_grid;
use crate::{Error, Result};
use std::path::Path;

/// Where learned positions are.
pub(super) const POSITIONS: &str = "Encoder/posembed_input/pos_embedding";

/// Folders of a training state that parameters are kept in.
const PARAMS: [&str; 2] = ["params/", "opt/target/"];

/// The folder that the parameters of a training state are in; empty for parameters alone.
pub(super) fn params_folder<'a>(mut names: impl Iterator<Item = &'a str>) -> &'static str {
    let folder_of = |name: &str| PARAMS.into_iter().find(|folder| name.starts_with(folder));
    names.find_map(folder_of).unwrap_or("")
}

/// The parameters in the reference's words.
pub(super) fn in_reference_words(arrays: Arrays, path: &Path) -> Result<Arrays> {
    let folder = params_folder(arrays.keys().map(String::as_str));
    let mut translated = Arrays::new();
    let mut has_positions_of_patches_alone = false;
    for (name, array) in arrays {
        let Some(name) = name.strip_prefix(folder) else { continue };
        has_positions_of_patches_alone |= is_big_visions_positions(name);
        let new_name = translate(name);
        if translated.insert(new_name.clone(), array).is_some() {
            let got = format!("two, one of them `{}`", name.escape_debug());
            return Err(Error::format(path, format!("one `{}`", new_name.escape_debug()), got));
        }
    }
    if has_positions_of_patches_alone
        && translated.contains_key("cls")
        && let Some(positions) = translated.get_mut(POSITIONS)
    {
        add_row_of_class_token(positions);
    }
    Ok(translated)
}

fn is_big_visions_positions(name: &str) -> bool {
    matches!(name, "pos_embedding" | "Transformer/pos_embedding")
}

/// There the class token is put before the others after they have got their positions: its own is 0.
fn add_row_of_class_token(positions: &mut Array) {
    if let [1, tokens, d] = positions.shape[..]
        && token_grid(tokens).is_some_and(|(_, has_cls)| !has_cls)
    {
        positions.values.splice(..0, std::iter::repeat_n(0.0, d));
        positions.shape[1] = tokens + 1;
    }
}

fn translate(name: &str) -> String {
    if is_big_visions_positions(name) {
        return POSITIONS.into();
    }
    let Some((first, rest)) = name.split_once('/') else { return name.into() };
    let (first, in_map_head) = match first {
        "Transformer" => ("Encoder", false),
        "MAPHead_0" => ("MapHead", true),
        _ => return name.into(),
    };
    let words = rest.split('/').map(|word| match (word, in_map_head) {
        ("LayerNorm_0", true) => "LayerNorm",
        ("MultiHeadDotProductAttention_0", true) => "MultiHeadDotProductAttention",
        ("MultiHeadDotProductAttention_0" | "MultiHeadDotProductAttention_1", false) => {
            "SelfAttention"
        }
        ("MlpBlock_0" | "MlpBlock_3", _) => "Mlp",
        // Its sub-modules were numbered together there: 0 norm, 1 attention, 2 norm, 3 MLP.
        ("LayerNorm_2", false) => "LayerNorm_1",
        (word, _) => word,
    });
    std::iter::once(first).chain(words).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays(names: &[&str]) -> Arrays {
        let array = |_| Array { shape: vec![1, 4, 1], values: vec![1.0; 4] };
        names.iter().map(|name| (name.to_string(), array(name))).collect()
    }

    fn translated(names: &[&str]) -> Vec<String> {
        in_reference_words(arrays(names), Path::new("p.npz")).unwrap().into_keys().collect()
    }

    #[test]
    fn released_vit_names_are_understood() {
        let block = "Transformer/encoderblock_11";
        let theirs = [
            format!("{block}/LayerNorm_0/scale"),
            format!("{block}/LayerNorm_2/bias"),
            format!("{block}/MlpBlock_3/Dense_0/kernel"),
            format!("{block}/MultiHeadDotProductAttention_1/query/kernel"),
            "Transformer/encoder_norm/scale".into(),
            "Transformer/posembed_input/pos_embedding".into(),
            "cls".into(),
            "embedding/kernel".into(),
            "head/kernel".into(),
        ];
        assert_eq!(
            translated(&theirs.each_ref().map(String::as_str)),
            [
                "Encoder/encoder_norm/scale",
                "Encoder/encoderblock_11/LayerNorm_0/scale",
                "Encoder/encoderblock_11/LayerNorm_1/bias",
                "Encoder/encoderblock_11/Mlp/Dense_0/kernel",
                "Encoder/encoderblock_11/SelfAttention/query/kernel",
                "Encoder/posembed_input/pos_embedding",
                "cls",
                "embedding/kernel",
                "head/kernel",
            ]
        );
    }

    #[test]
    fn big_vision_names_are_understood() {
        assert_eq!(
            translated(&[
                "params/MAPHead_0/LayerNorm_0/scale",
                "params/MAPHead_0/MlpBlock_0/Dense_1/bias",
                "params/MAPHead_0/MultiHeadDotProductAttention_0/key/bias",
                "params/MAPHead_0/probe",
                "params/Transformer/encoderblock_0/LayerNorm_1/scale",
                "params/Transformer/encoderblock_0/MlpBlock_0/Dense_0/bias",
                "params/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/out/bias",
                "params/pos_embedding",
                "opt/count",
            ]),
            [
                "Encoder/encoderblock_0/LayerNorm_1/scale",
                "Encoder/encoderblock_0/Mlp/Dense_0/bias",
                "Encoder/encoderblock_0/SelfAttention/out/bias",
                "Encoder/posembed_input/pos_embedding",
                "MapHead/LayerNorm/scale",
                "MapHead/Mlp/Dense_1/bias",
                "MapHead/MultiHeadDotProductAttention/key/bias",
                "MapHead/probe",
            ]
        );
    }

    #[test]
    fn a_class_token_without_a_position_gets_none() {
        let row = |names: &[&str]| {
            let arrays = in_reference_words(arrays(names), Path::new("p.npz")).unwrap();
            arrays[POSITIONS].clone()
        };
        let with_row = row(&["pos_embedding", "cls"]);
        assert_eq!(
            (&*with_row.shape, &*with_row.values),
            (&[1, 5, 1][..], &[0.0, 1.0, 1.0, 1.0, 1.0][..])
        );
        assert_eq!(row(&["pos_embedding"]).shape, [1, 4, 1]);
        assert_eq!(row(&["Transformer/posembed_input/pos_embedding", "cls"]).shape, [1, 4, 1]);
    }

    #[test]
    fn two_arrays_of_one_meaning_are_refused() {
        let block = "Transformer/encoderblock_0";
        let both = [format!("{block}/LayerNorm_1/bias"), format!("{block}/LayerNorm_2/bias")];
        let refused =
            in_reference_words(arrays(&both.each_ref().map(|s| &**s)), Path::new("p.npz"));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "`p.npz`: expected one `Encoder/encoderblock_0/LayerNorm_1/bias`, got two, one of them \
             `Transformer/encoderblock_0/LayerNorm_2/bias`"
        );
    }
}
