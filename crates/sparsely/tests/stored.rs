//! A model in its file: experts on pages of their own, read when they are asked.

use sparsely::checkpoint::RunFolder;
use sparsely::eval::{SavedModel, numbered_classes};
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::{
    Capacity, Dial, Granularity, Group, ImageInput, LossWeights, MoeConfig, Placement,
    RouterConfig, TokenChoiceConfig,
};
use sparsely::nn::Mode;
use sparsely_tensor::{Params, Pool, Slab, Tape};
use std::fs;

const PAGE: usize = 4096;

/// 8×8 images in patches of 2, kernels of 32×64 (two pages) in the last two blocks, an expert an image.
fn config() -> ModelConfig {
    let router = RouterConfig::TokenChoice(TokenChoiceConfig {
        num_selected: 1,
        noise_std: 0.0,
        capacity: Capacity::Unlimited,
        loss: LossWeights::NONE,
        ..TokenChoiceConfig::default()
    });
    let moe = MoeConfig {
        num_experts: 5,
        granularity: Granularity::Image { input: ImageInput::Mean },
        placement: Placement::LastBlocks { n: 2 },
        group: Group::Images { n: 1 },
        router,
        ..MoeConfig::default()
    };
    ModelConfig { depth: 3, width: 32, mlp_width: 64, moe: Some(moe), ..ModelConfig::default() }
}

fn saved(root: &std::path::Path) -> (RunFolder, Vit, Slab) {
    let config = config();
    let (vit, mut params) = Vit::init(&config, 3).unwrap();
    // A fresh head is all zeros, and a wrong model would have the same logits.
    let head = params.layout().find("head/kernel").unwrap().param;
    params.view_mut(&head).iter_mut().enumerate().for_each(|(i, w)| *w = (i % 7) as f32 - 3.0);
    let run = RunFolder::create(Some(&root.join("run")), root).unwrap();
    let class_names = numbered_classes(10);
    let saved = SavedModel { model: config, class_names, step: 1, imported_from: None };
    saved.save(&run, &params).unwrap();
    (run, vit, params)
}

fn image(i: usize) -> Vec<f32> {
    (0..64).map(|p| ((p * (i + 2) * 37 + i * 11) % 101) as f32 / 50.5 - 1.0).collect()
}

fn logits<'p>(vit: &Vit, params: impl Into<Params<'p>>, images: &[f32]) -> Vec<u32> {
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    let output = vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap();
    output.logits_bv.values().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn an_image_reads_its_expert_alone_and_has_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let (run, vit, params) = saved(root.path());
    let (_, opened, mapped) = SavedModel::open(&run).unwrap();
    assert!(logits(&opened, &mapped, &image(0)) == logits(&vit, &params, &image(0)));
    // Two layers of each of two MoE blocks.
    assert_eq!((mapped.usage().stacked_used, mapped.usage().stacked), (4, 4 * 5));
    let all: Vec<f32> = (0..40).flat_map(image).collect();
    assert!(logits(&opened, &mapped, &all) == logits(&vit, &params, &all));
    assert!(mapped.to_slab().unwrap().values() == params.values());
}

#[test]
fn experts_begin_with_a_page_and_anything_that_reads_the_format_reads_them() {
    let root = tempfile::tempdir().unwrap();
    let (run, _, params) = saved(root.path());
    let bytes = fs::read(run.model_path()).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let mut stacks = 0;
    for view in params.layout().views() {
        let offset = header[&view.name]["data_offsets"][0].as_u64().unwrap() as usize;
        let start = 8 + header_len + offset;
        if view.stacked {
            stacks += 1;
            assert!(start.is_multiple_of(PAGE), "{} at {start}", view.name);
        }
        let own = bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let values = params.view(&view.param);
        assert!(own.take(values.len()).eq(values.iter().copied()), "{}", view.name);
    }
    assert_eq!(stacks, 4);
}

#[test]
fn a_file_of_before_and_of_another_program_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (run, vit, params) = saved(root.path());
    let bytes = fs::read(run.model_path()).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for dropped in [&["crc32_of_parts"][..], &["crc32_of_parts", "crc32"]] {
        let mut header: serde_json::Value =
            serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
        let texts = header["__metadata__"].as_object_mut().unwrap();
        dropped.iter().for_each(|key| {
            texts.remove(*key).unwrap();
        });
        let header = header.to_string().into_bytes();
        let values = &bytes[8 + header_len..];
        let file = [&(header.len() as u64).to_le_bytes(), &*header, values].concat();
        fs::write(run.model_path(), file).unwrap();
        let (_, opened, read) = SavedModel::open(&run).unwrap();
        assert!(logits(&opened, &read, &image(1)) == logits(&vit, &params, &image(1)));
    }
}

#[test]
fn damage_is_told_when_what_is_damaged_is_used() {
    let root = tempfile::tempdir().unwrap();
    let (run, vit, params) = saved(root.path());
    let good = fs::read(run.model_path()).unwrap();
    let path = run.model_path().display().to_string();
    let with_flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(run.model_path(), bytes).unwrap();
    };
    // The last value belongs to no expert: it is needed by every image, and told as the file is opened.
    with_flipped(good.len() - 1);
    let told = SavedModel::open(&run).err().unwrap().to_string();
    assert!(told.starts_with(&format!("`{path}`: expected checksum ")), "{told}");
    assert!(SavedModel::load(&run).is_err());
    // Which expert the image asks is known by its routing.
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let output = vit.forward(&tape, &image(0), &Dial::default(), &mut Mode::Eval).unwrap();
    let asked = output.stats[0].1.asked_e.iter().position(|asked| *asked > 0).unwrap();
    let header_len = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&good[8..8 + header_len]).unwrap();
    let name = "blocks/1/moe/experts/w_in";
    let start = 8 + header_len + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    for expert in 0..5 {
        with_flipped(start + expert * 2 * PAGE + 5);
        let (_, opened, mapped) = SavedModel::open(&run).unwrap();
        let tape = Tape::inference(&mapped, &pool);
        let told = opened.forward(&tape, &image(0), &Dial::default(), &mut Mode::Eval).err();
        match told {
            Some(told) => {
                let what = format!("of part {expert} of `{name}`, as its header says, got ");
                assert!(expert == asked && told.to_string().contains(&what), "{expert}: {told}");
            }
            None => assert_ne!(expert, asked),
        }
    }
}
