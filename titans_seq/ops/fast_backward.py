"""Gradients of whole chunks, by hand: one chunk after another, from the last to the first.

The mirror of :mod:`titans_seq.ops.fast_forward`, with its names; a name with ``by_`` holds
the gradient by what it names. What the first layer's products, masks and steps need is
collected chunk by chunk and worked on for the whole group at once, in
:mod:`titans_seq.ops.fast_group_backward`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_forward import Bounded, Group, Passed, Scalars, slope
from titans_seq.ops.fast_masks import FIRST
from titans_seq.ops.fast_slots import Fixed, Later, Sizes, Slot, State
from titans_seq.ops.fast_space import Space
from titans_seq.ops.fast_steps import bounded_backward, steps_backward


class ByState(NamedTuple):
    """Gradients by what a chunk hands on; one a layer, shaped like ``LayerState.both``."""

    both: list[Tensor]
    base: list[Float[Tensor, "rows inner outer"]]
    """Gradients by the base, summed over the chunks."""


class ByGroup(NamedTuple):
    """Gradients that a group's chunks collect."""

    left: Float[Tensor, "n rows chunk stacked"]
    ends: Float[Tensor, "n rows chunk twice_dim"]
    keys: Float[Tensor, "n rows chunk dim"]
    values: Float[Tensor, "n rows chunk dim"]
    mix: Float[Tensor, "n rows chunk columns"]
    decay_last: Float[Tensor, "n rows columns"]
    first_step: Float[Tensor, "n rows chunk"]
    first_square: Float[Tensor, "n rows chunk"]
    theta: Float[Tensor, "n rows chunk"]
    log_momentum: Float[Tensor, "n rows chunk"]


def by_group(n: int, sizes: Sizes, space: Space) -> ByGroup:
    """Return a group's gradients, zero where they are summed up."""
    rows, chunk, widths = sizes
    dim, columns = widths[0], FIRST + chunk
    shapes = {
        "left": (chunk, 3 * dim + chunk), "ends": (chunk, 2 * dim), "keys": (chunk, dim),
        "values": (chunk, dim), "mix": (chunk, columns), "decay_last": (columns,),
        "first_step": (chunk,), "first_square": (chunk,), "theta": (chunk,),
        "log_momentum": (chunk,),
    }  # fmt: skip
    made = {name: space.take(f"by {name}", (n, rows, *shape))
            for name, shape in shapes.items()}  # fmt: skip
    for name in ("mix", "decay_last", "theta", "log_momentum"):
        made[name].zero_()
    return ByGroup(**made)


class Step(NamedTuple):
    """What the backward pass of one chunk works with."""

    group: Group
    i: int
    now: State
    held: Slot
    passed: Passed
    fixed: Fixed
    by_state: ByState
    by_group: ByGroup
    space: Space

    def take(self, name: str, *shape: int) -> Tensor:
        """Return working memory, (rows, ...)."""
        return self.space.take(f"by {name}", (self.fixed.sizes.rows, *shape))

    @property
    def scalars(self) -> Scalars:
        """Masks of the chunk."""
        return self.group.scalars[self.i]


def chunk_backward(step: Step, by_output: Tensor, by_loss: Tensor | None) -> None:
    """Turn the gradients by a chunk's end into those by its start, and collect the rest.

    Parameters
    ----------
    by_output
        (rows, chunk, dim)
    by_loss
        (rows, chunk); ``None`` if the losses are not used.
    """
    held, now = step.held, step.now
    last = step.fixed.sizes.layers - 1
    activation = step.fixed.rule.activation
    by_errors, by_keys, by_wholes = [], [], []
    by_out = by_output
    for layer in range(last, 0, -1):
        by_queries, by_key, by_error, by_whole = _later_backward(step, layer, by_out)
        by_errors.insert(0, by_error)
        by_keys.insert(0, by_key)
        by_wholes.insert(0, by_whole)
        by_out = slope(by_queries, held.hidden[layer - 1].queries, activation, by_queries)
    by_error, by_whole = _first_backward(step, by_out)
    by_errors.insert(0, by_error)
    by_wholes.insert(0, by_whole)

    by_weights = [step.take("weights 0", *now.layers[0].weights.shape[1:])]
    by_before = []
    errors = [*(one.errors for one in held.hidden), held.error]
    for layer, hidden in enumerate(held.hidden):
        by_pulled = step.take("pulled", *hidden.pulled.shape[1:])
        slope(by_errors[layer], hidden.before, activation, by_pulled)
        bend(by_errors[layer], hidden.pulled, hidden.before, held.later[layer].keys, activation)
        by_before.append(by_errors[layer])
        following = now.layers[layer + 1]
        by_errors[layer + 1].baddbmm_(by_pulled, following.weights)
        by_weights.append(step.take(f"weights {layer + 1}", *following.weights.shape[1:]))
        torch.bmm(by_pulled.mT, errors[layer + 1], out=by_weights[-1])
    by_u = by_errors[last]
    if by_loss is not None:
        by_u.addcmul_(held.error, by_loss.unsqueeze(-1))
    torch.neg(by_u, out=step.by_group.values[step.i])
    for layer in range(last, 0, -1):
        by_keys[layer - 1].baddbmm_(by_u, now.layers[layer].transposed)
        by_weights[layer].baddbmm_(held.later[layer - 1].keys_transposed, by_u)
        before = held.hidden[layer - 1].before
        by_u = slope(by_keys[layer - 1], before, activation, by_keys[layer - 1])
        by_u.add_(by_before[layer - 1])
    torch.bmm(by_u, now.layers[0].transposed, out=step.by_group.keys[step.i])
    keys = step.group.both[step.i, :, step.fixed.sizes.chunk :]
    torch.bmm(keys.mT, by_u, out=by_weights[0])
    for layer, by_whole in enumerate(by_wholes):
        _hand_back(step, layer, by_whole, by_weights[layer])


