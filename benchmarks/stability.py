"""Read long hostile input with every variant and say whether all stayed finite.

    python benchmarks/stability.py [--tokens 100000] [--chunks 16 64]

Three streams a variant: one token repeated, values of 1e12, and noise. Prints a line a
variant and chunk: the largest output, the largest number in the state, and seconds of CPU.
Exit status 1 if anything is not finite.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from titans_seq import TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS

PIECE = 10_000
"""Tokens handed over at a time; the state is carried from piece to piece."""


def hostile_streams(dim: int) -> dict[str, torch.Tensor]:
    """Return one piece of each kind of hostile input, (time, dim)."""
    repeated = torch.randn(1, dim).expand(PIECE, dim)
    return {
        "repeated": repeated,
        "huge": torch.randn(PIECE, dim) * 1e12,
        "noise": torch.randn(PIECE, dim),
    }


@torch.inference_mode()
def read(variant: str, chunk: int, tokens: int) -> tuple[float, float, bool]:
    """Return the largest output, the largest number of the state, and whether all is finite."""
    torch.manual_seed(0)
    config = TitansConfig(
        dim=32,
        layers=2,
        heads=2,
        variant=variant,
        segment_len=chunk,
        window=chunk,
        chunk_size=chunk,
    )
    backbone = TitansBackbone(config).eval()
    piece = torch.stack(list(hostile_streams(config.dim).values()))
    state, largest, finite = None, 0.0, True
    for first in range(0, tokens, PIECE):
        y, state = backbone(piece[:, : min(PIECE, tokens - first)], state)
        largest = max(largest, float(y.abs().max()))
        finite = finite and bool(y.isfinite().all())
    assert state is not None
    numbers = [one for one in state.tensors() if one.is_floating_point()]
    finite = finite and all(bool(one.isfinite().all()) for one in numbers)
    return largest, max(float(one.abs().max()) for one in numbers), finite


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16, 64])
    words = parser.parse_args()
    print("variant    chunk   tokens     output      state   CPU s  finite")
    good = True
    for variant in VARIANTS:
        for chunk in words.chunks:
            began = time.process_time()
            output, number, finite = read(variant, chunk, words.tokens)
            good = good and finite
            seconds = time.process_time() - began
            print(
                f"{variant:10} {chunk:5} {words.tokens:8} {output:10.3g} {number:10.3g} "
                f"{seconds:7.1f}  {'yes' if finite else 'NO'}",
                flush=True,
            )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
