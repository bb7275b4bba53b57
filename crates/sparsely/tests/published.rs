//! The configurations in `docs/configs` are understood, and are of the sizes that were published.

use sparsely::checkpoint::reference::parse_config;
use sparsely::model::Vit;
use std::path::Path;

/// Parameters of the model of a configuration.
fn count(name: &str, image_size: usize) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configs");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let json = serde_json::from_str(&text).unwrap();
    let config = parse_config(&json, image_size, 3).unwrap();
    Vit::new(&config).unwrap().1.num_params()
}

/// Parameters of a ViT by hand: patches, positions and class token, blocks of which some have E
/// experts and a router, the last norm.
fn by_hand(d: usize, f: usize, patch: usize, tokens: usize, blocks: [usize; 2], e: usize) -> usize {
    let embedding = patch * patch * 3 * d + d + tokens * d + d;
    let attention = 4 * (d * d + d) + 4 * d;
    let mlp = d * f + f + f * d + d;
    let [dense, sparse] = blocks;
    embedding + (dense + sparse) * attention + dense * mlp + sparse * (e * mlp + d * e) + 2 * d
}

#[test]
fn released_s32_has_57_million_parameters() {
    let encoder = by_hand(512, 2048, 32, 50, [6, 2], 8);
    let (pre_logits, head) = (512 * 512 + 512, 512 * 1000 + 1000);
    assert_eq!(count("vmoe_s32_last2_224.json", 224), encoder + pre_logits + head);
    assert_eq!((encoder + pre_logits + head) / 100_000, 569); // 56,999,400
    let encoder = by_hand(512, 2048, 32, 145, [6, 2], 8);
    assert_eq!(count("vmoe_s32_last2_384.json", 384), encoder + head);
}

#[test]
fn released_b16_has_285_million_parameters() {
    let encoder = by_hand(768, 3072, 16, 577, [6, 6], 8);
    assert_eq!(count("vmoe_b16_every2_384.json", 384), encoder + 768 * 1000 + 1000);
    assert_eq!((encoder + 768 * 1000 + 1000) / 100_000, 2852);
    let encoder = by_hand(768, 3072, 16, 197, [6, 6], 8);
    let head = 768 * 21_843 + 21_843;
    assert_eq!(count("vmoe_b16_every2_imagenet21k_224.json", 224), encoder + head);
}

#[test]
fn vit_b16_has_86_6_million_parameters() {
    // As published: 86,567,656.
    let encoder = by_hand(768, 3072, 16, 197, [12, 0], 0);
    assert_eq!(count("vit_b16.json", 224), encoder + 768 * 1000 + 1000);
    assert_eq!(encoder + 768 * 1000 + 1000, 86_567_656);
}
