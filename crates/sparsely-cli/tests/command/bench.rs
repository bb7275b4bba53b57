//! Measurements: that they run and tell what they should, not how fast.

use super::{run, stderr, stdout, train_tiny};
use serde_json::Value;

/// The lines of a benchmark that is asked for JSON.
fn lines(args: &[&str]) -> Vec<Value> {
    let output = run(&[&["bench"], args, &["--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("{field} of {line}"))
}

/// The kernel, and a share that is the speed over the peak.
fn tells_its_speed(line: &Value) {
    assert!(line["kernel"].is_string(), "{line}");
    let share = number(line, "flops_per_second") / number(line, "peak_flops_per_second");
    assert!((number(line, "share_of_peak") / share - 1.0).abs() < 1e-9, "{line}");
}

#[test]
fn a_training_step_tells_the_kernel_and_its_share_of_the_peak() {
    for precision in ["f32", "bf16"] {
        let model = "vmoe-192x6-e8-k1-last2";
        let args = ["train", "--model", model, "--precision", precision];
        let lines = lines(&[&args[..], &["--batch", "8", "--steps", "1"]].concat());
        let [line] = &lines[..] else { panic!("{lines:?}") };
        tells_its_speed(line);
        // Experts beyond their capacity drop tokens, so there are at most the dense model's products and the router's.
        let flops = number(line, "flops_per_second") / number(line, "images_per_second");
        assert!((1.0e9..1.11e9).contains(&flops), "{flops} FLOPs an image");
    }
}

#[test]
fn products_are_measured_by_name() {
    let lines = lines(&["gemm", "--model", "many", "--precision", "f32", "--steps", "1"]);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    tells_its_speed(line);
    let refused = run(&["bench", "gemm", "--model", "backward"]);
    let known = "forward, inference, input gradient, many, weight gradient";
    let line = format!("there is no product `backward` to measure; there are {known}");
    assert_eq!(stderr(&refused), format!("sparsely: {line}\n"));
}

#[test]
fn inference_is_measured_from_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let [line] = &lines(&["infer", "--batch", "2", "--run", out.to_str().unwrap()])[..] else {
        panic!("one line");
    };
    assert!(number(line, "milliseconds") > 0.0 && number(line, "peak_flops_per_second") > 0.0);
    let refused = run(&["bench", "infer", "--model", "s31"]);
    let line = "there is no size `s31` to measure; there are 6x96, 12x192, 6x96/4, 12x192/4, s32";
    assert_eq!(stderr(&refused), format!("sparsely: {line}\n"));
}

#[test]
fn routing_that_drops_nothing_is_measured_beside_seats() {
    let lines = lines(&["moe", "--model", "dropless", "--steps", "1"]);
    let dropless: Vec<&Value> = lines.iter().filter(|line| line["loads"] == "routed").collect();
    let cases = [[1, 800], [2, 400], [1, 3200], [2, 1600]];
    let told = dropless.iter().map(|line| {
        let kept = number(line, "kept_share");
        assert!((0.8..=1.0).contains(&kept), "{line}");
        let ratio = number(line, "forward_seconds") / number(line, "capacity_forward_seconds");
        assert!((number(line, "forward_over_capacity") / ratio - 1.0).abs() < 1e-9, "{line}");
        [&line["num_selected"], &line["tokens"]].map(|n| n.as_u64().unwrap())
    });
    assert_eq!(told.collect::<Vec<_>>(), cases);
    let refused = run(&["bench", "moe", "--model", "dense"]);
    let line = "there is no part `dense` to measure; there are experts, dropless";
    assert_eq!(stderr(&refused), format!("sparsely: {line}\n"));
}
