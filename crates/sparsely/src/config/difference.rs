//! The settings that turn one configuration into another, as a person would type them.

use serde::Serialize;
use toml::{Table, Value};

use crate::error::{Error, Result};

/// The `path.to.field=value` that [`apply_set`](super::overlay::apply_set) makes `config` of `base` with;
/// `None` if it cannot, because `base` has a setting that `config` leaves out.
///
/// # Errors
///
/// [`Error::Config`] if one of them is not expressible as TOML.
pub fn settings_between<T: Serialize>(base: &T, config: &T) -> Result<Option<Vec<String>>> {
    let tree = |config| {
        Table::try_from(config)
            .map_err(|error| Error::config(format!("not expressible as TOML: {error}")))
    };
    let mut settings = Vec::new();
    let is_possible = collect(&tree(base)?, &tree(config)?, "", &mut settings);
    Ok(is_possible.then_some(settings))
}

/// Whether settings below `path` suffice; they are added to `settings`.
fn collect(base: &Table, config: &Table, path: &str, settings: &mut Vec<String>) -> bool {
    if base.keys().any(|key| !config.contains_key(key)) {
        return false;
    }
    for (key, value) in config {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (base.get(key), value) {
            (Some(before), _) if before == value => {}
            (Some(Value::Table(before)), Value::Table(table)) if is_same_kind(before, table) => {
                let known = settings.len();
                if !collect(before, table, &path, settings) {
                    settings.truncate(known);
                    settings.push(format!("{path}={value}"));
                }
            }
            _ => settings.push(format!("{path}={value}")),
        }
    }
    true
}

/// Variants of an enumeration have different fields: one is replaced by another as a whole.
fn is_same_kind(one: &Table, other: &Table) -> bool {
    one.get("kind") == other.get("kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::overlay::apply_set;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        name: String,
        inner: Inner,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extra: Option<f64>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        size: usize,
        span: Span,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Span {
        Steps { n: u64 },
        Epochs { count: u64 },
    }

    fn base() -> Outer {
        let inner = Inner { size: 3, span: Span::Steps { n: 5 }, limit: None };
        Outer { name: "x".into(), inner, extra: None }
    }

    fn checked(base: &Outer, config: &Outer) -> Vec<String> {
        let settings = settings_between(base, config).unwrap().unwrap();
        assert_eq!(&apply_set(base, &settings).unwrap(), config);
        settings
    }

    #[test]
    fn only_what_differs_is_set() {
        let mut config = base();
        assert!(checked(&base(), &config).is_empty());
        config.inner.size = 4;
        config.inner.span = Span::Steps { n: 6 };
        config.extra = Some(0.5);
        assert_eq!(checked(&base(), &config), ["extra=0.5", "inner.size=4", "inner.span.n=6"]);
    }

    #[test]
    fn another_variant_and_a_table_that_loses_a_setting_are_set_whole() {
        let mut config = base();
        config.inner.span = Span::Epochs { count: 2 };
        config.name = "two words".into();
        assert_eq!(
            checked(&base(), &config),
            ["inner.span={ count = 2, kind = \"epochs\" }", "name=\"two words\""]
        );
        let mut limited = base();
        limited.inner.limit = Some(1);
        let settings = checked(&limited, &base());
        assert_eq!(settings, ["inner={ size = 3, span = { kind = \"steps\", n = 5 } }"]);
    }

    #[test]
    fn what_is_left_out_at_the_top_cannot_be_set() {
        let with = Outer { extra: Some(1.0), ..base() };
        assert_eq!(settings_between(&with, &base()).unwrap(), None);
    }
}
