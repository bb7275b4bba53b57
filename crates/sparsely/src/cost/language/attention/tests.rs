use super::*;

/// D 5, H 3, A 2, T 7, C 2: DHAT = 210, HAT = 42, HT² = 147.
const SIZES: AttentionSizes = AttentionSizes { d: 5, h: 3, a: 2, t: 7, c: 2 };
const SWITCH_HEAD: Attention =
    Attention::SwitchHead { experts: 4, selected: 2, relative_positions: true };
const SWITCH_ROPE: Attention =
    Attention::SwitchHead { experts: 4, selected: 2, relative_positions: false };
const MOA: Attention = Attention::Moa { experts: 4 };

fn published(attention: Attention, sizes: AttentionSizes) -> (u64, u64) {
    let AttentionCost { macs, values } = attention.published(&sizes);
    (macs, values)
}

fn executed(attention: Attention, sizes: AttentionSizes) -> (u64, u64) {
    let AttentionCost { macs, values } = attention.executed(&sizes);
    (macs, values)
}

#[test]
fn published_counts_by_hand() {
    // core = 2·HT²·A·C = 2·147·2·2 = 1176; matrices 2·147·2 = 588.
    // XL: + 4·210 + 2·210·2 = 1680; + 4·42 + 2·42·2 = 336.
    assert_eq!(published(Attention::TransformerXl, SIZES), (1176 + 1680, 588 + 336));
    // Dense RoPE: + 4·210; + 4·42.
    assert_eq!(published(Attention::Rope, SIZES), (1176 + 840, 588 + 168));
    // SwitchHead: + (2 + 4)·210 + 4·42 + 2·4·5·7·2 = 1988; + 168 + 2·4·7·2 = 280. XL: + 2·210; +
    // 2·42.
    assert_eq!(published(SWITCH_ROPE, SIZES), (1176 + 1988, 588 + 280));
    assert_eq!(published(SWITCH_HEAD, SIZES), (1176 + 2408, 588 + 364));
    // MoA: + (6 + 2)·70 + 2·42 + 4·5·7 + 2·70·2 = 1064; + 8·14 + 2·14 + 4·7·2 = 196.
    assert_eq!(published(MOA, SIZES), (1176 + 1064, 588 + 196));
}

#[test]
fn executed_counts_by_hand() {
    // 14 keys, 28 position keys; q·k_pos = 3·7·28·2 = 1176 (as much as the core). XL: DHA = 30
    // times 14 for q and o, 28 for k and v, 28 positions = 2100; HA = 6 times 70 = 420.
    assert_eq!(executed(Attention::TransformerXl, SIZES), (1176 + 1176 + 2100, 588 + 420));
    // RoPE: no positions.
    assert_eq!(executed(Attention::Rope, SIZES), (1176 + 30 * 42, 588 + 6 * 42));
    // SwitchHead: 30·(7 q + 14 k + 28 v + 14 o) = 1890; gates 2·6·21 = 252; routers 5·12·21 = 1260;
    // values 6·42 + 12·21 = 504. XL: 30·28 = 840 and the product; 6·28.
    assert_eq!(executed(SWITCH_ROPE, SIZES), (1176 + 1890 + 252 + 1260, 588 + 504));
    assert_eq!(executed(SWITCH_HEAD, SIZES), (1176 + 4242 + 1176, 588 + 672));
    // MoA: q and o 2·30·7 = 420; one k, v and position key: 10·(28 + 28) = 560; gates 84; router
    // 140; values 84 + 2·56 + 28 = 224.
    assert_eq!(executed(MOA, SIZES), (1176 + 1176 + 1204, 588 + 224));
}

