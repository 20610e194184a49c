"""The dual form of :mod:`titans_seq.ops.general.chunked` as compiled code for processors.

For whole chunks of the common case: the momentum schedule and squared error of the Titans
rule, at any depth, and the linear memory with its gradient at every token. Each head of each
sequence is worked on by itself, chunk after chunk, so that its weights and all that a chunk
touches stay in the cache; forward and backward are by hand, and no token's weights are ever
built. Only the states between chunks, and what the layers below the last have read, are kept
for the backward pass, which computes the rest of each chunk again. A second derivative goes
through the general form.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.cpu.call import Begun, Call, Given, run
from titans_seq.ops.cpu.pages import ask_for_large_pages
from titans_seq.ops.cpu.tape import Tape
from titans_seq.ops.general.memory import memory_general
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry, first_carry


def supports(rule: UpdateRule, queries: Tensor) -> bool:
    """Return whether this form computes the rule, here and now."""
    return (
        queries.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and has_form(rule)
        and kernels.library() is not None
    )


def has_form(rule: UpdateRule) -> bool:
    """Return whether the rule is one that this form is written for."""
    exact = rule.gradient_point == "token"
    usual = rule.plain and rule.schedule == "momentum" and not rule.residual_norm
    return usual and (exact or not rule.decay_first)


def closed(carry: Carry, rule: UpdateRule, chunk_size: int) -> Carry:
    """Return the one way in which a state between two chunks is written.

    What the last chunk remembered of its keys no longer matters, and is zero.
    """
    if rule.gradient_point == "token":
        return carry._replace(anchor=(), keys=(), spent=())
    keys: tuple[Tensor, ...] = ()
    spent: tuple[Tensor, ...] = ()
    if rule.step == "triangular":
        shapes = [(*one.shape[:2], chunk_size) for one in carry.weights]
        pairs = list(zip(carry.weights, shapes, strict=True))
        keys = tuple(one.new_zeros(*shape, one.shape[-2]) for one, shape in pairs)
        spent = tuple(one.new_zeros(shape) for one, shape in pairs)
    return carry._replace(anchor=carry.weights, keys=keys, spent=spent)


def memory_cpu(
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
    tape: Tape | None = None,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read every token, read after write.

    Takes and returns what :func:`titans_seq.ops.general.chunked.memory_chunked` does, from the
    start of a chunk on: ``carry`` stands at a chunk's start, and ``time`` is a multiple of
    ``chunk_size``, or shorter than it if no state is wanted after it. In half precision the
    work is done in float32.

    A ``tape`` that was not written keeps what the backward pass needs, though nothing may ask
    for a gradient here. From one that was, the states are read, and nothing is computed:
    outputs and losses hold no numbers, but all of them can be differentiated.
    """
    dtype = torch.promote_types(queries.dtype, rates.step.dtype)
    carried = () if carry is None else (*carry.weights, *carry.momentum)
    tensors = [one.to(dtype) for one in (queries, keys, values, *rates, *start, *carried)]
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
    chunk, layers = min(queries.shape[2], chunk_size), len(start)
    call = Call(rule, chunk, chunk_size, layers, keep_state, learns or tape is not None)
    out, loss, *after = _Whole.apply(call, tape, *tensors)  # type: ignore[no-untyped-call]
    if not keep_state:
        return out, loss, None
    weights, momentum = tuple(after[:layers]), tuple(after[layers:])
    return out, loss, Carry(weights, momentum, weights, (), ())


@torch.no_grad()
def open_chunk(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    carry: Carry | None,
    rule: UpdateRule,
    *,
    chunk_size: int,
    slot: int,
) -> tuple[Tensor, Tensor, Carry]:
    """Write and read tokens of one chunk, from any place in it, without gradients.

    What a stream needs that is read a few tokens at a time. Takes and returns what
    :func:`titans_seq.ops.general.chunked.memory_chunked` does; ``time`` does not go beyond
    the chunk's end.
    """
    dtype = torch.promote_types(queries.dtype, rates.step.dtype)
    carry = carry or first_carry(start, rule, len(queries), chunk_size)
    carried = (*carry.weights, *carry.momentum)
    tensors = [one.to(dtype) for one in (queries, keys, values, *rates, *start, *carried)]
    time, layers = queries.shape[2], len(start)
    given = Given(Call(rule, time, chunk_size, layers, True, False), tuple(tensors))
    out = given.like.new_empty(given.like.shape)
    loss = given.like.new_empty(given.like.shape[:3])
    after = given.states() + given.states()
    if slot:
        anchor = [one.to(dtype).contiguous() for one in carry.anchor]
        units = [one.to(dtype, copy=True).contiguous() for one in carry.keys]
        spent = [one.to(dtype, copy=True).contiguous() for one in carry.spent]
    else:
        anchor = [one.contiguous() for one in given.weights]
        emptied = closed(carry, rule, chunk_size)
        units, spent = list(emptied.keys), list(emptied.spent)
    begun = Begun(anchor, units, spent, slot, chunk_size)
    run(given, given.forward(out, loss, after, None, begun), None)
    weights, momentum = tuple(after[:layers]), tuple(after[layers:])
    return out, loss, Carry(weights, momentum, tuple(anchor), tuple(units), tuple(spent))


