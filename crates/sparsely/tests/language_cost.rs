//! The cost of language models against what runs. The counter of multiply-accumulates is the process's, so what
//! counts here has this binary to itself, one model at a time.

use sparsely::attention::{
    AttentionConfig, DenseAttentionConfig, ExpertProjections, MoaConfig, RelativePositions,
    SwitchHeadConfig,
};
use sparsely::cost::language::{TextCall, TextCost};
use sparsely::model::language::{
    BlockException, DenseMlpConfig, LANGUAGE_PRESETS, LanguageConfig, LanguageModel,
    LanguageMoeConfig, MlpConfig, Tokens, language_preset,
};
use sparsely::moe::SigmaMoeConfig;
use sparsely::nn::Mode;
use sparsely::rng::{Purpose, stream};
use sparsely_tensor::{Pool, Slab, Tape, macs};
use std::sync::Mutex;

/// Held while a model runs: the counter does not know who multiplied.
static COUNTING: Mutex<()> = Mutex::new(());

const BATCH: usize = 3;
const XL: RelativePositions = RelativePositions::TransformerXl;
const ROPE: RelativePositions = RelativePositions::Rope { fraction: 0.5 };

/// Two blocks of width 24 over 70 tokens, more than attention takes at once.
fn model(attention: AttentionConfig, memory: usize) -> LanguageConfig {
    LanguageConfig {
        vocabulary: 31,
        width: 24,
        depth: 2,
        context: 70,
        memory,
        dropout: 0.0,
        attention,
        mlp: MlpConfig::Dense(DenseMlpConfig { width: 40 }),
        ..LanguageConfig::default()
    }
}

fn dense(positions: RelativePositions) -> AttentionConfig {
    AttentionConfig::Dense(DenseAttentionConfig { heads: 3, head_width: 8, positions })
}

fn switch(change: impl FnOnce(&mut SwitchHeadConfig)) -> AttentionConfig {
    let mut config = SwitchHeadConfig { heads: 2, head_width: 8, ..SwitchHeadConfig::default() };
    change(&mut config);
    AttentionConfig::SwitchHead(config)
}

fn models() -> Vec<(&'static str, LanguageConfig)> {
    let on = |letters: &str| ExpertProjections {
        values: letters.contains('v'),
        keys: letters.contains('k'),
        queries: letters.contains('q'),
        outputs: letters.contains('o'),
    };
    let moa = |positions| {
        AttentionConfig::Moa(MoaConfig { head_width: 8, positions, ..MoaConfig::default() })
    };
    let sigma = SigmaMoeConfig { num_experts: 5, expert_width: 12, ..SigmaMoeConfig::default() };
    let with = |mlp| LanguageConfig { mlp, ..model(switch(|_| {}), 50) };
    let mixed = BlockException {
        blocks: vec![1],
        attention: Some(dense(XL)),
        mlp: Some(MlpConfig::SigmaMoe(sigma)),
    };
    vec![
        ("dense, memory", model(dense(XL), 50)),
        ("dense, no memory", model(dense(XL), 0)),
        ("dense, rotary", model(dense(ROPE), 0)),
        ("switch head", model(switch(|_| {}), 50)),
        ("switch head, rotary", model(switch(|s| s.positions = ROPE), 0)),
        ("experts everywhere", model(switch(|s| s.experts = on("vkqo")), 70)),
        ("experts of keys and queries", model(switch(|s| s.experts = on("kq")), 70)),
        ("experts of outputs", model(switch(|s| s.experts = on("o")), 20)),
        ("one router", model(switch(|s| s.shared_router = true), 50)),
        ("one expert", model(switch(|s| (s.num_experts, s.num_selected) = (1, 1)), 50)),
        ("moa", model(moa(XL), 50)),
        ("moa, rotary", model(moa(ROPE), 0)),
        ("sigma-MoE", with(MlpConfig::SigmaMoe(sigma))),
        (
            "sigma-MoE with biases",
            with(MlpConfig::SigmaMoe(SigmaMoeConfig { has_bias: true, ..sigma })),
        ),
        ("experts of vision models", with(MlpConfig::Moe(LanguageMoeConfig::default()))),
        (
            "two kinds of blocks",
            LanguageConfig { exceptions: vec![mixed], ..model(switch(|_| {}), 50) },
        ),
        ("dropout", LanguageConfig { dropout: 0.1, ..model(dense(XL), 50) }),
    ]
}

