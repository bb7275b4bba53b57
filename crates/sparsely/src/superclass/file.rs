//! `superclasses.json`: the groups by the names of their classes, and how they came about.

use super::{Confusion, Graph, Grouping, chance_share};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file. Only the classes of the groups are needed to train with it: one that was written by hand, or
/// made of labels that somebody gave, will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuperClassFile {
    /// One for each expert.
    pub groups: Vec<SuperClass>,
    /// How they were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouping: Option<Grouping>,
    /// Which other label of the images they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Whose confusions they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Held-out images that were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Share of them that the run is right about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Whether probabilities were added up, or images counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_probability: Option<bool>,
    /// Share of the confusion that lies within groups, in [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_share: Option<f64>,
    /// What of it would, if all pairs of classes were confused equally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance_share: Option<f64>,
    /// Newman's modularity of the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modularity: Option<f64>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuperClass {
    /// The class that is confused most with others of the group, and how many others there are; or the label's name.
    #[serde(default)]
    pub name: String,
    /// How many classes.
    #[serde(default)]
    pub size: usize,
    /// Share of all confusion that lies within this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_share: Option<f64>,
    /// The names of its classes.
    pub classes: Vec<String>,
}

impl SuperClassFile {
    /// Reads it.
    ///
    /// # Errors
    /// If the file cannot be read or is no list of groups.
    pub fn read(path: &Path) -> Result<SuperClassFile> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::format(path, "super-classes, groups of names of classes", error.to_string())
        })
    }

    /// Of groups that are no run's confusions.
    pub fn of_groups(groups: Vec<Vec<String>>) -> SuperClassFile {
        let super_class = |classes: Vec<String>| SuperClass {
            name: classes.first().cloned().unwrap_or_default(),
            size: classes.len(),
            kept_share: None,
            classes,
        };
        SuperClassFile {
            groups: groups.into_iter().map(super_class).collect(),
            grouping: None,
            labels: None,
            run: None,
            images: None,
            top1: None,
            by_probability: None,
            kept_share: None,
            chance_share: None,
            modularity: None,
        }
    }

    /// Of another label of the images: the names of its values and of the classes of each.
    pub fn of_labels(column: &str, groups: Vec<(String, Vec<String>)>) -> SuperClassFile {
        let (names, groups): (Vec<_>, _) = groups.into_iter().unzip();
        SuperClassFile::of_groups(groups).labelled(column, names)
    }

    /// With the names of another label's values.
    pub fn labelled(mut self, column: &str, names: Vec<String>) -> SuperClassFile {
        self.labels = Some(column.to_string());
        self.groups.iter_mut().zip(names).for_each(|(group, name)| group.name = name);
        self
    }

    /// The names of each group's classes.
    pub fn groups(&self) -> Vec<Vec<String>> {
        self.groups.iter().map(|group| group.classes.clone()).collect()
    }
}

/// The group of each of the data's classes, `[V]`.
///
/// # Errors
/// If the groups are those of other classes.
pub fn groups_of(class_names: &[String], groups: &[Vec<String>]) -> Result<Vec<u32>> {
    let refuse =
        |expected: String, got: String| Err(Error::Argument { op: "super-classes", expected, got });
    let listed: usize = groups.iter().map(Vec::len).sum();
    let unknown = groups.iter().flatten().find(|name| !class_names.contains(name));
    if let Some(name) = unknown {
        return refuse(
            format!("the data's classes, such as `{}`", class_names.first().map_or("", |n| n)),
            format!("`{name}`, which is none of them"),
        );
    }
    let group_of = |name: &String| groups.iter().position(|group| group.contains(name));
    let of_classes: Vec<Option<usize>> = class_names.iter().map(group_of).collect();
    if let Some(class) = of_classes.iter().position(Option::is_none) {
        let expected = format!("a group for each of the data's {} classes", class_names.len());
        return refuse(expected, format!("none with `{}`", class_names[class]));
    }
    if listed != class_names.len() {
        let expected = format!("each of the data's {} classes once", class_names.len());
        return refuse(expected, format!("{listed} names"));
    }
    Ok(of_classes.into_iter().flatten().map(|group| group as u32).collect())
}

/// What the groups of a run's classes are found by and how good they are.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The names of the classes.
    pub class_names: &'a [String],
    /// What the run takes them for.
    pub confusion: &'a Confusion,
    /// The graph of that.
    pub graph: &'a Graph,
    /// Whether probabilities were added up.
    pub by_probability: bool,
}

impl SuperClassFile {
    /// The file of these groups of a run's classes.
    pub fn new(
        run: String,
        found: &Found<'_>,
        groups: &[Vec<usize>],
        grouping: Option<Grouping>,
    ) -> SuperClassFile {
        let &Found { class_names, confusion, graph, by_probability } = found;
        let super_class = |group: &Vec<usize>| SuperClass {
            name: name_of(graph, class_names, group),
            size: group.len(),
            kept_share: Some(graph.kept_share(group)),
            classes: group.iter().map(|class| class_names[*class].clone()).collect(),
        };
        SuperClassFile {
            run: Some(run),
            images: Some(confusion.images()),
            top1: Some(confusion.top1()),
            by_probability: Some(by_probability),
            grouping,
            labels: None,
            kept_share: Some(groups.iter().map(|group| graph.kept_share(group)).sum()),
            chance_share: Some(chance_share(groups)),
            modularity: Some(graph.modularity(groups)),
            groups: groups.iter().map(super_class).collect(),
        }
    }
}

/// The class that the others of the group are confused with most, and how many others there are.
fn name_of(graph: &Graph, class_names: &[String], group: &[usize]) -> String {
    let most = |best: usize, class: usize| {
        if graph.link(class, group) > graph.link(best, group) { class } else { best }
    };
    let hub = group.iter().copied().reduce(most).map_or("", |class| &class_names[class]);
    if group.len() < 2 { hub.to_string() } else { format!("{hub} +{}", group.len() - 1) }
}
