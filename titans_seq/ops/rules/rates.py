"""The scalars of one chunk: how each token's write and the carried state reach each token.

For the update of a chunk of C tokens (arXiv 2501.00663, equations 13 and 14)::

    S[t] = momentum[t] S[t-1] - step[t] g[t]
    W[t] = keep[t] W[t-1] + write[t] S[t]

every state of the chunk is a sum over the chunk's gradients::

    W[t] = keep_product[t] W[0] + carry[t] S[0] - sum over s <= t of mix[t, s] step[s] g[s]
    S[t] = momentum_product[t] S[0]             - sum over s <= t of decay[t, s] step[s] g[s]

with ``decay`` the products of momentum from s to t, and ``mix`` those of keep times them.
Products of rates are made by *segment sums* of their logarithms: nothing large is ever
subtracted or divided, so gates of exactly 0 and 1 are exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class ChunkScalars(NamedTuple):
    """Scalars of each chunk; rows are the reading token t, columns the writing token s.

    Shapes
    ------
    ``mix`` (..., chunk, chunk), lower triangular; the others (..., chunk)
    """

    mix: Float[Tensor, "*rows chunk chunk"]
    mix_last: Float[Tensor, "*rows chunk"]
    """Last row of ``mix``: how each write reaches the chunk's end."""
    decay_last: Float[Tensor, "*rows chunk"]
    """Last row of ``decay``: how each write reaches the momentum at the chunk's end."""
    keep_product: Float[Tensor, "*rows chunk"]
    carry: Float[Tensor, "*rows chunk"]
    momentum_product: Float[Tensor, "*rows chunk"]


class _SegmentProducts(torch.autograd.Function):
    """Products of rates over every segment, with a backward that keeps the result only."""

    @staticmethod
    def forward(log_rates: Tensor) -> Tensor:
        chunk = log_rates.shape[-1]
        # Column s keeps the logs of tokens t > s; a cumulative sum down each column gives the log
        # of rate[s + 1] ... rate[t] without a difference of large sums, which would cancel.
        sums = log_rates.unsqueeze(-1).repeat(*(1,) * log_rates.dim(), chunk).tril_(-1)
        return sums.cumsum_(-2).exp_().tril_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # rate j stands in the products of every t >= j and s < j
        (products,) = ctx.saved_tensors
        upto = (grad * products).cumsum(-1)
        before = torch.nn.functional.pad(upto[..., :-1], (1, 0))
        return before.tril().sum(-2)


def segment_products(
    log_rates: Float[Tensor, "*rows chunk"],
) -> Float[Tensor, "*rows chunk chunk"]:
    """Return ``P[t, s] = rate[s + 1] * ... * rate[t]``; 1 on the diagonal, 0 above it.

    Parameters
    ----------
    log_rates
        Logarithms of the rates; -inf for a rate of exactly 0.
    """
    products: Tensor = _SegmentProducts.apply(log_rates)  # type: ignore[no-untyped-call]
    return products


def products_to_end(log_rates: Float[Tensor, "*rows chunk"]) -> Float[Tensor, "*rows chunk"]:
    """Return ``rate[s + 1] * ... * rate[end]`` for each s; 1 for the last."""
    # A sum from the end backwards; the last token has nothing after it, log 1 = 0.
    later = torch.nn.functional.pad(log_rates[..., 1:], (0, 1))
    return later.flip(-1).cumsum(-1).flip(-1).exp()


def chunk_scalars(
    log_keep: Float[Tensor, "*rows chunk"],
    log_momentum: Float[Tensor, "*rows chunk"],
    write: Float[Tensor, "*rows chunk"] | None = None,
) -> ChunkScalars:
    """Return the scalars of the momentum schedule (design of equations 13 and 14).

    Parameters
    ----------
    log_keep, log_momentum
        Logarithms of the rates, in [-inf, 0].
    write
        1 where the token's momentum enters the weights; all ones if left out.
    """
    # decay[t, s] carries a write of s to the momentum at t, keep[t, s] the momentum of s, once in
    # the weights, to the weights at t; their product runs over the token where it entered them.
    keep = segment_products(log_keep)
    decay = segment_products(log_momentum)
    keep_last = products_to_end(log_keep)
    if write is not None:
        keep = keep * write.unsqueeze(-2)
        keep_last = keep_last * write
    momentum_product = log_momentum.cumsum(-1).exp()
    return ChunkScalars(
        mix=keep @ decay,
        mix_last=(keep_last.unsqueeze(-2) @ decay).squeeze(-2),
        decay_last=products_to_end(log_momentum),
        keep_product=log_keep.cumsum(-1).exp(),
        carry=(keep @ momentum_product.unsqueeze(-1)).squeeze(-1),
        momentum_product=momentum_product,
    )


def mean_scalars(write: Float[Tensor, "*rows chunk"], first_slot: int) -> ChunkScalars:
    """Return the scalars of TTT's mean schedule (arXiv 2407.04620, its dual form).

    ``W[t] = W[start of chunk] + S[t] / t`` with ``S[t] = S[t-1] - step[t] g[t]``, where t
    counts the chunk's tokens.

    Parameters
    ----------
    write
        1 for a real token, 0 for an empty slot, which leaves no trace.
    first_slot
        Slot of the first column in its chunk; the real tokens of a chunk fill its slots
        in order.
    """
    chunk = write.shape[-1]
    # The divisor of the mean: how many real tokens the chunk has so far, empty slots repeat it.
    slots = torch.arange(1, chunk + 1, dtype=write.dtype, device=write.device) + first_slot
    share = 1.0 / (write * slots).cummax(-1).values.clamp_min(1.0)
    ones = torch.ones_like(write)
    lower = torch.ones(chunk, chunk, dtype=write.dtype, device=write.device).tril()
    lower = lower.expand(*write.shape, chunk)
    return ChunkScalars(
        mix=share.unsqueeze(-1) * lower,
        mix_last=share[..., -1:].expand_as(share),
        decay_last=ones,
        keep_product=ones,
        carry=share,
        momentum_product=ones,
    )


class BeforeToken(NamedTuple):
    """Scalars of the state before each token instead of after it."""

    mix: Float[Tensor, "*rows chunk chunk"]
    keep_product: Float[Tensor, "*rows chunk"]
    carry: Float[Tensor, "*rows chunk"]


def before_token(scalars: ChunkScalars) -> BeforeToken:
    """Return the scalars of the state *before* each token: every row moved down by one."""

    def down(rows: Tensor, first: float) -> Tensor:
        return torch.nn.functional.pad(rows[..., :-1], (1, 0), value=first)

    return BeforeToken(
        mix=torch.nn.functional.pad(scalars.mix[..., :-1, :], (0, 0, 1, 0)),
        keep_product=down(scalars.keep_product, 1.0),
        carry=down(scalars.carry, 0.0),
    )