/// Of a block after a full memory: MACs of the forward pass, of both passes, and bytes that a pool held
/// between them.
fn run(config: &LanguageConfig) -> [u64; 3] {
    let (model, params) = LanguageModel::init(config, 1).unwrap();
    let ids: Vec<u32> = (0..BATCH * config.context).map(|i| (i * 7 % 31) as u32).collect();
    let tokens = Tokens { ids: &ids, batch: BATCH };
    let _guard = COUNTING.lock().unwrap();
    let memory = {
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        model.forward(&tape, tokens, None, &mut Mode::Eval).unwrap().memory
    };
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let before = macs();
    let mut rng = stream(1, Purpose::Model, 0);
    let output = model.forward(&tape, tokens, memory.as_ref(), &mut Mode::Train(&mut rng)).unwrap();
    let forward = macs() - before;
    let mut terms = output.losses;
    terms.push((output.logits_tv.token_cross_entropy(&ids).unwrap(), 1.0));
    let loss = tape.weighted_sum(&terms).unwrap();
    drop((terms, output.logits_tv));
    let kept = pool.used_bytes() as u64;
    tape.backward(&loss, &mut Slab::zeros(params.layout().clone())).unwrap();
    [forward, macs() - before, kept]
}

#[test]
fn macs_are_those_that_the_kernels_count_and_parameters_those_of_the_layout() {
    for (name, config) in models() {
        let cost = TextCost::of(&config, &TextCall::full(&config, BATCH)).unwrap();
        let [forward, both, _] = run(&config);
        assert_eq!(cost.macs(), forward, "{name}, forward");
        assert_eq!(cost.macs() + cost.backward_macs(), both, "{name}, backward");
        let params = LanguageModel::layout(&config).unwrap().num_params() as u64;
        assert_eq!(cost.params(), params, "{name}");
    }
}

/// What the formulas leave out is a few scalars and the odd copy: 4 % in models as small as these.
#[test]
fn kept_bytes_are_those_that_the_pool_holds() {
    for (name, config) in models() {
        let cost = TextCost::of(&config, &TextCall::full(&config, BATCH)).unwrap();
        let [_, _, kept] = run(&config);
        let ratio = cost.kept_bytes() as f64 / kept as f64;
        assert!((ratio - 1.0).abs() < 0.04, "{name}: {} of {kept} bytes", cost.kept_bytes());
    }
}

#[test]
fn parameters_of_presets_are_those_of_the_layout() {
    for name in LANGUAGE_PRESETS {
        let config = language_preset(name).unwrap();
        let cost = TextCost::of(&config, &TextCall::full(&config, 1)).unwrap();
        let params = LanguageModel::layout(&config).unwrap().num_params() as u64;
        assert_eq!(cost.params(), params, "{name}");
    }
}

/// One head of width 8 over 2 tokens without memory, D 24: projections 2·24·8 four times, q kᵀ and P v of 2·2
/// pairs, 8 wide: 1,536 + 64.
#[test]
fn two_tokens_of_one_rotary_head_by_hand() {
    let attention = DenseAttentionConfig { heads: 1, head_width: 8, positions: ROPE };
    let config = LanguageConfig { depth: 1, ..model(AttentionConfig::Dense(attention), 0) };
    let call = TextCall { batch: 1, length: 2, memory: 0 };
    assert_eq!(TextCost::of(&config, &call).unwrap().attention_macs(), 1_600);
}

#[test]
fn a_call_that_the_model_cannot_take_is_refused() {
    let config = model(dense(XL), 50);
    let call = TextCall { batch: 1, length: 71, memory: 0 };
    assert_eq!(
        TextCost::of(&config, &call).unwrap_err().to_string(),
        "cost: expected at least one row of 1 to 70 tokens after at most 50 of memory, got 1 rows of 71 \
         after 0"
    );
}
