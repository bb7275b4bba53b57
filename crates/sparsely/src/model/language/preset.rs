//! Configurations by name: the models of SwitchHead's paper, and smaller ones.

use super::{DenseMlpConfig, LanguageConfig, MlpConfig};
use crate::attention::{
    AttentionConfig, DenseAttentionConfig, MoaConfig, RelativePositions, SwitchHeadConfig,
};
use crate::moe::SigmaMoeConfig;

/// Sub-words of the paper's data sets.
const SUB_WORDS: usize = 8000;
/// Distinct bytes of Enwik8.
const ENWIK8_BYTES: usize = 205;
/// Pieces of a small vocabulary, and bytes.
const SMALL_VOCABULARY: usize = 2048;
const BYTES: usize = 256;

/// Every preset: those of the paper (arXiv 2312.07987, appendix), then those of about five and one
/// million parameters.
pub const LANGUAGE_PRESETS: [&str; 23] = [
    "xl-c4-47m",
    "switchhead-c4-47m",
    "xl-c4-262m",
    "switchhead-c4-262m",
    "switchhead-wikitext-47m",
    "xl-wikitext-262m",
    "switchhead-wikitext-262m",
    "moa-wikitext-262m",
    "xl-enwik8-41m",
    "switchhead-enwik8-41m",
    "rope-45m",
    "switchhead-rope-45m",
    "switchall-259m",
    "xl-5m",
    "xl-few-heads-5m",
    "switchhead-5m",
    "switchhead-rope-5m",
    "switchall-5m",
    "moa-5m",
    "xl-1m",
    "switchhead-1m",
    "switchhead-rope-1m",
    "switchall-1m",
];

/// The preset of that name.
pub fn language_preset(name: &str) -> Option<LanguageConfig> {
    let (small, big) = ([16, 412, 256], [18, 1024, 512]);
    Some(match name {
        "xl-c4-47m" => model(small, SUB_WORDS, dense([10, 41]), mlp(2053)),
        "switchhead-c4-47m" => model(small, SUB_WORDS, switch([2, 76], [5, 3]), mlp(2080)),
        "xl-c4-262m" | "xl-wikitext-262m" => model(big, SUB_WORDS, dense([16, 64]), mlp(4110)),
        "switchhead-c4-262m" => model(big, SUB_WORDS, switch([4, 112], [4, 2]), mlp(4188)),
        "switchhead-wikitext-47m" => model(small, SUB_WORDS, switch([2, 76], [5, 2]), mlp(2080)),
        "switchhead-wikitext-262m" => model(big, SUB_WORDS, switch([2, 132], [8, 4]), mlp(4147)),
        "moa-wikitext-262m" => model(big, SUB_WORDS, moa(144, [16, 8]), mlp(4147)),
        "xl-enwik8-41m" => model([12, 512, 512], ENWIK8_BYTES, dense([8, 64]), mlp(2053)),
        "switchhead-enwik8-41m" => {
            model([12, 512, 512], ENWIK8_BYTES, switch([2, 112], [4, 2]), mlp(2088))
        }
        "rope-45m" => rotary(model([16, 412, 512], SUB_WORDS, dense([10, 41]), mlp(2053))),
        "switchhead-rope-45m" => {
            rotary(model([16, 412, 512], SUB_WORDS, switch([2, 64], [5, 3]), mlp(2092)))
        }
        "switchall-259m" => model(big, SUB_WORDS, switch([4, 112], [4, 2]), sigma(128, [32, 4])),
        other => return small_preset(other),
    })
}

/// Those for a machine without accelerators. Attention and MLP together have as many parameters in each.
fn small_preset(name: &str) -> Option<LanguageConfig> {
    let (five, one) = ([6, 256, 128], [4, 128, 128]);
    let five = |attention, mlp| LanguageConfig {
        dropout: 0.0,
        ..model(five, SMALL_VOCABULARY, attention, mlp)
    };
    let one = |attention, mlp| LanguageConfig { dropout: 0.0, ..model(one, BYTES, attention, mlp) };
    Some(match name {
        "xl-5m" => five(dense([8, 32]), mlp(640)),
        "xl-few-heads-5m" => five(dense([2, 128]), mlp(640)),
        "switchhead-5m" => five(switch([2, 56], [4, 2]), mlp(657)),
        "switchhead-rope-5m" => rotary(five(switch([2, 56], [4, 2]), mlp(713))),
        "switchall-5m" => five(switch([2, 56], [4, 2]), sigma(32, [20, 5])),
        "moa-5m" => five(moa(64, [8, 4]), mlp(669)),
        "xl-1m" => one(dense([4, 32]), mlp(592)),
        "switchhead-1m" => one(switch([2, 28], [4, 2]), mlp(597)),
        "switchhead-rope-1m" => rotary(one(switch([2, 28], [4, 2]), mlp(625))),
        "switchall-1m" => one(switch([2, 28], [4, 2]), sigma(66, [9, 2])),
        _ => return None,
    })
}

/// Layers, width and block of text; as much memory as that, and the paper's dropout.
fn model(
    [depth, width, context]: [usize; 3],
    vocabulary: usize,
    attention: AttentionConfig,
    mlp: MlpConfig,
) -> LanguageConfig {
    LanguageConfig {
        vocabulary,
        width,
        depth,
        context,
        memory: context,
        dropout: if width < 1000 { 0.1 } else { 0.2 },
        attention,
        mlp,
        ..LanguageConfig::default()
    }
}

/// The same with rotary positions and without memory.
fn rotary(config: LanguageConfig) -> LanguageConfig {
    let positions = RelativePositions::Rope { fraction: 0.5 };
    let attention = match config.attention {
        AttentionConfig::Dense(dense) => {
            AttentionConfig::Dense(DenseAttentionConfig { positions, ..dense })
        }
        AttentionConfig::SwitchHead(switch) => {
            AttentionConfig::SwitchHead(SwitchHeadConfig { positions, ..switch })
        }
        AttentionConfig::Moa(moa) => AttentionConfig::Moa(MoaConfig { positions, ..moa }),
    };
    LanguageConfig { attention, memory: 0, ..config }
}

fn dense([heads, head_width]: [usize; 2]) -> AttentionConfig {
    let positions = RelativePositions::TransformerXl;
    AttentionConfig::Dense(DenseAttentionConfig { heads, head_width, positions })
}

fn switch(
    [heads, head_width]: [usize; 2],
    [num_experts, num_selected]: [usize; 2],
) -> AttentionConfig {
    AttentionConfig::SwitchHead(SwitchHeadConfig {
        heads,
        head_width,
        num_experts,
        num_selected,
        ..SwitchHeadConfig::default()
    })
}

fn moa(head_width: usize, [num_experts, num_selected]: [usize; 2]) -> AttentionConfig {
    let config = MoaConfig { num_experts, num_selected, head_width, ..MoaConfig::default() };
    AttentionConfig::Moa(config)
}

fn mlp(width: usize) -> MlpConfig {
    MlpConfig::Dense(DenseMlpConfig { width })
}

fn sigma(expert_width: usize, [num_experts, num_selected]: [usize; 2]) -> MlpConfig {
    MlpConfig::SigmaMoe(SigmaMoeConfig {
        num_experts,
        expert_width,
        num_selected,
        ..SigmaMoeConfig::default()
    })
}
