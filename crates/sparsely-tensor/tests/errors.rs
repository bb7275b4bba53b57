//! What each operation says to shapes that it cannot take, word for word.

use sparsely_tensor::{
    Activation, Attention, AttentionMask, CrossEntropy, Distances, GroupedWeights, Layout, Param,
    Pool, Result, Rotary, Routes, RowGroups, Shape, Slab, Tape, Var,
};
use std::sync::Arc;

const IDENTITY: Activation = Activation::Identity;

/// A tape's arguments to say no to.
struct Wrong {
    params: Slab,
    pool: Pool,
}

impl Wrong {
    fn new() -> Wrong {
        let mut layout = Layout::default();
        layout.add("row of 3", [3], 0.0);
        layout.add("row of 5", [5], 0.0);
        layout.add("weights", [3, 2], 0.0);
        layout.add("stack", [2, 3, 4], 0.0);
        layout.add("stack of biases", [2, 4], 0.0);
        Wrong { params: Slab::zeros(Arc::new(layout)), pool: Pool::new() }
    }

    fn named(&self, name: &str) -> Param {
        self.params.layout().find(name).unwrap().param
    }

    fn tape(&self) -> Tape<'_> {
        Tape::recording(&self.params, &self.pool)
    }
}

fn zeros<'t>(tape: &'t Tape<'t>, shape: impl Into<Shape>) -> Var<'t> {
    let shape = shape.into();
    tape.constant(shape, &vec![0.0; shape.len()]).unwrap()
}

fn says<T: std::fmt::Debug>(result: Result<T>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn the_tape() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    says(tape.constant([2, 3], &[1.0]), "constant: expected 6 values for shape [2, 3], got 1");
    says(
        tape.constant([2, 0], &[]),
        "constant: expected extents above zero after the first axis, got [2, 0]",
    );
    assert!(tape.constant([0, 2], &[]).is_ok());
    let x = zeros(&tape, [2, 3]);
    says(x.reshape([4]), "reshape: expected 6 elements, got shape [4]");
    let total = wrong.params.values().len();
    let mut grads = Slab::zeros(wrong.params.layout().clone());
    says(
        tape.backward(&x, &mut grads),
        &format!(
            "backward: expected a single element, {total} gradients, got shape [2, 3], {total} gradients"
        ),
    );
    let mut other = Slab::zeros(Arc::new(Layout::default()));
    let loss = x.dot_constant(&[0.0; 6]).unwrap();
    says(
        tape.backward(&loss, &mut other),
        &format!(
            "backward: expected a single element, {total} gradients, got shape [1], 0 gradients"
        ),
    );
    says(
        tape.weighted_sum(&[(loss, 1.0), (x, 1.0)]),
        "weighted_sum: expected terms of one element, got [2, 3]",
    );
}

#[test]
fn linear() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let (w, b) = (wrong.named("weights"), wrong.named("row of 5"));
    let (x, narrow) = (zeros(&tape, [4, 3]), zeros(&tape, [4, 1]));
    says(
        narrow.linear(IDENTITY, &w, None, None),
        "linear: expected x […, 3], b [2], residual […, 2] for w [3, 2], got x [4, 1], b None, residual None",
    );
    says(
        x.linear(IDENTITY, &w, Some(&b), None),
        "linear: expected x […, 3], b [2], residual […, 2] for w [3, 2], got x [4, 3], b Some([5]), residual None",
    );
    says(
        x.linear(IDENTITY, &w, None, Some(&narrow)),
        "linear: expected x […, 3], b [2], residual […, 2] for w [3, 2], got x [4, 3], b None, residual Some([4, 1])",
    );
    says(x.linear(IDENTITY, &b, None, None), "linear: expected a tensor of 2 axes, got shape [5]");
}

