"""Measure the memory's GPU kernels on one CUDA device.

    python benchmarks/gpu.py [--out benchmarks/results/gpu.json] [--dim 512 --heads 8 ...]

Tokens a second, forward and with the backward pass: the kernels against the torch form on the
same queries, keys, values and rates; our layer against titans-pytorch (if installed) and a
FlashAttention block of equal width. Floors: the dual form's operations at the measured rate of
a large product, and the bytes that must cross memory at the measured rate of a copy.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from memory_cells.floor import operations
from memory_cells.machine import environment
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from titans_seq.nn.memory import NeuralMemory
from titans_seq.ops.call import MemoryCall
from titans_seq.ops.general.memory import TORCH
from titans_seq.ops.gpu.memory import TRITON
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import first_carry

OUT = Path(__file__).parent / "results" / "gpu.json"
RULES = {"chunked": UpdateRule(), "exact": UpdateRule(gradient_point="token")}
Run = Callable[[], Tensor]


class FlashBlock(nn.Module):
    """Causal attention over the whole sequence, by the flash kernel."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, time, dim)."""
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


def operator(
    sizes: dict[str, Any], kind: str, form: str, dtype: torch.dtype, device: str
) -> tuple[Run, list[Tensor]]:
    """Return a call of the kernels or of the torch form, and what it is differentiated by."""
    heads, batch, time, chunk = (sizes[one] for one in ("heads", "batch", "time", "chunk"))
    width = sizes["dim"] // heads
    hidden = round(sizes["expansion"] * width)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    q, k, v = (random(batch, heads, time, width) for _ in range(3))
    tokens = [one.to(dtype) for one in (F.normalize(q, dim=-1), F.normalize(k, dim=-1), v)]
    gates = [F.logsigmoid(random(batch, heads, time) + more) for more in (4, 0)]
    # with momentum, a step counts 1 / (1 - momentum) times
    step = torch.sigmoid(random(batch, heads, time)) * -torch.expm1(gates[1])
    widths = [width, *[hidden] * (sizes["depth"] - 1), width]
    start = tuple(
        random(heads, inner, outer) / inner**0.5 for inner, outer in itertools.pairwise(widths)
    )
    leaves = [one.requires_grad_() for one in (*tokens, *gates, step, *start)]
    rule = RULES[kind]

    def run() -> Tensor:
        rates = Rates(gates[0], gates[1], step, torch.ones_like(step))
        carry = first_carry(start, rule, batch, chunk)
        back_end = TRITON if form == "kernels" else TORCH
        q, k, v = tokens
        return back_end.run(MemoryCall(q, k, v, rates, start, carry, rule, chunk)).outputs

    return run, leaves


def layer(name: str, sizes: dict[str, Any], device: str) -> tuple[Run, list[Tensor]] | None:
    """Return a call of a whole layer in bfloat16; ``None`` if its package is missing."""
    dim, heads, chunk, depth = (sizes[one] for one in ("dim", "heads", "chunk", "depth"))
    x = torch.randn(sizes["batch"], sizes["time"], dim, device=device, requires_grad=True)
    if name == "flash attention":
        module: nn.Module = FlashBlock(dim, heads)
    elif name == "titans-seq":
        module = NeuralMemory(dim, heads, depth, sizes["expansion"], chunk)
    elif importlib.util.find_spec("titans_pytorch") is None:
        return None
    else:
        from titans_pytorch import NeuralMemory as Peer

        shape = {"depth": depth, "expansion_factor": sizes["expansion"]}
        module = Peer(
            dim, chunk, batch_size=chunk, heads=heads, dim_head=dim // heads,
            default_model_kwargs=shape,
        )  # fmt: skip
    module.to(device)

    def run() -> Tensor:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            result = module(x)
        output: Tensor = result[0] if isinstance(result, tuple) else result
        return output

    return run, [x, *module.parameters()]


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call on the device, after warming up."""
    for _ in range(3):
        call()
    found = []
    for _ in range(repeats):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last) / 1e3)
    return statistics.median(found)


def device_rates(dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Return what the device reaches: operations a second in a product, bytes in a copy."""
    square = torch.randn(8192, 8192, device="cuda", dtype=dtype)
    source = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return {
        "operations": 2 * 8192**3 / seconds(lambda: square @ square, repeats),
        "bytes": 2 * 2**30 / seconds(lambda: target.copy_(source), repeats),
    }


def floors(
    sizes: dict[str, Any], kind: str, passes: int, bytes_each: int, rates: dict[str, float]
) -> dict[str, float]:
    """Return the least seconds by operations and by bytes of an operator.

    Queries, keys, values and outputs cross memory once forward, with four rates in float32;
    backward reads them and the outputs' gradients and writes as many gradients.
    """
    parts = operations(sizes, exact=kind == "exact")
    tokens = sizes["batch"] * sizes["time"]
    work = passes * tokens * (sum(parts.values()) - parts["projections"])
    moved = passes * tokens * (4 * sizes["dim"] * bytes_each + 16 * sizes["heads"])
    return {"operations": work / rates["operations"], "bytes": moved / rates["bytes"]}


def measure(run: Run, leaves: list[Tensor], tokens: int, repeats: int) -> dict[str, Any]:
    """Return tokens a second forward, and with backward, or why there are none."""

    def forward() -> None:
        with torch.no_grad():
            run()

    def train() -> None:
        torch.autograd.grad(run().float().square().sum(), leaves, allow_unused=True)

    try:
        spent = {"forward": seconds(forward, repeats), "train": seconds(train, repeats)}
    except (RuntimeError, ValueError) as problem:
        torch.cuda.empty_cache()
        return {"failed": str(problem).splitlines()[0]}
    return {
        mode: {"seconds": one, "tokens_per_second": tokens / one} for mode, one in spent.items()
    }


def cells(sizes: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """Measure every subject."""
    tokens = sizes["batch"] * sizes["time"]
    found: list[dict[str, Any]] = []
    for dtype in (torch.bfloat16, torch.float32):
        rates = device_rates(dtype, repeats)
        for kind, depth in (("exact", 1), ("chunked", 1), ("chunked", 2)):
            shape = {**sizes, "depth": depth}
            for form in ("kernels", "torch form"):
                cell = measure(*operator(shape, kind, form, dtype, "cuda"), tokens, repeats)
                each = torch.finfo(dtype).bits // 8
                for passes, mode in ((1, "forward"), (3, "train")):
                    if mode in cell:
                        least = floors(shape, kind, passes, each, rates)
                        share = {k: one / cell[mode]["seconds"] for k, one in least.items()}
                        cell[mode]["share_of_floor"] = share
                name = f"{form}, {kind}, depth {depth}, {str(dtype).removeprefix('torch.')}"
                found.append({"subject": name, **cell})
                print(found[-1], file=sys.stderr, flush=True)
    for name in ("titans-seq", "titans-pytorch", "flash attention"):
        built = layer(name, {**sizes, "depth": 2}, "cuda")
        cell = {"failed": "not installed"} if built is None else measure(*built, tokens, repeats)
        found.append({"subject": f"{name} layer, bfloat16 autocast", **cell})
        print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    for name, default in {"dim": 512, "heads": 8, "batch": 8, "time": 4096, "chunk": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--expansion", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=20)
    options = vars(parser.parse_args())
    if not torch.cuda.is_available():
        print("gpu.py needs a CUDA device, and torch sees none here", file=sys.stderr)
        return 5
    out, repeats = options.pop("out"), options.pop("repeats")
    where = {**environment(), "device": torch.cuda.get_device_name()}
    result = {"environment": where, "sizes": options, "cells": cells(options, repeats)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
