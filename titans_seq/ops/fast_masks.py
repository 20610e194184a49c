"""The scalars of many chunks at once, by recurrence over the rows of the chunk.

The same numbers as :func:`titans_seq.ops.rates.chunk_scalars`, cheaper where chunks are
many: row t of every chunk follows from row t - 1 by one multiplication and one addition,
and nothing is divided or subtracted, so gates of exactly 0 and 1 stay exact::

    e[t] = momentum[t] e[t - 1], and 1 in token t's own column
    m[t] = keep[t] m[t - 1] + write[t] e[t]

Columns are, in this order, the weights at the chunk's start, the momentum at its start, and
the chunk's tokens: ``m[t]`` is what the weights after token t hold of each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_space import Space

FIRST = 2
"""Columns before those of the chunk's tokens: the carried weights, the carried momentum."""


class Masks(NamedTuple):
    """Rows of every chunk, time first.

    Shapes
    ------
    ``decay`` and ``mix`` (chunk, rows, 2 + chunk); the rates (chunk, rows, 1)
    """

    decay: Float[Tensor, "chunk rows columns"]
    """What the momentum after each token holds."""
    mix: Float[Tensor, "chunk rows columns"]
    """What the weights after each token hold."""
    keep: Float[Tensor, "chunk rows 1"]
    momentum: Float[Tensor, "chunk rows 1"]
    write: Float[Tensor, "chunk rows 1"]


def masks(
    log_keep: Float[Tensor, "chunk rows"],
    log_momentum: Float[Tensor, "chunk rows"],
    write: Float[Tensor, "chunk rows"],
    space: Space,
) -> Masks:
    """Return the scalars of the momentum schedule, equations 13 and 14 of arXiv 2501.00663."""
    chunk, rows = log_keep.shape
    keep, momentum = log_keep.exp().unsqueeze(-1), log_momentum.exp().unsqueeze(-1)
    write = write.unsqueeze(-1)
    decay = space.take("decay", (chunk, rows, FIRST + chunk))
    mix = space.take("mix", (chunk, rows, FIRST + chunk))
    decay[0].zero_()
    decay[0, :, 1:2] = momentum[0]
    decay[0, :, FIRST] = 1.0
    torch.mul(decay[0], write[0], out=mix[0])
    mix[0, :, :1] = keep[0]
    rates = zip(keep.unbind(0), momentum.unbind(0), write.unbind(0), strict=True)
    next(rates)
    all_decay, all_mix = decay.unbind(0), mix.unbind(0)
    for t, (kept, held, written) in enumerate(rates, 1):
        torch.mul(all_decay[t - 1], held, out=all_decay[t])
        all_decay[t].select(1, FIRST + t).fill_(1.0)
        torch.mul(all_mix[t - 1], kept, out=all_mix[t])
        all_mix[t].addcmul_(all_decay[t], written)
    return Masks(decay, mix, keep, momentum, write)


def masks_backward(
    made: Masks,
    decay_last: Float[Tensor, "rows columns"],
    mix: Float[Tensor, "chunk rows columns"],
    space: Space,
) -> tuple[Float[Tensor, "chunk rows"], Float[Tensor, "chunk rows"]]:
    """Return the gradients of the logarithms of keep and momentum.

    Parameters
    ----------
    decay_last
        Gradient of the last row of ``decay``.
    mix
        Gradient of ``mix``; overwritten.
    """
    chunk = len(mix)
    decay = space.take("decay gradient", mix.shape)
    torch.addcmul(decay_last, mix[-1], made.write[-1], out=decay[-1])
    all_decay, all_mix = decay.unbind(0), mix.unbind(0)
    keep, momentum = made.keep.unbind(0), made.momentum.unbind(0)
    write = made.write.unbind(0)
    for t in range(chunk - 2, -1, -1):
        all_mix[t].addcmul_(all_mix[t + 1], keep[t + 1])
        torch.mul(all_decay[t + 1], momentum[t + 1], out=all_decay[t])
        all_decay[t].addcmul_(all_mix[t], write[t])
    # what stands in columns of later tokens meets zeros of the row before
    by_keep = (mix[1:] * made.mix[:-1]).sum(-1)
    by_momentum = (decay[1:, :, 1:] * made.decay[:-1, :, 1:]).sum(-1)
    by_keep = torch.cat([mix[:1, :, 0], by_keep])
    by_momentum = torch.cat([decay[:1, :, 1], by_momentum])
    return by_keep * made.keep.squeeze(-1), by_momentum * made.momentum.squeeze(-1)
