"""Whole chunks of the dual form, forward, in as few and as large products as there are.

For each layer, with z and h the inputs of keys and queries, d the errors of the keys, and c
the bounded steps (arXiv 2501.00663, equations 16 to 18, in dual form)::

    out[t] = h[t] W + (kept[t] - 1) h[t] D + carry[t] h[t] S
             - sum over s <= t of mix[t, s] (h[t] . z[s]) c[s] d[s]
    D' = kept D + carry S - z^T (mix_last c d)
    S' = held S           - z^T (decay_last c d)

where W are the weights at the chunk's start, D their difference from the base that forgetting
leads to, and S the momentum. The first layer's inputs are the keys and queries themselves,
which no state changes: its masks, products and steps are made for a group of chunks at once,
and its read is a single product with [W; D; S; c d] stacked. The other layers read
[W | D | S] side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_masks import FIRST, Masks, masks
from titans_seq.ops.fast_slots import Fixed, Slot, State
from titans_seq.ops.fast_space import Space
from titans_seq.ops.fast_steps import Demand, Steps, bounded_step, demand_of, steps
from titans_seq.ops.rule import Rates

silu, silu_backward = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input
gelu, gelu_backward = torch.ops.aten.gelu.out, torch.ops.aten.gelu_backward.grad_input


class Tokens(NamedTuple):
    """Tokens of one group of ``n`` chunks; a row is one head of one sequence."""

    both: Float[Tensor, "n rows twice_chunk dim"]
    """Queries, then keys."""
    values: Float[Tensor, "n rows chunk dim"]
    rates: Rates
    """Each (chunk, n * rows), time first."""


class Scalars(NamedTuple):
    """Masks of one chunk, cut as the products want them; rows are heads of sequences."""

    mix: Float[Tensor, "rows chunk chunk"]
    fade: Float[Tensor, "rows chunk 1"]
    """kept - 1"""
    carry: Float[Tensor, "rows chunk 1"]
    mix_last: Float[Tensor, "rows chunk 1"]
    decay_last: Float[Tensor, "rows chunk 1"]
    kept_end: Float[Tensor, "rows 1 1"]
    carry_end: Float[Tensor, "rows 1 1"]
    held_end: Float[Tensor, "rows 1 1"]
    demand: Demand
    first_step: Float[Tensor, "rows chunk"]
    """Steps of the first layer before the bound on gradients."""
    first_length: Float[Tensor, "rows chunk"]


class Group(NamedTuple):
    """What a group of ``n`` chunks knows before any state."""

    both: Float[Tensor, "n rows twice_chunk dim"]
    """Queries, then keys."""
    cross: Float[Tensor, "n rows twice_chunk chunk"]
    """Queries and keys, times keys."""
    masks: Masks
    mix: Float[Tensor, "n rows chunk columns"]
    """The masks' ``mix``, chunk by chunk."""
    left: Float[Tensor, "n rows chunk stacked"]
    """[queries | (kept - 1) queries | carry queries | - mix * products]."""
    ends: Float[Tensor, "n rows chunk twice_dim"]
    """[mix_last keys | decay_last keys]."""
    demand: Demand
    """Of all rows of all chunks."""
    steps: Steps
    """Of the first layer, likewise."""
    system: Float[Tensor, "n_rows chunk chunk"]
    scalars: list[Scalars]


def prepare(tokens: Tokens, fixed: Fixed, space: Space) -> Group:
    """Return all of a group that no state changes."""
    rows, chunk, widths = fixed.sizes
    both, like = tokens.both, tokens.both
    n, dim = len(both), widths[0]
    queries, keys = both[:, :, :chunk], both[:, :, chunk:]
    cross = space.take("cross", (n, rows, 2 * chunk, chunk))
    torch.bmm(both.flatten(0, 1), keys.flatten(0, 1).mT, out=cross.flatten(0, 1))
    rates = tokens.rates
    made = masks(rates.log_keep, rates.log_momentum, rates.write, space)
    mix = space.take("mix by chunk", (n, rows, chunk, FIRST + chunk))
    mix.copy_(made.mix.view(chunk, n, rows, FIRST + chunk).permute(1, 2, 0, 3))
    system = space.take("system", (n * rows, chunk, chunk))
    demand = demand_of(rates.step.T.contiguous(), rates.log_momentum.T.contiguous())
    gram = cross[:, :, chunk:].flatten(0, 1)
    first = steps(gram, demand, fixed.shared, fixed.sizes.layers, system)
    scalars = _scalars(mix, made.decay[-1].view(n, rows, -1), demand, first)

    left = space.take("left", (n, rows, chunk, 3 * dim + chunk))
    left[..., :dim] = queries
    torch.mul(queries, mix[..., :1] - 1.0, out=left[..., dim : 2 * dim])
    torch.mul(queries, mix[..., 1:2], out=left[..., 2 * dim : 3 * dim])
    torch.mul(cross[:, :, :chunk], mix[..., FIRST:], out=left[..., 3 * dim :]).neg_()
    ends = space.take("ends", (n, rows, chunk, 2 * dim))
    torch.mul(keys, mix[:, :, -1, FIRST:].unsqueeze(-1), out=ends[..., :dim])
    last = made.decay[-1].view(n, rows, -1)[..., FIRST:]
    torch.mul(keys, last.unsqueeze(-1), out=ends[..., dim:])

    return Group(both, cross, made, mix, left, ends, demand, first, system, scalars)


