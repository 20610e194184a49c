"""Linear memory with the gradient at every token, by one triangular solve a block.

Equation 14 of arXiv 2501.00663 as written: the error of token t is taken at the weights
that tokens before t have left. Inside a block all errors R solve one unit lower triangular
system, with ``mix``, ``keep_product`` and ``carry`` of the state before each token::

    (I + mix * step * (K K^T)) R = keep_product * (K W[0]) + carry * (K S[0]) - V

exactly, for any block length and any split of the sequence.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rates import BeforeToken, ChunkScalars, before_token, chunk_scalars
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry, split_start


def memory_exact(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads dim dim"]],
    carry: Carry,
    rule: UpdateRule,
    *,
    block_size: int,
) -> tuple[Tensor, Tensor, Carry]:
    """Write and read every token, read after write.

    Parameters
    ----------
    start
        Learned first weights, a single layer.
    carry
        State before the first token.
    block_size
        Tokens computed at once; it changes the speed, not the result.

    Returns
    -------
    outputs
        (batch, heads, time, dim)
    losses
        (batch, heads, time): half the squared error before the token is written.
    carry
        State after the last token.
    """
    (base,) = split_start(start, rule)[0]
    head_first = [rearrange(one, "b h ... -> h b ...") for one in (queries, keys, values, *rates)]
    blocks = zip(*(one.split(block_size, dim=2) for one in head_first), strict=True)
    (weights,), (momentum,) = carry.weights, carry.momentum
    outputs, losses = [], []
    for q, k, v, log_keep, log_momentum, step, write in blocks:
        scalars = chunk_scalars(log_keep, log_momentum, write)
        state = (weights, momentum)
        errors = _errors(k, v, step, base, state, scalars, log_keep if rule.decay_first else None)
        losses.append(0.5 * errors.square().sum(-1))
        change = errors * step.unsqueeze(-1)
        outputs.append(_through(q, base, state, scalars) - (scalars.mix * (q @ k.mT)) @ change)
        weights, momentum = _last_state(k, change, state, scalars)
    joined = rearrange(torch.cat(outputs, dim=2), "h b t d -> b h t d")
    loss = rearrange(torch.cat(losses, dim=2), "h b t -> b h t")
    return joined, loss, carry._replace(weights=(weights,), momentum=(momentum,))


def _through(
    x: Tensor,
    base: Tensor,
    state: tuple[Tensor, Tensor],
    scalars: ChunkScalars | BeforeToken,
) -> Tensor:
    """Return ``x`` through the carried weights, as they have decayed by each token."""
    weights, momentum = state
    kept = scalars.keep_product.unsqueeze(-1) * (x @ weights)
    return x @ base.unsqueeze(1) + kept + scalars.carry.unsqueeze(-1) * (x @ momentum)


def _errors(
    k: Tensor,
    v: Tensor,
    step: Tensor,
    base: Tensor,
    state: tuple[Tensor, Tensor],
    scalars: ChunkScalars,
    decay: Tensor | None,
) -> Tensor:
    """Solve for every token's error before it is written; ``decay``: log keep, applied first."""
    before = before_token(scalars)
    if decay is not None:
        keep = decay.exp()
        before = before._replace(
            mix=before.mix * keep.unsqueeze(-1),
            keep_product=before.keep_product * keep,
            carry=before.carry * keep,
        )
    system = before.mix * step.unsqueeze(-2) * (k @ k.mT)
    errors: Tensor = torch.linalg.solve_triangular(
        system, _through(k, base, state, before) - v, upper=False, unitriangular=True
    )
    return errors


def _last_state(
    k: Tensor, change: Tensor, state: tuple[Tensor, Tensor], scalars: ChunkScalars
) -> tuple[Tensor, Tensor]:
    """Return weights and momentum after the block's last token."""
    weights, momentum = state

    def last(one: Tensor) -> Tensor:
        return one[..., -1, None, None]

    kept = last(scalars.keep_product) * weights + last(scalars.carry) * momentum
    return (
        kept - k.mT @ (scalars.mix_last.unsqueeze(-1) * change),
        last(scalars.momentum_product) * momentum
        - k.mT @ (scalars.decay_last.unsqueeze(-1) * change),
    )
