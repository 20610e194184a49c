"""The dual form of :mod:`titans_seq.ops.general.chunked` as compiled code for processors.

For the momentum schedule and squared error of the Titans rule, at any depth, and for the linear
memory with its gradient at every token. Each head of each sequence is computed by itself, chunk
after chunk, so that its weights and all that a chunk touches stay in the cache; forward and
backward are written by hand, and no token's weights are ever built. Only the states between
chunks, and the inputs of the layers below the last, are kept for the backward pass, which
computes the rest of each chunk again. A second derivative goes through the general form.

A call is cut at the borders of its chunks: whole chunks run as one piece, tokens of a chunk
that stays open as another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titans_seq.ops.call import BackEnd, MemoryCall, MemoryResult
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.cpu.call import Begun, Call, Given, run
from titans_seq.ops.cpu.pages import ask_for_large_pages
from titans_seq.ops.cpu.tape import Tape
from titans_seq.ops.general.memory import TORCH
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry, close_chunk, closed, first_carry


def reason_against_rule(rule: UpdateRule) -> str | None:
    """Return why the compiled code is not written for a rule; ``None`` if it is."""
    if rule.gradient_point == "chunk" and rule.decay_first:
        return "it does not predict with decayed weights inside a chunk"
    feature = rule.torch_only_feature()
    return None if feature is None else f"it does not compute {feature}"


def reason_against_inputs(call: MemoryCall) -> str | None:
    """Return why the compiled code cannot read a call's tensors; ``None`` if it can."""
    if call.slots is not None:
        return "it reads sequences that stand at the same position only"
    if call.norm is not None:
        return "it does not compute the residual LayerNorm"
    if call.queries.shape != call.values.shape:
        return "it reads values that are as wide as their keys only"
    return None


def runs_here(rule: UpdateRule, device: torch.device) -> bool:
    """Return whether the compiled code can run a rule on a device now."""
    return _reason_against_place(device) is None and reason_against_rule(rule) is None


