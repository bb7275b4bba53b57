//! One seed each: numbers of experts, of selected experts and of layers; shares of the training images.

use super::{
    BATCH, DENSE, PAPER, SUPER, Setting, cifar, comparisons, confusions, described, model, sparse,
    token_choice,
};
use crate::cost::training_flops;
use crate::moe::{Dial, Granularity, Group, LossWeights, MoeConfig, Placement};
use crate::study::{Comparison, Model, Predicted, Study};
use crate::train::Span;

/// Training images of CIFAR-100 that are not held out.
const TRAIN_IMAGES: usize = 45_000;
const EPOCHS: u64 = 6;

/// A model by super-classes of `e` experts, `k` an image, in the last `n` blocks.
fn taught(setting: &Setting, [e, k, n]: [usize; 3]) -> Model {
    let router = token_choice(k, LossWeights::NONE);
    let moe = MoeConfig {
        num_experts: e,
        placement: Placement::LastBlocks { n },
        ..sparse(setting, router, Group::Images { n: 1 })
    };
    model(setting, &format!("e{e}-k{k}-n{n}"), Some(moe), Some(confusions()))
}

/// K × E: the more experts an image has, the fewer steps it gets.
pub(super) fn experts() -> Study {
    let setting = cifar("mobile-experts", EPOCHS);
    let mut models = vec![model(&setting, DENSE, None, None)];
    for e in [2, 5, 10, 20] {
        models.extend((1..=3.min(e)).map(|k| taught(&setting, [e, k, 2])));
    }
    at_equal_flops(&mut models);
    one_seed(&setting, models)
}

/// The last n blocks with experts.
pub(super) fn layers() -> Study {
    let setting = cifar("mobile-layers", EPOCHS);
    let mut models = vec![model(&setting, DENSE, None, None)];
    models.extend((1..=4).map(|n| taught(&setting, [10, 1, n])));
    one_seed(&setting, models)
}

/// 10, 30 and 100 % of the training images, for as many steps as there are images to see.
pub(super) fn shares() -> Vec<Study> {
    let parts = [
        ("mobile-share10", 10, 4 * EPOCHS),
        ("mobile-share30", 30, 2 * EPOCHS),
        ("mobile-share100", 100, EPOCHS),
    ];
    let study = |(name, percent, epochs)| {
        let mut setting = cifar(name, epochs);
        setting.num_experts = 10;
        setting.data.max_train_images = (percent < 100).then_some(TRAIN_IMAGES * percent / 100);
        let image =
            || Some(sparse(&setting, token_choice(1, LossWeights::NONE), Group::Images { n: 1 }));
        let token = image().map(|moe| MoeConfig { granularity: Granularity::Token, ..moe });
        let models = vec![
            model(&setting, DENSE, None, None),
            model(&setting, "end-to-end", image(), None),
            model(&setting, SUPER, image(), Some(confusions())),
            model(&setting, "token", token, None),
        ];
        let mut study = one_seed(&setting, models);
        study.comparisons = comparisons(false).into_iter().take(5).collect();
        study
    };
    parts.map(study).into()
}

fn one_seed(setting: &Setting, models: Vec<Model>) -> Study {
    let [_, super_class, _] = PAPER;
    let sparse = models.iter().filter(|model| model.name != DENSE);
    let comparisons = sparse.map(|model| Comparison {
        name: format!("{} − dense", model.name),
        arm: model.name.clone(),
        baseline: DENSE.into(),
        predicted: Predicted::Difference { points: super_class },
    });
    let comparisons = comparisons.collect();
    Study { comparisons, ..described(setting, models, vec![0]) }
}

/// As many steps for each as the costliest takes in its epochs.
fn at_equal_flops(models: &mut [Model]) {
    // A model that has no cost is refused when the study is checked.
    let flops =
        |model: &Model| training_flops(&model.model, &Dial::default(), BATCH).unwrap_or(f64::NAN);
    let costliest = models.iter().map(flops).fold(0.0, f64::max);
    let steps = (EPOCHS * (TRAIN_IMAGES / BATCH) as u64) as f64 * 0.6;
    for model in models {
        let own = (steps * costliest / flops(model)).round() as u64;
        model.train.length = Span::Steps { n: own };
    }
}
