//! Changing single settings of a configuration: `model.moe.num_experts=8`.
//!
//! What may be set is what the type says: the settings are written into the configuration's
//! TOML tree, which is then read as the type again. There is no second list of names.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::{Error, Result};

/// How alike two names must be for one to be meant by the other, from 0 to 1.
const LIKENESS: f64 = 0.75;
/// The setting that says which variant a table is of.
const KIND: &str = "kind";
/// How many names are listed where none is alike.
const NAMES_TOLD: usize = 12;

/// `base` with the `sets`, each `path.to.field=value`, applied in order.
///
/// A value is read as TOML (`8`, `[1, 3]`, `{ kind = "exact", seats = 4 }`); what is no TOML is
/// a text, so that `pooling=gap` needs no quotes. Another `kind` keeps of its table's settings those
/// that it has too.
///
/// # Errors
///
/// [`Error::Config`] with one sentence for each set that cannot be applied.
pub fn apply_set<T: Serialize + DeserializeOwned>(base: &T, sets: &[String]) -> Result<T> {
    let tree = Table::try_from(base)
        .map_err(|error| Error::config(format!("not expressible as TOML: {error}")))?;
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for set in sets {
        match Setting::parse(set) {
            Ok(setting) => settings.push(setting),
            Err(problem) => problems.push(problem),
        }
    }
    loop {
        let refusal = match read::<T>(&tree, &settings) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => return Err(Error::Config { problems }),
            Err(refusal) => refusal,
        };
        // The culprit is the setting without which the refusal is another one or none; the
        // search goes on without it. If there is none, `base` itself does not fit its type.
        let culprit = (0..settings.len()).rev().find(|&index| {
            let mut others = settings.clone();
            others.remove(index);
            read::<T>(&tree, &others).err().as_ref() != Some(&refusal)
        });
        let Some(index) = culprit else {
            problems.push(refusal.to_string());
            return Err(Error::Config { problems });
        };
        problems.push(refusal.of(&settings.remove(index)));
    }
}

/// One `path.to.field=value`.
#[derive(Clone, Debug)]
struct Setting {
    path: Vec<String>,
    value: Value,
}

impl Setting {
    fn parse(set: &str) -> std::result::Result<Setting, String> {
        let Some((path, value)) = set.split_once('=') else {
            return Err(format!("`{set}`: expected `path.to.setting=value`, got no `=`"));
        };
        let path: Vec<String> = path.split('.').map(|key| key.trim().to_string()).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("`{set}`: expected `path.to.setting=value`, got an empty name"));
        }
        Ok(Setting { path, value: parse_value(value.trim()) })
    }

    /// Writes the value into the tree; what is not a table on the way is refused.
    fn apply(&self, tree: &mut Table) -> std::result::Result<(), Refusal> {
        let (last, parents) = self.path.split_last().expect("`split` yields at least one name");
        let mut table = tree;
        for (depth, key) in parents.iter().enumerate() {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            table = match inner {
                Value::Table(inner) => inner,
                other => {
                    let got = other.type_str();
                    let path = self.path[..=depth].join(".");
                    let message = format!("invalid type: {got}, expected a table");
                    return Err(Refusal { path, message });
                }
            };
        }
        table.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

fn parse_value(text: &str) -> Value {
    let as_text = || Value::String(text.to_string());
    let Ok(mut table) = format!("value = {text}").parse::<Table>() else {
        return as_text();
    };
    match table.remove("value") {
        Some(value) if table.is_empty() && !value.is_datetime() => value,
        _ => as_text(),
    }
}

fn read<T: DeserializeOwned>(
    tree: &Table,
    settings: &[Setting],
) -> std::result::Result<T, Refusal> {
    let mut tree = tree.clone();
    for setting in settings {
        setting.apply(&mut tree)?;
    }
    loop {
        let read = serde_path_to_error::deserialize(Value::Table(tree.clone()));
        let refusal = match read {
            Ok(config) => return Ok(config),
            Err(error) => Refusal {
                path: error.path().to_string(),
                message: error.inner().message().to_string(),
            },
        };
        if !drop_left_over(&mut tree, settings, &refusal) {
            return Err(refusal);
        }
    }
}

/// Where a setting changed the `kind` of a table, drops a setting of the old kind that the new
/// one does not know; whether there was one.
fn drop_left_over(tree: &mut Table, settings: &[Setting], refusal: &Refusal) -> bool {
    let Some(name) =
        refusal.message.strip_prefix("unknown field `").and_then(|m| m.split('`').next())
    else {
        return false;
    };
    let changed =
        settings.iter().filter_map(|setting| setting.path.strip_suffix(&[KIND.into()][..]));
    for table in changed.filter(|table| table.join(".") == refusal.path) {
        let is_asked = settings.iter().any(|setting| {
            setting.path.len() > table.len()
                && setting.path.starts_with(table)
                && setting.path[table.len()] == name
        });
        let mut keys = table.iter();
        let owner = keys.try_fold(&mut *tree, |tree, key| tree.get_mut(key)?.as_table_mut());
        if !is_asked && owner.is_some_and(|owner| owner.remove(name).is_some()) {
            return true;
        }
    }
    false
}

/// What `serde` has against a tree, and where.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    path: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.message)
    }
}

impl Refusal {
    /// The sentence about the setting that caused this.
    fn of(&self, setting: &Setting) -> String {
        let path = setting.path.join(".");
        if let Some(rest) = self.message.strip_prefix("unknown field ") {
            return unknown(rest, setting);
        }
        for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
            let parts = self.message.strip_prefix(kind).and_then(|m| m.rsplit_once(", expected "));
            if let Some((got, expected)) = parts {
                return format!("`{path}`: expected {expected}, got {got}");
            }
        }
        format!("`{path}`: {}", self.message)
    }
}

/// `rest` is `serde`'s "`name`, expected one of `a`, `b`".
fn unknown(rest: &str, setting: &Setting) -> String {
    let (name, expected) = rest.split_once(',').unwrap_or((rest, ""));
    let name = name.trim_matches('`');
    let path = setting.path.join(".");
    let place = match setting.path.iter().rposition(|key| key == name) {
        Some(index) => setting.path[..=index].join("."),
        None if setting.value.is_table() => format!("{path}.{name}"),
        None => return format!("`{path}`: does not go with `{name}`; set the whole table"),
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, nearest)) if likeness >= LIKENESS => {
            format!("unknown setting `{place}`; did you mean `{nearest}`?")
        }
        Some(_) => {
            let names: Vec<_> =
                known.iter().take(NAMES_TOLD).map(|known| format!("`{known}`")).collect();
            let dots = if known.len() > NAMES_TOLD { ", …" } else { "" };
            format!("unknown setting `{place}`; there are {}{dots}", names.join(", "))
        }
        None => format!("unknown setting `{place}`; there are none"),
    }
}

#[cfg(test)]
mod tests;
