//! K × capacity × priority: the settings that V-MoE turns at inference (arXiv 2106.05974, section 4),
//! for the study of Batch Prioritized Routing and for the sweep of a trained model.

use super::{Curve, Panel, Point};
use crate::moe::{Capacity, Dial, Priority};

/// Selected experts a token.
pub(super) const SELECTED: [usize; 4] = [1, 2, 3, 4];
/// Capacity factors.
pub(super) const CAPACITIES: [f64; 6] = [1.0, 0.75, 0.5, 0.3, 0.2, 0.1];
/// Batch prioritized and vanilla.
pub(super) const PRIORITIES: [Priority; 2] = [Priority::MaxGate, Priority::Position];

/// Every value of a setting with every value of the others; `[None]` leaves it as it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    /// K; a panel each.
    pub(super) selected: Vec<Option<usize>>,
    /// The points of a curve.
    pub(super) capacities: Vec<Option<Capacity>>,
    /// A curve each.
    pub(super) priorities: Vec<Option<Priority>>,
}

impl Grid {
    /// The paper's.
    pub(super) fn of_paper() -> Grid {
        Grid {
            selected: SELECTED.map(Some).to_vec(),
            capacities: CAPACITIES.map(|factor| Some(Capacity::factor(factor))).to_vec(),
            priorities: PRIORITIES.map(Some).to_vec(),
        }
    }

    /// Whether nothing is turned.
    pub(super) fn is_nothing(&self) -> bool {
        self.selected == [None] && self.capacities == [None] && self.priorities == [None]
    }

    /// All dials over `base`, with their names.
    pub(super) fn dials(&self, base: &Dial) -> Vec<(String, Dial)> {
        let mut dials = Vec::new();
        for selected in &self.selected {
            for capacity in &self.capacities {
                for priority in &self.priorities {
                    let dial = Dial {
                        num_selected: selected.or(base.num_selected),
                        capacity: capacity.or(base.capacity),
                        priority: priority.or(base.priority),
                        ..base.clone()
                    };
                    dials.push((name(*selected, *capacity, *priority), dial));
                }
            }
        }
        dials
    }

    /// A panel for each K, in which a curve for each priority goes through all capacities. The
    /// first curve's points are labelled.
    pub(super) fn panels(&self, trained: Option<usize>) -> Vec<Panel> {
        let panel = |k: &Option<usize>| Panel {
            title: match k {
                Some(k) if Some(*k) == trained => format!("K {k} (as trained)"),
                Some(k) => format!("K {k}"),
                None => "all settings".into(),
            },
            curves: self
                .priorities
                .iter()
                .enumerate()
                .map(|(i, p)| self.curve(*k, *p, i))
                .collect(),
        };
        self.selected.iter().map(panel).collect()
    }

    fn curve(&self, k: Option<usize>, priority: Option<Priority>, index: usize) -> Curve {
        let point = |capacity: &Option<Capacity>| Point {
            arm: name(k, *capacity, priority),
            label: capacity.filter(|_| index == 0).map(capacity_label).unwrap_or_default(),
        };
        Curve {
            label: priority.map_or("swept", label).into(),
            points: self.capacities.iter().map(point).collect(),
            is_scattered: false,
        }
    }
}

/// `k2-c0.5-bpr`: the settings that are there; `asked` without any.
fn name(k: Option<usize>, capacity: Option<Capacity>, priority: Option<Priority>) -> String {
    let parts = [
        k.map(|k| format!("k{k}")),
        capacity.map(|capacity| match capacity {
            Capacity::Factor { factor, .. } => format!("c{factor}"),
            Capacity::Exact { seats } => format!("exact{seats}"),
            Capacity::Unlimited => "unlimited".into(),
        }),
        priority.map(|priority| match priority {
            Priority::MaxGate => "bpr".into(),
            Priority::Position => "vanilla".into(),
            Priority::SumGates => "sum".into(),
            Priority::Learned => "learned".into(),
        }),
    ];
    match parts.into_iter().flatten().collect::<Vec<_>>() {
        parts if parts.is_empty() => "asked".into(),
        parts => parts.join("-"),
    }
}

fn capacity_label(capacity: Capacity) -> String {
    match capacity {
        Capacity::Factor { factor, .. } => format!("C {factor}"),
        other => other.to_string(),
    }
}

fn label(priority: Priority) -> &'static str {
    match priority {
        Priority::MaxGate => "BPR",
        Priority::Position => "vanilla",
        Priority::SumGates => "BPR, sum of gates",
        Priority::Learned => "learned priority",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dial_of_the_grid_is_on_one_curve() {
        let grid = Grid::of_paper();
        let dials = grid.dials(&Dial::default());
        let panels = grid.panels(Some(2));
        let points = panels.iter().flat_map(|panel| &panel.curves).flat_map(|curve| &curve.points);
        let mut drawn: Vec<_> = points.map(|point| point.arm.clone()).collect();
        let mut named: Vec<_> = dials.into_iter().map(|(name, _)| name).collect();
        drawn.sort();
        named.sort();
        assert_eq!((named.len(), &named), (4 * 6 * 2, &drawn));
        named.dedup();
        assert_eq!(named.len(), 4 * 6 * 2);
        assert!(named.contains(&"k2-c0.75-vanilla".to_string()));
        assert_eq!(panels[1].title, "K 2 (as trained)");
    }

    #[test]
    fn settings_that_a_router_does_not_have_stay_as_they_are() {
        let own = Dial { num_selected: Some(3), ..Dial::default() };
        let capacities = vec![Some(Capacity::factor(0.5)), Some(Capacity::Exact { seats: 2 })];
        let grid = Grid { selected: vec![None], capacities, priorities: vec![None] };
        let dials = grid.dials(&own);
        assert_eq!(dials[0].0, "c0.5");
        assert_eq!(dials[0].1, Dial { capacity: Some(Capacity::factor(0.5)), ..own });
        assert_eq!(dials[1].0, "exact2");
        assert_eq!(grid.panels(None)[0].curves[0].points[0].label, "C 0.5");
    }
}
