//! `sparsely bench attention`: one attention layer of a language model, at the shape of SwitchHead's C4
//! 262M models: width 1024, 512 tokens after 512 of memory.

use super::speed::{Speed, Turn, median};
use crate::args::BenchArgs;
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::attention::{AttentionLayer, Report, Scene, Sinusoids};
use sparsely::cost::paper::switchhead;
use sparsely::model::language::language_preset;
use sparsely::nn::{Init, Initializer, Mode, Precision};
use sparsely_tensor::{AttentionMask, Param, Pool, Slab, Tape, Var, macs};
use std::process::ExitCode;
use std::time::Instant;

/// Sequences, unless others are asked for.
const SEQUENCES: usize = 4;
/// Runs before the clock starts.
const WARM_UP: usize = 2;
/// Names as printed, and the presets whose layer they are.
const LAYERS: [(&str, &str); 2] =
    [("dense-xl-h16-a64", "xl-c4-262m"), ("switchhead-h4-a112-e4-k2", "switchhead-c4-262m")];

/// A layer with its input: tokens after memory.
struct Subject {
    layer: AttentionLayer,
    params: Slab,
    x: Param,
    memory: Param,
}

/// What a layer reads, and the number of tokens of memory.
struct Inputs<'t> {
    x: Var<'t>,
    source: Var<'t>,
    sinusoids: Sinusoids<'t>,
    memory: usize,
}

/// What was measured.
struct Measured {
    forward_seconds: f64,
    both_seconds: f64,
    /// Of both.
    speed: Speed,
    /// Bytes that the forward pass keeps for the way back, beyond its inputs and its output, which the next layer
    /// has. In bf16 the dense layer's half-size copies of its inputs count; SwitchHead's routers keep those in f32.
    kept_bytes: usize,
    peak_bytes: usize,
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let known = LAYERS.map(|(name, _)| name).join(", ");
    if let Some(name) =
        args.model.as_ref().filter(|name| !known.split(", ").any(|own| own == *name))
    {
        bail!("there is no layer `{name}` to measure; there are {known}");
    }
    let batch = args.batch_or(SEQUENCES);
    let precision = args.precision.or(Precision::F32);
    let is_asked = |(name, _): &(&str, &str)| args.model.as_ref().is_none_or(|asked| asked == name);
    let layers: Vec<_> = LAYERS.into_iter().filter(is_asked).collect();
    let subjects = layers.iter().map(|(_, preset)| Subject::new(preset, batch));
    let subjects: Vec<Subject> = subjects.collect::<Result<_>>()?;
    let all = measure(&subjects, precision, args.steps.get())?;
    for ((name, _), measured) in layers.iter().zip(&all) {
        let first = all.first().filter(|first| !std::ptr::eq(*first, measured));
        tell((name, batch, precision), measured, first, args.json);
    }
    if args.model.is_none() && !args.json {
        let rows = switchhead();
        let cost = |i: usize| rows[i].model.attention.executed(&rows[i].model.sizes).macs;
        let share = 100.0 * cost(3) as f64 / cost(2) as f64;
        say!("as executed, SwitchHead has {share:.1} % of the dense layer's MACs");
    }
    Ok(ExitCode::SUCCESS)
}

impl Subject {
    fn new(preset: &str, batch: usize) -> Result<Subject> {
        let Some(config) = language_preset(preset) else { bail!("there is no preset `{preset}`") };
        let mut init = Initializer::default();
        let layer =
            AttentionLayer::init(&mut init, &config.attention, [config.width, config.depth]);
        let normal = Init::Normal { std: 1.0 };
        let x = init.vector("x", [batch, config.context, config.width], normal);
        let memory = init.vector("memory", [batch, config.memory, config.width], normal);
        Ok(Subject { layer, params: init.finish(0), x, memory })
    }

    /// What a model hands to each of its layers: tokens, memory with them, and the sinusoids.
    fn inputs<'t>(&self, tape: &'t Tape<'t>) -> Result<Inputs<'t>> {
        let (x, memory) = (tape.param(&self.x), tape.param(&self.memory));
        let [_, t, d] = x.dims("bench attention")?;
        let [_, m, _] = memory.dims("bench attention")?;
        let sinusoids = Sinusoids::new(tape, [t + m - 1, 0], d)?;
        Ok(Inputs { source: memory.append(&x)?, x, memory: m, sinusoids })
    }

