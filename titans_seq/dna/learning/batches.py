"""Batches of sequences of any lengths: padded, masked, and grouped by similar length.

Shuffling and reverse-complementing use their own generators, so the same seed gives the same
batches and no global state is touched.
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
"""Letters of one batch, padding included: long sequences come in smaller batches."""

_MAX_LENGTH_RATIO = 1.5
"""Ratio of the longest to the shortest sequence that may share a batch."""


def pad(sequences: Sequence[Codes]) -> dict[str, Tensor]:
    """Return ``codes`` and ``mask`` (both batch x time) of sequences of any lengths.

    Padding follows the letters; ``mask`` is True where there is a letter.
    """
    codes = np.full((len(sequences), max(map(len, sequences))), PAD, dtype=np.uint8)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = sequence
    tensor = torch.from_numpy(codes)
    return {"codes": tensor, "mask": tensor != PAD}


def batch_indices(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator | None = None
) -> list[npt.NDArray[np.int64]]:
    """Return the row indices of each batch: similar in length, and not too many letters in all.

    Parameters
    ----------
    lengths
        Letters of each row.
    batch_size
        Most rows of a batch; fewer where ``MAX_LETTERS`` would be exceeded.
    generator
        Shuffles rows and batches; without one, batches go from short to long. The number of
        batches does not depend on it.
    """
    batches: list[npt.NDArray[np.int64]] = []
    for bucket in _length_buckets(np.asarray(lengths, dtype=np.int64)):
        longest = lengths[int(bucket[-1])]
        size = max(1, min(batch_size, MAX_LETTERS // longest))
        rows = bucket if generator is None else generator.permutation(bucket)
        batches.extend(np.array_split(rows, -(-len(rows) // size)))
    if generator is None:
        return batches
    return [batches[i] for i in generator.permutation(len(batches))]


def _length_buckets(lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield row indices of similar length, from short to long."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        shortest = lengths[order[start]]
        # Very short sequences may differ by 8 letters, whatever the ratio.
        limit = max(shortest * _MAX_LENGTH_RATIO, shortest + 8)
        stop = int(np.searchsorted(lengths[order], limit, side="right"))
        yield order[start:stop]
        start = stop


class WeightedSequences(NamedTuple):
    """Sequences with their targets and their weights in the loss."""

    sequences: Sequence[Codes]
    targets: npt.NDArray[Any]
    weights: npt.NDArray[np.float32]

    def subset(self, index: npt.NDArray[np.int64]) -> WeightedSequences:
        """Return the sequences at these indices."""
        sequences = [self.sequences[i] for i in index]
        return WeightedSequences(sequences, self.targets[index], self.weights[index])


class SequenceBatches:
    """Batches of sequences; every iteration is one epoch.

    A batch is a dict: ``codes``, ``mask`` (batch x time), ``target`` (batch: index of the
    class; or batch x outputs) and ``weight`` (batch).

    Parameters
    ----------
    data
        Sequences, targets and weights.
    batch_size
        Most rows of a batch.
    seed
        Seed of the order of rows, which is new in each epoch; None keeps them in order.
    both_strands
        Reverse-complement half of the sequences, drawn anew each epoch; needs a seed.
    """

    def __init__(
        self,
        data: WeightedSequences,
        *,
        batch_size: int,
        seed: int | None = None,
        both_strands: bool = False,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.both_strands = both_strands
        self.generator = None if seed is None else np.random.default_rng(seed)
        self._lengths = [len(sequence) for sequence in data.sequences]

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(batch_indices(self._lengths, self.batch_size))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of one epoch."""
        for index in batch_indices(self._lengths, self.batch_size, self.generator):
            sequences, targets, weights = self.data.subset(index)
            if self.both_strands and self.generator is not None:
                reverse = self.generator.random(len(sequences)) < 0.5
                sequences = [
                    reverse_complement(sequence) if on_reverse else sequence
                    for sequence, on_reverse in zip(sequences, reverse, strict=True)
                ]
            yield {
                **pad(sequences),
                "target": torch.from_numpy(targets),
                "weight": torch.from_numpy(weights),
            }
