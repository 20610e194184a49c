"""The compiled code around the memory as operators of torch's, for ``torch.compile``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.cpu import features as compiled
from titans_seq.ops.cpu.operators import define


def mix_operator(
    x: Tensor, tail: Tensor | None, taps: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values; see :func:`titans_seq.ops.features.mix_features`."""
    q, k, v = torch.ops.titans_seq.mix_features(x, tail, taps, heads)
    return q, k, v


def leave_operator(reads: Tensor, gate: Tensor, gain: Tensor, tiny: float) -> Tensor:
    """Return what was read, normalised and gated; see :func:`titans_seq.ops.features.leave`."""
    out: Tensor = torch.ops.titans_seq.leave(reads, gate, gain, tiny)
    return out


def _mix(x: Tensor, tail: Tensor | None, taps: Tensor, heads: int) -> tuple[Tensor, ...]:
    x, tail, taps = _dense(x, tail, taps)
    return compiled.mix(x, tail, taps, heads, None)


def _mix_shapes(x: Tensor, tail: Tensor | None, taps: Tensor, heads: int) -> tuple[Tensor, ...]:
    batch, time, all_three = x.shape
    shape = (batch, heads, time, all_three // (3 * heads))
    return x.new_empty(shape), x.new_empty(shape), x.new_empty(shape)


def _unmix(
    x: Tensor, tail: Tensor | None, taps: Tensor, grads: list[Tensor], heads: int
) -> list[Tensor]:
    x, tail, taps = _dense(x, tail, taps)
    by = compiled.unmix(x, tail, taps, _dense(*grads), heads)
    return [one for one in by if one is not None]


def _unmix_shapes(
    x: Tensor, tail: Tensor | None, taps: Tensor, grads: list[Tensor], heads: int
) -> list[Tensor]:
    return [one.new_empty(one.shape) for one in (x, tail, taps) if one is not None]


def _keep_mix(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, tail, taps, ctx.heads = inputs
    ctx.save_for_backward(x, tail, taps)


def _differentiate_mix(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    x, tail, taps = ctx.saved_tensors
    by_x, *by_tail, by_taps = torch.ops.titans_seq.mix_features_backward(
        x, tail, taps, list(grads), ctx.heads
    )
    return by_x, by_tail[0] if by_tail else None, by_taps, None


def _leave(reads: Tensor, gate: Tensor, gain: Tensor, tiny: float) -> Tensor:
    reads, gate, gain = _dense(reads, gate, gain)
    return compiled.compiled_leave(reads, gate, gain, tiny)


def _leave_shape(reads: Tensor, gate: Tensor, gain: Tensor, tiny: float) -> Tensor:
    return gate.new_empty(gate.shape)


def _unleave(
    reads: Tensor, gate: Tensor, gain: Tensor, by_out: Tensor, tiny: float
) -> tuple[Tensor, ...]:
    reads, gate, gain, by_out = _dense(reads, gate, gain, by_out)
    return compiled.unleave(reads, gate, gain, by_out, tiny)


def _unleave_shapes(
    reads: Tensor, gate: Tensor, gain: Tensor, by_out: Tensor, tiny: float
) -> tuple[Tensor, ...]:
    return reads.new_empty(reads.shape), gate.new_empty(gate.shape), gain.new_empty(gain.shape)


def _keep_leave(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.tiny = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_leave(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.titans_seq.leave_backward(*ctx.saved_tensors, grad, ctx.tiny)
    return *found, None


def _dense(*tensors: Any) -> tuple[Any, ...]:
    """Return tensors as the compiled code takes them; a compiler lays them out as it likes."""
    return tuple(None if one is None else one.contiguous() for one in tensors)


_MIX = "Tensor x, Tensor? tail, Tensor taps"
_LEAVE = "Tensor reads, Tensor gate, Tensor gain"

define(
    "mix_features", f"({_MIX}, int heads) -> (Tensor, Tensor, Tensor)", _mix, _mix_shapes,
    keep=_keep_mix, differentiate=_differentiate_mix,
)  # fmt: skip
define(
    "mix_features_backward", f"({_MIX}, Tensor[] grads, int heads) -> Tensor[]",
    _unmix, _unmix_shapes,
)  # fmt: skip
define(
    "leave", f"({_LEAVE}, float tiny) -> Tensor", _leave, _leave_shape,
    keep=_keep_leave, differentiate=_differentiate_leave,
)  # fmt: skip
define(
    "leave_backward", f"({_LEAVE}, Tensor by_out, float tiny) -> (Tensor, Tensor, Tensor)",
    _unleave, _unleave_shapes,
)  # fmt: skip
