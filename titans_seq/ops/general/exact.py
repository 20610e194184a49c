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
from torch import Tensor

from titans_seq.ops.call import MemoryCall, MemoryResult
from titans_seq.ops.rules.rates import BeforeToken, ChunkScalars, before_token, chunk_scalars
from titans_seq.ops.state import first_carry, split_start


def memory_exact(
    call: MemoryCall,
) -> MemoryResult:
    """Write and read every token, read after write, ``call.chunk_size`` tokens at once."""
    rule, start = call.rule, call.start[:1]
    carry = call.carry or first_carry(start, rule, len(call.queries), call.chunk_size)
    (base,) = split_start(start, rule)[0]
    inputs = (call.queries, call.keys, call.values, *call.rates)
    head_first = [rearrange(tensor, "b h ... -> h b ...") for tensor in inputs]
    blocks = zip(*(tensor.split(call.chunk_size, dim=2) for tensor in head_first), strict=True)
    (weights,), (momentum,) = carry.weights, carry.momentum
    outputs, losses = [], []
    # Each block is (heads, batch, block, ...); the rates lack the last axis.
    for q, k, v, log_keep, log_momentum, step, write in blocks:
        scalars = chunk_scalars(log_keep, log_momentum, write)
        state = (weights, momentum)
        errors = _errors(k, v, step, base, state, scalars, log_keep if rule.decay_first else None)
        losses.append(0.5 * errors.square().sum(-1))
        # Token s writes the outer product of k[s] and change[s]; a query at t sees the writes of
        # all s <= t, each scaled by mix[t, s].
        change = errors * step.unsqueeze(-1)
        outputs.append(_through(q, base, state, scalars) - (scalars.mix * (q @ k.mT)) @ change)
        weights, momentum = _last_state(k, change, state, scalars)
    joined = rearrange(torch.cat(outputs, dim=2), "h b t d -> b h t d")
    loss = rearrange(torch.cat(losses, dim=2), "h b t -> b h t")
    after = carry._replace(weights=(weights,), momentum=(momentum,))
    return MemoryResult(joined, loss, after)


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
        # Gated DeltaNet forgets before it predicts: every term of row t is kept once more.
        keep = decay.exp()
        before = before._replace(
            mix=before.mix * keep.unsqueeze(-1),
            keep_product=before.keep_product * keep,
            carry=before.carry * keep,
        )
    # Strictly lower triangular: row t holds how far each earlier write s reaches the error at t.
    # solve_triangular takes the unit diagonal for granted and reads nothing above it.
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

    def last(scalar: Tensor) -> Tensor:
        return scalar[..., -1, None, None]

    # (inner, block) @ (block, outer): the sum over the block of outer products k[s] change[s].
    kept = last(scalars.keep_product) * weights + last(scalars.carry) * momentum
    return (
        kept - k.mT @ (scalars.mix_last.unsqueeze(-1) * change),
        last(scalars.momentum_product) * momentum
        - k.mT @ (scalars.decay_last.unsqueeze(-1) * change),
    )
