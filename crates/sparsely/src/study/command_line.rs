//! The exact commands of a study's runs and arms, for anyone who wants one of them alone.

use super::results::ArmRouting;
use super::{Folder, Plan, Task};
use crate::Result;
use crate::config::difference::settings_between;
use crate::model::language::LANGUAGE_PRESETS;
use crate::moe::{Capacity, Group, Priority, Subset};
use crate::train::language::{LanguageRunConfig, language_preset};
use crate::train::{RunConfig, preset};
use serde::Serialize;
use std::path::Path;

/// Presets that a run may start from.
const PRESETS: [&str; 3] = ["vmoe-ti4", "vit-ti4", "digits"];

/// The command that trains `config` into `out`, from the preset that it differs least from.
///
/// # Errors
/// If the configuration is not expressible as TOML.
pub fn train_command(config: &RunConfig, out: &Path) -> Result<String> {
    let bases = PRESETS.iter().map(|name| {
        let mut base = preset(name)?;
        base.seed = config.seed;
        base.data.source.clone_from(&config.data.source);
        // These are the data's, and cannot be set.
        base.model.image_size = config.model.image_size;
        base.model.channels = config.model.channels;
        base.model.num_classes = config.model.num_classes;
        Ok((*name, base))
    });
    let bases = bases.collect::<Result<Vec<_>>>()?;
    from_nearest(bases, config, (&config.data.source, config.seed, out))
}

/// The same of a run on text.
///
/// # Errors
/// As of [`train_command`].
pub(super) fn text_train_command(config: &LanguageRunConfig, out: &Path) -> Result<String> {
    let bases = LANGUAGE_PRESETS.iter().filter_map(|name| {
        let mut base = language_preset(name)?;
        base.seed = config.seed;
        base.data.source.clone_from(&config.data.source);
        // This is the tokenizer's, and cannot be set.
        base.model.vocabulary = config.model.vocabulary;
        Some((*name, base))
    });
    from_nearest(bases.collect(), config, (&config.data.source, config.seed, out))
}

fn from_nearest<R: Serialize>(
    bases: Vec<(&str, R)>,
    config: &R,
    (source, seed, out): (&str, u64, &Path),
) -> Result<String> {
    let mut best: Option<(&str, Vec<String>)> = None;
    for (name, base) in bases {
        if let Some(settings) = settings_between(&base, config)?
            && best.as_ref().is_none_or(|(_, fewest)| settings.len() < fewest.len())
        {
            best = Some((name, settings));
        }
    }
    let Some((name, settings)) = best else {
        return Ok(format!("(no preset leads to `{}/config.toml`)", out.display()));
    };
    let mut words = ["sparsely", "train", "--preset", name].map(String::from).to_vec();
    words.extend(["--data".into(), source.into()]);
    words.extend(["--seed".into(), seed.to_string()]);
    words.extend(["--out".into(), out.display().to_string()]);
    words.extend(settings.into_iter().flat_map(|setting| ["--set".into(), setting]));
    Ok(shell(&words))
}

/// The command that evaluates an arm of a run.
pub fn eval_command(run: &Path, flags: &[String]) -> String {
    let words = ["sparsely".into(), "eval".into(), run.display().to_string()];
    shell(&[&words, flags].concat())
}

impl ArmRouting {
    /// The flags of `sparsely eval` that ask for it.
    pub fn flags(&self) -> Vec<String> {
        let subset = |subset: &Option<Subset>| subset.as_ref().map(Subset::to_string);
        let [k, capacity, priority, group] = self.words();
        let flags = [
            ("--k", k),
            ("--capacity", capacity),
            ("--priority", priority),
            ("--group", group),
            ("--experts", subset(&self.experts).unwrap_or_default()),
            ("--skip-moe", subset(&self.skip_moe).unwrap_or_default()),
        ];
        let asked = flags.into_iter().filter(|(_, word)| !word.is_empty());
        asked.flat_map(|(flag, word)| [flag.to_string(), word]).collect()
    }

    /// K, capacity, priority and group as the flags of `sparsely eval` take them; empty where the
    /// router has no such thing.
    pub fn words(&self) -> [String; 4] {
        let capacity = match self.capacity {
            None => String::new(),
            Some(Capacity::Exact { seats }) => format!("exact:{seats}"),
            Some(Capacity::Factor { factor, .. }) => factor.to_string(),
            Some(Capacity::Unlimited) => "unlimited".into(),
        };
        let priority = match self.priority {
            None => "",
            Some(Priority::Position) => "position",
            Some(Priority::MaxGate) => "max-gate",
            Some(Priority::SumGates) => "sum-gates",
            Some(Priority::Learned) => "learned",
        };
        let group = match self.group {
            Group::Images { n } => n.to_string(),
            Group::Tokens { n } => format!("tokens:{n}"),
        };
        let k = self.num_selected.map(|k| k.to_string()).unwrap_or_default();
        [k, capacity, priority.into(), group]
    }
}

/// The command that runs the study, and goes on with it.
pub fn study_command<T: Task>(plan: &Plan<T>, folder: &Folder) -> String {
    let mut words = ["sparsely", "study", &plan.study.name].map(String::from).to_vec();
    let request = &plan.request;
    words.extend(request.data.iter().flat_map(|data| ["--data".into(), data.clone()]));
    words.extend(request.budget_seconds.iter().flat_map(|s| ["--budget".into(), format!("{s}s")]));
    words.extend(
        request.watts_per_core.iter().flat_map(|w| ["--watts-per-core".into(), w.to_string()]),
    );
    if folder.path() != Path::new("studies").join(&plan.study.name) {
        words.extend(["--out".into(), folder.path().display().to_string()]);
    }
    shell(&words)
}

/// Words as a POSIX shell reads them.
fn shell(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        let words = ["a.b=1", "two words", "it's", "", "x={ n = 1 }"].map(String::from);
        assert_eq!(shell(&words), r"a.b=1 'two words' 'it'\''s' '' 'x={ n = 1 }'");
    }

    #[test]
    fn a_run_that_is_a_preset_needs_no_settings() {
        let mut run = preset("digits").unwrap();
        run.seed = 3;
        run.model.width = 48;
        assert_eq!(
            train_command(&run, Path::new("runs/x")).unwrap(),
            "sparsely train --preset digits --data digits --seed 3 --out runs/x --set model.width=48"
        );
    }
}