    /// Tokens attend to memory and one another.
    fn forward<'t>(&self, inputs: &Inputs<'t>) -> Result<Var<'t>> {
        let Inputs { x, source, sinusoids, memory } = inputs;
        let distances = self.layer.distance_keys(sinusoids)?;
        let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
        let mut report = Report::default();
        let source = self.layer.source(source, 0, &mut Mode::Eval, &mut report)?;
        let scene =
            Scene { first_key: 0, offset: *memory, mask: &mask, distances: distances.as_ref() };
        let both = (&mut Mode::Eval, &mut report);
        Ok(self.layer.attend(x, &source, &scene, None, both)?)
    }
}

/// What the steps of a layer took.
struct Clock<'s> {
    subject: &'s Subject,
    pool: Pool,
    grads: Slab,
    forward: Vec<f64>,
    both: Vec<f64>,
    turns: Vec<Turn>,
    kept_bytes: usize,
}

/// Medians of layers in turn, so that all of them meet the machine's better and worse minutes.
fn measure(subjects: &[Subject], precision: Precision, steps: usize) -> Result<Vec<Measured>> {
    let mut clocks: Vec<Clock<'_>> = subjects.iter().map(Clock::new).collect();
    for step in 0..WARM_UP + steps {
        for clock in &mut clocks {
            clock.step(precision, step >= WARM_UP)?;
        }
    }
    let measured = |clock: Clock<'_>| Measured {
        forward_seconds: median(clock.forward),
        both_seconds: median(clock.both),
        speed: Speed::of(precision, clock.turns),
        kept_bytes: clock.kept_bytes,
        peak_bytes: clock.pool.peak_bytes(),
    };
    Ok(clocks.into_iter().map(measured).collect())
}

impl<'s> Clock<'s> {
    fn new(subject: &'s Subject) -> Clock<'s> {
        Clock {
            subject,
            pool: Pool::new(),
            grads: Slab::zeros(subject.params.layout().clone()),
            forward: Vec::new(),
            both: Vec::new(),
            turns: Vec::new(),
            kept_bytes: 0,
        }
    }

    fn step(&mut self, precision: Precision, counts: bool) -> Result<()> {
        let tape = Tape::recording(&self.subject.params, &self.pool);
        tape.compute_in(precision.into());
        let inputs = self.subject.inputs(&tape)?;
        let (before, macs_before) = (self.pool.used_bytes(), macs());
        let begin = Instant::now();
        let y = self.subject.forward(&inputs)?;
        let forward_seconds = begin.elapsed().as_secs_f64();
        self.kept_bytes = self.pool.used_bytes() - before - size_of::<f32>() * y.shape().len();
        let ones = vec![1.0; y.shape().len()];
        let loss = y.dot_constant(&ones)?;
        tape.backward(&loss, &mut self.grads)?;
        let both_seconds = begin.elapsed().as_secs_f64();
        let counted = macs() - macs_before;
        if counts {
            self.forward.push(forward_seconds);
            self.both.push(both_seconds);
            self.turns.push(Turn::of(precision, counted, both_seconds));
        }
        Ok(())
    }
}

fn tell(
    (name, batch, precision): (&str, usize, Precision),
    own: &Measured,
    first: Option<&Measured>,
    as_json: bool,
) {
    if as_json {
        let threads = rayon::current_num_threads();
        let line = json!({
            "layer": name, "precision": precision, "threads": threads, "batch": batch,
            "forward_seconds": own.forward_seconds,
            "forward_and_backward_seconds": own.both_seconds,
            "kept_bytes": own.kept_bytes, "peak_bytes": own.peak_bytes,
        });
        say!("{}", own.speed.beside(line));
        return;
    }
    let (forward, both) = (1e3 * own.forward_seconds, 1e3 * own.both_seconds);
    let [kept, peak] = [own.kept_bytes, own.peak_bytes].map(|bytes| bytes as f64 / 1e6);
    let against = first.map_or(String::new(), |first| {
        format!(
            "; {:.2} and {:.2} times as fast as the first, {:.2} of its kept bytes, {:.2} of its peak",
            first.forward_seconds / own.forward_seconds,
            first.both_seconds / own.both_seconds,
            own.kept_bytes as f64 / first.kept_bytes as f64,
            own.peak_bytes as f64 / first.peak_bytes as f64
        )
    });
    say!(
        "{name}: {batch} sequences: forward {forward:.1} ms, with backward {both:.1} ms, {}, kept {kept:.1} MB, peak memory \
         {peak:.1} MB{against}",
        own.speed
    );
}
