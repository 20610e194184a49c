"""Tokens cut into the chunks of a grid that all sequences share."""

from __future__ import annotations

from typing import NamedTuple

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rates import ChunkScalars, chunk_scalars, mean_scalars
from titans_seq.ops.rules.rule import Rates


class Chunk(NamedTuple):
    """One chunk's tokens, rates and scalars; heads first."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    step: Tensor
    log_momentum: Tensor
    scalars: ChunkScalars
    write: Tensor | None = None


def segment_sizes(columns: int, slot: int, period: int) -> list[int]:
    """Return how many columns fall into each segment of ``period`` slots.

    Parameters
    ----------
    slot
        Place of the first column in its segment.
    """
    head = min(columns, period - slot)
    # compilers that trace numbers know no divmod
    full, tail = (columns - head) // period, (columns - head) % period
    return [size for size in (head, *(period for _ in range(full)), tail) if size]


def cut_into_chunks(
    tokens: tuple[
        Float[Tensor, "batch heads time dim"],
        Float[Tensor, "batch heads time dim"],
        Float[Tensor, "batch heads time dim"],
    ],
    rates: Rates,
    schedule: str,
    sizes: list[int],
    slot: int,
) -> list[Chunk]:
    """Cut all tokens into chunks at once; slices in a loop would make backward quadratic.

    Parameters
    ----------
    tokens
        Queries, keys and values.
    schedule
        As in :class:`titans_seq.ops.rules.rule.UpdateRule`.
    sizes
        As :func:`segment_sizes` gives them.
    slot
        Place of the first token in its chunk.
    """
    head_first = [rearrange(one, "b h ... -> h b ...") for one in (*tokens, *rates)]
    before = 0
    chunks: list[Chunk] = []
    runs = [(1, sizes[0]), *_equal_runs(sizes[1:])] if slot else _equal_runs(sizes)
    for group, size in runs:
        span = [one.narrow(2, before, group * size) for one in head_first]
        q, k, v, log_keep, log_momentum, step, write = (
            rearrange(one, "h b (n c) ... -> n h b c ...", c=size).contiguous() for one in span
        )
        if schedule == "mean":
            scalars = mean_scalars(write, slot if not before else 0)
        else:
            scalars = chunk_scalars(log_keep, log_momentum, write)
        parts = zip(*(one.unbind(0) for one in (q, k, v, step, log_momentum, write)), strict=True)
        each = zip(*(one.unbind(0) for one in scalars), strict=True)
        for (q1, k1, v1, step1, momentum1, write1), some in zip(parts, each, strict=True):
            chunks.append(Chunk(q1, k1, v1, step1, momentum1, ChunkScalars(*some), write1))
        before += group * size
    return chunks


def _equal_runs(sizes: list[int]) -> list[tuple[int, int]]:
    """Return (how many, size) for each run of equal sizes."""
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1] = (runs[-1][0] + 1, size)
        else:
            runs.append((1, size))
    return runs
