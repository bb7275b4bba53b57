"""The attention layers of `sparsely bench attention`, as PyTorch's users write them.

One layer of width 1024, 512 tokens after 512 of memory, Transformer-XL positions: dense with 16 heads of 64, and
SwitchHead (arXiv 2312.07987) with 4 heads of 112, 4 experts, 2 chosen. PyTorch has no grouped product for the CPU, so
SwitchHead's experts are written in both ways that serve: `all`, one product with the weights of all experts whose results
are weighed by gates that are mostly 0, and `loop`, rows gathered for each expert (index_select, index_add). Prints one
JSON line with the fields of `sparsely bench attention --json`, and the memory that the import alone takes.

    python torch_attention.py [--layer dense|switchhead] [--experts all|loop] [--compile] [--bf16]
                              [--threads 2] [--batch 4] [--steps 10] [--check]
"""

import argparse
import json
import math
import time

import torch
from torch import nn

from torch_vit import peak_bytes

WARM_UP = 2
WIDTH, TOKENS, MEMORY = 1024, 512, 512


def sinusoids():
    """Of the distances key - query from -(TOKENS + MEMORY - 1) to 0."""
    omega = 1e4 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    angle = torch.arange(-(TOKENS + MEMORY - 1), 1)[:, None] * omega
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(-1, WIDTH)


def shifted(scores):
    """[.., T, R] by distance, the last of them 0, to [.., T, TOKENS + MEMORY] by key."""
    *lead, t, r = scores.shape
    padded = torch.cat([scores, scores.new_zeros(*lead, t, t)], -1)
    # Row t begins at key 0, which is t + MEMORY behind: column R - 1 - t - MEMORY.
    flat = padded.reshape(*lead, t * (r + t))[..., t - 1:]
    return flat[..., : t * (r + t - 1)].reshape(*lead, t, r + t - 1)[..., :r]


class Positioned(nn.Module):
    def __init__(self, heads, head_width):
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.to_distance = nn.Linear(WIDTH, heads * head_width, bias=False)
        self.register_buffer("sinusoids", sinusoids(), persistent=False)
        after = torch.ones(TOKENS, TOKENS + MEMORY).triu(MEMORY + 1).bool()
        self.register_buffer("after", after, persistent=False)

    def split(self, x):
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(-3, -2)

    def mix(self, queries, for_distances, keys, values, scale):
        """[B, H, T, A] over [B, H, L, A], to [B, T, H, A]."""
        distances = self.split(self.to_distance(self.sinusoids))
        scores = queries @ keys.transpose(-2, -1) + shifted(for_distances @ distances.transpose(-2, -1))
        scores = (scores * scale).masked_fill(self.after, -math.inf)
        return (scores.softmax(-1) @ values).transpose(-3, -2)


class Dense(Positioned):
    def __init__(self):
        super().__init__(16, 64)
        inner = self.heads * self.head_width
        self.queries = nn.Linear(WIDTH, inner, bias=False)
        self.keys_values = nn.Linear(WIDTH, 2 * inner, bias=False)
        self.out = nn.Linear(inner, WIDTH, bias=False)
        self.u = nn.Parameter(torch.zeros(self.heads, 1, self.head_width))
        self.v = nn.Parameter(torch.zeros(self.heads, 1, self.head_width))
        self.scale = nn.Parameter(torch.tensor(1 / math.sqrt(self.head_width)))

    def forward(self, x, memory):
        source = torch.cat([memory, x], 1)
        keys, values = self.keys_values(source).chunk(2, -1)
        queries = self.split(self.queries(x))
        mixed = self.mix(queries + self.u, queries + self.v, self.split(keys), self.split(values), self.scale)
        return self.out(mixed.flatten(-2))


