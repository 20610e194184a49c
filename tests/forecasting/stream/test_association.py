"""The delayed association: any split, no leak, recall beyond the look-back."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from titans_seq.forecasting.stream.association import DelayedAssociation, Pairs

CONTEXT, HORIZON = 12, 4


def _pairs(rows: int, series: int = 2, seed: int = 0) -> Pairs:
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(series, CONTEXT + HORIZON + rows, generator=source)
    look_backs = values.unfold(1, CONTEXT, 1)
    return Pairs(
        look_backs[:, HORIZON + 1 : HORIZON + 1 + rows],
        look_backs[:, 1 : 1 + rows],
        values.unfold(1, HORIZON, 1)[:, CONTEXT + 1 : CONTEXT + 1 + rows],
        torch.rand(series, rows, generator=source) < 0.8,
    )


def _read(memory: DelayedAssociation, pairs: Pairs, cuts: list[int]) -> tuple[Tensor, Tensor]:
    weights, recent = memory.initial_state(len(pairs.write))
    reads = []
    edges = [0, *cuts, pairs.write.shape[1]]
    for begin, end in itertools.pairwise(edges):
        part = Pairs(*(one[:, begin:end] for one in pairs))
        read, weights, recent = memory(weights, recent, part)
        reads.append(read)
    return torch.cat(reads, dim=1), weights


@pytest.mark.parametrize("cuts", [[1], [7], [3, 4, 11], list(range(1, 20))])
def test_any_split_gives_the_same(cuts: list[int]) -> None:
    memory, pairs = DelayedAssociation(CONTEXT, HORIZON, 0), _pairs(20)
    whole, weights = _read(memory, pairs, [])
    parts, left = _read(memory, pairs, cuts)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(left, weights, rtol=1e-4, atol=1e-4)


def test_pairs_that_are_not_written_change_nothing() -> None:
    memory, pairs = DelayedAssociation(CONTEXT, HORIZON, 0), _pairs(15)
    other = torch.where(pairs.write[..., None], pairs.values, 99.0)
    one, _ = _read(memory, pairs, [])
    two, _ = _read(memory, pairs._replace(values=other), [])
    torch.testing.assert_close(one, two)


def test_a_read_does_not_depend_on_later_pairs() -> None:
    memory, pairs = DelayedAssociation(CONTEXT, HORIZON, 0), _pairs(15)
    changed = pairs.values.clone()
    changed[:, 9:] += 1
    one, _ = _read(memory, pairs, [])
    two, _ = _read(memory, pairs._replace(values=changed), [])
    torch.testing.assert_close(one[:, :9], two[:, :9])
    assert (one[:, 9] != two[:, 9]).any()


def test_what_followed_a_look_back_is_recalled_when_it_returns() -> None:
    memory = DelayedAssociation(CONTEXT, HORIZON, 0)
    source = torch.Generator().manual_seed(3)
    kinds, answers = (
        torch.randn(5, CONTEXT, generator=source),
        torch.randn(5, HORIZON, generator=source),
    )
    order = torch.arange(60) % 5
    pairs = Pairs(
        kinds[order.roll(-HORIZON)][None],
        kinds[order][None],
        answers[order][None],
        torch.ones(1, 60, dtype=torch.bool),
    )
    reads, _ = _read(memory, pairs, [])
    shrunk = memory.shrunk(reads[0, -5:])
    torch.testing.assert_close(shrunk, answers[order.roll(-HORIZON)[-5:]], rtol=0.3, atol=0.3)


def test_recalls_that_never_agree_are_shrunk() -> None:
    memory = DelayedAssociation(CONTEXT, HORIZON, 0)
    source = torch.Generator().manual_seed(4)
    key = torch.randn(CONTEXT, generator=source).expand(1, 400, -1)
    values = torch.randn(1, 400, HORIZON, generator=source)
    reads, _ = _read(memory, Pairs(key, key, values, torch.ones(1, 400, dtype=torch.bool)), [])
    late = reads[:, 100:]
    assert memory.shrunk(late).square().mean() < 0.5 * late[..., :HORIZON].square().mean()
