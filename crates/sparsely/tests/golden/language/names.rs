//! Their arrays under our names: `[outputs, inputs]` becomes `[inputs, outputs]`, stacks stay.

use sparsely::checkpoint::{Array, Arrays};
use std::collections::BTreeMap;

/// Values by our names.
pub(crate) type Ours = BTreeMap<String, Vec<f32>>;

/// Name pairs (theirs, ours) of arrays that need no more than that.
const PLAIN: [(&str, &str); 29] = [
    ("q.weight", "queries"),
    ("k.weight", "keys"),
    ("v", "values"),
    ("o", "outputs"),
    ("sel_v", "source_router"),
    ("sel_o", "destination_router"),
    ("pos_to_pk", "distances"),
    ("projections.q", "queries"),
    ("projections.k", "keys"),
    ("projections.v", "values"),
    ("projections.o", "outputs"),
    ("selections.v", "source_router"),
    ("selections.o", "destination_router"),
    ("data_to_q.weight", "queries"),
    ("multi_head_merge.weight", "outputs"),
    ("out_proj.weight", "outputs"),
    ("pos_to_pq.weight", "distances"),
    ("data_to_q", "queries"),
    ("out_proj", "outputs"),
    ("sel_dst", "router"),
    ("scale", "scale"),
    ("expert_sel", "router"),
    ("o_bias", "output_bias"),
    ("weight", "kernel"),
    ("bias", "bias"),
    ("norm_weight", "scale"),
    ("keys", "keys"),
    ("values", "values"),
    ("embedding", "embedding"),
];

/// A layer's arrays, those below `prefix`, as ours in `scope`.
pub(crate) fn layer(arrays: &Arrays, prefix: &str, scope: &str) -> Ours {
    let mut ours = Ours::new();
    let own = arrays.iter().filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)));
    let own: BTreeMap<&str, &Array> = own.collect();
    for (name, array) in &own {
        let mut put = |name: &str, values| {
            ours.insert(format!("{scope}{name}"), values);
        };
        match *name {
            // In their code it is not used.
            "s_bias" => {}
            "global_content_bias" => put("content_bias", array.values.clone()),
            "global_pos_bias" => put("distance_bias", array.values.clone()),
            "data_to_kv.weight" => {
                let is_by_head = own.get("global_content_bias").map(|bias| bias.shape[0]);
                let [keys, values] = keys_and_values(array, is_by_head);
                put("keys", keys);
                put("values", values);
            }
            "data_to_kv" => {
                // `[D, 2·A]`, keys first.
                let a = array.shape[1] / 2;
                let columns = |first: usize| {
                    array
                        .values
                        .chunks(2 * a)
                        .flat_map(|row| row[first..first + a].to_vec())
                        .collect()
                };
                put("keys", columns(0));
                put("values", columns(a));
            }
            other => {
                if let Some((_, name)) = PLAIN.iter().find(|(theirs, _)| *theirs == other) {
                    put(name, turned(array));
                }
            }
        }
    }
    ours
}

/// Rows `[2·H·A, D]`: head after head with keys before values, or all keys before all values.
fn keys_and_values(array: &Array, heads: Option<usize>) -> [Vec<f32>; 2] {
    let &[rows, d] = &*array.shape else { panic!("two axes") };
    let a = rows / 2 / heads.unwrap_or(1);
    [0, 1].map(|which| {
        let blocks = array.values.chunks(a * d).skip(which).step_by(2);
        let own = blocks.flatten().copied().collect();
        turned(&Array { shape: vec![rows / 2, d], values: own })
    })
}

/// Two axes are exchanged, others stay.
pub(crate) fn turned(array: &Array) -> Vec<f32> {
    let &[rows, columns] = &*array.shape else { return array.values.clone() };
    let at = |i: usize| array.values[i % rows * columns + i / rows];
    (0..rows * columns).map(at).collect()
}

/// Arrays that are taken as they are: (theirs, ours).
pub(crate) fn plain(arrays: &Arrays, pairs: &[(&str, &str)]) -> Ours {
    let pair = |(theirs, ours): &(&str, &str)| {
        Some((ours.to_string(), arrays.get(*theirs)?.values.clone()))
    };
    pairs.iter().filter_map(pair).collect()
}
