//! Where the super-classes of a study's models come from: another of its models, or the data.

use super::Images;
use super::learned::Learned;
use crate::data::{Dataset, label_groups};
use crate::eval::{SavedModel, confusion};
use crate::model::Vit;
use crate::rng::{Purpose, counter_of, stream};
use crate::study::{Folder, Model, Study};
use crate::superclass::{Found, Grouping, Method, SuperClassFile, group};
use crate::train::{RunConfig, SuperClassLoss};
use crate::{Error, Result};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sparsely_tensor::PackedSlab;

/// What the router of a model of whole images is taught, for each seed anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SuperClasses {
    /// What a model of the study, trained before with the same seed, takes for one another on validation images.
    Confusions {
        /// The model's name.
        of: String,
        /// By what classes are grouped.
        method: Method,
        /// Whether probabilities are added up instead of mistakes counted.
        by_probability: bool,
    },
    /// Random groups of the sizes of another model's: the control.
    Random {
        /// The name of a model with groups of its own.
        like: String,
    },
    /// Another label of each image.
    Labels {
        /// Its column.
        column: String,
    },
}

impl SuperClasses {
    /// The model that must be there before.
    pub(in crate::study) fn source(&self) -> Option<&str> {
        match self {
            SuperClasses::Confusions { of, .. } => Some(of),
            SuperClasses::Random { like } => Some(like),
            SuperClasses::Labels { .. } => None,
        }
    }
}

impl Study {
    /// What cannot work about super-classes: one sentence each.
    pub(in crate::study) fn taught_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (index, model) in self.models.iter().enumerate() {
            let Some(taught) = &model.super_classes else { continue };
            let name = &model.name;
            if self.tuning.is_some() {
                problems
                    .push(format!("model `{name}`: super-classes and tuning do not go together"));
            }
            if let Some(source) = taught.source() {
                let before = self.models[..index].iter().find(|model| model.name == source);
                let is_like = matches!(taught, SuperClasses::Random { .. });
                if before.is_none_or(|before| is_like && before.super_classes.is_none()) {
                    let of = if is_like { " with super-classes" } else { "" };
                    problems
                        .push(format!("model `{name}`: no model `{source}`{of} comes before it"));
                }
            }
            if experts(model) == 0 {
                problems.push(format!("model `{name}`: super-classes need experts"));
            }
        }
        problems
    }
}

/// `config` with the groups that its router is taught.
pub(super) fn teach(mut config: RunConfig, file: Option<&SuperClassFile>) -> RunConfig {
    config.train.super_classes =
        file.map(|file| SuperClassLoss { groups: file.groups(), ..SuperClassLoss::default() });
    config
}

/// What groups are made of, for a seed.
struct Sources<'a> {
    seed: u64,
    study: &'a Study,
    dataset: &'a Dataset,
}

impl Sources<'_> {
    /// Groups by the confusions of a trained model.
    ///
    /// # Errors
    /// If there are no validation images, or fewer classes than experts.
    fn by_confusion(
        &self,
        model: &Model,
        (method, by_probability): (&Method, bool),
        (saved, vit, params): (&SavedModel, &Vit, &PackedSlab),
    ) -> Result<SuperClassFile> {
        let validation = &self.dataset.validation;
        if validation.is_empty() {
            return Err(Error::Argument {
                op: "super-classes",
                expected: "validation images, to tell confusions by".into(),
                got: "none: the data's validation_fraction is 0".into(),
            });
        }
        let config = Images::eval_config(self.study);
        let confusion = confusion(vit, params, validation, &config, by_probability)?;
        let graph = confusion.graph()?;
        let grouping = Grouping { method: method.clone(), balanced: false, seed: self.seed };
        let groups = group(&graph, experts(model), &grouping)?;
        let class_names = &saved.class_names;
        let found = Found { class_names, confusion: &confusion, graph: &graph, by_probability };
        Ok(SuperClassFile::new(model.name.clone(), &found, &groups, Some(grouping)))
    }

    /// Random groups of the sizes of `like`.
    fn by_chance(&self, model: &Model, like: &SuperClassFile) -> SuperClassFile {
        let mut left: Vec<String> = self.dataset.class_names.clone();
        let mut draw = stream(self.seed, Purpose::SuperClasses, counter_of(&model.name));
        let groups = like.groups.iter().map(|group| {
            let own =
                group.classes.iter().map(|_| left.swap_remove(draw.random_range(0..left.len())));
            own.collect()
        });
        SuperClassFile::of_groups(groups.collect())
    }

    /// Groups by another label.
    ///
    /// # Errors
    /// If the data have none, or there are other experts than groups.
    fn by_label(&self, model: &Model, column: &str) -> Result<SuperClassFile> {
        let file = SuperClassFile::of_labels(column, label_groups(&self.study.data, column)?);
        if file.groups.len() == experts(model) {
            return Ok(file);
        }
        Err(Error::Argument {
            op: "super-classes",
            expected: format!("{} values of `{column}`, one for each expert", experts(model)),
            got: file.groups.len().to_string(),
        })
    }
}

/// What a model is taught with a seed: found once, from what was trained before it.
///
/// # Errors
/// As of what it is made of.
pub(super) fn find_groups(
    study: &Study,
    folder: &Folder,
    (model, seed): (&Model, u64),
    dataset: &Dataset,
) -> Result<()> {
    let Some(taught) = &model.super_classes else { return Ok(()) };
    if folder.groups(&model.name, seed)?.is_some() {
        return Ok(());
    }
    let sources = Sources { seed, study, dataset };
    let file = match taught {
        SuperClasses::Confusions { of, method, by_probability } => {
            let Learned { description, model: vit, params } =
                &Learned::load(&folder.run(of, seed))?;
            let learned = (description, vit, params);
            sources.by_confusion(model, (method, *by_probability), learned)?
        }
        SuperClasses::Random { like } => {
            let like = folder.groups(like, seed)?.ok_or_else(|| {
                let got = format!("none of `{like}` for seed {seed}");
                Error::format(folder.path(), "super-classes to take sizes of", got)
            })?;
            sources.by_chance(model, &like)
        }
        SuperClasses::Labels { column } => sources.by_label(model, column)?,
    };
    folder.save_groups(&model.name, seed, &file)
}

fn experts(model: &Model) -> usize {
    model.model.moe.as_ref().map_or(0, |moe| moe.num_experts)
}
