//! Plan, execution, report; and execution in pieces.

use crate::tiny;
use sparsely::checkpoint::RunFolder;
use sparsely::study::{
    DecidingUnit, Folder, Observer, Plan, Reading, Request, Stage, Study, Task, execute, report,
};
use sparsely::train::{self, RunConfig, StepReport};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Asks for a stop after some pieces of work, whichever thread does them.
struct Impatient<'a> {
    stop: &'a AtomicBool,
    patience: AtomicUsize,
}

/// One of its runs.
struct Run<'a>(&'a Impatient<'a>);

impl train::Observer for Run<'_> {
    fn step(&mut self, _report: &StepReport) {
        self.0.wait();
    }
}

impl Observer for Impatient<'_> {
    fn stage(&self, _stage: &Stage<'_>) {
        self.wait();
    }

    fn run(&self, _stage: &Stage<'_>) -> Box<dyn train::Observer + '_> {
        Box::new(Run(self))
    }
}

impl Impatient<'_> {
    fn wait(&self) {
        if self.patience.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Executes; whether it came to the end.
pub(crate) fn go<T: Task>(plan: &Plan<T>, folder: &Folder, patience: usize) -> bool {
    let stop = AtomicBool::new(false);
    let observer = Impatient { stop: &stop, patience: patience.into() };
    execute(plan, folder, "test", &stop, &observer).unwrap()
}

/// Executes piece after piece, each with the plan that lies on disk, as another process would, and each a little
/// longer; how often it was stopped.
pub(crate) fn in_pieces<T: Task>(
    [first, more]: [usize; 2],
    planned: impl Fn() -> (Plan<T>, Folder),
) -> usize {
    let (mut stops, mut patience) = (0, first);
    loop {
        let (plan, folder) = planned();
        if go(&plan, &folder, patience) {
            return stops;
        }
        (stops, patience) = (stops + 1, patience + more);
    }
}

fn planned(path: &Path) -> (Plan, Folder) {
    let folder = Folder::new(path);
    let (plan, is_new) = Plan::load_or_new(&folder, tiny(), Request::default(), "test").unwrap();
    assert!(is_new);
    folder.save_plan(&plan).unwrap();
    (plan, folder)
}

fn readings(plan: &Plan, folder: &Folder) -> Vec<Reading> {
    let mut readings = Vec::new();
    for arm in &plan.study.arms {
        for seed in &plan.study.seeds {
            readings.push(folder.reading(&arm.name, *seed).unwrap().unwrap());
        }
    }
    readings
}

#[test]
fn a_study_in_pieces_ends_like_a_whole_one() {
    let root = tempfile::tempdir().unwrap();
    let (plan, whole) = planned(&root.path().join("whole"));
    assert!(go(&plan, &whole, usize::MAX));

    let (_, pieces) = planned(&root.path().join("pieces"));
    let stops = in_pieces([7, 20], || {
        let (plan, is_new) =
            Plan::load_or_new(&pieces, tiny(), Request::default(), "test").unwrap();
        assert!(!is_new);
        (plan, pieces.clone())
    });
    assert!(stops >= 5, "{stops} stops");
    assert_eq!(readings(&plan, &whole), readings(&plan, &pieces));
    let trial = |folder: &Folder| folder.trial("bpr", 1e-2).unwrap().unwrap();
    assert_eq!(trial(&whole), trial(&pieces));

    check_report(&plan, &whole);
    check_runs(&plan, &whole);
}

/// All files are there and say the same.
fn check_report(plan: &Plan, folder: &Folder) {
    let results = report(plan, folder).unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("arms.csv").lines().count(), 1 + 3 * 2);
    assert_eq!(text("comparisons.csv").lines().count(), 1 + 2);
    for svg in ["accuracy-flops", "accuracy-time", "accuracy-energy", "differences"] {
        assert!(text(&format!("{svg}.svg")).starts_with("<svg"), "{svg}");
    }
    assert_eq!(results.trials.len(), 4);
    let [training, dial] = &results.comparisons[..] else { panic!("two comparisons") };
    assert_eq!(training.unit, DecidingUnit::Seeds);
    assert_eq!((dial.unit, dial.drawn_together), (DecidingUnit::UnitsAndSeeds, 8));
    for found in [training, dial] {
        let mean = found.by_seed.iter().sum::<f64>() / 2.0;
        assert!((found.difference - mean).abs() < 1e-9);
        let inside = found.deciding().unwrap();
        assert!(inside.low <= found.difference && found.difference <= inside.high);
        assert!(found.detectable.unwrap() > 0.0);
    }
    // Seats for a quarter of the choices: at least three quarters of them are dropped, and cost
    // nothing.
    let [_, bpr, short] = &results.arms[..] else { panic!("three arms") };
    let [bpr, short] = [&bpr.found, &short.found];
    assert!(short.dropped_share > 0.74, "{}", short.dropped_share);
    assert!(short.flops_per_image < bpr.flops_per_image);
    let json: serde_json::Value = serde_json::from_str(&text("results.json")).unwrap();
    assert_eq!(json["comparisons"][1]["difference"], dial.difference);
    assert_eq!(json["comparisons"][1]["images_per_unit"], 8);
    assert_eq!(json["comparisons"][1]["unit"], "images_and_seeds");
    assert_eq!(json["arms"][0]["top1_percent"], results.arms[0].score.value);
    let summary = text("summary.md");
    for part in [
        "| training | +1 points |",
        "Predictions written ",
        "sparsely eval ",
        "Trial of `bpr` at 0.01: validation top-1 ",
        "estimated at 5 W a core",
    ] {
        let is_there = summary.contains(part);
        // A machine that tells its energy says so instead.
        assert!(is_there || part.starts_with("estimated") && summary.contains("RAPL"), "{part}");
    }
}