#[test]
fn normalisations() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let (three, five) = (wrong.named("row of 3"), wrong.named("row of 5"));
    let x = zeros(&tape, [4, 3]);
    says(
        x.layer_norm(&five, None, 0.0),
        "layer_norm: expected scale and bias [3], got scale [5], bias None",
    );
    says(
        x.layer_norm(&three, Some(&five), 0.0),
        "layer_norm: expected scale and bias [3], got scale [3], bias Some([5])",
    );
    says(
        x.head_norm(2, &[&three], 0.0),
        "head_norm: expected 1 scales [A] and rows of n·2·A, got A 3, rows of 3",
    );
    says(
        x.head_norm(1, &[&three, &three], 0.0),
        "head_norm: expected 2 scales [A] and rows of n·1·A, got A 3, rows of 3",
    );
    says(
        x.head_norm(1, &[], 0.0),
        "head_norm: expected 0 scales [A] and rows of n·1·A, got A 0, rows of 3",
    );
}

#[test]
fn attention() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let x = zeros(&tape, [2, 3, 6]);
    says(
        x.self_attention(4),
        "self_attention: expected a width of 3·H·A with 4 heads, got [2, 3, 6]",
    );
    says(
        x.self_attention(0),
        "self_attention: expected a width of 3·H·A with 0 heads, got [2, 3, 6]",
    );
    says(
        zeros(&tape, [2, 6]).self_attention(1),
        "self_attention: expected a tensor of 3 axes, got shape [2, 6]",
    );
    for (kv, heads) in [([2, 5, 6], 2), ([3, 5, 12], 2), ([2, 5, 12], 4), ([2, 5, 12], 0)] {
        says(
            x.cross_attention(&zeros(&tape, kv), heads),
            &format!(
                "cross_attention: expected q [B, Q, D], kv [B, L, 2·D], D a multiple of {heads} heads, \
                 got q [2, 3, 6], kv {kv:?}"
            ),
        );
    }
}

#[test]
fn masked_attention() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
    let settings =
        |head_width| Attention { head_width, scale: 1.0, offset: 2, mask: &mask, distances: None };
    let (q, k) = (zeros(&tape, [2, 3, 6]), zeros(&tape, [2, 5, 6]));
    let told = |k: &str| {
        format!(
            "masked_attention: expected q [B, Q, H·A], k and v [B, L, Hk·A] for A 4 with H a multiple of Hk, \
             masks [B, L] and [Q, up to L], got q [2, 3, 6], k {k}, v {k}, masks of None and None"
        )
    };
    says(q.masked_attention(&k, &k, &settings(4)), &told("[2, 5, 6]"));
    let narrow = zeros(&tape, [2, 5, 4]);
    says(q.masked_attention(&narrow, &narrow, &settings(4)), &told("[2, 5, 4]"));
    let keys = zeros(&tape, [4, 6]);
    let distances = Some(Distances { queries: &q, keys: &keys, zero: 3 });
    says(
        q.masked_attention(&k, &k, &Attention { distances, ..settings(3) }),
        "masked_attention: expected queries [2, 3, 6], keys [R, 6] for distances from −4 to 0, got queries [2, 3, 6], \
         keys [4, 6], distance 0 in row 3",
    );
    says(
        q.rotary(&Rotary { head_width: 3, channels: 3, first: 0, base: 1e4 }),
        "rotary: expected rows of H·3 and an even number of channels up to 3, got rows of 6, 3 channels",
    );
    says(q.append(&narrow), "append: expected [2, M, 6], got [2, 5, 4]");
}

#[test]
fn routed_linear() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    says(
        Routes::new([2, 2], &[vec![(0, 2)]]),
        "routes: expected ascending pairs below (2, 2), got [(0, 2)]",
    );
    says(
        Routes::new([2, 2], &[vec![(1, 0), (0, 1)]]),
        "routes: expected ascending pairs below (2, 2), got [(1, 0), (0, 1)]",
    );
    let routes = Arc::new(Routes::new([3, 5], &[vec![(0, 0)], vec![(2, 4)]]).unwrap());
    let (x, gates) = (zeros(&tape, [3, 3]), zeros(&tape, [1]));
    says(
        x.routed_linear(&wrong.named("stack"), &routes, Some(&gates), None),
        "routed_linear: expected x [3, I], w [2, I, O], gates [2], residual [5, O], got x [3, 3], w [2, 3, 4], gates \
         Some([1]), residual None",
    );
}

