"""The products of `sparsely bench gemm`, as PyTorch's users write them.

Factors lie in memory in the precision that is asked for, weights too, and so do results. Ours reads f32 weights in
training (`forward`) and weights that were packed once in inference (`inference`): hold both against `forward` here. Prints JSON lines with the fields of `sparsely bench gemm --json`.

    python torch_gemm.py [--bf16] [--threads 2] [--steps 12]
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F

PRODUCTS = [
    ("forward", 3136, 192, 768), ("forward", 3136, 768, 192), ("input gradient", 3136, 768, 192),
    ("weight gradient", 192, 3136, 768), ("forward", 392, 384, 1536), ("forward", 49, 192, 768),
    ("forward", 1600, 768, 3072), ("weight gradient", 768, 1600, 3072), ("forward", 1024, 1024, 1024),
    ("many", 64, 64, 64),
]
MANY = 192
WARM_UP = 3


def product(name, m, k, n, dtype):
    draw = lambda *shape: torch.rand(*shape).mul(2).sub(1).to(dtype)
    if name == "many":
        a, b = draw(MANY, m, k), draw(MANY, k, n)
        return lambda: torch.bmm(a, b)
    if name == "weight gradient":
        a, b = draw(k, m), draw(k, n)
        return lambda: a.t() @ b
    if name == "input gradient":
        a, w = draw(m, k), draw(k, n)
        return lambda: a @ w
    a, w = draw(m, k), draw(n, k)
    return lambda: F.linear(a, w)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="nothing: a single product is the same compiled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, m, k, n in PRODUCTS:
        count = MANY if name == "many" else 1
        flops = 2 * count * m * k * n
        run = product(name, m, k, n, torch.bfloat16 if args.bf16 else torch.float32)
        seconds = []
        for step in range(WARM_UP + max(args.steps, int(1e10 / flops))):
            begin = time.perf_counter()
            run()
            if step >= WARM_UP:
                seconds.append(time.perf_counter() - begin)
        median = sorted(seconds)[len(seconds) // 2]
        print(json.dumps({
            "peer": f"torch {torch.__version__}", "product": name, "m": m, "k": k, "n": n, "count": count,
            "precision": "bf16" if args.bf16 else "f32", "threads": args.threads, "seconds": median,
            "flops_per_second": flops / median,
        }))


if __name__ == "__main__":
    main()
