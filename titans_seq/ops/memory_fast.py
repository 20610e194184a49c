"""The dual form of :mod:`titans_seq.ops.memory_chunked`, forward and backward by hand.

For whole chunks of the common case: the momentum schedule and squared error of the Titans
rule, at any depth. A long call keeps only the states between groups of chunks for its
backward pass, which computes each group again; no token's weights are ever built.
The sequences of a batch are worked on a few at a time, so that what a chunk touches fits
the cache, in buffers that are used again for every group. A second derivative goes through
the general form.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.fast_parts import Call, Given, Part
from titans_seq.ops.fast_space import Space, borrow, give_back
from titans_seq.ops.fast_tape import (
    Record,
    add_by_first_state,
    by_last_state,
    go_back,
    hand_out,
    read_group,
    record_group,
)
from titans_seq.ops.memory_chunked import memory_chunked
from titans_seq.ops.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry


SAVED_BYTES = 512 * 2**20
"""Most memory in which a call saves its forward pass; a larger one is computed again."""


def has_fast_form(rule: UpdateRule) -> bool:
    """Return whether the rule is one that this form computes."""
    return rule == UpdateRule(
        step=rule.step,
        gradient_bound=rule.gradient_bound,
        forget_to=rule.forget_to,
        activation=rule.activation,
    )


def closed(carry: Carry, rule: UpdateRule, chunk_size: int) -> Carry:
    """Return the one way in which a state between two chunks is written.

    What the last chunk remembered of its keys no longer matters, and is zero.
    """
    keys: tuple[Tensor, ...] = ()
    spent: tuple[Tensor, ...] = ()
    if rule.step == "triangular":
        shapes = [(*one.shape[:2], chunk_size) for one in carry.weights]
        pairs = list(zip(carry.weights, shapes, strict=True))
        keys = tuple(one.new_zeros(*shape, one.shape[-2]) for one, shape in pairs)
        spent = tuple(one.new_zeros(shape) for one, shape in pairs)
    return carry._replace(anchor=carry.weights, keys=keys, spent=spent)


def memory_fast(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    carry: Carry | None,
    rule: UpdateRule,
    *,
    chunk_size: int,
    keep_state: bool = True,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read every token, read after write.

    Takes and returns what :func:`titans_seq.ops.memory_chunked.memory_chunked` does, from the
    start of a chunk on: ``carry`` stands at a chunk's start, and ``time`` is a multiple of
    ``chunk_size``, or shorter than it if no state is wanted after it. In half precision the
    work is done in float32.
    """
    time = queries.shape[2]
    dtype = torch.promote_types(queries.dtype, rates.step.dtype)
    tokens = [one.to(dtype) for one in (queries, keys, values, *rates)]
    carried = () if carry is None else (*carry.weights, *carry.momentum)
    tokens += [one.to(dtype) for one in (*start, *carried)]
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in tokens)
    call = Call(rule, min(time, chunk_size), chunk_size, len(start), keep_state, learns, len(tokens))
    out, loss, *after = _Whole.apply(call, *tokens)  # type: ignore[no-untyped-call]
    if not keep_state:
        return out, loss, None
    weights, momentum = tuple(after[: len(start)]), tuple(after[len(start) :])
    return out, loss, Carry(weights, momentum, weights, (), ())


class _Whole(torch.autograd.Function):
    """Whole chunks; see :func:`memory_fast`."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = Given(call, tensors)
        space = borrow(given.kind, tensors[0])
        results = given.results()
        saves = call.learns and given.nbytes <= SAVED_BYTES
        kept = given.states() if call.learns and not saves else []
        ctx.records = _forward(given, results, kept, space, saves)
        ctx.space = space if saves else None
        if not saves:
            give_back(space)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *kept)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        tensors = ctx.saved_tensors[: call.inputs]
        kept = list(ctx.saved_tensors[call.inputs :])
        if torch.is_grad_enabled():
            return None, *_through_general_form(call, tensors, grads)
        given = Given(call, tensors)
        space = ctx.space or borrow(given.kind, tensors[0])
        # what was saved is overwritten from here on: a second pass computes it again
        records, ctx.records, ctx.space = ctx.records, [], None
        if not records and not kept:
            kept = given.states()
            _forward(given, given.results(), kept, space, False)
        by_tokens = [torch.empty_like(one) for one in (*given.tokens, *given.rates[:3])]
        by_states = [torch.zeros_like(one) for one in given.start_and_carry]
        with torch.inference_mode():
            for number, part in enumerate(given.parts()):
                mine = records[number] if records else None
                _backward(part, grads, kept, mine, (by_tokens, by_states), space)
        give_back(space)
        return None, *by_tokens, None, *by_states


def _forward(
    given: Given, results: list[Tensor], kept: list[Tensor], space: Space, saves: bool
) -> list[list[Record]]:
    """Fill ``results`` and ``kept``; return what is saved, by sequences and groups."""
    saved: list[list[Record]] = []
    pair = (results[0], results[1])
    with torch.inference_mode():
        for part in given.parts():
            records: list[Record] = []
            space.name(f"{part.rows.start} " if saves else "")
            now = part.begin(space)
            for number, span in enumerate(part.spans):
                if kept:
                    part.keep(now, [one[number] for one in kept])
                if saves:
                    space.name(f"{part.rows.start} {number} ")
                    records.append(record_group(part, span, now, space))
                    hand_out(part, span, records[-1], pair)
                    now = records[-1].states[-1]
                else:
                    now = read_group(part, span, now, space, pair)
            part.keep(now, results[2:])
            saved.append(records)
    return saved if saves else []


def _backward(
    part: Part,
    grads: tuple[Tensor | None, ...],
    kept: list[Tensor],
    records: list[Record] | None,
    by: tuple[list[Tensor], list[Tensor]],
    space: Space,
) -> None:
    """Go back through all chunks of some sequences."""
    by_state = by_last_state(part, grads[2:])
    for number in range(len(part.spans) - 1, -1, -1):
        span = part.spans[number]
        space.name("")
        if records is not None:
            record = records[number]
        else:
            first = part.restore([one[number] for one in kept], space)
            record = record_group(part, span, first, space)
        go_back(part, span, record, grads[:2], by[0], by_state, space)  # type: ignore[arg-type]
    add_by_first_state(part, by_state, by[1])


def _through_general_form(
    call: Call, tensors: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    given = Given(call, tensors)
    carry = None
    if given.weights:
        carry = Carry(given.weights, given.momentum, given.weights, (), ())
    with torch.enable_grad():
        out, loss, after = memory_chunked(
            *given.tokens, given.rates, given.start, carry, call.rule,
            chunk_size=call.full_chunk, keep_state=call.states,
        )  # fmt: skip
        results = [out, loss]
        if after is not None:
            results += [*after.weights, *after.momentum]
        used = [(one, grad) for one, grad in zip(results, grads, strict=True) if grad is not None]
        wanted = [one for one in tensors if one.requires_grad]
        found = iter(
            torch.autograd.grad(
                [one for one, _ in used], wanted, [grad for _, grad in used],
                create_graph=True, allow_unused=True,
            )  # fmt: skip
        )
    return [next(found) if one.requires_grad else None for one in tensors]
