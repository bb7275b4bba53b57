//! A sweep as a picture.

use super::{Setting, Sweep, settings};
use crate::model::ModelConfig;
use crate::moe::Dial;
use crate::study::plot::{Picture, Place};
use crate::study::{Images, Panel, Point, Task};
use crate::{Error, Result};
use std::collections::BTreeMap;

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
        let mut panels = settings::panels(moe, asked);
        let mut places =
            self.settings.iter().map(|setting| (&*setting.name, place(setting))).collect();
        panels.iter_mut().for_each(|panel| self.merge(panel, &mut places));
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
            score: Images::WORDS.axis,
            range: Images::WORDS.range,
            panels: &panels,
            places,
        };
        picture.svg()
    }

    /// Makes points of a curve that compute the same, because capacities are whole numbers of seats,
    /// one point.
    fn merge(&self, panel: &mut Panel, places: &mut BTreeMap<&str, Place>) {
        for curve in &mut panel.curves {
            curve.points.dedup_by(|next, first| {
                let is_same = self.compute_the_same(&first.arm, &next.arm);
                if is_same {
                    join(first, next, places);
                }
                is_same
            });
        }
    }

    fn compute_the_same(&self, one: &str, other: &str) -> bool {
        let named = |name: &str| self.settings.iter().find(|setting| setting.name == name);
        let told = |setting: &Setting| [setting.loss, setting.flops_per_image];
        named(one).map(told).is_some_and(|one| named(other).map(told) == Some(one))
    }
}

/// The label of both on the first, at the place of the one with the thicker ring.
fn join(first: &mut Point, next: &Point, places: &mut BTreeMap<&str, Place>) {
    if let Some(factor) = next.label.strip_prefix("C ") {
        let begin = first.label.split('–').next().unwrap_or_default();
        first.label = format!("{begin}–{factor}");
    }
    let next = places.get(&*next.arm).copied();
    if let (Some(first), Some(next)) = (places.get_mut(&*first.arm), next)
        && next.ring > first.ring
    {
        *first = next;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;
    use super::*;
    use crate::study::Curve;

    #[test]
    fn capacities_of_the_same_seats_are_one_point() {
        let mut sweep =
            sweep(&[("own", 98.0, 4e-3), ("a", 98.0, 3e-3), ("b", 98.0, 2e-3), ("c", 97.0, 1e-3)]);
        sweep.settings[3].loss = 0.2;
        let point = |arm: &str, label: &str| Point { arm: arm.into(), label: label.into() };
        let points = vec![point("a", "C 0.3"), point("b", "C 0.2"), point("c", "C 0.1")];
        let curves = vec![Curve { label: "BPR".into(), points, is_scattered: false }];
        let mut panel = Panel { title: "K 1".into(), curves };
        let ringed = Place { ring: 3, x: 2.0, ..Place::default() };
        let mut places = BTreeMap::from([("a", Place::default()), ("b", ringed)]);
        sweep.merge(&mut panel, &mut places);
        assert_eq!(panel.curves[0].points, [point("a", "C 0.3–0.2"), point("c", "C 0.1")]);
        assert_eq!(places["a"], ringed);
    }
}
