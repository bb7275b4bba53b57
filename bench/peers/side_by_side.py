"""Runs `sparsely bench train` and its peers in turn and prints the medians beside one another.

    python side_by_side.py --sparsely ../../target/release/sparsely --python VENV/bin/python [--rounds 5]

Machines drift; alternating and taking medians compares like with like. The environment is
passed on, so set LD_LIBRARY_PATH and the like before.
"""

import argparse
import json
import pathlib
import statistics
import subprocess


def lines(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sparsely", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    twin = str(pathlib.Path(__file__).with_name("torch_vit.py"))
    threads = ["--threads", str(args.threads)]
    ours = [args.sparsely, *threads, "bench", "train", "--json", "--model"]
    commands = [
        [args.python, twin, *threads],
        [*ours, "vit-192x6"],
        [*ours, "vmoe-192x6-e8-k1-last2"],
        [*ours, "vmoe-192x6-e8-k2-last2"],
    ]
    rows = {}
    for _ in range(args.rounds):
        for command in commands:
            for row in lines(command):
                name = f"{row.get('peer', 'sparsely')} {row['model']} {row['precision']}"
                rows.setdefault(name, []).append(row)
    for name, measured in rows.items():
        rates = [row["images_per_second"] for row in measured]
        peak = statistics.median(row["peak_bytes"] for row in measured) / 1e6
        above = statistics.median(
            row["peak_bytes"] - row.get("import_bytes", 0) for row in measured) / 1e6
        print(f"{name}: {statistics.median(rates):.1f} images/s "
              f"(from {min(rates):.1f} to {max(rates):.1f}), "
              f"peak {peak:.0f} MB, above the import {above:.0f} MB")


if __name__ == "__main__":
    main()
