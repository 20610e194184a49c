"""Causal attention over a sliding window, and inside segments, with a prefix always seen.

Cost and memory are linear in the length for a fixed window: queries are cut into blocks,
and each block sees its own keys and those of one window before it. No mask of length by
length is ever built. The kernels are PyTorch's: ``scaled_dot_product_attention``, and for
wide windows on a GPU FlexAttention (:mod:`titans_seq.ops.attention.flex`).

The fused kernels have no second derivative; under
``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`` there is one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.ops.attention.flex import flex_fits, flex_sliding
from titans_seq.ops.attention.rotary import Turns, prefix_keys, turn, turns_between

SMALLEST_BLOCK = 32
"""Queries of a block at least: the kernels gain nothing from shorter ones."""

PIECE_NUMBERS = 2**18
"""Numbers that the queries of a piece hold on the CPU, so that its blocks stay in the cache."""


class Window(NamedTuple):
    """What is the same for every piece of a sequence."""

    past: int
    """Places before a block that its first query sees: the window less one."""

    size: int
    """Queries of a block."""

    turns: Turns
    """Rotations of a piece's past and tokens, the past at negative positions."""

    prefix: tuple[Tensor, Tensor] | None
    """Keys, not rotated, and values that every query sees."""

    seen: Bool[Tensor, "size span"]
    """Which keys of its block, prefix included, each query sees."""


def sliding_attention(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    window: int,
    past: tuple[Tensor, Tensor] | None = None,
    past_valid: Int[Tensor, "batch"] | int = 0,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "batch heads time dim"]:
    """Let each token attend to the prefix and to the last ``window`` tokens, itself included.

    Parameters
    ----------
    queries, keys, values
        Unrotated, of the tokens.
    past
        Unrotated keys, and values, of the ``window - 1`` places before the tokens.
    past_valid
        How many of those places, counted from their end, hold real tokens.
    prefix
        Keys and values, each (heads, prefix, dim), seen by every token.
    """
    batch, heads, time, dim = queries.shape
    if time == 1 and isinstance(past_valid, int) and not torch.compiler.is_compiling():
        return _one_query(queries, (keys, values), past, past_valid if past else 0, prefix)
    if past is None:
        empty = keys.new_zeros(batch, heads, window - 1, dim)
        past, past_valid = (empty, empty), 0
    if flex_fits(queries, window, past_valid):
        assert isinstance(past_valid, int)
        return flex_sliding(queries, keys, values, window, past, past_valid, prefix)
    size = min(max(window, SMALLEST_BLOCK), time)
    length = _piece_length(queries, size)
    shared = _shared(queries, window, size, min(length, time), prefix)
    # only the first block of all may have empty places in its past
    special = not (isinstance(past_valid, int) and past_valid >= window - 1)
    outputs: list[Tensor] = []
    pieces = zip(*(one.split(length, dim=2) for one in (queries, keys, values)), strict=True)
    for q, k, v in pieces:
        blocks = _blocks(q, (k, v), past, shared)
        if special:
            outputs.append(_first_block(blocks, batch, past_valid, shared))
        if not special or len(blocks[0]) > batch:
            out = F.scaled_dot_product_attention(*blocks, attn_mask=shared.seen)
            out = out.transpose(1, 2).reshape(batch, -1, heads, dim)
            outputs.append(out[:, size:] if special else out)
        special = False
        before = max(k.shape[2] - shared.past, 0)
        past = (k[:, :, before:], v[:, :, before:])
    whole = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
    return whole[:, :time].transpose(1, 2)


def _one_query(
    query: Tensor,
    token: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor] | None,
    past_valid: int,
    prefix: tuple[Tensor, Tensor] | None,
) -> Float[Tensor, "batch heads 1 dim"]:
    """Let one token, at position 0, attend to all real keys: nothing has to be masked."""
    keys, values = [token[0]], [token[1]]
    if past is not None and past_valid:
        here = slice(past[0].shape[2] - past_valid, None)
        before, dim = past[0][:, :, here].to(query.dtype), query.shape[3]
        by = turns_between(-past_valid, 0, dim, query.dtype, query.device)
        keys.insert(0, turn(before, by))
        values.insert(0, past[1][:, :, here].to(query.dtype))
    if prefix is not None:
        keys.insert(0, _for_batch(prefix_keys(prefix[0]), query))
        values.insert(0, _for_batch(prefix[1], query))
    return F.scaled_dot_product_attention(query, torch.cat(keys, dim=2), torch.cat(values, dim=2))


