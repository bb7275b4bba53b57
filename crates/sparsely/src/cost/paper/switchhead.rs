//! The models of SwitchHead (Csordás et al. 2024, arXiv 2312.07987) and of its baselines.

use crate::cost::language::{Attention, AttentionSizes, LanguageMlp, LanguageModel};
use serde::Serialize;

/// Words of the sub-word data sets.
const SUB_WORDS: u64 = 8000;
/// Distinct bytes of Enwik8.
const BYTES: u64 = 205;

/// A model of the paper.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LanguageRow {
    /// The data set, and the size class as the paper names it.
    pub setting: &'static str,
    /// Which attention.
    pub name: &'static str,
    /// The model.
    pub model: LanguageModel,
}

/// Layers, width and block of a size class.
#[derive(Clone, Copy)]
struct Class {
    setting: &'static str,
    layers: u64,
    d: u64,
    t: u64,
    c: u64,
    vocabulary: u64,
}

impl Class {
    fn row(
        self,
        name: &'static str,
        attention: Attention,
        [h, a]: [u64; 2],
        mlp: LanguageMlp,
    ) -> LanguageRow {
        let Class { setting, layers, d, t, c, vocabulary } = self;
        let sizes = AttentionSizes { d, h, a, t, c };
        LanguageRow {
            setting,
            name,
            model: LanguageModel { layers, vocabulary, attention, sizes, mlp },
        }
    }
}

/// Every model, in the paper's order.
pub fn switchhead() -> Vec<LanguageRow> {
    let class = |setting, [layers, d, t]: [u64; 3]| Class {
        setting,
        layers,
        d,
        t,
        c: 2,
        vocabulary: SUB_WORDS,
    };
    let (small, big) = ([16, 412, 256], [18, 1024, 512]);
    let (c4_47, c4_262) = (class("C4 47M", small), class("C4 262M", big));
    let (wiki_47, wiki_262) = (class("WikiText-103 47M", small), class("WikiText-103 262M", big));
    let enwik8 = Class { vocabulary: BYTES, ..class("Enwik8 41M", [12, 512, 512]) };
    let rope = Class { c: 1, ..class("RoPE 45M", [16, 412, 512]) };
    let all = class("SwitchAll 259M", big);

    let dense = |width| LanguageMlp::Dense { width };
    let sigma_moe = LanguageMlp::SigmaMoe { experts: 32, width: 128, selected: 4 };
    let switch =
        |experts, selected| Attention::SwitchHead { experts, selected, relative_positions: true };
    let rotary = Attention::SwitchHead { experts: 5, selected: 3, relative_positions: false };
    let xl = Attention::TransformerXl;
    vec![
        c4_47.row("Transformer-XL", xl, [10, 41], dense(2053)),
        c4_47.row("SwitchHead", switch(5, 3), [2, 76], dense(2080)),
        c4_262.row("Transformer-XL", xl, [16, 64], dense(4110)),
        c4_262.row("SwitchHead", switch(4, 2), [4, 112], dense(4188)),
        wiki_47.row("SwitchHead", switch(5, 2), [2, 76], dense(2080)),
        wiki_262.row("Transformer-XL", xl, [16, 64], dense(4110)),
        wiki_262.row("SwitchHead", switch(8, 4), [2, 132], dense(4147)),
        // Its MLP is told as 4.05·D.
        wiki_262.row("MoA", Attention::Moa { experts: 16 }, [8, 144], dense(4147)),
        enwik8.row("Transformer-XL", xl, [8, 64], dense(2053)),
        enwik8.row("SwitchHead", switch(4, 2), [2, 112], dense(2088)),
        rope.row("dense RoPE", Attention::Rope, [10, 41], dense(2053)),
        rope.row("SwitchHead", rotary, [2, 64], dense(2092)),
        all.row("SwitchHead", switch(4, 2), [4, 112], sigma_moe),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters, MACs and values of a layer and sequence as the paper prints them, in its order.
    /// MoA's class is printed as 262M; its count rounds to 263M.
    const PRINTED: [[&str; 3]; 13] = [
        ["47.26M", "453.4M", "3.5M"],
        ["47.25M", "202.5M", "0.8M"],
        ["262.48M", "5.4G", "21.0M"],
        ["262.37M", "2.4G", "5.6M"],
        ["47.25M", "170.4M", "0.8M"],
        ["262.48M", "5.4G", "21.0M"],
        ["262.48M", "2.0G", "2.9M"],
        ["263M", "2.9G", "9.9M"],
        ["41.23M", "1.6G", "10.5M"],
        ["41.16M", "709.3M", "2.8M"],
        ["44.5M", "560.9M", "6.1M"],
        ["44.5M", "285.6M", "1.3M"],
        ["259.48M", "2.4G", "5.6M"],
    ];

    /// `count` with the digits and the unit of `printed`.
    fn as_printed(count: u64, printed: &str) -> String {
        let (number, unit) = printed.split_at(printed.len() - 1);
        let digits = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let scale = if unit == "G" { 1e9 } else { 1e6 };
        format!("{:.digits$}{unit}", count as f64 / scale)
    }

    #[test]
    fn every_printed_cell_is_counted() {
        let rows = switchhead();
        assert_eq!(rows.len(), PRINTED.len());
        for (row, printed) in rows.iter().zip(PRINTED) {
            let cost = row.model.attention.published(&row.model.sizes);
            let counts = [row.model.params(), cost.macs, cost.values];
            for (count, printed) in counts.into_iter().zip(printed) {
                let what = format!("{} {}", row.setting, row.name);
                assert_eq!(as_printed(count, printed), printed, "{what}: {count}");
            }
        }
    }

    #[test]
    fn the_headline_is_44_percent_of_the_macs_and_27_of_the_memory() {
        let rows = switchhead();
        let [xl, switch] = [2, 3].map(|i: usize| (rows[i].model.attention, rows[i].model.sizes));
        let share = |a: u64, b: u64| (1000.0 * b as f64 / a as f64).round() / 10.0;
        let (before, after) = (xl.0.published(&xl.1), switch.0.published(&switch.1));
        assert_eq!(share(before.macs, after.macs), 43.9);
        assert_eq!(share(before.values, after.values), 26.6);
        // With the same rules on both sides.
        let (before, after) = (xl.0.executed(&xl.1), switch.0.executed(&switch.1));
        assert_eq!(share(before.macs, after.macs), 53.5);
    }
}
