"""Runs a benchmark of `sparsely bench` and its peers in turn and prints the medians beside one another.

    python side_by_side.py [train|attention|infer|gemm] --sparsely ../../target/release/sparsely --python VENV/bin/python
                           [--rounds 5] [--threads 2] [--precisions f32,bf16]
                           [--modes eager,compile,bf16,compile+bf16] [--steps N]

Machines drift; alternating and taking medians compares like with like. The environment is
passed on, so set LD_LIBRARY_PATH and the like before.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).parent
# The figures of a row: its field, unit, and by what it is multiplied.
FIGURES = [
    ("images_per_second", "images/s", 1),
    ("milliseconds", "ms/image", 1),
    ("flops_per_second", "GFLOP/s", 1e-9),
    ("share_of_peak", "% of the peak", 100),
    ("forward_seconds", "ms forward", 1e3),
    ("forward_and_backward_seconds", "ms with backward", 1e3),
    ("kept_bytes", "MB kept", 1e-6),
    ("peak_bytes", "MB peak", 1e-6),
]


def lines(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def commands(args):
    """Ours in all precisions, and the peers in all modes that were asked for."""
    threads = ["--threads", str(args.threads)]
    steps = ["--steps", str(args.steps)] if args.steps else []
    ours = [
        [args.sparsely, *threads, "bench", args.what, "--json", *steps, "--precision", precision]
        for precision in args.precisions.split(",")
    ]
    modes = [["--" + flag for flag in mode.split("+") if flag != "eager"] for mode in args.modes.split(",")]
    twin = lambda name, *rest: [args.python, str(HERE / name), *threads, *steps, *rest]
    if args.what == "train":
        places = ["last2", "every2"]
        models = ["vit-192x6", *(f"vmoe-192x6-e8-k{k}-{place}" for place in places for k in (1, 2))]
        own = [[*command, "--model", model] for command in ours for model in models]
        sparse = [
            ["--k", k, "--placement", place, "--experts", way]
            for place in places
            for k in ("1", "2")
            for way in ("loop", "bmm")
        ]
        return own + [
            command
            for mode in modes
            for command in [twin("torch_vit.py", *mode), *(twin("torch_vmoe.py", *way, *mode) for way in sparse)]
        ]
    if args.what == "infer":
        asked = ["--infer", "--k", "2"] if args.steps else ["--infer", "--k", "2", "--steps", "4"]
        return [[*command, "--model", "s32"] for command in ours] + [
            twin("torch_vmoe.py", *asked, "--batch", batch, "--experts", way, *mode)
            for mode in modes
            for batch in ("1", "8")
            for way in ("loop", "bmm")
        ]
    if args.what == "gemm":
        return ours + [twin("torch_gemm.py", *mode) for mode in modes]
    layers = [["--layer", "dense"], *(["--experts", way] for way in ("all", "loop"))]
    return ours + [twin("torch_attention.py", *layer, *mode) for mode in modes for layer in layers]


def name_of(row):
    if "product" in row:
        what = f"{row['product']} {row['count']} x {row['m']}x{row['k']}x{row['n']}"
    else:
        what = row.get("model") or row.get("layer") or f"{row['size']} {row['routed']} batch {row['batch']}"
    return f"{row.get('peer', 'sparsely')} {what} {row['precision']}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["train", "attention", "infer", "gemm"], default="train")
    parser.add_argument("--sparsely", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", default="f32")
    parser.add_argument("--modes", default="eager")
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    rows = {}
    for _ in range(args.rounds):
        for command in commands(args):
            for row in lines(command):
                rows.setdefault(name_of(row), []).append(row)
    for name, measured in rows.items():
        told = []
        for field, unit, times in FIGURES:
            values = [times * row[field] for row in measured if field in row]
            if values:
                told.append(f"{statistics.median(values):.1f} {unit} "
                            f"(from {min(values):.1f} to {max(values):.1f})")
        above = [(row["peak_bytes"] - row["import_bytes"]) / 1e6 for row in measured if "import_bytes" in row]
        if above:
            told.append(f"{statistics.median(above):.0f} MB above the import")
        print(f"{name}: {', '.join(told)}")


if __name__ == "__main__":
    main()
