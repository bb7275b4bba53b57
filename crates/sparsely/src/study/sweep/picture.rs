//! A sweep as a picture.

use super::{Setting, Sweep, settings};
use crate::model::ModelConfig;
use crate::moe::Dial;
use crate::study::plot::{Picture, Place};
use crate::{Error, Result};

/// Pixels of the line around settings that no other beats, and around the one that is chosen.
const RINGS: [u32; 2] = [1, 3];

impl Sweep {
    /// Accuracy against time as SVG, a panel for each K. `asked` is what the settings were made with.
    ///
    /// # Errors
    /// If the model has no experts.
    pub fn svg(&self, name: &str, model: &ModelConfig, asked: &Dial) -> Result<String> {
        let moe = model.moe.as_ref().ok_or_else(|| Error::config("a dense model has no dial"))?;
        let chosen = self.choice();
        let place = |setting: &Setting| Place {
            x: 1e3 * setting.cost.seconds,
            x_quartiles: Some(setting.cost.seconds_quartiles.map(|seconds| 1e3 * seconds)),
            y: setting.top1_percent,
            y_interval: None,
            ring: match chosen {
                Some(chosen) if chosen.name == setting.name => RINGS[1],
                _ if self.is_on_front(setting) => RINGS[0],
                _ => 0,
            },
        };
        let thick = match chosen {
            Some(_) => format!("; thick: cheapest within {} points of own", self.max_loss_points),
            None => String::new(),
        };
        let picture = Picture {
            title: format!(
                "{name}: accuracy against time, {} images, n={}",
                self.split, self.images
            ),
            subtitle: format!(
                "bars: quartiles, {} threads, batch {}; ringed: none better and as quick{thick}",
                self.threads, self.timing.batch_size
            ),
            cost: "ms per image, measured in turn: median and quartiles",
            panels: &settings::panels(moe, asked),
            places: self.settings.iter().map(|setting| (&*setting.name, place(setting))).collect(),
        };
        picture.svg()
    }
}
