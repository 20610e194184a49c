"""Windowed attention against attention with the whole mask written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from titans_seq.ops.attention import sliding as attention
from titans_seq.ops.attention.rotary import prefix_keys, rotate
from titans_seq.ops.attention.sliding import segment_attention, sliding_attention


def _heads(time: int, seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, batch, 2, time, 8, generator=generator, dtype=torch.float64)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def _prefix(count: int) -> tuple[Tensor, Tensor] | None:
    if not count:
        return None
    generator = torch.Generator().manual_seed(7)
    k, v = torch.randn(2, 2, count, 8, generator=generator, dtype=torch.float64)
    return k.requires_grad_(), v.requires_grad_()


def _naive(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, prefix: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Attention with the whole mask, by rotated queries and keys."""
    if prefix is not None:
        k, v = (
            torch.cat([one.expand(len(two), -1, -1, -1), two], 2)
            for one, two in zip((prefix_keys(prefix[0]), prefix[1]), (k, v), strict=True)
        )
        seen = F.pad(seen, (prefix[0].shape[1], 0), value=True)
    scores = (q @ k.mT / 8**0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v


def _naive_window(
    q: Tensor, k: Tensor, v: Tensor, window: int, prefix: tuple[Tensor, Tensor] | None
) -> Tensor:
    """A time by time mask; positions counted from the first token."""
    places = torch.arange(q.shape[2])
    lag = places.unsqueeze(1) - places.unsqueeze(0)
    seen = (lag >= 0) & (lag < window)
    return _naive(rotate(q, places), rotate(k, places), v, seen, prefix)


def _assert_same(fast: Tensor, slow: Tensor, leaves: list[Tensor]) -> None:
    """Compare values, and gradients by every leaf."""
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    weight = torch.randn(fast.shape, generator=torch.Generator().manual_seed(3)).double()
    ours = torch.autograd.grad((fast * weight).sum(), leaves)
    theirs = torch.autograd.grad((slow * weight).sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("window", [1, 2, 5, 40])
@pytest.mark.parametrize("time", [1, 5, 33, 100])
def test_agrees_with_the_full_mask_in_values_and_gradients(
    time: int, window: int, prefix: int
) -> None:
    heads, before = _heads(time), _prefix(prefix)
    fast = sliding_attention(*heads, window, prefix=before)
    _assert_same(fast, _naive_window(*heads, window, before), [*heads, *(before or ())])


@pytest.mark.parametrize("window", [1, 5, 40])
def test_agrees_when_read_in_many_pieces(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PIECE_NUMBERS", 1)
    heads, before = _heads(150), _prefix(2)
    fast = sliding_attention(*heads, window, prefix=before)
    _assert_same(fast, _naive_window(*heads, window, before), [*heads, *(before or ())])


@pytest.mark.parametrize("sizes", [[1] * 9, [4, 1, 4], [8, 1], [2, 7]])
@pytest.mark.parametrize("window", [1, 4, 20])
def test_any_split_with_the_last_keys_carried_gives_the_whole(
    window: int, sizes: list[int]
) -> None:
    heads, before = _heads(9), _prefix(2)
    _, k, v = heads
    ahead = torch.zeros(2, 2, window - 1, 8, dtype=torch.float64)
    keys, values = torch.cat([ahead, k], 2), torch.cat([ahead, v], 2)
    outputs, first = [], 0
    for size in sizes:
        seen, part = slice(first, first + window - 1), slice(first, first + size)
        past = (keys[:, :, seen], values[:, :, seen])
        valid = min(first, window - 1)
        tokens = (one[:, :, part] for one in heads)
        outputs.append(sliding_attention(*tokens, window, past, valid, before))
        first += size
    whole = sliding_attention(*heads, window, prefix=before)
    _assert_same(torch.cat(outputs, 2), whole, [*heads, *(before or ())])


def test_rows_that_have_read_unlike_many_tokens_see_their_own_past_only() -> None:
    q, k, v = _heads(6)
    past = _heads(4, seed=5)[1:]
    together = sliding_attention(q, k, v, 5, past, torch.tensor([1, 4]))
    for row, valid in enumerate((1, 4)):
        own = [one[row : row + 1] for one in (q, k, v)]
        alone = sliding_attention(*own, 5, tuple(one[row : row + 1] for one in past), valid)
        torch.testing.assert_close(together[row : row + 1], alone)


def test_rubbish_in_places_that_hold_no_token_changes_nothing() -> None:
    heads = _heads(6)
    results = []
    for rubbish in (0.0, 1e6):
        ahead = torch.full((2, 2, 4, 8), rubbish, dtype=torch.float64)
        results.append(sliding_attention(*heads, 5, (ahead, ahead), torch.tensor([0, 0])))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.slow
def test_there_is_a_second_derivative_with_the_plain_kernel() -> None:
    heads = _heads(4, batch=1)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda *one: sliding_attention(*one, 3), heads)


@pytest.mark.parametrize("slot", [0, 4])
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_segment_agrees_with_the_full_mask(slot: int, prefix: int) -> None:
    q, k, v = _heads(6)
    _, context_k, context_v = _heads(6, seed=1)
    before, late = _prefix(prefix), q[:, :, slot:]
    first = before and (prefix_keys(before[0]), before[1])
    fast = segment_attention(late, (context_k, context_v), (k, v), slot, first)
    places = torch.arange(6)
    causal = (places.unsqueeze(0) <= places.unsqueeze(1))[slot:]
    keys, values = torch.cat([context_k, k], 2), torch.cat([context_v, v], 2)
    slow = _naive(late, keys, values, torch.cat([causal, causal], 1), before)
    _assert_same(fast, slow, [q, k, v, context_k, context_v, *(before or ())])
