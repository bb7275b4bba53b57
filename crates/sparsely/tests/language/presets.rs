//! Presets have the parameters that the paper prints.

use sparsely::cost::paper::switchhead;
use sparsely::model::language::{LANGUAGE_PRESETS, LanguageModel, language_preset};

fn params(name: &str) -> usize {
    LanguageModel::layout(&language_preset(name).unwrap()).unwrap().num_params()
}

#[test]
fn presets_of_the_paper_have_the_parameters_of_its_rows() {
    // In the order of the rows; a test of theirs holds them against what is printed.
    let rows = switchhead();
    for (name, row) in LANGUAGE_PRESETS.iter().zip(&rows) {
        assert_eq!(params(name) as u64, row.model.params(), "{name}: {} {}", row.setting, row.name);
        let config = language_preset(name).unwrap();
        let sizes = row.model.sizes;
        assert_eq!(config.context as u64, sizes.t, "{name}");
        assert_eq!((config.context + config.memory) as u64, sizes.t * sizes.c, "{name}");
    }
    assert_eq!(rows.len(), 13);
}

#[test]
fn small_presets_of_a_size_have_parameters_within_a_percent() {
    for (size, aim) in [("-5m", 5.0e6), ("-1m", 1.0e6)] {
        let own = LANGUAGE_PRESETS.iter().filter(|name| name.ends_with(size));
        let counts: Vec<(&str, usize)> = own.map(|name| (*name, params(name))).collect();
        assert!(counts.len() >= 4);
        for (name, count) in &counts {
            assert!((*count as f64 / aim - 1.0).abs() < 0.02, "{name}: {count}");
            let first = counts[0].1 as f64;
            assert!((*count as f64 / first - 1.0).abs() < 0.01, "{name}: {count} of {first}");
        }
    }
}

#[test]
fn there_is_no_preset_of_another_name() {
    assert!(language_preset("switchhead").is_none());
}
