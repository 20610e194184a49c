"""Sliding-window attention by FlexAttention, for wide windows on a GPU.

FlexAttention computes tiles of 128 queries by 128 keys, so a window far below that spends
most of its work on masked scores: those are left to the blocks of
:func:`titans_seq.ops.attention.sliding.sliding_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.ops.attention.rotary import Turns, prefix_keys, turn, turns

NARROWEST_WINDOW = 256
"""Window from which tiles pay."""

TILE = 128
"""Queries, and keys, of a tile."""

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def flex_fits(queries: Tensor, window: int, past_valid: Tensor | int) -> bool:
    """Tell whether FlexAttention can read these tokens, and is the faster way."""
    dim = queries.shape[3]
    return (
        queries.device.type == "cuda"
        and isinstance(past_valid, int)
        and window >= NARROWEST_WINDOW
        and queries.shape[2] >= TILE
        and queries.dtype != torch.float64
        and 16 <= dim <= 256
        and not dim & (dim - 1)
    )


def flex_sliding(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    window: int,
    past: tuple[Tensor, Tensor],
    past_valid: int,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "batch heads time dim"]:
    """Let each token attend to the prefix and to the last ``window`` tokens, itself included.

    See :func:`titans_seq.ops.attention.sliding.sliding_attention` for the arguments.
    """
    time, dim = queries.shape[2:]
    places = torch.arange(1 - window, time, device=queries.device)
    table = turns(places, dim, queries.dtype)
    here = Turns(*(one[window - 1 :] for one in table))
    k = [turn(torch.cat([past[0].to(keys.dtype), keys], dim=2), table)]
    v = [past[1].to(values.dtype), values]
    count = 0
    if prefix is not None:
        count = prefix[0].shape[1]
        first = (prefix_keys(prefix[0]), prefix[1])
        ahead = [one.to(keys.dtype).expand(len(keys), -1, -1, -1) for one in first]
        k.insert(0, ahead[0])
        v.insert(0, ahead[1])
    mask = block_mask(time, window, count, past_valid, queries.device)
    out: Tensor = _kernel(queries.device.type)(
        turn(queries, here), torch.cat(k, dim=2), torch.cat(v, dim=2), block_mask=mask
    )
    return out


def seen_by(window: int, prefix: int, past_valid: int) -> MaskFunction:
    """Return the rule which key a query sees; keys are prefix, past and tokens, in this order."""
    past = window - 1

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        lag = query + prefix + past - key
        inside = (lag >= 0) & (lag < window) & (key >= prefix + past - past_valid)
        return (key < prefix) | inside

    return seen


@lru_cache(maxsize=64)
def block_mask(time: int, window: int, prefix: int, past_valid: int, device: torch.device) -> Any:
    """Return which tiles hold a seen key, made once for each shape.

    Tiles are counted, not found by looking at every pair as ``create_block_mask`` does: that
    would build the mask of time by time.
    """
    from torch.nn.attention.flex_attention import BlockMask

    # Kept beyond the call, so it must be fit for training even if made in inference.
    with torch.inference_mode(False):
        numbers, tiles = seen_tiles(time, window, prefix)
        return BlockMask.from_kv_blocks(
            numbers.to(device)[None, None],
            tiles.to(device)[None, None],
            BLOCK_SIZE=TILE,
            mask_mod=seen_by(window, prefix, past_valid),
            seq_lengths=(time, prefix + window - 1 + time),
        )


def seen_tiles(
    time: int, window: int, prefix: int
) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows columns"]]:
    """Return, for each row of tiles, how many hold a seen key, and their numbers, those first."""
    rows = -(-time // TILE)
    columns = -(-(prefix + window - 1 + time) // TILE)
    query = torch.arange(rows).unsqueeze(1) * TILE
    last_query = (query + TILE - 1).clamp(max=time - 1)
    tile = torch.arange(columns).unsqueeze(0)
    first_key, last_key = query + prefix, last_query + prefix + window - 1
    within = (tile >= first_key // TILE) & (tile <= last_key // TILE)
    wanted = within | (tile < -(-prefix // TILE))
    order = torch.argsort((~wanted).to(torch.int8), dim=1, stable=True)
    return wanted.sum(1).to(torch.int32), order.to(torch.int32)


@lru_cache(maxsize=1)
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _kernel(device: str) -> Any:
    """Return the fused kernel; where there is none, the same in plain operations."""
    from torch.nn.attention.flex_attention import flex_attention

    if device == "cuda" and not torch.compiler.is_compiling():
        return _compiled()
    return flex_attention
