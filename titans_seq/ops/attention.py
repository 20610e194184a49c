"""Causal attention over a sliding window, and inside segments, with a prefix always seen.

Cost and memory are linear in the length for a fixed window: queries are cut into blocks,
and each block sees its own keys and those of one window before it. No mask of length by
length is ever built. Positions are relative: half of each head's width is rotated
(arXiv 2104.09864), the other half is not, and prefix keys live in that other half only, so
that a prefix is equally far from every token and a stream of any length meets no position
that training did not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROTARY_BASE = 10_000.0


def rotate(
    x: Float[Tensor, "*rows time dim"], positions: Int[Tensor, "time"]
) -> Float[Tensor, "*rows time dim"]:
    """Rotate the first half of the width by position; the second half stays as it is.

    A width below 4 has no pairs to rotate in its first half and is returned unchanged.
    """
    pairs = x.shape[-1] // 4
    if not pairs:
        return x
    exponents = torch.arange(pairs, device=x.device, dtype=torch.float64) / pairs
    angles = positions.double().unsqueeze(-1) * ROTARY_BASE**-exponents
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, two, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([one * cos - two * sin, two * cos + one * sin, rest], dim=-1)


def prefix_keys(keys: Float[Tensor, "heads prefix dim"]) -> Float[Tensor, "heads prefix dim"]:
    """Return prefix keys that every position sees alike: zero in the rotated half."""
    turned = 2 * (keys.shape[-1] // 4)
    return F.pad(keys[..., turned:], (turned, 0))


def sliding_attention(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads past_and_time dim"],
    values: Float[Tensor, "batch heads past_and_time dim"],
    window: int,
    past_valid: Int[Tensor, "batch"] | int,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "batch heads time dim"]:
    """Let each token attend to the prefix and to the last ``window`` tokens, itself included.

    Parameters
    ----------
    queries
        Unrotated queries of the tokens.
    keys, values
        Unrotated; the ``window - 1`` places before the tokens come first.
    past_valid
        How many of those places, counted from their end, hold real tokens.
    prefix
        Keys and values, each (heads, prefix, dim), seen by every token.
    """
    batch, heads, time, dim = queries.shape
    past = window - 1
    size = min(window, time)
    blocks = -(-time // size)
    spare = blocks * size - time
    if spare:
        queries, keys, values = (F.pad(x, (0, 0, 0, spare)) for x in (queries, keys, values))
    span = past + size
    q = queries.reshape(batch, heads, blocks, size, dim)
    k = keys.unfold(2, span, size).mT
    v = values.unfold(2, span, size).mT
    positions = torch.arange(span, device=q.device)
    q_turned, k = rotate(q, positions[past:]), rotate(k, positions)
    seen = _window_mask(size, window, blocks, past_valid, q.device)
    if prefix is not None:
        k, v = (
            torch.cat([_over_blocks(one, k), two], dim=3)
            for one, two in zip((prefix_keys(prefix[0]), prefix[1]), (k, v), strict=True)
        )
        seen = F.pad(seen, (prefix[0].shape[1], 0), value=True)
    out = F.scaled_dot_product_attention(q_turned, k, v, attn_mask=seen)
    return out.reshape(batch, heads, blocks * size, dim)[:, :, :time]


def segment_attention(
    queries: Float[Tensor, "batch heads time dim"],
    context_keys: Float[Tensor, "batch heads slots dim"],
    context_values: Float[Tensor, "batch heads slots dim"],
    keys: Float[Tensor, "batch heads slots dim"],
    values: Float[Tensor, "batch heads slots dim"],
    slot: int,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "batch heads time dim"]:
    """Let each token of one segment attend to the prefix, the context and the tokens so far.

    The window of memory as context (arXiv 2501.00663, equations 22 and 23). Context j is
    seen by token i only for j <= i: what is recalled for a later token would show it.

    Parameters
    ----------
    queries
        Unrotated queries of the tokens from ``slot`` on.
    context_keys, context_values, keys, values
        Unrotated, from the segment's start to its last token here.
    slot
        Place of the first query in its segment.
    """
    time, slots = queries.shape[2], keys.shape[2]
    places = torch.arange(slots, device=queries.device)
    k = torch.cat([rotate(context_keys, places), rotate(keys, places)], dim=2)
    v = torch.cat([context_values, values], dim=2)
    causal = places.unsqueeze(0) <= places[slot : slot + time].unsqueeze(1)
    seen = torch.cat([causal, causal], dim=1)
    if prefix is not None:
        batch = queries.shape[0]
        k, v = (
            torch.cat([one.unsqueeze(0).expand(batch, -1, -1, -1), two], dim=2)
            for one, two in zip((prefix_keys(prefix[0]), prefix[1]), (k, v), strict=True)
        )
        seen = F.pad(seen, (prefix[0].shape[1], 0), value=True)
    turned = rotate(queries, places[slot : slot + time])
    return F.scaled_dot_product_attention(turned, k, v, attn_mask=seen)


def _over_blocks(prefix: Tensor, blocks: Tensor) -> Tensor:
    """Repeat a prefix, without a copy, for each sequence and block."""
    batch, heads, count = blocks.shape[:3]
    return prefix[None, :, None].expand(batch, heads, count, -1, -1)


def _window_mask(
    size: int,
    window: int,
    blocks: int,
    past_valid: Int[Tensor, "batch"] | int,
    device: torch.device,
) -> Bool[Tensor, "batch 1 blocks size span"]:
    """Return which keys of its block each query sees; only the first block knows the past."""
    span = window - 1 + size
    query = torch.arange(size, device=device).unsqueeze(1)
    key = torch.arange(span, device=device).unsqueeze(0)
    band = (key >= query) & (key < query + window)
    if isinstance(past_valid, int) and past_valid >= window - 1:
        return band[None, None, None]
    valid = torch.as_tensor(past_valid, device=device).reshape(-1, 1)
    first = band & (key >= window - 1 - valid).unsqueeze(1)
    rest = band.expand(first.shape[0], blocks - 1, size, span)
    return torch.cat([first.unsqueeze(1), rest], dim=1).unsqueeze(1)
