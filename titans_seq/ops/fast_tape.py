"""One group of chunks, forward with or without a record, and backward from the record."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.fast_backward import ByState, Step, by_group, chunk_backward
from titans_seq.ops.fast_forward import Group, Passed, Tokens, prepare, read_and_write
from titans_seq.ops.fast_group_backward import group_backward
from titans_seq.ops.fast_parts import Part
from titans_seq.ops.fast_slots import Slot, State, slot, state
from titans_seq.ops.fast_space import Space


class Record(NamedTuple):
    """What a group's forward pass leaves for its backward pass."""

    tokens: Tokens
    group: Group
    states: list[State]
    """At the start of each chunk, and after the last."""
    slots: list[Slot]
    passed: list[Passed]


def read_group(
    part: Part, span: slice, now: State, space: Space, results: tuple[Tensor, Tensor]
) -> State:
    """Read and write a group's chunks; return the state after them.

    Parameters
    ----------
    results
        Outputs (batch, heads, time, dim) and losses (batch, heads, time), to be filled.
    """
    fixed = part.fixed
    held = space.once(slot, fixed.sizes, "slot")
    pair = [space.once(state, fixed.sizes, name) for name in ("even", "odd")]
    tokens = part.tokens(span, space)
    group = prepare(tokens, fixed, space)
    outputs, losses = (part.cut(one, span) for one in results)
    for i, values in enumerate(tokens.values.unbind(0)):
        then = pair[0] if pair[0].room is not now.room else pair[1]
        passed = read_and_write(group, i, values, now, then, fixed, held)
        _hand_out(part, held, passed, outputs[i], losses[i])
        now = then
    return now


def record_group(part: Part, span: slice, now: State, space: Space) -> Record:
    """Read and write a group's chunks, and keep what their backward pass needs."""
    fixed = part.fixed
    tokens = part.tokens(span, space)
    group = prepare(tokens, fixed, space)
    states, slots, passed = [now], [], []
    for i, values in enumerate(tokens.values.unbind(0)):
        slots.append(space.once(slot, fixed.sizes, f"slot {i}"))
        states.append(space.once(state, fixed.sizes, f"state {i}"))
        passed.append(read_and_write(group, i, values, states[i], states[i + 1], fixed, slots[i]))
    return Record(tokens, group, states, slots, passed)


def hand_out(part: Part, span: slice, record: Record, results: tuple[Tensor, Tensor]) -> None:
    """Copy a group's outputs and losses to their places."""
    outputs, losses = (part.cut(one, span) for one in results)
    for i, (held, passed) in enumerate(zip(record.slots, record.passed, strict=True)):
        _hand_out(part, held, passed, outputs[i], losses[i])


def _hand_out(part: Part, held: Slot, passed: Passed, output: Tensor, loss: Tensor) -> None:
    """Copy one chunk's outputs and losses to their places."""
    output.copy_(held.output.unflatten(0, part.shape))
    squares = passed.bounded[-1].errors.square().mul_(0.5)
    loss.copy_(squares.unflatten(0, part.shape))


def go_back(
    part: Part,
    span: slice,
    record: Record,
    grads: tuple[Tensor | None, Tensor | None],
    by_tokens: list[Tensor],
    by_state: ByState,
    space: Space,
) -> None:
    """Turn the gradients by the state after a group into those before it.

    Parameters
    ----------
    grads
        By outputs and losses of the whole call.
    by_tokens
        Filled for the group's tokens.
    """
    fixed = part.fixed
    collected = by_group(len(record.slots), fixed.sizes, space)
    outputs, losses = (None if one is None else part.cut(one, span) for one in grads)
    for i in range(len(record.slots) - 1, -1, -1):
        step = Step(
            record.group, i, record.states[i], record.slots[i], record.passed[i], fixed,
            by_state, collected, space,
        )  # fmt: skip
        by_output = step.take("output", fixed.sizes.chunk, fixed.sizes.widths[-1])
        if outputs is None:
            by_output.zero_()
        else:
            by_output.unflatten(0, part.shape).copy_(outputs[i])
        chunk_backward(step, by_output, None if losses is None else losses[i].flatten(0, 1))
    found = group_backward(record.group, collected, fixed, space)
    for place, one in zip(by_tokens, found, strict=True):
        part.cut(place, span).copy_(one.unflatten(1, part.shape))


def by_last_state(part: Part, grads: tuple[Tensor | None, ...]) -> ByState:
    """Return the gradients by the last state, as the chunks want them.

    Parameters
    ----------
    grads
        By the last weights and then the last momenta, a tensor a layer; empty if there are none.
    """
    base = part.fixed.base
    both = []
    for layer, one in enumerate(base):
        pair = (grads[layer], grads[len(base) + layer]) if grads else (None, None)
        rows = [
            torch.zeros_like(one) if grad is None else grad[:, part.rows].flatten(0, 1)
            for grad in pair
        ]
        both.append(torch.cat(rows, dim=2 if layer else 1))
    return ByState(both, [torch.zeros_like(one) for one in base])


def add_by_first_state(part: Part, by_state: ByState, by: list[Tensor]) -> None:
    """Add the gradients by the start, and by the state before the first token if there is one.

    Parameters
    ----------
    by
        By the start, the first weights and the first momenta, a tensor a layer.
    """
    given, layers = part.given, part.given.call.layers
    to_start = given.call.rule.forget_to == "start"
    for layer, one in enumerate(by_state.both):
        drift, momentum = (
            half.unflatten(0, part.shape) for half in one.chunk(2, dim=2 if layer else 1)
        )
        if given.weights:
            by[layers + layer][:, part.rows] = drift
            by[2 * layers + layer][:, part.rows] = momentum
        elif not to_start:
            by[layer] += drift.sum(1)
        if to_start:
            by[layer] += by_state.base[layer].unflatten(0, part.shape).sum(1)
