"""Windowed attention against attention with the whole mask written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.ops.attention import prefix_keys, rotate, segment_attention, sliding_attention


def _heads(time: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 2, time, 8, generator=generator, dtype=torch.float64)
    return q, k, v


def _prefix(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    k, v = torch.randn(2, 2, count, 8, generator=generator, dtype=torch.float64)
    return k, v


def _naive(q: Tensor, k: Tensor, v: Tensor, window: int, prefix: tuple[Tensor, Tensor]) -> Tensor:
    """Attention with a time by time mask; positions counted from the first token."""
    time = q.shape[2]
    places = torch.arange(time)
    lag = places.unsqueeze(1) - places.unsqueeze(0)
    scores = rotate(q, places) @ rotate(k, places).mT
    scores = scores.masked_fill((lag < 0) | (lag >= window), -torch.inf)
    before = rotate(q, places) @ prefix_keys(prefix[0]).mT
    weights = (torch.cat([before, scores], -1) / 8**0.5).softmax(-1)
    values = torch.cat([prefix[1].expand(len(v), -1, -1, -1), v], 2)
    return weights @ values


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("window", [1, 2, 5, 40])
@pytest.mark.parametrize("time", [1, 5, 13, 20])
def test_agrees_with_the_full_mask(time: int, window: int, prefix: int) -> None:
    q, k, v = _heads(time)
    ahead = torch.zeros(2, 2, window - 1, 8, dtype=torch.float64)
    before = _prefix(prefix)
    fast = sliding_attention(
        q, torch.cat([ahead, k], 2), torch.cat([ahead, v], 2), window, 0, before if prefix else None
    )
    torch.testing.assert_close(fast, _naive(q, k, v, window, before))


def test_rubbish_in_places_that_hold_no_token_changes_nothing() -> None:
    q, k, v = _heads(6)
    results = []
    for rubbish in (0.0, 1e6):
        ahead = torch.full((2, 2, 4, 8), rubbish, dtype=torch.float64)
        valid = torch.tensor([0, 0])
        results.append(
            sliding_attention(q, torch.cat([ahead, k], 2), torch.cat([ahead, v], 2), 5, valid)
        )
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("shift", [1, 1000])
def test_only_the_distance_of_positions_counts(shift: int) -> None:
    q, k, _ = _heads(4)
    places = torch.arange(4)
    here = rotate(q, places) @ rotate(k, places).mT
    there = rotate(q, places + shift) @ rotate(k, places + shift).mT
    torch.testing.assert_close(here, there)


def test_a_segment_sees_context_and_tokens_up_to_itself_only() -> None:
    q, k, v = _heads(6)
    _, context_k, context_v = _heads(6, seed=1)
    whole = segment_attention(q, context_k, context_v, k, v, 0, _prefix(2))
    changed = [one.clone() for one in (context_k, context_v, k, v)]
    for one in changed:
        one[:, :, 4:] += 100
    again = segment_attention(q, *changed, 0, _prefix(2))
    torch.testing.assert_close(again[:, :, :4], whole[:, :, :4])
    assert not torch.allclose(again[:, :, 4:], whole[:, :, 4:])


def test_a_segment_in_two_parts_is_the_segment() -> None:
    q, k, v = _heads(6)
    _, context_k, context_v = _heads(6, seed=1)
    whole = segment_attention(q, context_k, context_v, k, v, 0)
    late = segment_attention(q[:, :, 4:], context_k, context_v, k, v, 4)
    torch.testing.assert_close(late, whole[:, :, 4:])
