"""Batches of any lengths: every row once, padded and masked, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titans_seq.dna.alphabet import Codes, decode, encode, reverse_complement
from titans_seq.dna.learning.batches import (
    MAX_LETTERS,
    SequenceBatches,
    WeightedSequences,
    batch_indices,
    pad,
)

LENGTHS = [1, 7, 60, 61, 64, 100, 101, 700, 3, 60]


def _labelled(lengths: list[int]) -> WeightedSequences:
    generator = np.random.default_rng(0)
    rows = [encode("".join(generator.choice(list("ACGTN"), n))) for n in lengths]
    count = len(rows)
    return WeightedSequences(rows, np.arange(count), np.ones(count, dtype=np.float32))


def _row(codes: torch.Tensor, mask: torch.Tensor) -> Codes:
    return codes[mask].numpy()


def test_padding_stands_behind_the_letters() -> None:
    batch = pad([encode("ACG"), encode("N")])
    assert batch["codes"].tolist() == [[1, 2, 4], [15, 0, 0]]
    assert batch["mask"].tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
@pytest.mark.parametrize("seed", [None, 0])
def test_every_row_comes_once_with_its_own_target(batch_size: int, seed: int | None) -> None:
    data = _labelled(LENGTHS)
    batches = SequenceBatches(data, batch_size=batch_size, seed=seed)
    seen = []
    for _epoch in range(2):
        found = list(batches)
        assert len(found) == len(batches)
        for batch in found:
            assert len(batch["codes"]) <= batch_size
            for codes, mask, target in zip(
                batch["codes"], batch["mask"], batch["target"], strict=True
            ):
                np.testing.assert_array_equal(_row(codes, mask), data.sequences[int(target)])
                seen.append(int(target))
    assert sorted(seen) == sorted(2 * list(range(len(LENGTHS))))


def test_epochs_differ_and_seeds_repeat() -> None:
    data = _labelled([50] * 40)

    def targets(seed: int) -> list[list[int]]:
        batches = SequenceBatches(data, batch_size=8, seed=seed)
        return [torch.cat([b["target"] for b in batches]).tolist() for _ in range(2)]

    assert targets(0) == targets(0)
    assert targets(0)[0] != targets(0)[1]
    assert targets(0) != targets(1)


def test_half_of_the_sequences_may_be_reverse_complemented() -> None:
    data = _labelled([50] * 64)
    (batch,) = SequenceBatches(data, batch_size=64, seed=0, both_strands=True)
    turned = 0
    for codes, target in zip(batch["codes"].numpy(), batch["target"], strict=True):
        row = data.sequences[int(target)]
        same = decode(codes) == decode(row)
        assert same or decode(codes) == decode(reverse_complement(row))
        turned += not same
    assert 16 < turned < 48


def test_long_sequences_come_in_small_batches() -> None:
    lengths = [MAX_LETTERS * 2, MAX_LETTERS, MAX_LETTERS // 2, MAX_LETTERS // 2, 10, 10]
    for batch in batch_indices(lengths, 64):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= MAX_LETTERS


def test_rows_of_a_batch_are_alike_in_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 5000, size=500).tolist()
    batches = batch_indices(lengths, 32, np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        inside = [lengths[i] for i in batch]
        assert max(inside) <= max(1.5 * min(inside), min(inside) + 8)
