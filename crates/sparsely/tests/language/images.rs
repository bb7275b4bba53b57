//! SwitchHead in a vision model, beside a mixture of experts.

use sparsely::model::{ExpertAttention, ModelConfig, Vit};
use sparsely::moe::{Dial, Group};
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Tape};

fn config() -> ModelConfig {
    let mut config = ModelConfig {
        attention: Some(ExpertAttention { head_width: 16, ..ExpertAttention::default() }),
        ..ModelConfig::default()
    };
    config.moe.as_mut().unwrap().group = Group::Images { n: 1 };
    config
}

#[test]
fn both_kinds_of_experts_answer_an_image_as_they_do_among_others() {
    let (vit, params) = Vit::init(&config(), 1).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let images: Vec<f32> = (0..4 * 64).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let run =
        |images: &[f32]| vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap();
    let all = run(&images);
    assert_eq!((all.stats.len(), all.attention_stats.len()), (2, 4));
    // Four images of 16 tokens, two experts of each of two heads.
    let asked: u64 = all.attention_stats[0].source.as_ref().unwrap().asked_e.iter().sum();
    assert_eq!(asked, 4 * 16 * 2 * 2);
    // The head starts at 0; what it reads does not.
    for (image, own) in images.chunks(64).zip(all.features_bd.values().chunks(64)) {
        assert!(run(image).features_bd.values() == own);
    }
    // Attention has no order: the first token sees the last.
    let mut other = images[..64].to_vec();
    other[63] += 1.0;
    assert!(run(&other).features_bd.values() != run(&images[..64]).features_bd.values());
}

#[test]
fn settings_are_set_one_by_one_and_checked() {
    let sets = ["model.attention.num_experts=3", "model.attention.heads=1"].map(String::from);
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Run {
        model: ModelConfig,
    }
    let run = Run { model: ModelConfig::default() };
    let set = sparsely::config::overlay::apply_set(&run, &sets).unwrap().model;
    let attention = set.attention.unwrap();
    assert_eq!((attention.num_experts, attention.heads, attention.num_selected), (3, 1, 2));
    let refused =
        sparsely::config::overlay::apply_set(&run, &["model.attention.context={}".into()]);
    assert_eq!(
        refused.err().unwrap().to_string(),
        "invalid configuration: unknown setting `model.attention.context`; there are `heads`, `head_width`, \
         `num_experts`, `num_selected`, `experts`, `shared_router`, `gate`, `expert_dropout`"
    );
    let mut wrong = config();
    wrong.attention.as_mut().unwrap().num_selected = 5;
    assert_eq!(
        wrong.validate().unwrap_err().to_string(),
        "invalid configuration: model.attention.num_selected 5 is not in 1..=4, the number of experts"
    );
}
