"""Batches of DNA of any lengths: padded, masked, and made of rows of like length.

Shuffling and the turning of strands use generators of their own, so the same seed gives
the same batches and no global state is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from titans_seq.dna.alphabet import PAD, Codes, reverse_complement

MAX_LETTERS = 1 << 16
"""Letters of one batch, padding counted: long sequences come in smaller batches."""

_SPREAD = 1.5
"""Longest over shortest row that may share a batch."""

Rows = npt.NDArray[np.int64]


def pad(rows: Sequence[Codes]) -> dict[str, Tensor]:
    """Return ``codes`` and ``mask`` (both batch x time) of sequences of any lengths.

    Padding stands behind the letters; ``mask`` is True where there is a letter.
    """
    codes = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.uint8)
    for line, row in zip(codes, rows, strict=True):
        line[: len(row)] = row
    tensor = torch.from_numpy(codes)
    return {"codes": tensor, "mask": tensor != PAD}


def plan(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator | None = None
) -> list[Rows]:
    """Return the rows of each batch: like in length, and together not too many letters.

    Parameters
    ----------
    lengths
        Letters of each row.
    batch_size
        Most rows of a batch; fewer where ``MAX_LETTERS`` would be passed.
    generator
        Shuffles rows and batches; without one, batches go from short to long. The number of
        batches is the same with it and without.
    """
    batches: list[Rows] = []
    for bucket in _buckets(np.asarray(lengths, dtype=np.int64)):
        longest = lengths[int(bucket[-1])]
        size = max(1, min(batch_size, MAX_LETTERS // longest))
        rows = bucket if generator is None else generator.permutation(bucket)
        batches.extend(np.array_split(rows, -(-len(rows) // size)))
    if generator is None:
        return batches
    return [batches[i] for i in generator.permutation(len(batches))]


def _buckets(lengths: Rows) -> Iterator[Rows]:
    """Yield rows of like length, from short to long."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        limit = max(lengths[order[start]] * _SPREAD, lengths[order[start]] + 8)
        stop = int(np.searchsorted(lengths[order], limit, side="right"))
        yield order[start:stop]
        start = stop


class Labelled(NamedTuple):
    """Sequences, what is to be learnt of each, and what each counts in the loss."""

    rows: Sequence[Codes]
    targets: npt.NDArray[Any]
    weights: npt.NDArray[np.float32]

    def at(self, index: Rows) -> Labelled:
        """Return some of the sequences."""
        return Labelled([self.rows[i] for i in index], self.targets[index], self.weights[index])


class LabelledBatches:
    """Batches of one epoch each time it is iterated.

    A batch is a dict: ``codes``, ``mask`` (batch x time), ``target`` (batch: index of the
    class; or batch x outputs) and ``weight`` (batch).
    """

    def __init__(
        self, data: Labelled, *, batch_size: int, seed: int | None = None, turn: bool = False
    ) -> None:
        """Store what the batches are made of.

        Parameters
        ----------
        data
            Sequences, targets and weights.
        batch_size
            Most rows of a batch.
        seed
            Of the order of rows, new in each epoch; None keeps them in place.
        turn
            Whether half of the sequences, drawn anew each epoch, come as their other strand;
            needs a seed.
        """
        self.data = data
        self.batch_size = batch_size
        self.turn = turn
        self.generator = None if seed is None else np.random.default_rng(seed)
        self._lengths = [len(row) for row in data.rows]

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(plan(self._lengths, self.batch_size))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of one epoch."""
        for batch in plan(self._lengths, self.batch_size, self.generator):
            rows, targets, weights = self.data.at(batch)
            if self.turn and self.generator is not None:
                turned = self.generator.random(len(rows)) < 0.5
                rows = [
                    reverse_complement(row) if turn else row
                    for row, turn in zip(rows, turned, strict=True)
                ]
            yield {
                **pad(rows),
                "target": torch.from_numpy(targets),
                "weight": torch.from_numpy(weights),
            }
