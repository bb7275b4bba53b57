//! A study of text from plan to report, and in pieces.

use crate::end_to_end::{go, in_pieces};
use sparsely::attention::{
    AttentionConfig, DenseAttentionConfig, RelativePositions, SwitchHeadConfig,
};
use sparsely::checkpoint::RunFolder;
use sparsely::data::text::{Corpus, TextConfig};
use sparsely::eval::TimingConfig;
use sparsely::eval::language::{SavedLanguageModel, evaluate_text};
use sparsely::model::language::{DenseMlpConfig, LanguageConfig, MlpConfig};
use sparsely::study::{
    Arm, Comparison, Curve, DecidingUnit, Fitted, Folder, LeastText, Model, NoDial, Panel, Plan,
    Point, Predicted, Rate, Reading, Request, Sizes, Study, Text, Tuning, Verdict, report, shrink,
};
use sparsely::train::language::LanguageRunConfig;
use sparsely::train::{Interval, Schedule, Span, TrainConfig, schedule::Decay};
use std::fs;
use std::path::Path;
use std::time::Duration;

const ROWS: usize = 4;

fn model(name: &str, attention: AttentionConfig, mlp: usize) -> Model<Text> {
    let model = LanguageConfig {
        width: 16,
        depth: 1,
        context: 16,
        memory: 16,
        attention,
        mlp: MlpConfig::Dense(DenseMlpConfig { width: mlp }),
        ..LanguageConfig::default()
    };
    let train = TrainConfig {
        length: Span::Steps { n: 12 },
        batch_size: ROWS,
        schedule: Schedule { lr_peak: 3e-3, warmup_steps: 2, decay: Decay::Cosine { lr_end: 0.0 } },
        checkpoint_every: Interval::Steps { n: 3 },
        log_steps: 1,
        ..TrainConfig::default()
    };
    Model { name: name.into(), model, train, super_classes: None }
}

/// Attention of 1,313 and of 960 parameters: eleven more hidden values of 33 each make up for it.
fn models() -> Vec<Model<Text>> {
    let positions = RelativePositions::TransformerXl;
    let dense = DenseAttentionConfig { heads: 2, head_width: 8, positions };
    let switch = SwitchHeadConfig {
        heads: 1,
        head_width: 8,
        num_experts: 2,
        num_selected: 1,
        ..SwitchHeadConfig::default()
    };
    vec![
        model("dense", AttentionConfig::Dense(dense), 24),
        model("switch", AttentionConfig::SwitchHead(switch), 35),
    ]
}

/// Seconds long: two models, one of them as two arms.
fn tiny_text(source: &Path) -> Study<Text> {
    let arm =
        |name: &str, model: &str| Arm { name: name.into(), model: model.into(), dial: NoDial {} };
    let comparison = |name: &str, arm: &str, predicted| Comparison {
        name: name.into(),
        arm: arm.into(),
        baseline: "dense".into(),
        predicted,
    };
    let point = |arm: &str| Point { arm: arm.into(), label: arm.into() };
    Study {
        name: "tiny-text".into(),
        question: "does it run?".into(),
        data: TextConfig { source: source.display().to_string(), ..TextConfig::default() },
        data_note: "any text".into(),
        seeds: vec![1, 2],
        models: models(),
        arms: vec![arm("dense", "dense"), arm("switch", "switch"), arm("again", "dense")],
        comparisons: vec![
            comparison("heads", "switch", Predicted::Difference { points: 0.01 }),
            comparison("nothing", "again", Predicted::Negligible { below: 0.01 }),
        ],
        tuning: Some(Tuning { lr_peaks: vec![1e-3, 1e-2], seed: 7, length: 0.5 }),
        least: LeastText { steps: 5, seeds: 2 },
        timing: TimingConfig { batch_size: ROWS, rounds: 2 },
        watts_per_core: 5.0,
        panels: vec![Panel {
            title: "all".into(),
            curves: vec![Curve {
                label: "arms".into(),
                points: vec![point("dense"), point("switch")],
                is_scattered: true,
            }],
        }],
    }
}

