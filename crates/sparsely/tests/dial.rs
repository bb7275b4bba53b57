//! What a dial does to a whole model.

use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::{Capacity, Dial, Group, Subset};
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Slab, Tape};

fn subset(indices: &[usize]) -> Option<Subset> {
    Some(Subset::new(indices.to_vec()).unwrap())
}

fn logits(vit: &Vit, params: &Slab, dial: &Dial) -> Vec<f32> {
    let images: Vec<f32> = (0..4 * 64).map(|i| (i * 7919 % 256) as f32 / 127.5 - 1.0).collect();
    let (pool, mut mode) = (Pool::new(), Mode::Eval);
    let tape = Tape::inference(params, &pool);
    vit.forward(&tape, &images, dial, &mut mode).unwrap().logits_bv.values().to_vec()
}

/// Two MoE layers in four blocks, with a head that is not 0.
fn model() -> (Vit, Slab) {
    let (vit, mut params) = Vit::init(&ModelConfig::default(), 4).unwrap();
    let head = params.layout().find("head/kernel").unwrap().param;
    for (i, value) in params.view_mut(&head).iter_mut().enumerate() {
        *value = (i * 31 % 17) as f32 / 17.0 - 0.5;
    }
    (vit, params)
}

fn image_dial() -> Dial {
    let (capacity, group) = (Some(Capacity::Unlimited), Some(Group::Images { n: 1 }));
    Dial { capacity, group, ..Dial::default() }
}

#[test]
fn a_skipped_layer_passes_its_residual() {
    let (vit, params) = model();
    let skipped = Dial { skip_moe: subset(&[3]), ..image_dial() };
    // Experts that return 0 leave the residual alone.
    let mut silent = params.clone();
    for name in ["w_out", "b_out"] {
        let param = silent.layout().find(&format!("blocks/3/moe/experts/{name}")).unwrap().param;
        silent.view_mut(&param).fill(0.0);
    }
    let got = logits(&vit, &params, &skipped);
    assert_eq!(got, logits(&vit, &silent, &image_dial()));
    assert_ne!(got, logits(&vit, &params, &image_dial()));
    // Its parameters are not looked at.
    let mut broken = params.clone();
    let views: Vec<_> = broken.layout().views().to_vec();
    for view in views.iter().filter(|view| {
        view.name.starts_with("blocks/3/moe") || view.name.starts_with("blocks/3/norm_1")
    }) {
        broken.view_mut(&view.param).fill(f32::NAN);
    }
    assert_eq!(got, logits(&vit, &broken, &skipped));
}

#[test]
fn a_model_without_any_of_its_layers_tells_of_none() {
    let (vit, params) = model();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let dial = Dial { skip_moe: subset(&[1, 3]), ..image_dial() };
    let output = vit.forward(&tape, &[0.0; 64], &dial, &mut Mode::Eval).unwrap();
    assert!(output.stats.is_empty() && output.losses.is_empty());
}

#[test]
fn all_experts_are_bitwise_the_whole_model() {
    let (vit, params) = model();
    let all = Dial { experts: subset(&[0, 1, 2, 3, 4, 5, 6, 7]), ..image_dial() };
    assert_eq!(logits(&vit, &params, &all), logits(&vit, &params, &image_dial()));
    let some = Dial { experts: subset(&[0, 1, 2, 3]), ..image_dial() };
    assert_ne!(logits(&vit, &params, &some), logits(&vit, &params, &image_dial()));
}

#[test]
fn a_block_without_a_layer_to_skip_is_refused_with_those_that_have_one() {
    let (vit, params) = model();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let dial = Dial { skip_moe: subset(&[1, 2]), ..Dial::default() };
    let refused = vit.forward(&tape, &[0.0; 64], &dial, &mut Mode::Eval).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "invalid configuration: block 2 has no MoE layer to skip: MoE layers are in blocks 1,3 of 0 to 3"
    );
}
