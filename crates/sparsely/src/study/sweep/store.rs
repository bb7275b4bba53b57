//! A sweep on disk: for `predict` as JSON in the run's folder, for other programs as CSV.

use super::{Setting, Sweep};
use crate::checkpoint::RunFolder;
use crate::eval::csv::csv;
use crate::model::ModelConfig;
use crate::study::ArmRouting;
use crate::study::folder::{read, write};
use crate::{Error, Result};
use serde::Serialize;
use sparsely_tensor::Slab;
use std::path::PathBuf;

/// Values of the parameters that are summed up at a time.
const CHUNK: usize = 1 << 14;

impl Sweep {
    /// Where a run keeps its sweep.
    pub fn path(run: &RunFolder) -> PathBuf {
        run.path().join("sweep.json")
    }

    /// Keeps it as the run's sweep.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn save(&self, run: &RunFolder) -> Result<()> {
        write(&Sweep::path(run), self)
    }

    /// The run's sweep, if it has one.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn load(run: &RunFolder) -> Result<Option<Sweep>> {
        let (path, expected) = (Sweep::path(run), "a sweep");
        let Some(sweep) = read::<Sweep>(&path, expected)? else { return Ok(None) };
        if sweep.settings.is_empty() {
            return Err(Error::format(&path, expected, "one without settings"));
        }
        Ok(Some(sweep))
    }

    /// Whether it was measured with these parameters.
    pub fn is_of(&self, params: &Slab) -> bool {
        self.params_crc32 == params_crc32(params)
    }

    /// A line for each setting.
    ///
    /// # Errors
    /// Never: it is written into memory.
    pub fn csv(&self, model: &ModelConfig) -> Result<String> {
        csv(self.settings.iter().map(|setting| self.line(setting, model)))
    }

    fn line<'a>(&'a self, setting: &'a Setting, model: &ModelConfig) -> Line<'a> {
        let routing = model.moe.as_ref().map(|moe| ArmRouting::of(moe, &setting.dial));
        let subset = |subset: &Option<crate::moe::Subset>| {
            subset.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let [selected_experts, capacity, priority, group] =
            routing.as_ref().map(ArmRouting::words).unwrap_or_default();
        Line {
            setting: &setting.name,
            selected_experts,
            capacity,
            priority,
            group,
            experts: subset(&setting.dial.experts),
            skip_moe: subset(&setting.dial.skip_moe),
            data: &self.data,
            split: &self.split,
            n: self.images,
            top1_percent: setting.top1_percent,
            loss_points: self.loss_points(setting),
            loss: setting.loss,
            dropped_share: setting.dropped_share,
            flops_per_image: setting.flops_per_image,
            seconds_per_image: setting.cost.seconds,
            seconds_first_quartile: setting.cost.seconds_quartiles[0],
            seconds_third_quartile: setting.cost.seconds_quartiles[1],
            batch_size: self.timing.batch_size,
            threads: self.threads,
            joules_per_image: setting.cost.joules,
            energy_source: &self.energy_source,
            is_on_front: self.is_on_front(setting),
            program: &self.program,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    setting: &'a str,
    selected_experts: String,
    capacity: String,
    priority: String,
    group: String,
    experts: String,
    skip_moe: String,
    data: &'a str,
    split: &'a str,
    n: usize,
    top1_percent: f64,
    loss_points: f64,
    loss: f64,
    dropped_share: f64,
    flops_per_image: f64,
    seconds_per_image: f64,
    seconds_first_quartile: f64,
    seconds_third_quartile: f64,
    batch_size: usize,
    threads: usize,
    joules_per_image: f64,
    energy_source: &'a str,
    is_on_front: bool,
    program: &'a str,
}

/// The sum of all values, as they lie on disk.
pub(super) fn params_crc32(params: &Slab) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for values in params.values().chunks(CHUNK) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;
    use super::*;
    use crate::model::Vit;

    #[test]
    fn a_sweep_comes_back_and_knows_its_model() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(&root.path().join("run")), root.path()).unwrap();
        assert_eq!(Sweep::load(&run).unwrap(), None);
        let (_, mut params) = Vit::init(&ModelConfig::default(), 1).unwrap();
        let mut sweep = sweep(&[("own", 98.0, 1e-3), ("k1", 97.0, 0.1 + 0.2)]);
        sweep.params_crc32 = params_crc32(&params);
        sweep.save(&run).unwrap();
        let loaded = Sweep::load(&run).unwrap().unwrap();
        assert_eq!(loaded, sweep);
        assert!(loaded.is_of(&params));
        params.values_mut()[7] += 1e-3;
        assert!(!loaded.is_of(&params));
    }

    #[test]
    fn a_damaged_sweep_is_one_line() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(Some(&root.path().join("run")), root.path()).unwrap();
        let path = Sweep::path(&run);
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Sweep::load(&run).unwrap_err().to_string()
        };
        let beginning = format!("`{}`: expected a sweep, got ", path.display());
        assert!(told("{").starts_with(&beginning));
        let empty = serde_json::to_string(&Sweep { settings: vec![], ..sweep(&[]) }).unwrap();
        assert_eq!(told(&empty), format!("{beginning}one without settings"));
    }

    #[test]
    fn the_table_has_a_line_for_each_setting() {
        let sweep = sweep(&[("own", 98.0, 4e-3), ("k1-c0.5-bpr", 97.5, 2e-3)]);
        let text = sweep.csv(&ModelConfig::default()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("setting,selected_experts,capacity,priority,group,experts,"));
        assert!(
            lines[1].starts_with("own,2,1.05,position,8,,,digits,validation,200,98.0,0.0,"),
            "{text}"
        );
        assert!(lines[2].contains(",97.5,0.5,"), "{text}");
    }
}
