"""Time sliding-window attention against the whole mask and against plain blocks.

    python benchmarks/attention.py [--rounds 5] [--out FILE.json]

Three questions, on one thread: how many tokens a second the fast form reads beside the
same blocks given to the kernel with five dimensions, which it cannot fuse (ratios of the
best of some rounds, taken in turn); whether a token costs the same from 1,024 to 65,536;
and whether peak memory grows in a straight line. Times are the processor's for this
process, so that a busy machine disturbs them less.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from memory_cells.machine import peak_megabytes
from torch import Tensor

from titans_seq.ops.attention.rotary import prefix_keys, rotate
from titans_seq.ops.attention.sliding import sliding_attention

HEADS, WINDOW, PREFIX = 4, 64, 4
LENGTHS = (1_024, 4_096, 16_384, 65_536)


def problem(dim: int, batch: int, length: int) -> list[Tensor]:
    """Return queries, keys and values, and keys and values of a prefix."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, length, 3, HEADS, dim // HEADS)
    tokens = [one.transpose(1, 2).requires_grad_() for one in qkv.unbind(2)]
    return [*tokens, *(torch.randn(HEADS, PREFIX, dim // HEADS) for _ in range(2))]


def fast(q: Tensor, k: Tensor, v: Tensor, *prefix: Tensor) -> Tensor:
    """Attend by the library."""
    return sliding_attention(q, k, v, WINDOW, prefix=(prefix[0], prefix[1]))


def plain(q: Tensor, k: Tensor, v: Tensor, *prefix: Tensor) -> Tensor:
    """Attend by blocks in five dimensions, each rotated by itself; the length is whole blocks."""
    past, span = WINDOW - 1, 2 * WINDOW - 1
    blocks = [F.pad(one, (0, 0, past, 0)).unfold(2, span, WINDOW).mT for one in (k, v)]
    queries, places = q.unflatten(2, (-1, WINDOW)), torch.arange(span)
    first = [one[None, :, None].expand(*blocks[0].shape[:3], -1, -1) for one in prefix]
    keys = torch.cat([prefix_keys(first[0]), rotate(blocks[0], places)], dim=3)
    values = torch.cat([first[1], blocks[1]], dim=3)
    lag = places[past:].unsqueeze(1) - places
    seen = ((lag >= 0) & (lag < WINDOW)).repeat(queries.shape[2], 1, 1)
    seen[0, :, :past] = False
    seen = F.pad(seen, (PREFIX, 0), value=True)
    out = F.scaled_dot_product_attention(rotate(queries, places[past:]), keys, values, seen)
    return out.flatten(2, 3)


def seconds(run: Callable[[], object]) -> float:
    """Return the processor's time of one call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def trained(attend: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], object]:
    """Return a forward and backward pass."""
    return lambda: torch.autograd.grad(attend(*tensors).sum(), tensors[:3])


def read(attend: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], object]:
    """Return a forward pass."""

    def run() -> Tensor:
        with torch.inference_mode():
            return attend(*tensors)

    return run


def compare(dim: int, batch: int, rounds: int) -> dict[str, object]:
    """Return tokens a second of both forms, and their ratio."""
    tensors, tokens = problem(dim, batch, 4_096), batch * 4_096
    row: dict[str, object] = {"dim": dim, "batch": batch}
    for name, mode in (("forward", read), ("both", trained)):
        runs = [mode(attend, tensors) for attend in (plain, fast)]
        best = [float("inf")] * 2
        for _ in range(rounds):
            best = [min(old, seconds(run)) for old, run in zip(best, runs, strict=True)]
        row[name] = {
            "plain": round(tokens / best[0]),
            "fast": round(tokens / best[1]),
            "ratio": round(best[0] / best[1], 2),
        }
    return row


def measure(length: int, rounds: int) -> dict[str, float]:
    """Return microseconds a token, and what the pass adds to peak memory, at one length."""
    tensors = problem(64, 1, length)
    run = trained(fast, tensors)
    before = peak_megabytes()
    best = min(seconds(run) for _ in range(rounds))
    after = peak_megabytes()
    return {
        "length": length,
        "us_per_token": round(1e6 * best / length, 2),
        "added_mb": round(after - before, 1),
    }


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.length:
        print(json.dumps(measure(options.length, options.rounds)))
        return
    about = {"torch": torch.__version__, "machine": platform.machine(), "window": WINDOW}
    rows = [compare(dim, batch, options.rounds) for dim in (64, 128) for batch in (1, 8)]
    for row in rows:
        print(json.dumps(row))
    # each length in a process of its own: a peak once reached does not fall
    command = [sys.executable, __file__, "--rounds", str(options.rounds), "--length"]
    lengths = [
        json.loads(subprocess.run([*command, str(one)], check=True, capture_output=True).stdout)
        for one in LENGTHS
    ]
    for row in lengths:
        print(json.dumps(row))
    if options.out:
        whole = {"about": about, "against_plain_blocks": rows, "by_length": lengths}
        options.out.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
