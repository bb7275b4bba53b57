//! What models cost, without running them.

use crate::{run, stderr, stdout, train_tiny};
use serde_json::Value;

/// The answer, which must come without a word on stderr.
fn cost(args: &[&str]) -> String {
    let output = run(&[&["cost"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&cost(args)).expect("one line of JSON")
}

/// The command must refuse with exactly this line.
fn refuses(args: &[&str], line: &str) {
    let output = run(&[&["cost"], args].concat());
    assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
    assert_eq!(output.status.code(), Some(2));
}

const CLUSTER: [&str; 8] =
    ["--devices", "64", "--memory", "80GB", "--link", "50GB/s", "--flops", "400T"];

#[test]
fn a_preset_is_told_by_part_and_by_layer() {
    let expected = "\
digits: images of 8×8×1, 16 tokens each, 10 classes, batch 32
8 experts in 2 blocks, groups of 8 images, chosen equally often: 1024 rows for 512 tokens in each

part                params   active  MACs/image  FLOPs/image    share  touched/image  kept/image
embedding           1.34 k   1.34 k      4.10 k      10.24 k    0.2 %        8.62 kB       256 B
norms               1.15 k   1.15 k           0      46.08 k    0.8 %       73.87 kB    38.02 kB
attention          66.56 k  66.56 k      1.18 M       2.40 M   41.6 %       188.5 kB    81.92 kB
dense MLPs         33.15 k  33.15 k     524.3 k       1.09 M   18.9 %       61.49 kB    24.58 kB
routers             1.02 k   1.02 k     16.38 k      34.05 k    0.6 %        9.34 kB    10.24 kB
dispatch, combine        0        0      4.10 k      10.24 k    0.2 %       32.77 kB       256 B
experts            265.2 k  66.30 k      1.05 M       2.17 M   37.7 %       131.5 kB    32.77 kB
head                   650      650         640       1.29 k    0.0 %          377 B       296 B
all                369.1 k  170.2 k      2.78 M       5.77 M  100.0 %       506.5 kB    188.3 kB

layer (one of them)   params   active  MACs/image  FLOPs/image   share  touched/image  kept/image
blocks 0 2           33.47 k  33.47 k     557.1 k       1.16 M  20.0 %       94.30 kB    41.22 kB
blocks 1 3, experts  150.0 k  50.56 k     829.4 k       1.72 M  29.8 %       150.3 kB    50.56 kB

memory     weights  gradients  moments  activations       all
inference  1.48 MB          –        –      1.31 MB   2.79 MB
training   1.48 MB    1.48 MB  2.95 MB      6.54 MB  12.44 MB

a training step is 557.0 MFLOPs, 184.5 MFLOPs of them forward

MACs: of matrix products and gated sums. FLOPs: 2 for each, 5 for a value of a norm or
softmax, 8 for a GELU, 1 for an addition. Active: what one token meets. Touched: weights once
for the batch, and what each operation reads and writes. Kept: for the backward pass. All
values are f32.
";
    assert_eq!(cost(&["digits"]), expected);
}

#[test]
fn a_plan_tells_memory_traffic_time_and_what_it_assumes() {
    let expected = "\
vmoe-15b: 14.71 G parameters, 13.85 G of them in 32 experts a layer; 64 devices, 4096 images a step, 64 on each
each device: 80.00 GB of memory at 2.00 TB/s, 50.00 GB/s to others, 400.0 TFLOPs/s

expert-parallel  data-parallel   weights  gradients   moments  activations       all  fits
1                           64  58.82 GB   58.82 GB  117.6 GB     33.49 GB  268.8 GB    no
2                           32  31.13 GB   31.13 GB  62.25 GB     33.49 GB  158.0 GB    no
4                           16  17.28 GB   17.28 GB  34.56 GB     33.49 GB  102.6 GB    no
8                            8  10.36 GB   10.36 GB  20.71 GB     33.49 GB  74.91 GB   yes
16                           4   6.89 GB    6.89 GB  13.79 GB     33.49 GB  61.06 GB   yes
32                           2   5.16 GB    5.16 GB  10.32 GB     33.49 GB  54.14 GB   yes

expert-parallel  data-parallel  all-to-all  all-reduce   compute    memory      link      step
1                           64         0 B    115.8 GB  425.3 ms  410.1 ms    2.32 s    2.32 s
2                           32     4.45 GB    60.41 GB  425.3 ms  271.6 ms    1.30 s    1.30 s
4                           16     6.67 GB    32.72 GB  425.3 ms  202.4 ms  787.8 ms  787.8 ms
8                            8     7.78 GB    18.87 GB  425.3 ms  167.8 ms  533.1 ms  533.1 ms
16                           4     8.34 GB    11.95 GB  425.3 ms  150.5 ms  405.7 ms  425.3 ms
32                           2     8.62 GB     8.49 GB  425.3 ms  141.8 ms  342.0 ms  425.3 ms

assumed:
  weights, gradients and AdamW's two moments are 4 bytes a value
  activations and the rows sent to experts are 2; all are kept but attention matrices
  experts are chosen equally often; groups do not span devices
  all-to-all: routed rows go to the experts and back, forward and backward; own ones stay
  all-reduce: a ring, of dense gradients over all devices, of an expert's over its copies
  weights pass through memory twice and once written as gradients; AdamW reads 4, writes 3
  activations pass through memory once forward and twice backward
  a step is the longest of compute, memory and link if they overlap, else their sum

recommended: expert-parallel 32 × data-parallel 2: a step takes 425.3 ms (bound by compute; 909.1 ms in turn), 9631 images/s
";
    assert_eq!(cost(&[&["vmoe-15b"][..], &CLUSTER].concat()), expected);
}

#[test]
fn the_papers_tables_are_counted() {
    let expected = "\
model                              L     D   H    A   E  K        MLP    T   params    MACs  memory  executed MACs  executed memory
C4 47M Transformer-XL             16   412  10   41   –  –       2053  256   47.26M  453.4M    3.5M         647.4M             3.7M
C4 47M SwitchHead                 16   412   2   76   5  3       2080  256   47.25M  202.5M    0.8M         339.7M             0.9M
C4 262M Transformer-XL            18  1024  16   64   –  –       4110  512  262.48M    5.4G   21.0M           7.5G            22.0M
C4 262M SwitchHead                18  1024   4  112   4  2       4188  512  262.37M    2.4G    5.6M           4.0G             6.5M
WikiText-103 47M SwitchHead       16   412   2   76   5  2       2080  256   47.25M  170.4M    0.8M         291.5M             0.9M
WikiText-103 262M Transformer-XL  18  1024  16   64   –  –       4110  512  262.48M    5.4G   21.0M           7.5G            22.0M
WikiText-103 262M SwitchHead      18  1024   2  132   8  4       4147  512  262.48M    2.0G    2.9M           3.2G             3.5M
WikiText-103 262M MoA             18  1024   8  144  16  –       4147  512  262.63M    2.9G    9.9M           4.2G            10.2M
Enwik8 41M Transformer-XL         12   512   8   64   –  –       2053  512   41.23M    1.6G   10.5M           2.4G            11.0M
Enwik8 41M SwitchHead             12   512   2  112   4  2       2088  512   41.16M  709.3M    2.8M           1.2G             3.3M
RoPE 45M dense RoPE               16   412  10   41   –  –       2053  512   44.54M  560.9M    6.1M         560.9M             6.1M
RoPE 45M SwitchHead               16   412   2   64   5  3       2092  512   44.51M  285.6M    1.3M         287.7M             1.3M
SwitchAll 259M SwitchHead         18  1024   4  112   4  2  32×128, 4  512  259.48M    2.4G    5.6M           4.0G             6.5M

MACs and values in memory of one attention layer and sequence: as the authors count them,
and as their code executes them, the same rules for all.
";
    assert_eq!(cost(&["--paper", "switchhead"]), expected);
    let vmoe = cost(&["--paper", "vmoe"]);
    assert_eq!(vmoe.lines().count(), 27);
    let row = "V-MoE S/32 E8 last 2           8   512  2048      8     57.0M     31.8M       1.57G";
    assert!(vmoe.lines().any(|line| line == row), "{vmoe}");
    let lines = cost(&["--paper", "vmoe", "--json"]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["model"], lines.lines().count()), (&"Soft MoE H/14 E256".into(), 26));
}

#[test]
fn batch_resolution_k_and_capacity_are_free() {
    let base = json(&["vmoe-s32", "--json"]);
    let with = |args: &[&str]| json(&[&["vmoe-s32", "--json"], args].concat());
    let number = |value: &Value, name: &str| value[name].as_f64().expect("a number");
    assert_eq!(base["batch"], 64);

    let single = with(&["--batch", "1"]);
    for name in ["params", "macs_per_image", "flops_per_image"] {
        assert_eq!(single[name], base[name], "{name}");
    }
    // One image reads all weights that 64 share.
    assert!(number(&single, "touched_bytes_per_image") > number(&base, "touched_bytes_per_image"));

    // 14 · 14 patches and the class token; a position for each.
    let large = with(&["--resolution", "448"]);
    assert_eq!(large["tokens_per_image"], 197);
    assert_eq!(number(&large, "params") - number(&base, "params"), (147 * 512) as f64);

    // Half of the rows: 2 layers of 50 tokens less, each 2·D·F and a gated sum of D.
    let less = 2.0 * 50.0 * (2.0 * 512.0 * 2048.0 + 512.0);
    for half in
        [&["--k", "1"][..], &["--capacity", "0.5"], &["--set", "model.moe.router.num_selected=1"]]
    {
        assert_eq!(number(&base, "macs_per_image") - number(&with(half), "macs_per_image"), less);
    }
    // Of K experts, 512·2048·2 + 2048 + 512 parameters in each of 2 layers.
    let active = number(&base, "active_params") - number(&with(&["--k", "1"]), "active_params");
    assert_eq!(active, (2 * (2 * 512 * 2048 + 2048 + 512)) as f64);
}

#[test]
fn a_run_costs_what_its_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let run = json(&[out.to_str().unwrap(), "--json"]);
    let sets = ["model.width=16", "model.heads=2", "model.mlp_width=32"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let preset = json(&[&["digits", "--json"][..], &sets].concat());
    for name in ["params", "macs_per_image", "training_memory", "parts"] {
        assert_eq!(run[name], preset[name], "{name}");
    }
}

#[test]
fn a_plan_that_does_not_fit_says_why_and_exits_with_1() {
    let small = ["--devices", "8", "--memory", "16GB", "--link", "50GB/s", "--flops", "400T"];
    let output = run(&[&["cost", "vmoe-15b"][..], &small].concat());
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
    let line = "nothing fits: expert-parallel 8 asks for 74.91 GB on each device, 33.49 GB of it activations, but there are 16.00 GB; no batch is small enough";
    assert_eq!(stdout(&output).lines().last(), Some(line));
    let output = run(&[&["cost", "vmoe-15b", "--json"][..], &small].concat());
    assert_eq!(output.status.code(), Some(1));
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&plan["recommended"], &plan["reason"]), (&Value::Null, &line.into()));
    let plan = json(&[&["vmoe-15b", "--json"][..], &CLUSTER].concat());
    assert_eq!(plan["recommended"]["expert_parallel"], 32);
}