/// Three documents, one for each split: 40 lines and more of numbers in words.
fn write_text(folder: &Path) {
    let words = ["one", "two", "three", "four", "five", "six", "seven"];
    for (split, lines) in [("train", 60), ("validation", 20), ("test", 40)] {
        let line = |i: usize| {
            let word = |j: usize| words[(i * i + 3 * j) % words.len()];
            format!("{} and {} are {}.\n", word(i), word(i + 1), word(2 * i + 1))
        };
        let text: String = (0..lines).map(line).collect();
        fs::create_dir_all(folder.join(split)).unwrap();
        fs::write(folder.join(split).join("a.txt"), text).unwrap();
    }
}

fn planned(source: &Path, path: &Path) -> (Plan<Text>, Folder) {
    let folder = Folder::new(path);
    let (plan, is_new) =
        Plan::load_or_new(&folder, tiny_text(source), Request::default(), "test").unwrap();
    if is_new {
        folder.save_plan(&plan).unwrap();
    }
    (plan, folder)
}

#[test]
fn a_study_of_text_in_pieces_ends_like_a_whole_one() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("text");
    write_text(&source);
    let (plan, whole) = planned(&source, &root.path().join("whole"));
    assert_eq!(plan.study.models[0].model.vocabulary, 257);
    assert!(go(&plan, &whole, usize::MAX));
    let stops = in_pieces([4, 4], || planned(&source, &root.path().join("pieces")));
    assert!(stops >= 5, "{stops} stops");
    let pieces = Folder::new(&root.path().join("pieces"));
    for arm in &plan.study.arms {
        for seed in &plan.study.seeds {
            let [one, other] = [&whole, &pieces]
                .map(|folder| folder.reading::<Text>(&arm.name, *seed).unwrap().unwrap());
            assert_eq!(one, other);
            check_reading(&one, &whole.run(&arm.model, *seed));
        }
    }
    check_trials(&plan, &whole);
    check_report(&plan, &whole);
}

/// Bits per byte are those of the whole text, whatever pieces it is cut into.
fn check_reading(reading: &Reading<Text>, path: &Path) {
    let run = RunFolder::open(path).unwrap();
    let config = LanguageRunConfig::from_toml(&run.config().unwrap(), &run.config_path()).unwrap();
    let corpus = Corpus::open(&config.data, path).unwrap();
    let (_, model, params) = SavedLanguageModel::load(&run).unwrap();
    let found = evaluate_text((&model, &params), &corpus.test, None, &config.eval).unwrap();
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
    near(reading.score(), found.bits_per_byte.unwrap());
    near(reading.found.perplexity, reading.loss.exp());
    near(reading.loss, found.loss);
    assert_eq!(reading.scores.bytes.iter().sum::<u64>(), corpus.test.counts().bytes);
    // Pieces of eight blocks of 16 tokens.
    let (last, others) = reading.scores.tokens.split_last().unwrap();
    assert!(others.iter().all(|tokens| *tokens == 128) && *last <= 128 && others.len() >= 5);
    assert_eq!(reading.found.imbalance.is_some(), reading.arm == "switch");
}

/// Text has no right answers: the lower loss wins.
fn check_trials(plan: &Plan<Text>, folder: &Folder) {
    for model in &plan.study.models {
        let trials = [1e-3, 1e-2].map(|lr| folder.trial(&model.name, lr).unwrap().unwrap());
        let better = usize::from(trials[1].validation_loss < trials[0].validation_loss);
        assert!(trials.iter().all(|trial| trial.validation_top1.is_none()));
        let reading: Reading<Text> = folder.reading(&model.name, 1).unwrap().unwrap();
        assert_eq!(reading.lr_peak, trials[better].lr_peak);
        assert_eq!(reading.step, 12);
    }
}

