//! The tables of papers, counted from their models.

use crate::args::PaperArg;
use crate::table::{cells, say_aligned};
use anyhow::Result;
use serde_json::{Value, json};
use sparsely::cost::ModelCost;
use sparsely::cost::language::{Attention, LanguageMlp};
use sparsely::cost::paper::{LanguageRow, VisionRow, switchhead, vmoe};

pub(super) fn print(paper: PaperArg, as_json: bool) -> Result<()> {
    match paper {
        PaperArg::Vmoe => print_vision(&vmoe()?, as_json),
        PaperArg::Switchhead => {
            print_language(&switchhead(), as_json);
            Ok(())
        }
    }
}

fn print_vision(models: &[VisionRow], as_json: bool) -> Result<()> {
    let mut rows =
        vec![cells(["model", "blocks", "D", "F", "heads", "params", "active", "MACs/image"])];
    for row in models {
        let cost = row.cost()?;
        let macs = cost.macs() as f64 / cost.batch as f64;
        if as_json {
            say!("{}", vision_json(row, &cost));
            continue;
        }
        let model = &row.model;
        let sizes = [model.depth, model.width, model.mlp_width, model.heads];
        let millions =
            [cost.params(), cost.active_params()].map(|n| format!("{:.1}M", n as f64 / 1e6));
        rows.push(
            [row.name.clone()]
                .into_iter()
                .chain(sizes.map(|size| size.to_string()))
                .chain(millions)
                .chain([format!("{:.2}G", macs / 1e9)])
                .collect(),
        );
    }
    if !as_json {
        say_aligned(&rows);
    }
    Ok(())
}

fn vision_json(row: &VisionRow, cost: &ModelCost) -> Value {
    json!({
        "model": row.name,
        "params": cost.params(),
        "active_params": cost.active_params(),
        "macs_per_image": cost.macs() as f64 / cost.batch as f64,
    })
}

fn print_language(models: &[LanguageRow], as_json: bool) {
    if as_json {
        models.iter().for_each(|row| say!("{}", language_json(row)));
        return;
    }
    let mut rows = vec![cells([
        "model",
        "L",
        "D",
        "H",
        "A",
        "E",
        "K",
        "MLP",
        "T",
        "params",
        "MACs",
        "memory",
        "executed MACs",
        "executed memory",
    ])];
    rows.extend(models.iter().map(language_row));
    say_aligned(&rows);
    say!();
    say!(
        "MACs and values in memory of one attention layer and sequence: as the authors count them,"
    );
    say!("and as their code executes them, the same rules for all.");
}

fn language_row(row: &LanguageRow) -> Vec<String> {
    let LanguageRow { setting, name, model } = row;
    let sizes = &model.sizes;
    let or_dash = |value: Option<u64>| value.map_or("–".to_string(), |value| value.to_string());
    let (experts, selected) = match model.attention {
        Attention::SwitchHead { experts, selected, .. } => (Some(experts), Some(selected)),
        Attention::Moa { experts } => (Some(experts), None),
        _ => (None, None),
    };
    let mlp = match model.mlp {
        LanguageMlp::Dense { width } => width.to_string(),
        LanguageMlp::SigmaMoe { experts, width, selected } => {
            format!("{experts}×{width}, {selected}")
        }
    };
    let (published, executed) = (model.attention.published(sizes), model.attention.executed(sizes));
    vec![
        format!("{setting} {name}"),
        model.layers.to_string(),
        sizes.d.to_string(),
        sizes.h.to_string(),
        sizes.a.to_string(),
        or_dash(experts),
        or_dash(selected),
        mlp,
        sizes.t.to_string(),
        format!("{:.2}M", model.params() as f64 / 1e6),
        macs(published.macs),
        format!("{:.1}M", published.values as f64 / 1e6),
        macs(executed.macs),
        format!("{:.1}M", executed.values as f64 / 1e6),
    ]
}

/// One decimal of millions or billions, as the paper prints them.
fn macs(count: u64) -> String {
    if count >= 1_000_000_000 {
        format!("{:.1}G", count as f64 / 1e9)
    } else {
        format!("{:.1}M", count as f64 / 1e6)
    }
}

fn language_json(row: &LanguageRow) -> Value {
    let LanguageRow { setting, name, model } = row;
    json!({
        "setting": setting,
        "name": name,
        "model": model,
        "params": model.params(),
        "published": model.attention.published(&model.sizes),
        "executed": model.attention.executed(&model.sizes),
    })
}