def _later_backward(
    step: Step, layer: int, by_out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go back through the read and the write of a layer other than the first.

    Returns
    -------
    by_queries, by_keys, by_errors, by_weights
        The last one as a view of the layer's gradients by [W | D | S].
    """
    held, now, scalars = step.held.later[layer - 1], step.now.layers[layer], step.scalars
    chunk, inner, outer = *held.queries.shape[1:], held.change.shape[-1]
    by_mix = step.by_group.mix[step.i]
    spread = step.take("spread", chunk, 3 * outer)
    spread[..., :outer] = by_out
    torch.mul(by_out, scalars.fade, out=spread[..., outer : 2 * outer])
    torch.mul(by_out, scalars.carry, out=spread[..., 2 * outer :])
    by_mix[..., 0].add_((by_out * held.parts[1]).sum(-1))
    by_mix[..., 1].add_((by_out * held.parts[2]).sum(-1))
    by_queries = step.take(f"queries {layer}", chunk, inner)
    by_keys = step.take(f"keys {layer}", chunk, inner)
    by_whole = step.take(f"whole {layer}", inner, 3 * outer)
    torch.bmm(held.queries.mT, spread, out=by_whole)

    by_cross = step.take(f"cross {layer}", 2 * chunk, chunk)
    by_mixed = torch.bmm(by_out, held.change.mT, out=step.take("mixed", chunk, chunk))
    by_mix[..., FIRST:].addcmul_(by_mixed, held.seen, value=-1)
    torch.mul(by_mixed, scalars.mix, out=by_cross[:, :chunk]).neg_()
    by_change = step.take(f"change {layer}", chunk, outer)
    torch.bmm(held.mixed.mT, by_out, out=by_change).neg_()
    after = step.by_state.both[layer]
    by_ends = torch.bmm(held.keys, after, out=step.take("ends later", chunk, 2 * outer))
    _end_backward(step, by_ends.split(outer, dim=-1), held.change, by_change)

    made = step.passed.steps[layer - 1]
    error = step.held.error if layer == step.fixed.sizes.layers - 1 else step.held.hidden[layer].errors
    limited = step.passed.bounded[layer]
    by_step, by_square = _bounded_backward(step, limited, made.length, error, by_change)
    by_theta, by_log_momentum = steps_backward(
        made, scalars.demand, held.gram, held.system, (by_step, by_square),
        step.fixed.shared, step.fixed.sizes.layers, by_cross[:, chunk:],
    )  # fmt: skip
    step.by_group.theta[step.i].add_(by_theta)
    step.by_group.log_momentum[step.i].add_(by_log_momentum)

    # only a contiguous result is reached by the batched product
    torch.bmm(spread, now.whole.mT, out=by_queries)
    by_queries.baddbmm_(by_cross[:, :chunk], held.keys)
    torch.bmm(by_cross.mT, held.both, out=by_keys)
    by_keys.baddbmm_(by_cross[:, chunk:], held.keys).baddbmm_(held.ends, after.mT, alpha=-1)
    return by_queries, by_keys, by_change, by_whole


def _first_backward(step: Step, by_out: Tensor) -> tuple[Tensor, Tensor]:
    """Go back through the read and the write of the first layer.

    Returns
    -------
    by_errors, by_weights
        The last one as the layer's gradients by [W; D; S; change].
    """
    i, held, now, group = step.i, step.held, step.now, step.group
    whole, room = now.layers[0].whole, now.room
    torch.bmm(by_out, whole.mT, out=step.by_group.left[i])
    by_whole = torch.bmm(group.left[i].mT, by_out, out=step.take("whole 0", *whole.shape[1:]))
    dim = step.fixed.sizes.widths[0]
    by_room = step.take("change 0", *room.shape[1:])
    after = step.by_state.both[0]
    torch.bmm(group.ends[i], after, out=by_room)
    torch.sub(by_whole[:, 3 * dim :], by_room, out=by_room)
    torch.bmm(room, after.mT, out=step.by_group.ends[i]).neg_()
    error = held.hidden[0].errors if held.hidden else held.error
    limited = step.passed.bounded[0]
    by_step, by_square = _bounded_backward(
        step, limited, step.scalars.first_length, error, by_room
    )
    step.by_group.first_step[i].copy_(by_step)
    step.by_group.first_square[i].copy_(by_square)
    return by_room, by_whole


def _end_backward(
    step: Step, by_ends: tuple[Tensor, ...], change: Tensor, by_change: Tensor
) -> None:
    """Add what the chunk's end says of a later layer's changes; ``by_ends`` come negated."""
    scalars = step.scalars
    by_change.addcmul_(by_ends[0], scalars.mix_last, value=-1)
    by_change.addcmul_(by_ends[1], scalars.decay_last, value=-1)
    step.by_group.mix[step.i][:, -1, FIRST:].sub_((by_ends[0] * change).sum(-1))
    step.by_group.decay_last[step.i][:, FIRST:].sub_((by_ends[1] * change).sum(-1))


def _bounded_backward(
    step: Step, limited: Bounded, length: Tensor, error: Tensor, by_change: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients by steps and squared inputs; ``by_change`` becomes that by errors."""
    by_step = (by_change * error).sum(-1)
    by_change.mul_(limited.step.unsqueeze(-1))
    bound = step.fixed.rule.gradient_bound
    if bound is None or limited.room is None:
        return by_step, torch.zeros_like(by_step)
    by_step, by_square, by_errors = bounded_backward(
        length, limited.errors, limited.step, limited.room, by_step, bound
    )
    by_change.addcmul_(error, by_errors.mul_(2).unsqueeze(-1))
    return by_step, by_square


def _hand_back(step: Step, layer: int, by_whole: Tensor, by_weights: Tensor) -> None:
    """Turn the gradients by a layer's state after the chunk into those before it."""
    now, scalars = step.now.layers[layer], step.scalars
    by_mix, by_decay = step.by_group.mix[step.i][:, -1], step.by_group.decay_last[step.i]
    both = step.by_state.both[layer]
    by_drift, by_momentum = both.chunk(2, dim=2 if layer else 1)
    read, more = _third(by_whole, layer, step.fixed.sizes)
    by_weights.add_(read)
    products = step.take(f"products {layer}", 3, *now.drift.shape[1:])
    torch.mul(now.drift, by_drift, out=products[:, 0])
    torch.mul(now.momentum, by_drift, out=products[:, 1])
    torch.mul(now.momentum, by_momentum, out=products[:, 2])
    sums = products.sum((2, 3))
    by_mix[:, :2].add_(sums[:, :2])
    by_decay[:, 1].add_(sums[:, 2])
    by_momentum.mul_(scalars.held_end).addcmul_(by_drift, scalars.carry_end)
    by_drift.mul_(scalars.kept_end).add_(by_weights)
    both.add_(more)
    step.by_state.base[layer].add_(by_weights)


def _third(by_whole: Tensor, layer: int, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Return the part of a state's gradient that is by W, and that by D and S."""
    if layer:
        outer = sizes.widths[layer + 1]
        return by_whole[..., :outer], by_whole[..., outer:]
    dim = sizes.widths[0]
    return by_whole[:, :dim], by_whole[:, dim : 3 * dim]


def bend(grad: Tensor, pulled: Tensor, u: Tensor, z: Tensor, activation: str) -> Tensor:
    """Multiply ``grad``, in place, with ``pulled`` and the non-linearity's second derivative.

    Parameters
    ----------
    z
        The non-linearity of ``u``.
    """
    grad.mul_(pulled)
    if activation == "silu":
        gate = torch.sigmoid(u)
        grad.mul_(gate).mul_(1 - gate)
        return grad.mul_(torch.sub(u, z, alpha=2).add_(2.0))
    density = torch.exp(-0.5 * u * u).mul_(0.3989422804014327)
    return grad.mul_(density.mul_(2.0 - u * u))