class SwitchHead(Positioned):
    def __init__(self, experts, experts_per_head=4, selected=2):
        super().__init__(4, 112)
        self.way, self.experts_per_head, self.selected = experts, experts_per_head, selected
        inner, all_experts = self.heads * self.head_width, self.heads * experts_per_head
        self.queries, self.keys = nn.Linear(WIDTH, inner, bias=False), nn.Linear(WIDTH, inner, bias=False)
        self.values = nn.Parameter(torch.randn(all_experts, WIDTH, self.head_width) / math.sqrt(WIDTH))
        self.outputs = nn.Parameter(torch.randn(all_experts, self.head_width, WIDTH) / math.sqrt(inner))
        self.source_router = nn.Linear(WIDTH, all_experts, bias=False)
        self.destination_router = nn.Linear(WIDTH, all_experts, bias=False)

    def choose(self, router, x):
        """Gates [B, L, H, K] and experts' indices within their head."""
        scores = router(x).float().sigmoid().unflatten(-1, (self.heads, self.experts_per_head))
        return scores.topk(self.selected, -1)

    def gates_of_all(self, gates, chosen):
        """[B, L, H, E], 0 where an expert was not chosen."""
        return torch.zeros(*gates.shape[:-1], self.experts_per_head).scatter(-1, chosen, gates)

    def rows_of(self, chosen):
        """For each expert: the flat places in [B, L, H, K] that chose it."""
        own = torch.arange(self.heads)[:, None] * self.experts_per_head
        order = (chosen + own).flatten()
        count = torch.bincount(order, minlength=self.heads * self.experts_per_head)
        return order.argsort(stable=True).split(count.tolist())

    def value_experts(self, source):
        gates, chosen = self.choose(self.source_router, source)
        if self.way == "all":
            weights = self.values.permute(1, 0, 2).reshape(WIDTH, -1)
            all_values = (source @ weights).unflatten(-1, (self.heads, self.experts_per_head, -1))
            weighed = all_values * self.gates_of_all(gates, chosen)[..., None].to(all_values.dtype)
            return weighed.sum(-2)
        rows, flat = source.flatten(0, 1), gates.flatten()
        values = source.new_zeros(rows.shape[0] * self.heads, self.head_width)
        for weight, places in zip(self.values, self.rows_of(chosen)):
            found = (rows[places // (self.heads * self.selected)] @ weight) * flat[places, None]
            values = values.index_add(0, places // self.selected, found.to(values.dtype))
        return values.reshape(*source.shape[:2], self.heads, self.head_width)

    def output_experts(self, x, mixed):
        gates, chosen = self.choose(self.destination_router, x)
        if self.way == "all":
            spread = mixed[..., None, :] * self.gates_of_all(gates, chosen)[..., None].to(mixed.dtype)
            return spread.flatten(-3) @ self.outputs.flatten(0, 1)
        rows, flat = mixed.flatten(0, 2), gates.flatten()
        out = x.new_zeros(x.shape[0] * x.shape[1], WIDTH)
        for weight, places in zip(self.outputs, self.rows_of(chosen)):
            found = (rows[places // self.selected] * flat[places, None].to(rows.dtype)) @ weight
            out = out.index_add(0, places // (self.heads * self.selected), found.to(out.dtype))
        return out.reshape(x.shape)

    def forward(self, x, memory):
        source = torch.cat([memory, x], 1)
        values = self.value_experts(source).transpose(1, 2)
        queries, keys = self.split(self.queries(x)), self.split(self.keys(source))
        mixed = self.mix(queries, queries, keys, values, 1 / math.sqrt(self.head_width))
        return self.output_experts(x, mixed)


def check():
    """Both ways of SwitchHead agree, and distances stand where they belong."""
    torch.manual_seed(0)
    layer = SwitchHead("all")
    x, memory = torch.randn(1, TOKENS, WIDTH), torch.randn(1, MEMORY, WIDTH)
    one = layer(x, memory)
    layer.way = "loop"
    error = (layer(x, memory) - one).abs().max().item()
    assert error < 1e-4, error
    by_distance = torch.arange(-(TOKENS + MEMORY - 1.0), 1).expand(TOKENS, -1)
    keys, queries = torch.arange(TOKENS + MEMORY)[None], torch.arange(TOKENS)[:, None] + MEMORY
    seen = keys <= queries
    assert torch.equal(shifted(by_distance)[seen], (keys - queries).float()[seen])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", choices=["dense", "switchhead"], default="switchhead")
    parser.add_argument("--experts", choices=["all", "loop"], default="all")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.check:
        return check()
    import_bytes = peak_bytes()

    torch.manual_seed(0)
    layer = Dense() if args.layer == "dense" else SwitchHead(args.experts)
    call = torch.compile(layer) if args.compile else layer
    x = torch.randn(args.batch, TOKENS, WIDTH, requires_grad=True)
    memory = torch.randn(args.batch, MEMORY, WIDTH)
    forward, both = [], []
    for step in range(WARM_UP + args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            y = call(x, memory)
        forward_seconds = time.perf_counter() - begin
        y.float().sum().backward()
        if step >= WARM_UP:
            forward.append(forward_seconds)
            both.append(time.perf_counter() - begin)
        layer.zero_grad()
        x.grad = None
    middle = len(forward) // 2
    experts = "" if args.layer == "dense" else f" {args.experts}"
    print(json.dumps({
        "layer": "dense-xl-h16-a64" if args.layer == "dense" else "switchhead-h4-a112-e4-k2",
        "peer": f"torch {torch.__version__} {'compiled' if args.compile else 'eager'}{experts}",
        "precision": "bf16" if args.bf16 else "f32",
        "threads": args.threads,
        "batch": args.batch,
        "forward_seconds": sorted(forward)[middle],
        "forward_and_backward_seconds": sorted(both)[middle],
        "peak_bytes": peak_bytes(),
        "import_bytes": import_bytes,
    }))


if __name__ == "__main__":
    main()
