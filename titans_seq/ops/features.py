"""What stands before and after the memory in its layer (arXiv 2501.00663, section 4.4).

``mix_features`` makes queries, keys and values of their projection, ``leave`` makes of what
was read what the last projection takes. Each has a general form in torch, for any device,
for ``torch.compile`` and for second derivatives, and a compiled one for processors, which
keeps its inputs only and computes all else again in its backward pass. Half precision is
computed in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.cpu import features as compiled
from titans_seq.ops.cpu import features_operator as operator
from titans_seq.ops.cpu.operators import at_hand

NEARLY_ZERO = 1e-12
"""Added to a squared length: a zero vector stays zero."""

_READ_EPS = 1e-6
"""Added to the mean square of what a head has read."""


class Features(NamedTuple):
    """What the memory takes."""

    queries: Float[Tensor, "batch heads time width"]
    """Of unit length."""

    keys: Float[Tensor, "batch heads time width"]
    """Of unit length."""

    values: Float[Tensor, "batch heads time width"]


def mix_features(
    x: Float[Tensor, "batch time three_dim"],
    tail: Float[Tensor, "batch past three_dim"] | None,
    taps: Float[Tensor, "kernel three_dim"],
    heads: int,
) -> Features:
    """Mix each channel with its own last values, then take SiLU and unit length.

    Parameters
    ----------
    x
        Queries, keys and values of all heads, side by side.
    tail
        Last ``kernel - 1`` values before ``x``; zeros if left out.
    taps
        Weights of the convolution, oldest value first.
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, taps.dtype), torch.float32)
    x, taps = x.to(dtype), taps.to(dtype)
    tail = None if tail is None else tail.to(dtype)
    if not _supports(x, taps) or len(taps) != compiled.TAPS:
        return mix_features_reference(x, tail, taps, heads)
    x, taps = x.contiguous(), taps.contiguous()
    tail = None if tail is None else tail.contiguous()
    if torch.compiler.is_compiling():
        return Features(*operator.mix_operator(x, tail, taps, heads))
    if _learns(x, tail, taps):
        return Features(*_Mix.apply(heads, x, tail, taps))  # type: ignore[no-untyped-call]
    return Features(*compiled.mix(x, tail, taps, heads, None))


def mix_features_reference(
    x: Float[Tensor, "batch time three_dim"],
    tail: Float[Tensor, "batch past three_dim"] | None,
    taps: Float[Tensor, "kernel three_dim"],
    heads: int,
) -> Features:
    """Do what :func:`mix_features` does, in torch."""
    if tail is None:
        tail = x.new_zeros(x.shape[0], len(taps) - 1, x.shape[2])
    mixed = F.silu(convolve(taps, torch.cat([tail, x], dim=1)))
    q, k, v = rearrange(
        mixed,
        "batch time (three heads width) -> three batch heads time width",
        three=3,
        heads=heads,
    ).unbind(0)
    return Features(unit(q), unit(k), v)


def convolve(
    taps: Float[Tensor, "kernel dim"], padded: Float[Tensor, "batch past_and_time dim"]
) -> Float[Tensor, "batch time dim"]:
    """Return the weighted sums of each value with its ``kernel - 1`` predecessors."""
    return _Taps.apply(taps, padded)  # type: ignore[no-any-return, no-untyped-call]


