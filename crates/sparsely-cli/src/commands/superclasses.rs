//! `sparsely superclasses`.

use super::Trained;
use crate::args::{GroupingArgs, MethodArg, PrecisionArgs, SuperclassesArgs};
use anyhow::{Result, bail, ensure};
use sparsely::checkpoint::{write_atomic, write_json};
use sparsely::data::{Dataset, LabelGroup, label_groups};
use sparsely::eval::confusion;
use sparsely::superclass::{Found, Grouping, Method, SuperClassFile, group, groups_of, picture};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names of a group's classes that are printed.
const NAMES: usize = 8;

pub(crate) fn run(args: &SuperclassesArgs) -> Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| args.run.join("superclasses.json"));
    ensure!(
        picture_beside(&out) != out,
        "--out: expected a file for the groups, got `{}`, where their picture goes",
        out.display()
    );
    let file = find(&args.run, &args.grouping, args.seed, &out)?;
    print(&file);
    say!("written: {} and {}", out.display(), picture_beside(&out).display());
    Ok(ExitCode::SUCCESS)
}

/// Groups the classes of a run and writes the groups and their picture.
pub(super) fn find(
    run: &Path,
    args: &GroupingArgs,
    seed: Option<u64>,
    out: &Path,
) -> Result<SuperClassFile> {
    let grouping = grouping(args, 0)?;
    let Trained { config, saved, model, params } = Trained::open(run, &PrecisionArgs::default())?;
    if config.data.source.is_empty() {
        bail!("the model was imported without images: there is nothing to tell its confusions by");
    }
    let dataset = Dataset::open(&config.data, Some(saved.model.image_size), config.seed)?;
    if dataset.validation.is_empty() {
        bail!(
            "`{}`: expected a run with images held out of training, got none: train it with a \
             data.validation_fraction above 0",
            run.display()
        );
    }
    let confusion = confusion(&model, &params, &dataset.validation, &config.eval, args.soft)?;
    let grouping = Grouping { seed: seed.unwrap_or(config.seed), ..grouping };
    let graph = confusion.graph()?;
    let labels = args.from_labels.as_ref().map(|column| label_groups(&config.data, column));
    let labels = labels.transpose()?;
    let groups = match &labels {
        Some(labels) => by_label(labels, &saved.class_names)?,
        None => group(&graph, args.experts.get(), &grouping)?,
    };
    let found = Found {
        class_names: &saved.class_names,
        confusion: &confusion,
        graph: &graph,
        by_probability: args.soft,
    };
    let grouping = labels.is_none().then_some(grouping);
    let mut file = SuperClassFile::new(run.display().to_string(), &found, &groups, grouping);
    if let (Some(labels), Some(column)) = (labels, &args.from_labels) {
        file = file.labelled(column, labels.into_iter().map(|(name, _)| name).collect());
    }
    let title = format!("What {} takes its classes for", run.display());
    let svg = picture(&title, &saved.class_names, &confusion, &groups)?;
    write_atomic(&picture_beside(out), |target| target.write_all(svg.as_bytes()))?;
    write_json(out, &serde_json::to_value(&file)?)?;
    Ok(file)
}

/// Whether a file is what [`find`] would make of these arguments.
pub(super) fn is_as_asked(file: &SuperClassFile, args: &GroupingArgs, seed: u64) -> Result<bool> {
    let is_grouped_so = match &args.from_labels {
        Some(_) => true,
        None => {
            file.groups.len() == args.experts.get() && file.grouping == Some(grouping(args, seed)?)
        }
    };
    let same = file.labels == args.from_labels && file.by_probability == Some(args.soft);
    Ok(same && is_grouped_so)
}

/// The indices of the classes that share another label.
fn by_label(labels: &[LabelGroup], names: &[String]) -> Result<Vec<Vec<usize>>> {
    let classes: Vec<_> = labels.iter().map(|(_, classes)| classes.clone()).collect();
    let groups_v = groups_of(names, &classes)?;
    let of_label = |label: usize| {
        let own = groups_v.iter().enumerate().filter(move |(_, group)| **group as usize == label);
        own.map(|(class, _)| class).collect()
    };
    Ok((0..labels.len()).map(of_label).collect())
}

pub(super) fn grouping(args: &GroupingArgs, seed: u64) -> Result<Grouping> {
    let sizes = match &args.like {
        Some(path) => {
            let groups = SuperClassFile::read(path)?.groups();
            Some(groups.iter().map(Vec::len).collect())
        }
        None => None,
    };
    let method = match args.method {
        _ if args.random => Method::Random { sizes },
        MethodArg::Spectral => Method::Spectral,
        MethodArg::Modularity => Method::Modularity,
    };
    Ok(Grouping { method, balanced: args.balanced, seed })
}

fn picture_beside(out: &Path) -> PathBuf {
    out.with_extension("svg")
}

/// A line for each group, then what they are worth.
pub(super) fn print(file: &SuperClassFile) {
    for (expert, group) in file.groups.iter().enumerate() {
        let dots = if group.classes.len() > NAMES { ", …" } else { "" };
        let names: Vec<_> = group.classes.iter().take(NAMES).map(String::as_str).collect();
        say!(
            "expert {expert}: {} classes, {:.1} % of the confusion: {}{dots}",
            group.size,
            100.0 * group.kept_share.unwrap_or(0.0),
            names.join(", ")
        );
    }
    say!(
        "{:.1} % of the confusion of {} held-out images (top-1 {:.1} %) lies within groups, {:.1} % \
         would by chance; modularity {:.3}",
        100.0 * file.kept_share.unwrap_or(0.0),
        file.images.unwrap_or(0),
        100.0 * file.top1.unwrap_or(0.0),
        100.0 * file.chance_share.unwrap_or(0.0),
        file.modularity.unwrap_or(0.0)
    );
}
