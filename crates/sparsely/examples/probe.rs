//! probe
use sparsely::{model::*, moe::*, nn::Mode};
use sparsely_tensor::{optim::*, *};
use std::time::Instant;
fn main() {
    let moe = std::env::args().nth(1).is_some();
    let threads: usize = std::env::var("NT").map_or(2, |v| v.parse().unwrap());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let mut config = ModelConfig { image_size: 32, channels: 3, patch_size: 4, depth: 6, width: 192, heads: 3, mlp_width: 768, moe: None, ..ModelConfig::default() };
    if moe { config.moe = Some(MoeConfig { num_experts: 8, router: RouterConfig { num_selected: 1, ..Default::default() }, ..Default::default() }); }
    let (vit, mut params) = Vit::init(&config, 0).unwrap();
    println!("{} params", params.layout().num_params());
    let pool = Pool::new();
    let mut grads = Slab::zeros(params.layout().clone());
    let mut moments = Moments::zeros(&params);
    let images: Vec<f32> = (0..64 * 32 * 32 * 3).map(|i| ((i * 7919) % 255) as f32 / 127.5 - 1.0).collect();
    let targets: Vec<f32> = (0..640).map(|i| if i % 10 == (i / 10) % 10 { 1.0 } else { 0.0 }).collect();
    let (mut f, mut b, mut o) = (vec![], vec![], vec![]);
    let mut rng = sparsely::rng::stream(0, sparsely::rng::Purpose::Model, 0);
    for step in 0..15 {
        let t0 = Instant::now();
        grads.values_mut().fill(0.0);
        let (t1, t2);
        {
            let tape = Tape::recording(&params, &pool);
            let out = vit.forward(&tape, &images, &Dial::default(), &mut Mode::Train(&mut rng)).unwrap();
            let ce = out.logits_bv.cross_entropy(CrossEntropy::Softmax, &targets).unwrap();
            let mut terms = out.losses; terms.push((ce, 1.0));
            drop(out.logits_bv); drop(out.features_bd);
            let loss = tape.weighted_sum(&terms).unwrap();
            t1 = Instant::now();
            tape.backward(&loss, &mut grads).unwrap();
            t2 = Instant::now();
            if step % 7 == 0 { println!("loss {}", loss.values()[0]); }
        }
        Step { rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, lr: 1e-3, decay: 0.01, number: step + 1, grad_scale: 1.0 }.apply(&mut params, &grads, &mut moments);
        let t3 = Instant::now();
        if step >= 3 { f.push((t1 - t0).as_secs_f64()); b.push((t2 - t1).as_secs_f64()); o.push((t3 - t2).as_secs_f64()); }
    }
    let med = |v: &mut Vec<f64>| { v.sort_by(f64::total_cmp); v[v.len() / 2] * 1e3 };
    let (f, b, o) = (med(&mut f), med(&mut b), med(&mut o));
    let hwm = std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap().to_string();
    println!("fwd {f:.1} bwd {b:.1} opt {o:.1} ms → {:.1} img/s {hwm}", 64e3 / (f + b + o));
}
