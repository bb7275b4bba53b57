//! Which settings of a model are swept.

use crate::eval::EvalConfig;
use crate::model::ModelConfig;
use crate::moe::{Dial, MoeConfig};
use crate::study::dials::Grid;
use crate::study::{Curve, Panel, Point};
use crate::{Error, Result};

/// The name of the run's own setting.
pub(super) const OWN: &str = "own";

/// The run's `own` setting, then K × capacity × priority over it, as far as the router has them.
/// What `asked` sets stays so. Of a router that has none of the three, what is asked for alone.
///
/// # Errors
/// If there is nothing to turn, or what is asked for cannot work.
pub fn sweep_settings(
    model: &ModelConfig,
    own: &Dial,
    asked: &Dial,
) -> Result<Vec<(String, Dial)>> {
    let Some(moe) = &model.moe else { return Err(nothing("a model with experts", "a dense one")) };
    if let Some(problem) = model.dial_problem(asked) {
        return Err(Error::config(problem));
    }
    let grid = grid(moe, asked);
    if grid.is_nothing() && asked.experts.is_none() && asked.skip_moe.is_none() {
        let expected = "a router with K, capacity or priority, or --experts or --skip-moe to compare \
                        with the whole model";
        return Err(nothing(expected, "a router without"));
    }
    let mut settings = vec![(OWN.to_string(), own.clone())];
    for (name, dial) in grid.dials(&asked.over(own)) {
        let config = EvalConfig { dial, ..EvalConfig::default() };
        let problems = config.routing_problems(model);
        if !problems.is_empty() {
            return Err(Error::Config { problems });
        }
        settings.push((name, config.dial));
    }
    Ok(settings)
}

fn nothing(expected: &str, got: &str) -> Error {
    Error::Argument { op: "sweep", expected: expected.into(), got: got.into() }
}

/// Whatever the router has, and `asked` does not set.
fn grid(moe: &MoeConfig, asked: &Dial) -> Grid {
    let paper = Grid::of_paper();
    let experts = asked.num_experts(moe.num_experts);
    let selected = match (moe.router.num_selected(), asked.num_selected) {
        (None, _) => vec![None],
        (_, Some(k)) => vec![Some(k)],
        _ => paper.selected.into_iter().filter(|k| k.is_some_and(|k| k <= experts)).collect(),
    };
    let capacities = match (moe.router.capacity(), asked.capacity) {
        (None, _) => vec![None],
        (_, Some(capacity)) => vec![Some(capacity)],
        _ => paper.capacities,
    };
    let priorities = match (moe.router.priority(), asked.priority) {
        (None, _) => vec![None],
        (_, Some(priority)) => vec![Some(priority)],
        (own, None) if paper.priorities.contains(&own) => paper.priorities,
        (own, None) => [&paper.priorities[..], &[own]].concat(),
    };
    Grid { selected, capacities, priorities }
}

/// What is drawn beside what: a panel for each K, the run's own setting a point in each.
pub(super) fn panels(moe: &MoeConfig, asked: &Dial) -> Vec<Panel> {
    let mut panels = grid(moe, asked).panels(moe.router.num_selected());
    let own = Point { arm: OWN.into(), label: OWN.into() };
    let own =
        Curve { label: "the run's own setting".into(), points: vec![own], is_scattered: false };
    panels.iter_mut().for_each(|panel| panel.curves.push(own.clone()));
    panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moe::router::{ExpertChoiceConfig, SoftConfig};
    use crate::moe::{Group, Priority, RouterConfig, Subset, TokenChoiceConfig};

    fn model(router: RouterConfig) -> ModelConfig {
        let moe = MoeConfig { router, group: Group::Images { n: 1 }, ..MoeConfig::default() };
        ModelConfig { moe: Some(moe), ..ModelConfig::default() }
    }

    fn names(router: RouterConfig, asked: &Dial) -> Result<Vec<String>> {
        let settings = sweep_settings(&model(router), &EvalConfig::default().dial, asked)?;
        Ok(settings.into_iter().map(|(name, _)| name).collect())
    }

    fn experts(indices: &[usize]) -> Dial {
        Dial { experts: Subset::new(indices.to_vec()).ok(), ..Dial::default() }
    }

    #[test]
    fn token_choice_is_swept_over_all_three_and_what_is_asked_for_stays() {
        let router = RouterConfig::default();
        assert_eq!(names(router, &Dial::default()).unwrap().len(), 1 + 4 * 6 * 2);
        let priority = Some(Priority::MaxGate);
        let asked = Dial { num_selected: Some(2), priority, ..Dial::default() };
        let expected = ["own", "k2-c1-bpr", "k2-c0.75-bpr", "k2-c0.5-bpr", "k2-c0.3-bpr"];
        assert_eq!(names(router, &asked).unwrap()[..5], expected);
        // No more experts than take part.
        assert_eq!(names(router, &experts(&[1, 5])).unwrap().len(), 1 + 2 * 6 * 2);
        let learned = TokenChoiceConfig { priority: Priority::Learned, ..Default::default() };
        let learned = names(RouterConfig::TokenChoice(learned), &Dial::default()).unwrap();
        assert_eq!(learned.len(), 1 + 4 * 6 * 3);
    }

    #[test]
    fn expert_choice_is_swept_over_capacity_alone() {
        let router = RouterConfig::ExpertChoice(ExpertChoiceConfig::default());
        let expected = ["own", "c1", "c0.75", "c0.5", "c0.3", "c0.2", "c0.1"];
        assert_eq!(names(router, &Dial::default()).unwrap(), expected);
    }

    #[test]
    fn what_has_nothing_to_turn_says_what_could_be() {
        let soft = RouterConfig::Soft(SoftConfig::default());
        assert_eq!(
            names(soft, &Dial::default()).unwrap_err().to_string(),
            "sweep: expected a router with K, capacity or priority, or --experts or --skip-moe to \
             compare with the whole model, got a router without"
        );
        assert_eq!(names(soft, &experts(&[0, 1])).unwrap(), ["own", "asked"]);
        let dense = ModelConfig { moe: None, ..ModelConfig::default() };
        let refused = sweep_settings(&dense, &Dial::default(), &Dial::default()).unwrap_err();
        assert_eq!(refused.to_string(), "sweep: expected a model with experts, got a dense one");
    }

    #[test]
    fn the_own_setting_is_in_every_panel() {
        let panels = panels(&MoeConfig::default(), &Dial::default());
        assert_eq!(panels.len(), 4);
        assert!(panels.iter().all(|panel| panel.curves[2].points[0].arm == OWN));
    }
}
