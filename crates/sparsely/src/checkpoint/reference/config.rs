//! The reference's `config.model` dictionary as a [`ModelConfig`].

use crate::model::{Classifier, ModelConfig, Positions};
use crate::moe::{
    Capacity, ExpertInit, Group, LossWeights, MoeConfig, Placement, Priority, Rounding,
    RouterConfig, TokenChoiceConfig,
};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// Router of the reference that is token choice with softmax; its default.
const TOKEN_CHOICE: &str = "NoisyTopExpertsPerItemRouter";

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
    router: Option<Router>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Router {
    name: String,
    num_selected_experts: usize,
    noise_std: f32,
    importance_loss_weight: f32,
    load_loss_weight: f32,
    gshard_loss_weight: f32,
    dispatcher: Option<Dispatcher>,
}

impl Default for Router {
    fn default() -> Router {
        Router {
            name: TOKEN_CHOICE.into(),
            num_selected_experts: 1,
            noise_std: 1.0,
            importance_loss_weight: 1.0,
            load_loss_weight: 1.0,
            gshard_loss_weight: 0.0,
            dispatcher: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Dispatcher {
    #[serde(rename = "name")]
    _name: String,
    bfloat16: bool,
    capacity: Option<usize>,
    capacity_factor: Option<f64>,
    capacity_ceil_or_round: Rounding,
    capacity_multiple_of: Option<usize>,
    batch_priority: bool,
    /// Where its devices keep the tokens.
    #[serde(rename = "partition_spec")]
    _partition_spec: Value,
}

impl Default for Dispatcher {
    fn default() -> Dispatcher {
        Dispatcher {
            _name: String::new(),
            bfloat16: false,
            capacity: None,
            capacity_factor: None,
            capacity_ceil_or_round: Rounding::Ceil,
            // Silently raises the factor; the reference does so unless told otherwise.
            capacity_multiple_of: Some(4),
            batch_priority: false,
            _partition_spec: Value::Null,
        }
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
    if let Some(router) = json.pointer("/encoder/moe/router/name").and_then(Value::as_str)
        && router != TOKEN_CHOICE
    {
        return Err(Error::config(format!("unsupported router `{router}`")));
    }
    let model: Model = serde_path_to_error::deserialize(json)
        .map_err(|error| Error::config(format!("`{}`: {}", error.path(), error.inner())))?;
    let problems = model.unsupported();
    if !problems.is_empty() {
        return Err(Error::Config { problems });
    }
    let config = model.into_config(image_size, channels);
    config.validate()?;
    Ok(config)
}

impl Model {
    fn unsupported(&self) -> Vec<String> {
        let encoder = &self.encoder;
        let moe = encoder.moe.as_ref().filter(|moe| !moe.layers.is_empty());
        let dispatcher =
            moe.and_then(|moe| moe.router.as_ref()).and_then(|router| router.dispatcher.as_ref());
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
            (
                dispatcher.is_some_and(|dispatcher| dispatcher.bfloat16),
                "unsupported rounding through bfloat16",
            ),
            (
                moe.is_some()
                    && dispatcher.is_none_or(|dispatcher| {
                        dispatcher.capacity.is_some() == dispatcher.capacity_factor.is_some()
                    }),
                "the dispatcher needs either `capacity` or `capacity_factor`",
            ),
        ];
        checks.iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| (*problem).into()).collect()
    }

    fn into_config(self, image_size: usize, channels: usize) -> ModelConfig {
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
            pre_logits: self.representation_size,
            head_bias: self.head_bias_init,
            dropout: encoder.dropout_rate,
            moe: encoder
                .moe
                .filter(|moe| !moe.layers.is_empty())
                .map(|moe| moe.into_config(encoder.dropout_rate)),
        }
    }
}

impl Moe {
    fn into_config(self, dropout_rate: f32) -> MoeConfig {
        let splits = match self.split_rngs {
            SplitRngs::All(splits) => splits,
            SplitRngs::Kinds(kinds) => kinds.iter().any(|kind| kind == "params"),
        };
        MoeConfig {
            num_experts: self.num_experts,
            placement: Placement::Blocks { blocks: self.layers },
            group: Group::Tokens { n: self.group_size },
            router: self.router.unwrap_or_default().into_config(),
            expert_dropout: self.dropout_rate.unwrap_or(dropout_rate),
            expert_init: if splits { ExpertInit::Different } else { ExpertInit::Equal },
        }
    }
}

impl Router {
    fn into_config(self) -> RouterConfig {
        let dispatcher = self.dispatcher.unwrap_or_default();
        RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: self.num_selected_experts,
            noise_std: self.noise_std,
            capacity: match (dispatcher.capacity, dispatcher.capacity_factor) {
                (Some(seats), _) => Capacity::Exact { seats },
                (None, factor) => Capacity::Factor {
                    factor: factor.unwrap_or(1.0),
                    rounding: dispatcher.capacity_ceil_or_round,
                    multiple_of: dispatcher.capacity_multiple_of.unwrap_or(1),
                },
            },
            priority: if dispatcher.batch_priority {
                Priority::MaxGate
            } else {
                Priority::Position
            },
            loss: LossWeights {
                importance: self.importance_loss_weight,
                load: self.load_loss_weight,
                gshard: self.gshard_loss_weight,
                z: 0.0,
            },
        })
    }
}

#[cfg(test)]
mod tests;
