//! The models of V-MoE (Riquelme et al. 2021, arXiv 2106.05974), those that its authors released,
//! and Soft MoE's (Puigcerver et al. 2023, arXiv 2308.00951).

use crate::Result;
use crate::cost::{Call, Choice, ModelCost};
use crate::model::{Classifier, ModelConfig, Variant};
use crate::moe::{Group, MoeConfig, Placement};

/// Classes of JFT-300M that the table counts a head for.
const JFT_CLASSES: usize = 18_291;
/// Classes of ImageNet.
const IMAGENET_CLASSES: usize = 1000;
/// Classes with which V-MoE's largest model has the parameters that the paper tells.
pub const LARGEST_CLASSES: usize = 29_593;

/// A model of a paper.
#[derive(Clone, Debug)]
pub struct VisionRow {
    /// Family, size and experts, such as `V-MoE S/32 E32 last 2`.
    pub name: String,
    /// The model.
    pub model: ModelConfig,
    /// How its router chooses.
    pub choice: Option<Choice>,
}

impl VisionRow {
    fn new(name: String, model: ModelConfig) -> Result<VisionRow> {
        let choice = model
            .moe
            .as_ref()
            .map(|moe| Choice::of(moe, &crate::moe::Dial::default(), model.length()));
        Ok(VisionRow { name, choice: choice.transpose()?, model })
    }

    /// Its cost for one group of images, routed as it was trained.
    ///
    /// # Errors
    /// Never for the models of this table.
    pub fn cost(&self) -> Result<ModelCost> {
        ModelCost::with_choice(&self.model, self.choice, &Call::balanced(GROUP_IMAGES))
    }
}

/// Images that are routed together in V-MoE.
const GROUP_IMAGES: usize = 8;

/// Every model.
///
/// # Errors
/// Never: the sizes are named here.
pub fn vmoe() -> Result<Vec<VisionRow>> {
    let mut rows = Vec::new();
    for (size, last_n) in
        [("S/32", 2), ("B/32", 2), ("B/16", 2), ("L/32", 2), ("L/16", 2), ("H/14", 5)]
    {
        let pre_logits = Some(size.parse::<Variant>()?.width);
        let dense = ModelConfig { pre_logits, ..base(size, JFT_CLASSES)? };
        rows.push(VisionRow::new(format!("ViT {size}"), dense.clone())?);
        for (name, placement) in [
            ("every 2".to_string(), Placement::Every { n: 2 }),
            (format!("last {last_n}"), Placement::LastN { n: last_n }),
        ] {
            let model = ModelConfig { moe: Some(experts(32, placement)), ..dense.clone() };
            rows.push(VisionRow::new(format!("V-MoE {size} E32 {name}"), model)?);
        }
    }
    let moe = Some(experts(32, Placement::Every { n: 2 }));
    let largest = ModelConfig { moe, ..base("15B/14", LARGEST_CLASSES)? };
    rows.push(VisionRow::new("V-MoE 15B/14 E32 every 2".into(), largest)?);
    rows.push(released("S/32", "last 2", Placement::LastN { n: 2 })?);
    rows.push(released("B/16", "every 2", Placement::Every { n: 2 })?);
    for (size, num_experts) in
        [("S/16", 128), ("S/14", 256), ("B/16", 128), ("L/16", 128), ("H/14", 256)]
    {
        rows.push(soft(size, num_experts)?);
    }
    Ok(rows)
}

/// 224 px, with class token.
fn base(size: &str, classes: usize) -> Result<ModelConfig> {
    let mut model = ModelConfig {
        image_size: 224,
        channels: 3,
        num_classes: Some(classes),
        classifier: Classifier::Token,
        moe: None,
        ..ModelConfig::default()
    };
    size.parse::<Variant>()?.apply(&mut model);
    Ok(model)
}

fn experts(num_experts: usize, placement: Placement) -> MoeConfig {
    MoeConfig {
        num_experts,
        placement,
        group: Group::Images { n: GROUP_IMAGES },
        ..MoeConfig::default()
    }
}