/// Runs use the rate that validation chose, and the plan is older than the first of them.
fn check_runs(plan: &Plan, folder: &Folder) {
    for model in &plan.study.models {
        let trials = [1e-3, 1e-2].map(|lr| folder.trial(&model.name, lr).unwrap().unwrap());
        let better = usize::from(trials[1].validation_top1 > trials[0].validation_top1);
        for seed in &plan.study.seeds {
            let run = RunFolder::open(&folder.run(&model.name, *seed)).unwrap();
            let config = RunConfig::from_toml(&run.config().unwrap(), &run.config_path()).unwrap();
            assert_eq!(config.train.schedule.lr_peak, trials[better].lr_peak);
            assert_eq!(config.seed, *seed);
        }
    }
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let first = folder.trial_run("vanilla", 1e-3).join("config.toml");
    assert!(modified(&folder.plan_path()) <= modified(&first));
}

#[test]
fn a_plan_is_not_gone_on_with_under_other_conditions() {
    let root = tempfile::tempdir().unwrap();
    let (_, folder) = planned(root.path());
    let asked = Request { budget_seconds: Some(60), ..Request::default() };
    let told = Plan::load_or_new(&folder, tiny(), asked, "test").unwrap_err().to_string();
    let (expected, got) = told.split_once(", got ").unwrap();
    assert!(expected.contains("\"budget_seconds\":60"), "{told}");
    assert!(got.contains("\"budget_seconds\":null"), "{told}");
    assert!(
        told.starts_with(&format!("`{}`: expected study `tiny`", folder.plan_path().display()))
    );
}

#[test]
fn a_run_that_the_plan_does_not_ask_for_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (plan, folder) = planned(root.path());
    assert!(!go(&plan, &folder, 3));
    let config = folder.trial_run("vanilla", 1e-3).join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("seed = 7", "seed = 8")).unwrap();
    let stop = AtomicBool::new(false);
    let observer = Impatient { stop: &stop, patience: usize::MAX.into() };
    let told = execute(&plan, &folder, "test", &stop, &observer).unwrap_err().to_string();
    let expected = "expected the configuration that plan.json asks for, got another one";
    assert_eq!(told, format!("`{}`: {expected}", config.display()));
}

#[test]
fn a_damaged_reading_is_told_by_its_file() {
    let root = tempfile::tempdir().unwrap();
    let (plan, folder) = planned(root.path());
    fs::create_dir_all(root.path().join("readings")).unwrap();
    let file = root.path().join("readings/vanilla-seed1.json");
    fs::write(&file, "{").unwrap();
    let told = report(&plan, &folder).unwrap_err().to_string();
    assert!(told.starts_with(&format!("`{}`: expected what an arm did", file.display())), "{told}");
}

/// What was written before studies of text were there.
#[test]
fn plans_and_readings_of_older_programs_are_read() {
    let plan = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../studies/bpr"));
    let plan: Plan = Folder::new(plan).plan().unwrap().expect("the plan of a published study");
    assert_eq!(plan.training[0].params, None);
    assert_eq!(plan.rate.seconds_per_unit.len(), plan.study.arms.len());
    let named: &Study = &sparsely::study::bpr();
    assert_eq!(plan.study.arms, named.arms);
    let reading = r#"{"arm": "a", "seed": 3, "program": "p", "lr_peak": 0.001, "step": 5, "loss": 0.5,
        "dropped_share": 0.25, "flops_per_image": 1000.0, "is_right": "1101"}"#;
    let reading: Reading = serde_json::from_str(reading).unwrap();
    assert_eq!((reading.score(), reading.found.dropped_share), (75.0, 0.25));
    let costs = r#"{"seed": 3, "date": "", "threads": 2, "energy_source": "", "of_image": {}}"#;
    let costs: sparsely::study::SeedCosts = serde_json::from_str(costs).unwrap();
    assert_eq!((costs.seed, costs.costs.len()), (3, 0));
}