def _reason_against_place(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"it runs on the CPU, and the tensors are on {device.type}"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace it"
    if kernels.library() is None:
        return "it was not built: install titans-seq again where there is a C compiler"
    return None


def _reason_against(call: MemoryCall) -> str | None:
    return (
        _reason_against_place(call.queries.device)
        or reason_against_rule(call.rule)
        or reason_against_inputs(call)
    )


def read_in_pieces(call: MemoryCall, tape: Tape | None = None) -> MemoryResult:
    """Write and read the tokens of a call, whole chunks and open ones, by compiled code.

    Tokens of a chunk that stays open go through the general form where a gradient is needed:
    the compiled code has no backward pass for what such a chunk leaves behind.

    Parameters
    ----------
    tape
        Where compiled pieces leave what their backward pass needs, if autograd does not
        keep it for them.
    """
    rule, chunk_size, time = call.rule, call.chunk_size, call.queries.shape[2]
    exact = rule.gradient_point == "token"
    # no chunk to align with: the gradient's point moves with every token
    if exact:
        call = call._replace(slot=0)
    pieces = _pieces(time, call.slot, chunk_size, exact or not call.keep_state)
    carry = call.carry
    outputs, losses = [], []
    for first, last, compiled in pieces:
        # the next piece needs this one's state, whether or not the caller needs the last
        piece = call.span(first, last, carry, keep_state=call.keep_state or last < time)
        if compiled:
            result = read_whole_chunks(piece, tape)
        elif piece.needs_gradient():
            result = TORCH.run(piece)
        else:
            result = read_open_chunk(piece)
        outputs.append(result.outputs)
        losses.append(result.losses)
        carry = result.carry
    carry = close_chunk(carry, rule, chunk_size, call.slot + time)
    if len(pieces) == 1:
        return MemoryResult(outputs[0], losses[0], carry)
    return MemoryResult(torch.cat(outputs, dim=2), torch.cat(losses, dim=2), carry)


def _pieces(time: int, slot: int, chunk_size: int, tail: bool) -> list[tuple[int, int, bool]]:
    """Split a call into the end of an open chunk, whole chunks, and the start of another.

    Parameters
    ----------
    tail
        Whether the last piece is computed like whole chunks too: only if no state is wanted
        of the open chunk that it leaves.

    Returns
    -------
    first, last, compiled
        Tokens of each piece; whether :func:`read_whole_chunks` reads it.
    """
    # tokens that the open chunk still takes; 0 at a chunk's border
    head = min(time, -slot % chunk_size)
    whole = (time - head) // chunk_size * chunk_size
    pieces = [(0, head, False), (head, head + whole, True), (head + whole, time, tail)]
    return [piece for piece in pieces if piece[0] < piece[1]]


def read_whole_chunks(call: MemoryCall, tape: Tape | None = None) -> MemoryResult:
    """Write and read tokens from the start of a chunk on.

    ``time`` is a multiple of ``chunk_size``, or shorter than it if no state is wanted. Half
    precision is computed in float32.

    A ``tape`` that was not written keeps what the backward pass needs, though nothing may ask
    for a gradient here. From one that was, the states are read, and nothing is computed:
    outputs and losses hold no numbers, but all of them can be differentiated.
    """
    carry, layers, keep_state = call.carry, len(call.start), call.keep_state
    dtype = torch.promote_types(call.queries.dtype, call.rates.step.dtype)
    carried = () if carry is None else (*carry.weights, *carry.momentum)
    inputs = (call.queries, call.keys, call.values, *call.rates, *call.start, *carried)
    tensors = [tensor.to(dtype) for tensor in inputs]
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    # a call shorter than a chunk is one chunk of its own length
    chunk = min(call.queries.shape[2], call.chunk_size)
    compiled = Call(
        call.rule, chunk, call.chunk_size, layers, keep_state, learns or tape is not None
    )
    out, loss, *after = _WholeChunks.apply(compiled, tape, *tensors)  # type: ignore[no-untyped-call]
    if not keep_state:
        return MemoryResult(out, loss, None)
    weights, momentum = tuple(after[:layers]), tuple(after[layers:])
    return MemoryResult(out, loss, Carry(weights, momentum, weights, (), ()))


@torch.no_grad()
def read_open_chunk(call: MemoryCall) -> MemoryResult:
    """Write and read tokens of one chunk, from any slot of it, without gradients.

    For a stream that is read a few tokens at a time. ``time`` does not go beyond the chunk's
    end.
    """
    rule, start, chunk_size = call.rule, call.start, call.chunk_size
    batch, time, layers = len(call.queries), call.queries.shape[2], len(start)
    dtype = torch.promote_types(call.queries.dtype, call.rates.step.dtype)
    carry = call.carry or first_carry(start, rule, batch, chunk_size)
    carried = (*carry.weights, *carry.momentum)
    inputs = (call.queries, call.keys, call.values, *call.rates, *start, *carried)
    tensors = tuple(tensor.to(dtype) for tensor in inputs)
    given = Given(Call(rule, time, chunk_size, layers, True, False), tensors)
    out = given.like.new_empty(given.like.shape)
    loss = given.like.new_empty(given.like.shape[:3])
    after = given.states() + given.states()
    if call.slot:
        # the compiled code adds to the last two in place, so the caller's stay as they are
        anchor = [tensor.to(dtype).contiguous() for tensor in carry.anchor]
        units = [tensor.to(dtype, copy=True).contiguous() for tensor in carry.keys]
        spent = [tensor.to(dtype, copy=True).contiguous() for tensor in carry.spent]
    else:
        anchor = [tensor.contiguous() for tensor in given.weights]
        emptied = closed(carry, rule, chunk_size)
        units, spent = list(emptied.keys), list(emptied.spent)
    begun = Begun(anchor, units, spent, call.slot, chunk_size)
    run(given, given.forward(out, loss, after, None, begun), None)
    weights, momentum = tuple(after[:layers]), tuple(after[layers:])
    left = Carry(weights, momentum, tuple(anchor), tuple(units), tuple(spent))
    return MemoryResult(out, loss, left)


class _WholeChunks(torch.autograd.Function):
    """Whole chunks; see :func:`read_whole_chunks`."""

    @staticmethod
    def forward(ctx: Any, call: Call, tape: Tape | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = Given(call, tensors)
        out = given.like.new_empty(given.like.shape)
        loss = given.like.new_empty(given.like.shape[:3])
        past, after = _buffers(given, tape)
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
        # create_graph: the compiled backward pass cannot itself be differentiated
        if torch.is_grad_enabled():
            return None, None, *_gradients_by_torch(call, tuple(tensors), grads)
        given = Given(call, tuple(tensors))
        shape, like = given.like.shape, given.like
        by_tokens = [like.new_empty(shape) for _ in range(3)]
        by_rates = [like.new_empty(shape[:3]) for _ in range(3)]
        # a slice a sequence, summed below: threads on one head must not add to one buffer
        by_base = [like.new_empty(given.batch, *weight.shape) for weight in given.start]
        by_drift, by_momentum = given.states(), given.states()
        # order of `grads`: outputs, losses, then weights and momentum at the end, if kept
        ends = [None if grad is None else grad.contiguous() for grad in grads[2:]]
        if not call.states:
            ends = [None for _ in range(2 * call.layers)]
        by_results = [None if grad is None else grad.contiguous() for grad in grads[:2]]
        backward = kernels.BackwardBuffers(
            *(kernels.pointer(grad) for grad in by_results),
            kernels.pointers(ends[: call.layers]), kernels.pointers(ends[call.layers :]),
            *(kernels.pointer(grad) for grad in (*by_tokens, *by_rates)),
            *(kernels.pointers(grad) for grad in (by_base, by_drift, by_momentum)),
        )  # fmt: skip
        out, loss = like.new_empty(0), like.new_empty(0)
        run(given, given.forward(out, loss, [], tape), backward)
        # the compiled code takes the rates themselves, the caller their logarithms
        by_rates[0] *= given.keep
        by_rates[1] *= given.decay
        # forgetting towards the first weights: they act as the base in every chunk
        if given.base:
            by_start = [grad.sum(0) for grad in by_base]
        elif given.weights:
            by_start = [torch.zeros_like(weight) for weight in given.start]
        else:
            by_start = [grad.sum(1) for grad in by_drift]
        by_carried = (*by_drift, *by_momentum) if given.weights else ()
        return None, None, *by_tokens, *by_rates, None, *by_start, *by_carried


def _buffers(given: Given, tape: Tape | None) -> tuple[Tensor | None, list[Tensor]]:
    """Return buffers for the states between chunks, and for those at the end, where wanted."""
    call, past, after = given.call, None, []
    if call.learns:
        # of each chunk: weights and momentum before it, and the inner layers' inputs
        numbers = 2 * sum(weight[0].numel() for weight in given.start)
        numbers += call.chunk * sum(weight.shape[-1] for weight in given.start[:-1])
        shape = (given.batch * given.heads, given.time // call.chunk, numbers)
        past = given.like.new_empty(shape) if tape is None else tape.take(*shape)
        if tape is None:
            ask_for_large_pages(past)
    if call.states:
        after = given.states() + given.states()
        if tape is not None:
            after = [tape.take(*state.shape) for state in after]
    return past, after


def _gradients_by_torch(
    call: Call, tensors: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Return gradients by the general form, which can be differentiated again."""
    layers = call.layers
    start, carried = tensors[7 : 7 + layers], tensors[7 + layers :]
    carry = None
    if carried:
        carry = Carry(carried[:layers], carried[layers:], carried[:layers], (), ())
    q, k, v, *rates = tensors[:7]
    torch_call = MemoryCall(
        q, k, v, Rates(*rates), start, carry, call.rule, call.full_chunk, keep_state=call.states
    )
    with torch.enable_grad():
        out, loss, after = TORCH.run(torch_call)
        results = [out, loss]
        if call.states and after is not None:
            results += [*after.weights, *after.momentum]
        pairs = zip(results, grads, strict=True)
        used = [(result, grad) for result, grad in pairs if grad is not None]
        gradients = torch.autograd.grad(
            [result for result, _ in used],
            [tensor for tensor in tensors if tensor.requires_grad],
            [grad for _, grad in used],
            create_graph=True,
            allow_unused=True,
        )
    remaining = iter(gradients)
    return [next(remaining) if tensor.requires_grad else None for tensor in tensors]


COMPILED = BackEnd("compiled", "cpu", _reason_against, read_in_pieces)
