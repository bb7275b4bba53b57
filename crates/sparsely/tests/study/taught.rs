//! Models whose routers are taught what another model of the study takes for one another.

use crate::tiny;
use sparsely::eval::TimingConfig;
use sparsely::moe::{
    Capacity, Dial, Granularity, Group, ImageInput, LossWeights, Placement, RouterConfig,
    TokenChoiceConfig,
};
use sparsely::study::{
    Arm, Folder, Images, Observer, Plan, Request, Stage, Study, SuperClasses, execute, report,
};
use sparsely::superclass::Method;
use sparsely::train::{self, RunConfig, Span};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Dense, by super-classes, by random groups; one seed.
fn taught() -> Study {
    let mut study = tiny();
    let mut dense = study.models.swap_remove(0);
    dense.name = "dense".into();
    dense.train.length = Span::Epochs { n: 1 };
    let mut sparse = dense.clone();
    dense.model.moe = None;
    let moe = sparse.model.moe.as_mut().unwrap();
    moe.num_experts = 4;
    moe.granularity = Granularity::Image { input: ImageInput::Mean };
    moe.placement = Placement::LastBlocks { n: 1 };
    moe.group = Group::Images { n: 1 };
    moe.router = RouterConfig::TokenChoice(TokenChoiceConfig {
        num_selected: 1,
        noise_std: 0.0,
        capacity: Capacity::Unlimited,
        loss: LossWeights::NONE,
        ..TokenChoiceConfig::default()
    });
    let named = |name: &str, super_classes| {
        let mut model = sparse.clone();
        model.name = name.into();
        model.super_classes = Some(super_classes);
        model
    };
    let of = || "dense".to_string();
    let confusions =
        SuperClasses::Confusions { of: of(), method: Method::Modularity, by_probability: true };
    let random = SuperClasses::Random { like: "taught".into() };
    let models = vec![dense, named("taught", confusions), named("random", random)];
    let arm =
        |name: &String| Arm { name: name.clone(), model: name.clone(), dial: Dial::default() };
    study.arms = models.iter().map(|model| arm(&model.name)).collect();
    study.comparisons.truncate(1);
    study.comparisons[0].arm = "taught".into();
    study.comparisons[0].baseline = "random".into();
    study.panels.clear();
    study.tuning = None;
    study.seeds = vec![1];
    study.least.seeds = 1;
    study.timing = TimingConfig { batch_size: 32, rounds: 1 };
    study.models = models;
    study
}

/// Stops after so many steps of all runs.
struct Stopping<'a>(&'a AtomicBool, AtomicUsize);

/// One of its runs.
struct Run<'a>(&'a Stopping<'a>);

impl train::Observer for Run<'_> {
    fn step(&mut self, _report: &train::StepReport) {
        if self.0.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Stopping<'_> {
    fn run(&self, _stage: &Stage<'_>) -> Box<dyn train::Observer + '_> {
        Box::new(Run(self))
    }
}

#[test]
fn groups_are_found_once_taught_and_told_however_often_the_study_stops() {
    let root = tempfile::tempdir().unwrap();
    let plan = |folder: &Folder| {
        let (plan, is_new) =
            Plan::load_or_new(folder, taught(), Request::default(), "test").unwrap();
        if is_new {
            folder.save_plan(&plan).unwrap();
        }
        plan
    };
    let go = |name: &str, patience: usize| {
        let folder = Folder::new(&root.path().join(name));
        for _ in 0..40 {
            let stop = AtomicBool::new(false);
            let observer = Stopping(&stop, patience.into());
            if execute(&plan(&folder), &folder, "test", &stop, &observer).unwrap() {
                return folder;
            }
        }
        panic!("40 pieces of {patience} steps are more than three runs")
    };
    let (whole, pieces) = (go("whole", usize::MAX), go("pieces", 10));
    for arm in ["dense", "taught", "random"] {
        let [whole_reading, pieces_reading] =
            [&whole, &pieces].map(|folder| folder.reading::<Images>(arm, 1).unwrap());
        assert_eq!(whole_reading, pieces_reading, "{arm}");
        assert_eq!(whole.groups(arm, 1).unwrap(), pieces.groups(arm, 1).unwrap(), "{arm}");
    }
    check_groups(&whole);
    let plan = plan(&whole);
    let results = report(&plan, &whole).unwrap();
    let [dense, taught, random] = &results.arms[..] else { panic!("three arms") };
    let [dense, taught, random] = [dense, taught, random].map(|arm| arm.found.weights.unwrap());
    assert_eq!((dense.router_top1, dense.params), (None, dense.touched_params));
    for sparse in [taught, random] {
        assert!((0.0..=1.0).contains(&sparse.router_top1.unwrap()));
        assert_eq!(sparse.experts_per_image, 1.0);
        // Of four experts an image meets one: all else it shares with the dense model, but for a router.
        let router = sparse.touched_params - dense.params;
        assert_eq!(router, 16.0 * 4.0, "{sparse:?}");
        assert_eq!(sparse.params - sparse.touched_params, 3.0 * (2.0 * 16.0 * 32.0 + 48.0));
    }
    let summary = fs::read_to_string(whole.path().join("summary.md")).unwrap();
    assert!(summary.contains("| arm | parameters | an image meets |"), "{summary}");
    assert_eq!(summary.matches("train.super_classes").count(), 2, "{summary}");
}

/// Both have all digits once, in groups of the same sizes, and the runs were taught them.
fn check_groups(folder: &Folder) {
    assert_eq!(folder.groups("dense", 1).unwrap(), None);
    let [taught, random] =
        ["taught", "random"].map(|model| folder.groups(model, 1).unwrap().unwrap().groups());
    assert_ne!(taught, random);
    let sizes = |groups: &[Vec<String>]| groups.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&taught), sizes(&random));
    for (model, groups) in [("taught", taught), ("random", random)] {
        let path = folder.run(model, 1).join("config.toml");
        let config = RunConfig::from_toml(&fs::read_to_string(&path).unwrap(), &path).unwrap();
        assert_eq!(config.train.super_classes.unwrap().groups, groups);
        let mut digits = groups.concat();
        digits.sort();
        assert_eq!(digits.concat(), "0123456789");
    }
}

#[test]
fn groups_of_a_model_that_comes_later_are_refused() {
    let mut study = taught();
    study.models.swap(0, 1);
    let refused = Plan::new(study, Request::default(), "test").unwrap_err().to_string();
    assert_eq!(refused, "invalid configuration: model `taught`: no model `dense` comes before it");
    let mut study = taught();
    study.models[2].super_classes = Some(SuperClasses::Random { like: "dense".into() });
    let refused = Plan::new(study, Request::default(), "test").unwrap_err().to_string();
    assert_eq!(
        refused,
        "invalid configuration: model `random`: no model `dense` with super-classes comes before it"
    );
}
