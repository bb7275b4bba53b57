//! The reference's `config.model` dictionary as a [`ModelConfig`].

use crate::model::{Classifier, ModelConfig, Positions};
use crate::moe::{
    Capacity, ExpertInit, Group, LossWeights, MoeConfig, Placement, Priority, Rounding, RouterConfig,
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
    #[serde(default)]
    position_emb: PositionEmb,
    #[serde(default)]
    moe: Moe,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PositionEmb {
    #[serde(default)]
    name: PositionName,
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
    dropout_rate: f32,
    split_rngs: bool,
    router: Router,
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
    dispatcher: Dispatcher,
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
            dispatcher: Dispatcher::default(),
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
    capacity_multiple_of: usize,
    batch_priority: bool,
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
            capacity_multiple_of: 4,
            batch_priority: false,
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
        let (encoder, moe) = (&self.encoder, &self.encoder.moe);
        let dispatcher = &moe.router.dispatcher;
        let checks = [
            (self.patch_size[0] != self.patch_size[1], "unsupported patches that are not square"),
            (encoder.attention_dropout_rate != 0.0, "unsupported dropout of attention weights"),
            (dispatcher.bfloat16, "unsupported rounding through bfloat16"),
            (
                !moe.layers.is_empty()
                    && dispatcher.capacity.is_some() == dispatcher.capacity_factor.is_some(),
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
            num_classes: self.num_classes,
            classifier: self.classifier,
            positions: match encoder.position_emb.name {
                PositionName::Learned => Positions::Learned,
                PositionName::Sincos2d => Positions::Sincos2d,
                PositionName::None => Positions::None,
            },
            qk_norm: encoder.attention_qk_norm,
            pre_logits: self.representation_size,
            head_bias: self.head_bias_init,
            dropout: encoder.dropout_rate,
            moe: (!encoder.moe.layers.is_empty()).then(|| encoder.moe.into_config()),
        }
    }
}

impl Moe {
    fn into_config(self) -> MoeConfig {
        MoeConfig {
            num_experts: self.num_experts,
            placement: Placement::Blocks { blocks: self.layers },
            group: Group::Tokens { n: self.group_size },
            router: self.router.into_config(),
            expert_dropout: self.dropout_rate,
            expert_init: if self.split_rngs { ExpertInit::Different } else { ExpertInit::Equal },
        }
    }
}

impl Router {
    fn into_config(self) -> RouterConfig {
        let dispatcher = self.dispatcher;
        RouterConfig {
            num_selected: self.num_selected_experts,
            noise_std: self.noise_std,
            capacity: match (dispatcher.capacity, dispatcher.capacity_factor) {
                (Some(seats), _) => Capacity::Exact { seats },
                (None, factor) => Capacity::Factor {
                    factor: factor.unwrap_or(1.0),
                    rounding: dispatcher.capacity_ceil_or_round,
                    multiple_of: dispatcher.capacity_multiple_of,
                },
            },
            priority: if dispatcher.batch_priority { Priority::MaxGate } else { Priority::Position },
            loss: LossWeights {
                importance: self.importance_loss_weight,
                load: self.load_loss_weight,
                gshard: self.gshard_loss_weight,
                z: 0.0,
            },
        }
    }
}
