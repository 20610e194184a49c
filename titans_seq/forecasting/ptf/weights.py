"""Attention weights of a layer, written out; the layers' own kernels never hold them.

Both functions take rows packed to the left, as the layers do, from the start of a sequence.
What stands behind a row's last real token is seen by no real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.context import ContextMixer
from titans_seq.ops.attention.rotary import prefix_keys, rotate


class Weights(NamedTuple):
    """Shares that add up to 1 for every query."""

    tokens: Float[Tensor, "batch heads time keys"]
    context: Float[Tensor, "batch heads time keys"]
    """On what the memory recalled for each token; zero in a layer without context."""

    persistent: Float[Tensor, "batch heads time prefix"]


def sliding_weights(
    attention: SlidingAttention,
    tokens: Float[Tensor, "batch time dim"],
    persistent: Float[Tensor, "prefix dim"],
) -> Weights:
    """Return the weights of sliding-window attention."""
    q, k, _ = attention.heads.split(tokens)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    lag = places[:, None] - places
    seen = (lag >= 0) & (lag < attention.window)
    q, k = rotate(q, places), rotate(k, places)
    prefix = _prefix(attention.heads.prefix(persistent), k)
    first, own = _softmax(q, [(prefix, None), (k, seen)])
    return Weights(own, torch.zeros_like(own), first)


def segment_weights(
    mixer: ContextMixer,
    tokens: Float[Tensor, "batch time dim"],
    contexts: Sequence[Float[Tensor, "batch piece dim"]],
) -> Weights:
    """Return the weights of attention inside the segments of memory as context.

    Parameters
    ----------
    contexts
        What the memory recalled, normalised, one tensor a segment.
    """
    batch, time, _ = tokens.shape
    prefix = mixer.attention.prefix(mixer.tokens)
    heads = mixer.attention.heads
    whole = Weights(
        tokens.new_zeros(batch, heads, time, time),
        tokens.new_zeros(batch, heads, time, time),
        tokens.new_zeros(batch, heads, time, len(mixer.tokens)),
    )
    for index, (part, context) in enumerate(
        zip(tokens.split(mixer.segment_len, dim=1), contexts, strict=True)
    ):
        here = slice(index * mixer.segment_len, index * mixer.segment_len + part.shape[1])
        places = torch.arange(part.shape[1], device=part.device)
        q, k, _ = mixer.attention.split(part)
        recalled, _ = mixer.attention.keys_values(context)
        q, k, recalled = (rotate(one, places) for one in (q, k, recalled))
        seen = places[:, None] >= places
        found = _softmax(q, [(_prefix(prefix, k), None), (recalled, seen), (k, seen)])
        whole.persistent[:, :, here] = found[0]
        whole.context[:, :, here, here] = found[1]
        whole.tokens[:, :, here, here] = found[2]
    return whole


def _prefix(prefix: tuple[Tensor, Tensor] | None, keys: Tensor) -> Tensor:
    """Return the keys of the persistent tokens for a batch, none if there are none."""
    if prefix is None:
        return keys[:, :, :0]
    return prefix_keys(prefix[0]).to(keys.dtype).expand(len(keys), -1, -1, -1)


def _softmax(queries: Tensor, groups: list[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
    """Return what falls on each group of keys, given which of them each query sees."""
    scores = []
    for keys, seen in groups:
        score = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
        scores.append(score if seen is None else score.masked_fill(~seen, -torch.inf))
    shares = torch.cat(scores, dim=-1).softmax(dim=-1)
    return list(shares.split([one.shape[-1] for one in scores], dim=-1))