def segment_attention(
    queries: Float[Tensor, "batch heads time dim"],
    context: tuple[Tensor, Tensor],
    tokens: tuple[Tensor, Tensor],
    slot: int,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "batch heads time dim"]:
    """Let each token of one segment attend to the prefix, the context and the tokens so far.

    The window of memory as context (arXiv 2501.00663, equations 22 and 23). Context j is
    seen by token i only for j <= i: what is recalled for a later token would show it.

    Parameters
    ----------
    queries
        Of the tokens from ``slot`` on, rotated by their places in the segment.
    context, tokens
        Keys, rotated likewise, and values, each (batch, heads, slots, dim), from the
        segment's start to its last token here.
    slot
        Place of the first query in its segment.
    prefix
        Keys, as :func:`titans_seq.ops.attention.rotary.prefix_keys` gives them, and values, each
        (heads, prefix, dim).
    """
    time, slots = queries.shape[2], tokens[0].shape[2]
    seen = None
    if time > 1 or slots > slot + 1:
        seen = torch.ones(time, slots, dtype=torch.bool, device=queries.device)
        seen = seen.tril(slot).repeat(1, 2)
    parts = [context, tokens]
    if prefix is not None:
        if seen is not None:
            seen = F.pad(seen, (prefix[0].shape[1], 0), value=True)
        parts.insert(0, (_for_batch(prefix[0], queries), _for_batch(prefix[1], queries)))
    keys, values = (torch.cat(one, dim=2) for one in zip(*parts, strict=True))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)


def _for_batch(prefix: Tensor, like: Tensor) -> Tensor:
    """Repeat a prefix, without a copy, for each sequence, in the type of ``like``."""
    return prefix.to(like.dtype).expand(len(like), -1, -1, -1)


def _piece_length(queries: Tensor, size: int) -> int:
    """Return how many tokens are read at once: whole blocks, few enough for a CPU's cache."""
    batch, heads, time, dim = queries.shape
    if queries.device.type != "cpu" or torch.compiler.is_compiling():
        return -(-time // size) * size
    return size * max(1, PIECE_NUMBERS // (batch * heads * dim * size))


def _shared(
    queries: Tensor, window: int, size: int, length: int, prefix: tuple[Tensor, Tensor] | None
) -> Window:
    """Compute once what every piece needs."""
    past, device = window - 1, queries.device
    places = torch.arange(-past, length, device=device)
    lag = places[past : past + size].unsqueeze(1) - places[: past + size].unsqueeze(0)
    seen = (lag >= 0) & (lag < window)
    if prefix is not None:
        prefix = (prefix_keys(prefix[0]), prefix[1])
        seen = F.pad(seen, (prefix[0].shape[1], 0), value=True)
    by = turns_between(-past, length, queries.shape[3], queries.dtype, device)
    return Window(past, size, by, prefix, seen)


def _blocks(
    queries: Tensor,
    tokens: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor],
    shared: Window,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a piece into blocks, each with the keys that its queries see; blocks join the batch."""
    time, before = queries.shape[2], shared.past
    here = Turns(*(one[before : before + time] for one in shared.turns))
    there = Turns(*(one[:before] for one in shared.turns))
    parts = (turn(queries, here), turn(tokens[0], here), tokens[1])
    spare = -time % shared.size
    if spare:
        parts = tuple(F.pad(one, (0, 0, 0, spare)) for one in parts)  # type: ignore[assignment]
    q, k, v = (one.unflatten(2, (-1, shared.size)).transpose(1, 2) for one in parts)
    befores = (turn(past[0], there), past[1])
    sides: list[Tensor] = []
    for index, (one, old) in enumerate(zip((k, v), befores, strict=True)):
        ahead = old.to(one.dtype).unsqueeze(1)
        if one.shape[1] > 1:
            ahead = torch.cat([ahead, one[:, :-1, :, shared.size - before :]], dim=1)
        span = [ahead, one]
        if shared.prefix is not None:
            prefix = shared.prefix[index].to(one.dtype)
            span.insert(0, prefix.expand(*one.shape[:2], -1, -1, -1))
        sides.append(torch.cat(span, dim=3).flatten(0, 1))
    return q.flatten(0, 1), sides[0], sides[1]


def _first_block(
    blocks: tuple[Tensor, Tensor, Tensor],
    batch: int,
    past_valid: Int[Tensor, "batch"] | int,
    shared: Window,
) -> Float[Tensor, "batch size heads dim"]:
    """Return the outputs of the first block, which alone may have empty places in its past."""
    q, k, v = (one.unflatten(0, (batch, -1))[:, 0] for one in blocks)
    prefix = k.shape[2] - shared.past - shared.size
    place = torch.arange(k.shape[2], device=q.device) - prefix
    valid = torch.as_tensor(past_valid, device=q.device).reshape(-1, 1, 1, 1)
    real = (place < 0) | (place >= shared.past - valid)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=shared.seen & real)
    return out.transpose(1, 2)