fn check_report(plan: &Plan<Text>, folder: &Folder) {
    let results = report(plan, folder).unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("arms.csv").lines().count(), 1 + 3 * 2);
    assert!(text("arms.csv").starts_with("arm,model,seed,n,bits_per_byte,loss,"));
    assert!(text("comparisons.csv").contains("over_pieces_low"));
    for svg in ["bits-macs", "bits-memory", "bits-time", "differences"] {
        assert!(text(&format!("{svg}.svg")).starts_with("<svg"), "{svg}");
    }
    let [heads, nothing] = &results.comparisons[..] else { panic!("two comparisons") };
    assert_eq!((heads.unit, nothing.unit), (DecidingUnit::Seeds, DecidingUnit::UnitsAndSeeds));
    let [dense, switch, again] = &results.arms[..] else { panic!("three arms") };
    assert!((heads.difference - (switch.score.value - dense.score.value)).abs() < 1e-12);
    for inside in [heads.over_units.unwrap(), heads.over_seeds.unwrap()] {
        assert!(inside.low < heads.difference && heads.difference < inside.high);
    }
    // The same models on the same text: nothing differs, and nothing can be told.
    assert_eq!((nothing.difference, nothing.over_units), (0.0, None));
    assert_eq!(nothing.verdict, Verdict::CannotTell);
    assert_eq!(again.found, dense.found);
    assert!(switch.found.macs_per_token < dense.found.macs_per_token);
    assert!(switch.milliseconds > 0.0 && switch.score.over_seeds.is_some());
    let json: serde_json::Value = serde_json::from_str(&text("results.json")).unwrap();
    assert_eq!(json["comparisons"][1]["unit"], "pieces_and_seeds");
    assert_eq!(json["arms"][1]["bits_per_byte"], switch.score.value);
    let summary = text("summary.md");
    for part in [
        "| heads | +0.01 bits/byte |",
        "Trial of `dense` at 0.01: validation loss ",
        "their parameters are equal to 1 %, and their steps",
        "## Costs by the cost model",
        "sparsely train --preset ",
        "sparsely eval ",
    ] {
        assert!(summary.contains(part), "{part}\n{summary}");
    }
}

fn refusal(change: impl FnOnce(&mut Study<Text>)) -> String {
    let mut study = tiny_text(Path::new("x"));
    change(&mut study);
    study.check(&Sizes { train: 1000, validation: 100, test: 100 }).unwrap_err().to_string()
}

#[test]
fn models_of_unequal_parameters_steps_or_blocks_are_refused() {
    let told = refusal(|study| {
        study.models[1].model.mlp = MlpConfig::Dense(DenseMlpConfig { width: 50 });
    });
    assert!(told.starts_with("study: expected parameters equal to 1 %, got "), "{told}");
    let told = refusal(|study| study.models[1].train.length = Span::Steps { n: 13 });
    assert!(told.starts_with("study: expected training steps equal to 0 %, got "), "{told}");
    let told = refusal(|study| {
        study.models[1].model.context = 8;
        study.least.steps = 20;
        study.timing.batch_size = 5;
    });
    assert_eq!(
        told,
        "invalid configuration: model `dense` has 12 steps, fewer than 20; timing.batch_size 5 is not that \
         of the steps of `dense`, 4; model `switch` has 12 steps, fewer than 20; models must see the same \
         blocks, got 8 tokens in `switch` and 16 before; timing.batch_size 5 is not that of the steps of \
         `switch`, 4"
    );
}

/// A step takes a second and nothing else takes any time.
#[test]
fn a_budget_shortens_runs_before_it_takes_seeds() {
    let mut study = tiny_text(Path::new("x"));
    study.tuning = None;
    study.models.truncate(1);
    study.arms.truncate(1);
    study.models[0].train.length = Span::Steps { n: 100 };
    study.least = LeastText { steps: 70, seeds: 1 };
    let rate = Rate {
        date: String::new(),
        threads: 1,
        seconds_per_step: [("dense".to_string(), 1.0)].into(),
        seconds_per_unit: [("dense".to_string(), 0.0)].into(),
        seconds_to_open: 0.0,
    };
    let sizes = Sizes { train: 1000, validation: 0, test: 100 };
    let fitted = |budget: u64| -> Fitted<Text> {
        shrink(study.clone(), sizes, &rate, Duration::from_secs(budget)).unwrap()
    };
    // A tenth is kept in reserve: two seeds of 100 steps need 223 s, of 90 steps 200, of 81 steps 180.
    assert!(fitted(223).shrunk.is_empty());
    assert_eq!(fitted(222).shrunk, ["90 of 100 steps"]);
    assert_eq!(fitted(190).shrunk, ["81 of 100 steps"]);
    assert_eq!(fitted(156).shrunk, ["70 of 100 steps"]);
    assert_eq!(fitted(155).shrunk, ["1 of 2 seeds"]);
    assert_eq!(fitted(80).study.models[0].train.length, Span::Steps { n: 72 });
}