/// With eight experts and ImageNet's classes.
fn released(size: &str, name: &str, placement: Placement) -> Result<VisionRow> {
    let base = base(size, IMAGENET_CLASSES)?;
    let moe = Some(experts(8, placement));
    let model = ModelConfig { pre_logits: Some(base.width), moe, ..base };
    VisionRow::new(format!("V-MoE {size} E8 {name}"), model)
}

/// Mean over tokens, qk-norm, one slot for each expert, experts in the last half of the blocks.
fn soft(size: &str, num_experts: usize) -> Result<VisionRow> {
    let base = base(size, IMAGENET_CLASSES)?;
    let placement = Placement::Blocks { blocks: (base.depth / 2..base.depth).collect() };
    let group = Group::Images { n: 1 };
    let moe = Some(MoeConfig { group, ..experts(num_experts, placement) });
    let model = ModelConfig { classifier: Classifier::Gap, qk_norm: true, moe, ..base };
    let choice = Some(Choice::Slots { p: 1 });
    Ok(VisionRow { name: format!("Soft MoE {size} E{num_experts}"), model, choice })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Millions of parameters, and of active ones where the papers' authors tell them.
    const PRINTED: [(&str, &str, Option<&str>); 26] = [
        ("ViT S/32", "36.5", None),
        ("V-MoE S/32 E32 every 2", "296.9", None),
        ("V-MoE S/32 E32 last 2", "166.7", None),
        ("ViT B/32", "102.1", None),
        ("V-MoE B/32 E32 every 2", "980.6", None),
        ("V-MoE B/32 E32 last 2", "395.0", None),
        ("ViT B/16", "100.5", None),
        ("V-MoE B/16 E32 every 2", "979.0", None),
        ("V-MoE B/16 E32 last 2", "393.3", None),
        ("ViT L/32", "325.3", None),
        ("V-MoE L/32 E32 every 2", "3448.2", None),
        ("V-MoE L/32 E32 last 2", "845.8", None),
        ("ViT L/16", "323.1", None),
        ("V-MoE L/16 E32 every 2", "3446.0", None),
        ("V-MoE L/16 E32 last 2", "843.6", None),
        ("ViT H/14", "655.8", None),
        ("V-MoE H/14 E32 every 2", "7160.8", None),
        ("V-MoE H/14 E32 last 5", "2688.6", None),
        ("V-MoE 15B/14 E32 every 2", "14705", None),
        ("V-MoE S/32 E8 last 2", "57.0", Some("31.8")),
        ("V-MoE B/16 E8 every 2", "285.5", Some("115.5")),
        ("Soft MoE S/16 E128", "923", None),
        ("Soft MoE S/14 E256", "1830", None),
        ("Soft MoE B/16 E128", "3686", None),
        // Told in billions with one decimal: 13.1 and 54.1.
        ("Soft MoE L/16 E128", "13.1e3", None),
        ("Soft MoE H/14 E256", "54.1e3", None),
    ];

    /// Millions with the digits of `printed`.
    fn as_printed(count: u64, printed: &str) -> String {
        let billions = printed.strip_suffix("e3");
        let scale = if billions.is_some() { 1e9 } else { 1e6 };
        let decimals = billions.unwrap_or(printed).split_once('.').map_or(0, |(_, d)| d.len());
        let unit = if billions.is_some() { "e3" } else { "" };
        format!("{:.decimals$}{unit}", count as f64 / scale)
    }

    #[test]
    fn every_printed_cell_is_counted() {
        let rows = vmoe().unwrap();
        assert_eq!(rows.len(), PRINTED.len());
        for (row, (name, params, active)) in rows.iter().zip(PRINTED) {
            let cost = row.cost().unwrap();
            assert_eq!(row.name, name);
            assert_eq!(as_printed(cost.params(), params), params, "{name}: {}", cost.params());
            if let Some(active) = active {
                assert_eq!(as_printed(cost.active_params(), active), active, "{name}");
            }
        }
    }
}