def unit(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Return vectors of unit length; a zero vector stays zero."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + NEARLY_ZERO)


def leave(
    reads: Float[Tensor, "batch heads time width"],
    gate: Float[Tensor, "batch time dim"],
    gain: Float[Tensor, "dim"],
) -> Float[Tensor, "batch time dim"]:
    """Divide each head by the root of its mean square, join the heads, and gate them.

    Parameters
    ----------
    gate
        What SiLU makes the gate of.
    gain
        Learned gains, by which the normalised values are multiplied.
    """
    dtype = torch.promote_types(torch.promote_types(reads.dtype, gain.dtype), torch.float32)
    reads, gate, gain = reads.to(dtype), gate.to(dtype), gain.to(dtype)
    if not _supports(reads, gate, gain):
        return leave_reference(reads, gate, gain)
    reads, gate, gain = reads.contiguous(), gate.contiguous(), gain.contiguous()
    if torch.compiler.is_compiling():
        return operator.leave_operator(reads, gate, gain, _READ_EPS)
    if _learns(reads, gate, gain):
        return _Leave.apply(reads, gate, gain)  # type: ignore[no-any-return, no-untyped-call]
    return compiled.compiled_leave(reads, gate, gain, _READ_EPS)


def leave_reference(
    reads: Float[Tensor, "batch heads time width"],
    gate: Float[Tensor, "batch time dim"],
    gain: Float[Tensor, "dim"],
) -> Float[Tensor, "batch time dim"]:
    """Do what :func:`leave` does, in torch."""
    return normalise(reads, gain) * F.silu(gate)


def normalise(
    reads: Float[Tensor, "batch heads time width"], gain: Float[Tensor, "dim"]
) -> Float[Tensor, "batch time dim"]:
    """Divide each head by the root of its mean square, and join them, times ``gain``."""
    normed = F.rms_norm(reads, reads.shape[-1:], eps=_READ_EPS)
    return rearrange(normed, "batch heads time width -> batch time (heads width)") * gain


def _supports(*tensors: Tensor) -> bool:
    """Return whether the compiled code can be run, here and now."""
    return all(one.device.type == "cpu" for one in tensors) and at_hand()


def _learns(*tensors: Tensor | None) -> bool:
    """Return whether anything asks for a gradient."""
    return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)


class _Taps(torch.autograd.Function):
    """Weighted sum of shifted inputs; autograd's own graph of it copies every shift."""

    @staticmethod
    def forward(weight: Tensor, padded: Tensor) -> Tensor:
        kernel = len(weight)
        time = padded.shape[1] - kernel + 1
        mixed = weight[0] * padded[:, :time]
        for tap in range(1, kernel):
            mixed.addcmul_(weight[tap], padded[:, tap : tap + time])
        return mixed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, padded = ctx.saved_tensors
        kernel, time = len(weight), grad.shape[1]
        by_weight = [(grad * padded[:, tap : tap + time]).sum(dim=(0, 1)) for tap in range(kernel)]
        spread = F.pad(grad, (0, 0, kernel - 1, kernel - 1))
        by_input = _Taps.apply(weight.flip(0), spread)  # type: ignore[no-untyped-call]
        return torch.stack(by_weight), by_input


class _Mix(torch.autograd.Function):
    """The compiled form of :func:`mix_features`."""

    @staticmethod
    def forward(
        ctx: Any, heads: int, x: Tensor, tail: Tensor | None, taps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.heads = heads
        ctx.save_for_backward(x, tail, taps)
        return compiled.mix(x, tail, taps, heads, None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, tail, taps = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _differentiable(
                lambda x, tail, taps: mix_features_reference(x, tail, taps, ctx.heads),
                (x, tail, taps), grads,
            )  # fmt: skip
            return None, *found
        by = tuple(one.contiguous() for one in grads)
        return None, *compiled.unmix(x, tail, taps, by, ctx.heads)


class _Leave(torch.autograd.Function):
    """The compiled form of :func:`leave`."""

    @staticmethod
    def forward(ctx: Any, reads: Tensor, gate: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(reads, gate, gain)
        return compiled.compiled_leave(reads, gate, gain, _READ_EPS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return tuple(_differentiable(leave_reference, ctx.saved_tensors, (grad,)))
        reads, gate, gain = ctx.saved_tensors
        return compiled.unleave(reads, gate, gain, grad.contiguous(), _READ_EPS)


def _differentiable(
    form: Any, tensors: tuple[Tensor | None, ...], grads: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Return gradients of the general form, that can be differentiated again."""
    wanted = [one for one in tensors if one is not None and one.requires_grad]
    with torch.enable_grad():
        results = form(*tensors)
        results = (results,) if isinstance(results, Tensor) else results
        found = iter(torch.autograd.grad(results, wanted, grads, create_graph=True))
    return [next(found) if one is not None and one.requires_grad else None for one in tensors]