/// Each symbol doubled in turn: what the terms that have it add, derived by hand from the formulas
/// above (a term linear in the symbol is added once more, a quadratic one three times).
#[test]
fn every_symbol_has_its_effect() {
    let AttentionSizes { d, h, a, t, c } = SIZES;
    let twice = [
        AttentionSizes { d: 2 * d, ..SIZES },
        AttentionSizes { h: 2 * h, ..SIZES },
        AttentionSizes { a: 2 * a, ..SIZES },
        AttentionSizes { t: 2 * t, ..SIZES },
        AttentionSizes { c: 2 * c, ..SIZES },
    ];
    let added = |count: fn(Attention, AttentionSizes) -> (u64, u64), attention| {
        let (macs, values) = count(attention, SIZES);
        twice.map(|sizes| {
            let more = count(attention, sizes);
            (more.0 - macs, more.1 - values)
        })
    };
    // Published XL: D 1680; H and A all (A not in the matrices); T all and the quadratic terms
    // twice more; C: core, positions 840; matrices, 168.
    let xl = [(1680, 0), (2856, 924), (2856, 336), (2856 + 2352, 924 + 1176), (2016, 756)];
    assert_eq!(added(published, Attention::TransformerXl), xl);
    let rope = [(840, 0), (2016, 756), (2016, 168), (2016 + 2352, 756 + 1176), (1176, 588)];
    assert_eq!(added(published, Attention::Rope), rope);
    // SwitchHead: the gates 168 have no D; routers 560 and 112 have neither H nor A.
    let switch = [
        (2408 - 168, 0),
        (3584 - 560, 952 - 112),
        (3584 - 560, 364 - 112),
        (3584 + 2352, 952 + 1176),
        (1176 + 560, 588 + 112),
    ];
    assert_eq!(added(published, SWITCH_HEAD), switch);
    // MoA: of (2H + 2)DAT only 420 has H, of (2H + 2)AT only 84; the router 140 and 56 has no A.
    let moa = [
        (1064 - 84, 0),
        (1176 + 420 + 84, 588 + 84),
        (1176 + 1064 - 140, 196 - 56),
        (2240 + 2352, 784 + 1176),
        (1176 + 280, 588 + 56),
    ];
    assert_eq!(added(published, MOA), moa);

    // Executed XL: T quadratic in core, product and matrices; C everywhere but q and o (420 and
    // 84).
    let xl =
        [(2100, 0), (4452, 1008), (4452, 420), (4452 + 4704, 1008 + 1176), (4452 - 420, 1008 - 84)];
    assert_eq!(added(executed, Attention::TransformerXl), xl);
    // SwitchHead: gates 252 have no D; routers have H but no A; without C: q 210, o 420, gates 84,
    // routers 420; values 84 and 84.
    let switch = [
        (4242 - 252, 0),
        (6594, 1260),
        (6594 - 1260, 672 - 252),
        (6594 + 4704, 1260 + 1176),
        (6594 - 210 - 420 - 84 - 420, 1260 - 84 - 84),
    ];
    assert_eq!(added(executed, SWITCH_HEAD), switch);
    // MoA: H has core, product, q and o, gates; C core, product, shared keys; matrices, 112.
    let moa = [
        (1204 - 84, 0),
        (2352 + 420 + 84, 588 + 84),
        (3556 - 140, 224 - 28),
        (3556 + 4704, 812 + 1176),
        (2352 + 560, 588 + 112),
    ];
    assert_eq!(added(executed, MOA), moa);
}

#[test]
fn every_expert_and_every_choice_has_its_effect() {
    let with =
        |experts, selected| Attention::SwitchHead { experts, selected, relative_positions: true };
    let (p, x) = (published(SWITCH_HEAD, SIZES), executed(SWITCH_HEAD, SIZES));
    // Four experts more: the routers once more.
    assert_eq!(published(with(8, 2), SIZES), (p.0 + 560, p.1 + 112));
    assert_eq!(executed(with(8, 2), SIZES), (x.0 + 1260, x.1 + 252));
    // Two more selected: published 4·210 + 4·42, executed 30·42 + 252; held values do not grow.
    assert_eq!(published(with(4, 4), SIZES), (p.0 + 1008, p.1));
    assert_eq!(executed(with(4, 4), SIZES), (x.0 + 1512, x.1));
    let (p, x) = (published(MOA, SIZES), executed(MOA, SIZES));
    let moa = Attention::Moa { experts: 8 };
    assert_eq!(published(moa, SIZES), (p.0 + 140, p.1 + 56));
    assert_eq!(executed(moa, SIZES), (x.0 + 140, x.1 + 28));
}

#[test]
fn parameters_by_hand() {
    // DHA = 30, HA = 6. Five projections, u and v, the scale.
    assert_eq!(Attention::TransformerXl.params(&SIZES), 150 + 12 + 1);
    assert_eq!(Attention::Rope.params(&SIZES), 120);
    // q, k, positions; 4 experts of v and o a head; two routers [12, 5].
    assert_eq!(SWITCH_HEAD.params(&SIZES), 90 + 240 + 120);
    assert_eq!(SWITCH_ROPE.params(&SIZES), 60 + 240 + 120);
    // 4 experts of q and o of 10 each, k, v and positions of 10, the router 20, the scale.
    assert_eq!(MOA.params(&SIZES), 80 + 30 + 20 + 1);
}
