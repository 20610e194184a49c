"""Relative positions by rotation (arXiv 2104.09864) of half of each head's width.

The other half is not rotated, and prefix keys live in that half only, so that a prefix is
equally far from every token. Only differences of positions reach a score, so a stream of
any length meets no position that training did not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ROTARY_BASE = 10_000.0


class Turns(NamedTuple):
    """Cosine and sine of every position's angles, each (time, pairs)."""

    cos: Float[Tensor, "time pairs"]
    sin: Float[Tensor, "time pairs"]


def turns(positions: Int[Tensor, "time"], dim: int, dtype: torch.dtype) -> Turns:
    """Return the rotations of heads of width ``dim`` at the given positions.

    Angles are computed in double precision, so that a far position is as exact as a near
    one; they are kept in ``dtype``, or in float32 if that is narrower.
    """
    pairs = dim // 4
    exponents = torch.arange(pairs, device=positions.device, dtype=torch.float64) / max(pairs, 1)
    angles = positions.double().unsqueeze(-1) * ROTARY_BASE**-exponents
    wide = torch.promote_types(dtype, torch.float32)
    return Turns(angles.cos().to(wide), angles.sin().to(wide))


def turns_between(
    first: int, end: int, dim: int, dtype: torch.dtype, device: torch.device
) -> Turns:
    """Return :func:`turns` at all positions from ``first`` to before ``end``.

    Without gradients they are kept for the next call, so nobody may write into them.
    """
    # with gradients a function transform may be at work, whose tensors do not outlive it
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return turns(torch.arange(first, end, device=device), dim, dtype)
    return _kept_turns(first, end, dim, dtype, device)


@lru_cache(maxsize=64)
def _kept_turns(first: int, end: int, dim: int, dtype: torch.dtype, device: torch.device) -> Turns:
    # a tensor made in inference mode could not be saved for a gradient later
    with torch.inference_mode(mode=False):
        return turns(torch.arange(first, end, device=device), dim, dtype)


def turn(x: Float[Tensor, "*rows time dim"], by: Turns) -> Float[Tensor, "*rows time dim"]:
    """Rotate the first half of the width; the second half stays as it is.

    A width below 4 has no pairs to rotate in its first half and is returned unchanged.
    """
    if not by.cos.shape[-1]:
        return x
    wide = x.to(by.cos.dtype)
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad):
        turned: Tensor = _Turn.apply(wide, *by)  # type: ignore[no-untyped-call]
    else:
        turned = _Turn.forward(wide, *by)
    return turned.to(x.dtype)


def rotate(
    x: Float[Tensor, "*rows time dim"], positions: Int[Tensor, "time"]
) -> Float[Tensor, "*rows time dim"]:
    """Rotate the first half of the width by position; see :func:`turn`."""
    return turn(x, turns(positions, x.shape[-1], x.dtype))


def prefix_keys(keys: Float[Tensor, "heads prefix dim"]) -> Float[Tensor, "heads prefix dim"]:
    """Return prefix keys that every position sees alike: zero in the rotated half."""
    turned = 2 * (keys.shape[-1] // 4)
    return F.pad(keys[..., turned:], (turned, 0))


class _Turn(torch.autograd.Function):
    """Rotation written into one copy; autograd's own graph of it makes six."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        pairs = cos.shape[-1]
        one, two = x[..., :pairs], x[..., pairs : 2 * pairs]
        out = x.clone()
        out[..., :pairs].mul_(cos).addcmul_(two, sin, value=-1)
        out[..., pairs : 2 * pairs].mul_(cos).addcmul_(one, sin)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Turn.apply(grad, cos, -sin), None, None  # type: ignore[no-untyped-call]