def _scalars(mix: Tensor, decay: Tensor, demand: Demand, first: Steps) -> list[Scalars]:
    """Cut the masks of a group chunk by chunk."""
    last = mix[:, :, -1]
    parts = (
        mix[..., FIRST:],
        mix[..., :1] - 1.0,
        mix[..., 1:2],
        last[..., FIRST:].unsqueeze(-1),
        decay[..., FIRST:].unsqueeze(-1),
        last[..., :1].unsqueeze(-1),
        last[..., 1:2].unsqueeze(-1),
        decay[..., 1:2].unsqueeze(-1),
    )
    n, rows, chunk = mix.shape[:3]
    vectors = [one.view(n, rows, chunk).unbind(0) for one in (*demand, first.step, first.length)]
    each = zip(*(one.unbind(0) for one in parts), *vectors, strict=True)
    return [Scalars(*one[:8], Demand(*one[8:11]), *one[11:]) for one in each]


class Bounded(NamedTuple):
    """Steps of one layer after the bound on gradients; each (rows, chunk)."""

    step: Tensor
    room: Tensor | None
    """What the steps were divided by; ``None`` without a bound."""
    errors: Tensor
    """Lengths of the errors."""


class Passed(NamedTuple):
    """What the backward pass of one chunk needs beside its slot and state."""

    bounded: list[Bounded]
    steps: list[Steps]
    """Of the layers other than the first."""


def read_and_write(
    group: Group, i: int, values: Tensor, now: State, then: State, fixed: Fixed, held: Slot
) -> Passed:
    """Write chunk ``i`` of a group and read with its queries, into ``held.output``.

    Parameters
    ----------
    values
        (rows, chunk, dim)
    now
        Weights at the chunk's start; its room is filled.
    then
        Where the weights at the chunk's end are written.
    """
    rule, scalars, last = fixed.rule, group.scalars[i], fixed.sizes.layers - 1
    errors = _errors(group.both[i, :, fixed.sizes.chunk :], values, now, fixed, held)
    bound = _bounded(scalars.first_step, scalars.first_length, errors[0], rule.gradient_bound)
    torch.mul(errors[0], bound.step.unsqueeze(-1), out=now.room)
    out = held.hidden[0].queries if last else held.output
    torch.bmm(group.left[i], now.layers[0].whole, out=out)
    torch.bmm(group.ends[i].mT, now.room, out=now.layers[0].written)
    _end(scalars, now, then, fixed, 0)
    bounds, made = [bound], []
    for layer, one in enumerate(held.later, 1):
        activate(out, rule.activation, one.queries)
        torch.bmm(one.both, one.keys_transposed, out=one.cross)
        made.append(
            steps(one.gram, scalars.demand, fixed.shared, fixed.sizes.layers, one.system)
        )
        bound = _bounded(made[-1].step, made[-1].length, errors[layer], rule.gradient_bound)
        bounds.append(bound)
        torch.mul(errors[layer], bound.step.unsqueeze(-1), out=one.change)
        torch.mul(one.seen, scalars.mix, out=one.mixed)
        torch.bmm(one.queries, now.layers[layer].whole, out=one.reads)
        out = held.hidden[layer].queries if layer < last else held.output
        torch.mul(one.parts[1], scalars.fade, out=out).add_(one.parts[0])
        out.addcmul_(one.parts[2], scalars.carry).baddbmm_(one.mixed, one.change, alpha=-1)
        torch.mul(one.change, scalars.mix_last, out=one.end_parts[0])
        torch.mul(one.change, scalars.decay_last, out=one.end_parts[1])
        torch.bmm(one.keys_transposed, one.ends, out=now.layers[layer].written)
        _end(scalars, now, then, fixed, layer)
    return Passed(bounds, made)


def _errors(keys: Tensor, values: Tensor, now: State, fixed: Fixed, held: Slot) -> list[Tensor]:
    """Pass the keys forward, and their errors back, at the chunk's first weights."""
    last, activation = fixed.sizes.layers - 1, fixed.rule.activation
    for layer, hidden in enumerate(held.hidden):
        torch.bmm(keys, now.layers[layer].weights, out=hidden.before)
        keys = held.later[layer].keys
        activate(hidden.before, activation, keys)
    torch.bmm(keys, now.layers[last].weights, out=held.error).sub_(values)
    error = held.error
    for layer in range(last - 1, -1, -1):
        hidden = held.hidden[layer]
        torch.bmm(error, now.layers[layer + 1].transposed, out=hidden.pulled)
        error = slope(hidden.pulled, hidden.before, activation, hidden.errors)
    return [*(one.errors for one in held.hidden), held.error]


def _bounded(step: Tensor, length: Tensor, errors: Tensor, bound: float | None) -> Bounded:
    """Bound the gradients of one layer, if they are to be."""
    sizes = torch.linalg.vector_norm(errors, dim=-1)
    if bound is None:
        return Bounded(step, None, sizes)
    return Bounded(*bounded_step(length, sizes, step, bound), sizes)


def _end(scalars: Scalars, now: State, then: State, fixed: Fixed, layer: int) -> None:
    """Write one layer's weights and momentum at the chunk's end."""
    before, after = now.layers[layer], then.layers[layer]
    torch.mul(before.drift, scalars.kept_end, out=after.drift)
    after.drift.addcmul_(before.momentum, scalars.carry_end)
    torch.mul(before.momentum, scalars.held_end, out=after.momentum)
    after.both.sub_(before.written)
    torch.add(after.drift, fixed.base[layer], out=after.weights)


def activate(u: Tensor, activation: str, out: Tensor) -> Tensor:
    """Write the non-linearity of ``u``."""
    done: Tensor = (silu if activation == "silu" else gelu)(u, out=out)
    return done


def slope(grad: Tensor, u: Tensor, activation: str, out: Tensor) -> Tensor:
    """Write ``grad`` times the non-linearity's slope at ``u``."""
    backward = silu_backward if activation == "silu" else gelu_backward
    done: Tensor = backward(grad, u, grad_input=out)
    return done
