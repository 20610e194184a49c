"""What enters the GPU kernels: the scalars of all chunks at once, by plain torch and autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rates import ChunkScalars, before_token, chunk_scalars
from titans_seq.ops.rules.rule import Rates, UpdateRule, activate
from titans_seq.ops.rules.triangular_step import triangular_step

Heads = Float[Tensor, "batch heads time ..."]


def pad_to_chunks(
    tokens: tuple[Tensor, ...], rates: Rates, chunk_size: int
) -> tuple[tuple[Tensor, ...], Rates]:
    """Fill the last chunk up with tokens that write nothing and age nothing.

    Rates come back in the type of scalars: float32, or float64 for float64 tokens.
    """
    wide = torch.float64 if tokens[0].dtype == torch.float64 else torch.float32
    missing = -tokens[0].shape[2] % chunk_size
    filled = tuple(F.pad(one, (0, 0, 0, missing)) for one in tokens)
    return filled, Rates(*(F.pad(one.to(wide), (0, missing)) for one in rates))


def to_rows(
    state: Float[Tensor, "heads batch inner outer"], like: Tensor
) -> Float[Tensor, "rows inner outer"]:
    """Return a state by rows, heads fastest, in the type of ``like``."""
    return rearrange(state, "h b i o -> (b h) i o").to(like.dtype)


def _by_chunk(one: Tensor, chunk_size: int) -> Tensor:
    return rearrange(one, "b h (n c) ... -> (b h) n c ...", c=chunk_size)


def _vectors(scalars: ChunkScalars, *further: Tensor) -> Tensor:
    """Stack the vectors of each chunk in the order the kernels know."""
    first = (
        scalars.keep_product,
        scalars.carry,
        scalars.mix_last,
        scalars.decay_last,
        scalars.momentum_product,
    )
    return torch.stack([*first, *further], dim=2)


def exact_inputs(
    rates: Rates, rule: UpdateRule, block_size: int, tokens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors, ``mix`` and ``before`` of the exact memory."""
    log_keep, log_momentum, step, write = (_by_chunk(one, block_size) for one in rates)
    scalars = chunk_scalars(log_keep, log_momentum, write)
    before = before_token(scalars)
    if rule.decay_first:
        keep = log_keep.exp()
        before = before._replace(
            mix=before.mix * keep.unsqueeze(-1),
            keep_product=before.keep_product * keep,
            carry=before.carry * keep,
        )
    vectors = _vectors(scalars, step, before.keep_product, before.carry)
    return vectors, scalars.mix, before.mix


def chunk_inputs(
    keys: Heads, rates: Rates, rule: UpdateRule, chunk_size: int, layers: int
) -> tuple[Tensor, Tensor]:
    """Return vectors and ``mix`` of a memory with the gradient at the chunk's start.

    The first layer's inputs are the keys, so its steps do not wait for any state.
    """
    log_keep, log_momentum, step, write = (_by_chunk(one, chunk_size) for one in rates)
    scalars = chunk_scalars(log_keep, log_momentum, write)
    if rule.step == "mean":
        step = step / chunk_size
    first = step
    if rule.step == "triangular":
        z = _by_chunk(keys, chunk_size).to(step.dtype)
        first = triangular_step(z, step, log_momentum, layers).step
    second = (step, -torch.expm1(log_momentum)) if layers > 1 else ()
    return _vectors(scalars, first, *second), scalars.mix


def remember_last_chunk(
    keys: Heads,
    rates: Rates,
    anchored: tuple[Float[Tensor, "heads batch inner outer"], ...],
    rule: UpdateRule,
    chunk_size: int,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the unit inputs of the last chunk's tokens, and what they wrote, of each layer.

    Parameters
    ----------
    keys, rates
        Of all tokens; the last chunk begins at a multiple of ``chunk_size``.
    anchored
        Weights at the last chunk's start.
    """
    first = (keys.shape[2] - 1) // chunk_size * chunk_size
    here = [rearrange(one[:, :, first:], "b h ... -> h b ...") for one in (keys, *rates)]
    z, _, log_momentum, step, _ = (one.to(anchored[0].dtype) for one in here)
    missing = chunk_size - z.shape[2]
    units, spent = [], []
    for index in range(len(anchored)):
        if index:
            z = activate(z @ anchored[index - 1], rule.activation)
        wrote = triangular_step(z, step, log_momentum, len(anchored))
        units.append(F.pad(wrote.keys, (0, 0, 0, missing)))
        spent.append(F.pad(wrote.spent, (0, missing)))
    return tuple(units), tuple(spent)
