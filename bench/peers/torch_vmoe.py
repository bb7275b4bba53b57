"""The V-MoE of `sparsely bench train` and `sparsely bench infer`, as PyTorch's users write it.

Token choice with 8 experts, softmax gates, noise, importance and load losses, capacity 1.05. PyTorch has no grouped
product for the CPU, so the experts are written in both ways that serve: `loop`, rows gathered for each expert
(index_select, index_add), and `bmm`, buffers of equal size padded with zeros. `--check` compares the two. Prints one JSON
line with the fields of `sparsely bench train --json` (or, with `--infer`, of `bench infer --json`), and the memory that
the import alone takes.

    python torch_vmoe.py [--infer] [--k 1] [--placement last2|every2] [--experts loop|bmm] [--compile] [--bf16]
                         [--threads 2] [--batch 64] [--steps 12] [--check]
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

from torch_vit import WARM_UP, Block, peak_bytes, training_seconds

EXPERTS = 8
CAPACITY = 1.05


class Experts(nn.Module):
    """Rows [N, D] of tokens, sorted or not, through the expert of each."""

    def __init__(self, width, mlp_width, way):
        super().__init__()
        self.way = way
        bound_in, bound_out = math.sqrt(3 / width), math.sqrt(3 / mlp_width)
        self.w_in = nn.Parameter(torch.empty(EXPERTS, width, mlp_width).uniform_(-bound_in, bound_in))
        self.w_out = nn.Parameter(torch.empty(EXPERTS, mlp_width, width).uniform_(-bound_out, bound_out))
        self.b_in = nn.Parameter(torch.zeros(EXPERTS, 1, mlp_width))
        self.b_out = nn.Parameter(torch.zeros(EXPERTS, 1, width))

    def forward(self, x, gates, experts, kept, seats):
        """x [T, D]; gates, experts, kept, seats [K, T]; `seats` are places in a buffer of each expert."""
        return (self.loop if self.way == "loop" else self.padded)(x, gates, experts, kept, seats)

    def loop(self, x, gates, experts, kept, _seats):
        out = torch.zeros_like(x)
        for e in range(EXPERTS):
            rank, token = torch.where((experts == e) & kept)
            h = F.gelu(torch.addmm(self.b_in[e], x.index_select(0, token), self.w_in[e]), approximate="tanh")
            y = torch.addmm(self.b_out[e], h, self.w_out[e])
            out = out.index_add(0, token, (y * gates[rank, token, None]).to(out.dtype))
        return out

    def padded(self, x, gates, experts, kept, seats):
        k, t = experts.shape
        room = int(seats.max()) + 1 if not torch.compiler.is_compiling() else self.room
        places = torch.where(kept, experts * room + seats, EXPERTS * room)
        source = torch.full((EXPERTS * room + 1,), t, dtype=torch.long)
        source = source.scatter(0, places.reshape(-1), torch.arange(t).repeat(k))[:-1]
        rows = torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, source).reshape(EXPERTS, room, -1)
        h = F.gelu(torch.baddbmm(self.b_in, rows, self.w_in), approximate="tanh")
        y = torch.baddbmm(self.b_out, h, self.w_out).reshape(EXPERTS * room, -1)
        y = torch.cat([y, y.new_zeros(1, y.shape[1])])
        return sum(gates[r, :, None] * y.index_select(0, places[r]) for r in range(k))


class Moe(nn.Module):
    def __init__(self, width, mlp_width, k, way, group):
        super().__init__()
        self.k, self.group = k, group
        self.router = nn.Linear(width, EXPERTS, bias=False)
        self.experts = Experts(width, mlp_width, way)
        self.losses = 0.0

    def forward(self, x):
        b, l, d = x.shape
        tokens = b * l
        group = min(self.group, b) * l
        flat = x.reshape(tokens, d)
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(flat.float(), self.router.weight)
            noisy = logits + torch.randn_like(logits) / EXPERTS if self.training else logits
            all_gates = noisy.softmax(-1)
            gates, experts = all_gates.topk(self.k, -1)
            if self.training:
                self.losses = self.auxiliary(logits, noisy, logits.softmax(-1), experts)
        capacity = math.ceil(self.k * group * CAPACITY / EXPERTS)
        # [G, K·S]: all first choices before all second ones.
        choices = experts.reshape(-1, group, self.k).transpose(1, 2).reshape(-1, self.k * group)
        position = F.one_hot(choices, EXPERTS).cumsum(1).gather(2, choices[..., None])[..., 0] - 1
        rank_major = lambda a: a.reshape(-1, self.k, group).transpose(0, 1).reshape(self.k, tokens)
        kept = rank_major(position < capacity)
        offset = torch.arange(tokens // group)[:, None] * capacity
        seats = rank_major(offset + position.clamp(max=capacity - 1))
        self.experts.room = tokens // group * capacity
        y = self.experts(flat, gates.t().to(x.dtype), experts.t().contiguous(), kept, seats)
        return y.reshape(b, l, d)

    def auxiliary(self, logits, noisy, gates, experts):
        squared_cv = lambda v: v.var(unbiased=False) / v.mean().square()
        threshold = noisy.topk(self.k, -1).values[:, -1:]
        load = (1 - torch.special.ndtr((threshold - logits) * EXPERTS)).mean(0)
        return 0.005 * (squared_cv(gates.sum(0)) + squared_cv(load))


class SparseBlock(Block):
    def __init__(self, width, heads, mlp_width, *moe):
        super().__init__(width, heads, mlp_width)
        del self.dense_0, self.dense_1
        self.moe = Moe(width, mlp_width, *moe)

    def mlp(self, x):
        return self.moe(x)


class VMoe(nn.Module):
    def __init__(self, pixels, tokens, width, depth, heads, mlp_width, classes, sparse, moe):
        super().__init__()
        self.embedding = nn.Linear(pixels, width)
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = nn.Sequential(*[
            SparseBlock(width, heads, mlp_width, *moe) if i in sparse else Block(width, heads, mlp_width)
            for i in range(depth)
        ])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, patches):
        x = self.blocks(self.embedding(patches) + self.positions)
        return self.head(self.norm(x).mean(1))

    def losses(self):
        return sum(block.moe.losses for block in self.blocks if isinstance(block, SparseBlock))


def model_of(args, way):
    torch.manual_seed(0)
    if args.infer:
        return VMoe(3072, 49, 384, 12, 6, 1536, 1000, [9, 11], (args.k, way, 1))
    sparse = [3, 5] if args.placement == "last2" else [1, 3, 5]
    return VMoe(48, 64, 192, 6, 3, 768, 10, sparse, (args.k, way, 8))


def infer(args, model):
    patches = torch.randn(args.batch, 49, 3072)
    model.eval()
    forward = torch.compile(model) if args.compile else model
    seconds = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        for step in range(WARM_UP + 4 * args.steps):
            begin = time.perf_counter()
            forward(patches)
            if step >= WARM_UP:
                seconds.append(time.perf_counter() - begin)
    return seconds


def check(args):
    patches = torch.randn(8, 49, 3072) if args.infer else torch.randn(8, 64, 48)
    results = []
    for way in ("loop", "bmm"):
        model = model_of(args, way).eval()
        y = model(patches)
        y.square().sum().backward()
        results.append([y.detach(), model.blocks[-1].moe.experts.w_in.grad])
    for name, a, b in zip(("outputs", "gradients"), *results):
        worst = ((a - b).abs().max() / a.abs().max()).item()
        assert worst < 1e-4, f"{name} differ by {worst} of the largest"
    print("both ways agree")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--infer", action="store_true")
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--placement", choices=["last2", "every2"], default="last2")
    parser.add_argument("--experts", choices=["loop", "bmm"], default="loop")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    import_bytes = peak_bytes()
    if args.check:
        return check(args)
    model = model_of(args, args.experts)
    seconds = infer(args, model) if args.infer else training_seconds(args, model, model.losses)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    mode = "compiled" if args.compile else "eager"
    told = {
        "peer": f"torch {torch.__version__} {mode} {args.experts}",
        "precision": "bf16" if args.bf16 else "f32",
        "threads": args.threads,
        "batch": args.batch,
        "peak_bytes": peak_bytes(),
        "import_bytes": import_bytes,
    }
    if args.infer:
        told |= {"size": "s32", "routed": f"token, K {args.k}", "milliseconds": 1e3 * median / args.batch}
    else:
        told |= {"model": f"vmoe-192x6-e8-k{args.k}-{args.placement}", "images_per_second": args.batch / median}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