#[test]
fn words() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    says(
        tape.embedding(&wrong.named("weights"), &[0, 3]),
        "embedding: expected indices below 3, got 3",
    );
    let logits = zeros(&tape, [2, 3]);
    says(
        logits.token_cross_entropy(&[0]),
        "token_cross_entropy: expected 2 targets below 3, got 1 targets",
    );
    says(logits.token_losses(&[0, 3]), "token_losses: expected 2 targets below 3, got a target 3");
    says(logits.scaled(&wrong.named("row of 3")), "scaled: expected a single factor, got [3]");
    // log 3 each, whatever the target is.
    let losses = logits.token_losses(&[0, 2]).unwrap();
    assert!(losses.iter().all(|loss| (loss - 3.0_f64.ln()).abs() < 1e-6), "{losses:?}");
}

#[test]
fn grouped_linear() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    says(
        RowGroups::new(3, &[vec![0], vec![3]]),
        "row groups: expected indices below 3, got index 3",
    );
    let two = Arc::new(RowGroups::new(3, &[vec![0, 1], vec![2, 0]]).unwrap());
    let one = Arc::new(RowGroups::new(3, &[vec![0]]).unwrap());
    for (indices, told) in [(&[0, 5][..], "[0, 5]"), (&[1, 0], "[1, 0]"), (&[0], "[0]")] {
        let expected = "row groups among others: expected 2 ascending indices below 5, got ";
        says(two.among(indices, 5), &format!("{expected}{told}"));
    }
    let weights =
        GroupedWeights { w: wrong.named("stack"), b: Some(wrong.named("stack of biases")) };
    let no_stack = GroupedWeights { w: wrong.named("stack"), b: Some(wrong.named("row of 5")) };
    let x = zeros(&tape, [3, 3]);
    says(
        x.gather_linear(&weights, &one),
        "gather_linear: expected w [E, I, O], b [E, O] and E groups for w [2, 3, 4], got b [2, 4], 1 groups",
    );
    says(
        x.gather_linear(&no_stack, &two),
        "gather_linear: expected w [E, I, O], b [E, O] and E groups for w [2, 3, 4], got b [5], 2 groups",
    );
    says(
        zeros(&tape, [4, 3]).gather_linear(&weights, &two),
        "gather_linear: expected [3, 3], got [4, 3]",
    );
    let (z, gates) = (zeros(&tape, [4, 3]), zeros(&tape, [4]));
    says(
        x.scatter_linear(IDENTITY, &weights, &two, &gates, None),
        "scatter_linear: expected [4, 3], got [3, 3]",
    );
    says(
        z.scatter_linear(IDENTITY, &weights, &two, &zeros(&tape, [3]), None),
        "scatter_linear: expected gates [4], residual [3, 4], got gates [3], residual None",
    );
    says(
        z.scatter_linear(IDENTITY, &weights, &two, &gates, Some(&x)),
        "scatter_linear: expected gates [4], residual [3, 4], got gates [4], residual Some([3, 3])",
    );
}

#[test]
fn tokens() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let five = wrong.named("row of 5");
    let (x, flat) = (zeros(&tape, [2, 2, 3]), zeros(&tape, [4, 3]));
    says(x.prepend(&five), "prepend: expected a row of 3, got [5]");
    says(
        x.add_positions(&five),
        "add_positions: expected positions for 2 tokens of width 3, got [5]",
    );
    says(x.select_token(2), "select_token: expected an index below 2, got 2");
    says(flat.mean_tokens(), "mean_tokens: expected a tensor of 3 axes, got shape [4, 3]");
    says(x.repeat(2), "repeat: expected a tensor of 2 axes, got shape [2, 2, 3]");
    says(flat.add(&zeros(&tape, [3])), "add: expected [4, 3], got [3]");
    says(flat.add_constant(&[0.0; 5]), "add_constant: expected a divisor of 12 values, got 5");
    says(flat.pick(&Arc::new(vec![11, 12])), "pick: expected indices below 12, got 12");
}

