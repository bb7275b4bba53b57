"""The dense ViT of `sparsely bench train --model vit-192x6`, as PyTorch's users write it.

Fused AdamW, scaled_dot_product_attention, tanh GELU. Prints one JSON line with the fields of
`sparsely bench train --json`, and the memory that the import alone takes.

    python torch_vit.py [--compile] [--bf16] [--threads 2] [--batch 64] [--steps 12]
"""

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

WARM_UP = 3


class Block(nn.Module):
    def __init__(self, width, heads, mlp_width):
        super().__init__()
        self.heads = heads
        self.norm_0, self.norm_1 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense_0, self.dense_1 = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x):
        b, l, d = x.shape
        qkv = self.qkv(self.norm_0(x)).reshape(b, l, 3, self.heads, d // self.heads)
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.out(mixed.transpose(1, 2).reshape(b, l, d))
        return x + self.mlp(self.norm_1(x))

    def mlp(self, x):
        return self.dense_1(F.gelu(self.dense_0(x), approximate="tanh"))


class Vit(nn.Module):
    def __init__(self, pixels=48, tokens=64, width=192, depth=6, heads=3, mlp_width=768, classes=10):
        super().__init__()
        self.embedding = nn.Linear(pixels, width)
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads, mlp_width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, patches):
        x = self.blocks(self.embedding(patches) + self.positions)
        return self.head(self.norm(x).mean(1))


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def training_seconds(args, model, losses=lambda: 0.0):
    """Of each step after the first few, in order; `losses` are added to the task's."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    forward = torch.compile(model) if args.compile else model
    patches, labels = torch.randn(args.batch, 64, 48), torch.arange(args.batch) % 10
    seconds = []
    for step in range(WARM_UP + args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = F.cross_entropy(forward(patches).float(), labels) + losses()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    import_bytes = peak_bytes()

    torch.manual_seed(0)
    seconds = training_seconds(args, Vit())
    seconds.sort()
    mode = "compiled" if args.compile else "eager"
    print(json.dumps({
        "model": "vit-192x6",
        "peer": f"torch {torch.__version__} {mode}",
        "precision": "bf16" if args.bf16 else "f32",
        "threads": args.threads,
        "batch": args.batch,
        "images_per_second": args.batch / seconds[len(seconds) // 2],
        "peak_bytes": peak_bytes(),
        "import_bytes": import_bytes,
    }))


if __name__ == "__main__":
    main()