#[test]
fn what_cannot_be_counted_is_one_line() {
    let names = "expected `digits`, or `vit-`, `vmoe-`, `soft-` or `mobile-` with a size ti, s, b, l, h \
                 or 15b and a patch, such as `vmoe-ti4`, or blocks and width, such as `mobile-6x96` or \
                 `vit-6x96/4`, or a language model such as `switchhead-1m`";
    refuses(
        &["vmoe-s3x"],
        &format!(
            "`vmoe-s3x` is no run folder: preset: {names}, got `vmoe-s3x`; did you mean `vmoe-s32` or `vmoe-s16`?"
        ),
    );
    refuses(&["resnet"], &format!("`resnet` is no run folder: preset: {names}, got `resnet`"));
    refuses(&["src"], "`src`: expected the folder of a run, got a folder without `config.toml`");
    refuses(&["digits", "--k", "9"], "cost: expected 1 to 8 selected experts per token, got 9");
    refuses(&["digits", "--batch", "0"], "cost: expected a batch of at least 1 image, got 0");
    refuses(
        &["digits", "--batch", "18446744073709551615"],
        "cost: expected less than 1e18 multiply-accumulates, got about 6e25 for a batch of \
         18446744073709551615 images of 16 tokens",
    );
    refuses(
        &["vit-s32", "--resolution", "16"],
        "invalid configuration: model.patch_size 32 is larger than model.image_size 16",
    );
    refuses(&["vit-s32", "--k", "1"], "routing was asked of a dense model: it has no experts");

    let plan = |name: &str, value: &str| -> Vec<String> {
        let mut args = [&["vmoe-15b"][..], &CLUSTER].concat();
        match args.iter().position(|arg| *arg == name) {
            Some(at) => args[at + 1] = value,
            None => args.extend([name, value]),
        }
        args.into_iter().map(str::to_string).collect()
    };
    for (name, value, line) in [
        (
            "--memory",
            "80XB",
            "--memory: expected a number above 0 with a unit, such as 80GB, got `80XB`",
        ),
        (
            "--link",
            "fast",
            "--link: expected a number above 0 with a unit, such as 50GB/s, got `fast`",
        ),
        ("--flops", "0T", "--flops: expected a number above 0 with a unit, such as 400T, got `0T`"),
        (
            "--bandwidth",
            "2TB/h",
            "--bandwidth: expected a number above 0 with a unit, such as 2TB/s, got `2TB/h`",
        ),
        ("--devices", "0", "--devices: expected at least 1, got 0"),
        (
            "--batch",
            "65",
            "--batch: expected a multiple of 64 images, a share for each device, got 65",
        ),
        (
            "--batch",
            "0",
            "--batch: expected a multiple of 64 images, a share for each device, got 0",
        ),
    ] {
        let args = plan(name, value);
        refuses(&args.iter().map(String::as_str).collect::<Vec<_>>(), line);
    }
}