#[test]
fn statistics_and_losses() {
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let (x, row) = (zeros(&tape, [4, 3]), zeros(&tape, [3]));
    says(x.sum_groups(3), "sum_groups: expected a divisor of 4 rows, got 3");
    says(x.sum_groups(0), "sum_groups: expected a divisor of 4 rows, got 0");
    says(row.cv_squared(), "cv_squared: expected a tensor of 2 axes, got shape [3]");
    says(
        row.mean_squared_log_sum_exp(),
        "mean_squared_log_sum_exp: expected a tensor of 2 axes, got shape [3]",
    );
    says(x.dot_constant(&[0.0; 3]), "dot_constant: expected 12 coefficients, got 3");
    for k in [0, 4] {
        says(
            x.chance_among_largest(&x, k, 1.0),
            &format!(
                "chance_among_largest: expected noisy [4, 3] and k in 1..=3, got noisy [4, 3] and k {k}"
            ),
        );
    }
    says(
        x.chance_among_largest(&row, 1, 1.0),
        "chance_among_largest: expected noisy [4, 3] and k in 1..=3, got noisy [3] and k 1",
    );
    says(
        x.cross_entropy(CrossEntropy::Softmax, &[0.0; 3]),
        "cross_entropy: expected 12 targets, at least one, got 3",
    );
    says(
        zeros(&tape, [0, 3]).cross_entropy(CrossEntropy::Softmax, &[]),
        "cross_entropy: expected 0 targets, at least one, got 0",
    );
    for (rate, told) in [(1.0, "1"), (-0.5, "-0.5"), (f32::NAN, "NaN")] {
        says(x.dropout(rate, 0), &format!("dropout: expected a rate in [0, 1), got {told}"));
    }
}

#[test]
fn mixtures_and_plans() {
    use sparsely_tensor::{Sinkhorn, SparseTransport, Spread};
    let wrong = Wrong::new();
    let tape = wrong.tape();
    let (three, weights) = (wrong.named("row of 3"), wrong.named("weights"));
    let (x, other) = (zeros(&tape, [4, 3]), zeros(&tape, [6, 2]));
    says(
        x.cosine_logits(&weights, &three, 0.0),
        "cosine_logits: expected mu [3, …] and one scale, got mu [3, 2], scale [3]",
    );
    says(x.softmax_columns(3), "softmax_columns: expected a divisor of 4 rows, got 3");
    says(x.gather_mix(&other, 2), "gather_mix: expected weights [4, N], got [6, 2]");
    says(x.gather_mix(&x, 0), "gather_mix: expected a divisor of 4 rows, got 0");
    says(
        x.scatter_mix(&other, 2, None),
        "scatter_mix: expected [6, 3], residual [6, 3], got [4, 3], residual None",
    );
    let one = Arc::new(RowGroups::new(3, &[vec![0]]).unwrap());
    says(
        x.scatter_rows(&one, &zeros(&tape, [1]), None),
        "scatter_rows: expected [1, 3], gates [1], residual [3, 3], got [4, 3], gates [1], residual None",
    );
    says(x.mul(&zeros(&tape, [3])), "mul: expected [4, 3], got [3]");
    says(
        x.sinkhorn(&Sinkhorn { group_rows: 4, iterations: 0, epsilon: 1.0 }),
        "sinkhorn: expected a divisor of 4 rows, at least one iteration, ε above 0, \
         got 4 rows, 0 iterations, ε 1",
    );
    let settings =
        SparseTransport { group_rows: 4, spread: Spread::Rows, support: 0, steps: 1, lr: 0.1 };
    says(
        x.sparse_transport(&settings),
        "sparse_transport: expected a divisor of 4 rows, a support of at least 1, got 4 rows, 0",
    );
}