class _Whole(torch.autograd.Function):
    """Whole chunks; see :func:`memory_cpu`."""

    @staticmethod
    def forward(ctx: Any, call: Call, tape: Tape | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = Given(call, tensors)
        out = given.like.new_empty(given.like.shape)
        loss = given.like.new_empty(given.like.shape[:3])
        past, after = _room(given, tape)
        if tape is None or not tape.written:
            run(given, given.forward(out, loss, after, past), None)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *(() if past is None else (past,)))
        return out, loss, *after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        *tensors, tape = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *_through_general_form(call, tuple(tensors), grads)
        given = Given(call, tuple(tensors))
        shape, like = given.like.shape, given.like
        by_tokens = [like.new_empty(shape) for _ in range(3)]
        by_rates = [like.new_empty(shape[:3]) for _ in range(3)]
        by_base = [like.new_empty(given.batch, *one.shape) for one in given.start]
        by_drift, by_momentum = given.states(), given.states()
        ends = [None if one is None else one.contiguous() for one in grads[2:]]
        if not call.states:
            ends = [None for _ in range(2 * call.layers)]
        whole = [None if one is None else one.contiguous() for one in grads[:2]]
        wanted = kernels.Backward(
            *(kernels.pointer(one) for one in whole),
            kernels.pointers(ends[: call.layers]), kernels.pointers(ends[call.layers :]),
            *(kernels.pointer(one) for one in (*by_tokens, *by_rates)),
            *(kernels.pointers(one) for one in (by_base, by_drift, by_momentum)),
        )  # fmt: skip
        out, loss = like.new_empty(0), like.new_empty(0)
        run(given, given.forward(out, loss, [], tape), wanted)
        by_rates[0] *= given.keep
        by_rates[1] *= given.decay
        if given.base:
            by_start = [one.sum(0) for one in by_base]
        elif given.weights:
            by_start = [torch.zeros_like(one) for one in given.start]
        else:
            by_start = [one.sum(1) for one in by_drift]
        by_carried = (*by_drift, *by_momentum) if given.weights else ()
        return None, None, *by_tokens, *by_rates, None, *by_start, *by_carried


def _room(given: Given, tape: Tape | None) -> tuple[Tensor | None, list[Tensor]]:
    """Return room for the states between chunks, and for those at the end, where wanted."""
    call, past, after = given.call, None, []
    if call.learns:
        numbers = 2 * sum(one[0].numel() for one in given.start)
        numbers += call.chunk * sum(one.shape[-1] for one in given.start[:-1])
        shape = (given.batch * given.heads, given.time // call.chunk, numbers)
        past = given.like.new_empty(shape) if tape is None else tape.take(*shape)
        if tape is None:
            ask_for_large_pages(past)
    if call.states:
        after = given.states() + given.states()
        if tape is not None:
            after = [tape.take(*one.shape) for one in after]
    return past, after


def _through_general_form(
    call: Call, tensors: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    layers = call.layers
    start, carried = tensors[7 : 7 + layers], tensors[7 + layers :]
    carry = None
    if carried:
        carry = Carry(carried[:layers], carried[layers:], carried[:layers], (), ())
    q, k, v, *some = tensors[:7]
    rates = Rates(*some)
    with torch.enable_grad():
        out, loss, after = memory_general(
            q, k, v, rates, start, carry, call.rule,
            chunk_size=call.full_chunk, keep_state=call.states,
        )  # fmt: skip
        results = [out, loss]
        if call.states and after is not None:
            results += [*after.weights, *after.momentum]
        used = [(one, grad) for one, grad in zip(results, grads, strict=True) if grad is not None]
        wanted = [one for one in tensors if one.requires_grad]
        found = torch.autograd.grad(
            [one for one, _ in used],
            wanted,
            [grad for _, grad in used],
            create_graph=True,
            allow_unused=True,
        )
    each = iter(found)
    return [next(each) if one.requires_grad else None for one in tensors]
