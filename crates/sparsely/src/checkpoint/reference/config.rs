//! The reference's `config.model` dictionary as a [`ModelConfig`].

use super::router::{ReferenceRouter, parse_router};
use crate::model::{Classifier, ModelConfig, Positions};
use crate::moe::{ExpertInit, Granularity, Group, MoeConfig, Placement};
use crate::nn::Precision;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    num_classes: Option<usize>,
    patch_size: [usize; 2],
    hidden_size: usize,
    #[serde(default = "token")]
    classifier: Classifier,
    #[serde(default)]
    representation_size: Option<usize>,
    #[serde(default)]
    head_bias_init: f32,
    encoder: Encoder,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoder {
    num_layers: usize,
    mlp_dim: usize,
    num_heads: usize,
    #[serde(default)]
    dropout_rate: f32,
    #[serde(default)]
    attention_dropout_rate: f32,
    #[serde(default)]
    attention_qk_norm: bool,
    position_emb: Option<PositionEmb>,
    moe: Option<Moe>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PositionEmb {
    #[serde(default)]
    name: PositionName,
    temperature: Option<f64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum PositionName {
    #[default]
    Learned,
    Sincos2d,
    None,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Moe {
    layers: Vec<usize>,
    num_experts: usize,
    group_size: usize,
    /// That of the encoder, unless given; as the width of the experts.
    dropout_rate: Option<f32>,
    mlp_dim: Option<usize>,
    split_rngs: SplitRngs,
    router: Value,
}

/// For all kinds of random numbers, or for those of the list.
#[derive(Deserialize)]
#[serde(untagged)]
enum SplitRngs {
    All(bool),
    Kinds(Vec<String>),
}

impl Default for SplitRngs {
    fn default() -> SplitRngs {
        SplitRngs::All(false)
    }
}

fn token() -> Classifier {
    Classifier::Token
}

/// Reads the reference's configuration of a model for images of `image_size` and `channels`.
///
/// # Errors
/// What is not understood or not supported, all at once where it parses at all.
pub fn parse_config(json: &Value, image_size: usize, channels: usize) -> Result<ModelConfig> {
    let model: Model = serde_path_to_error::deserialize(json)
        .map_err(|error| Error::config(format!("`{}`: {}", error.path(), error.inner())))?;
    let mut problems = model.unsupported();
    let router = match model.router().map(parse_router).transpose() {
        Ok(router) => router,
        Err(Error::Config { problems: more }) => {
            problems.extend(more);
            None
        }
        Err(other) => return Err(other),
    };
    if !problems.is_empty() {
        return Err(Error::Config { problems });
    }
    let config = model.into_config(image_size, channels, router);
    config.validate()?;
    Ok(config)
}

impl Model {
    /// The router, if any block has one.
    fn router(&self) -> Option<&Value> {
        let moe = self.encoder.moe.as_ref().filter(|moe| !moe.layers.is_empty());
        moe.map(|moe| &moe.router)
    }

    fn unsupported(&self) -> Vec<String> {
        let encoder = &self.encoder;
        let moe = encoder.moe.as_ref().filter(|moe| !moe.layers.is_empty());
        let temperature = encoder.position_emb.as_ref().and_then(|emb| emb.temperature);
        let checks = [
            (self.patch_size[0] != self.patch_size[1], "unsupported patches that are not square"),
            (encoder.attention_dropout_rate != 0.0, "unsupported dropout of attention weights"),
            (
                temperature.is_some_and(|temperature| temperature != 10_000.0),
                "unsupported temperature of the positions",
            ),
            (
                moe.and_then(|moe| moe.mlp_dim).is_some_and(|width| width != encoder.mlp_dim),
                "unsupported experts of another width than the dense MLPs",
            ),
        ];
        checks.iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| (*problem).into()).collect()
    }

    fn into_config(
        self,
        image_size: usize,
        channels: usize,
        router: Option<ReferenceRouter>,
    ) -> ModelConfig {
        let encoder = self.encoder;
        ModelConfig {
            image_size,
            channels,
            patch_size: self.patch_size[0],
            depth: encoder.num_layers,
            width: self.hidden_size,
            heads: encoder.num_heads,
            mlp_width: encoder.mlp_dim,
            // No classes and 0 classes are the same there.
            num_classes: self.num_classes.filter(|classes| *classes > 0),
            classifier: self.classifier,
            positions: match encoder.position_emb.unwrap_or_default().name {
                PositionName::Learned => Positions::Learned,
                PositionName::Sincos2d => Positions::Sincos2d,
                PositionName::None => Positions::None,
            },
            qk_norm: encoder.attention_qk_norm,
            attention: None,
            pre_logits: self.representation_size,
            head_bias: self.head_bias_init,
            dropout: encoder.dropout_rate,
            precision: Precision::F32,
            moe: encoder
                .moe
                .zip(router)
                .map(|(moe, router)| moe.into_config(encoder.dropout_rate, &router)),
        }
    }
}

impl Moe {
    fn into_config(self, dropout_rate: f32, router: &ReferenceRouter) -> MoeConfig {
        let splits = match self.split_rngs {
            SplitRngs::All(splits) => splits,
            SplitRngs::Kinds(kinds) => kinds.iter().any(|kind| kind == "params"),
        };
        MoeConfig {
            num_experts: self.num_experts,
            placement: Placement::Blocks { blocks: self.layers },
            granularity: Granularity::Token,
            group: Group::Tokens { n: self.group_size },
            router: router.config,
            num_shared: 0,
            through_bf16: router.through_bf16,
            expert_dropout: self.dropout_rate.unwrap_or(dropout_rate),
            expert_init: if splits { ExpertInit::Different } else { ExpertInit::Equal },
        }
    }
}

#[cfg(test)]
mod tests;
