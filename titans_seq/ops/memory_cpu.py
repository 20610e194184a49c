"""The dual form of :mod:`titans_seq.ops.memory_chunked` as compiled code for processors.

For whole chunks of the common case: the momentum schedule and squared error of the Titans
rule, at any depth. Each head of each sequence is worked on by itself, chunk after chunk, so
that its weights and all that a chunk touches stay in the cache; forward and backward are by
hand, and no token's weights are ever built. Only the states between chunks are kept for the
backward pass, which computes each chunk again. A second derivative goes through the general
form.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops import kernels
from titans_seq.ops.memory_chunked import memory_chunked
from titans_seq.ops.rule import TINY, Rates, UpdateRule
from titans_seq.ops.state import Carry, split_start


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


class Call(NamedTuple):
    """What is not a tensor of one call."""

    rule: UpdateRule
    chunk: int
    """Tokens in each chunk of the call."""
    full_chunk: int
    """Tokens between two refreshes of the gradient's point."""
    layers: int
    states: bool
    """Whether the state after the last token is wanted."""
    learns: bool
    """Whether gradients will be asked for."""


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
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read every token, read after write.

    Takes and returns what :func:`titans_seq.ops.memory_chunked.memory_chunked` does, from the
    start of a chunk on: ``carry`` stands at a chunk's start, and ``time`` is a multiple of
    ``chunk_size``, or shorter than it if no state is wanted after it. In half precision the
    work is done in float32.
    """
    dtype = torch.promote_types(queries.dtype, rates.step.dtype)
    carried = () if carry is None else (*carry.weights, *carry.momentum)
    tensors = [one.to(dtype) for one in (queries, keys, values, *rates, *start, *carried)]
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
    chunk, layers = min(queries.shape[2], chunk_size), len(start)
    call = Call(rule, chunk, chunk_size, layers, keep_state, learns)
    out, loss, *after = _Whole.apply(call, *tensors)  # type: ignore[no-untyped-call]
    if not keep_state:
        return out, loss, None
    weights, momentum = tuple(after[:layers]), tuple(after[layers:])
    return out, loss, Carry(weights, momentum, weights, (), ())


class _Given:
    """The tensors of one call by their roles, as the compiled code wants them."""

    def __init__(self, call: Call, tensors: tuple[Tensor, ...]) -> None:
        self.call = call
        self.tokens = [one if one.stride(-1) == 1 else one.contiguous() for one in tensors[:3]]
        self.rates = Rates(*(one.contiguous() for one in tensors[3:7]))
        layers = call.layers
        self.start = [one.contiguous() for one in tensors[7 : 7 + layers]]
        carried = [one.contiguous() for one in tensors[7 + layers :]]
        self.weights, self.momentum = carried[:layers], carried[layers:]
        self.batch, self.heads, self.time, self.dim = tensors[0].shape
        self.like = tensors[0]
        self.keep, self.held = self.rates.log_keep.exp(), self.rates.log_momentum.exp()
        self.room = -torch.expm1(self.rates.log_momentum)
        base, first = split_start(tuple(self.start), call.rule)
        self.base: list[Tensor | None] = list(base) if call.rule.forget_to == "start" else []
        self.drift: list[Tensor] = self.weights
        if not self.weights and not self.base:
            self.drift = [
                one.unsqueeze(1).expand(-1, self.batch, -1, -1).contiguous() for one in first
            ]

    def sizes(self) -> kernels.Call:
        """Return the sizes of the call."""
        call, rule = self.call, self.call.rule
        widths = [self.dim, *(one.shape[-1] for one in self.start)]
        shared = {"triangular": 0, "raw": 1, "mean": call.full_chunk}[rule.step]
        return kernels.Call(
            call.layers, call.chunk, self.time // call.chunk, self.heads, self.batch,
            (ctypes.c_long * (kernels.MOST_LAYERS + 1))(*widths), rule.step == "triangular",
            rule.activation == "gelu", shared or 1, rule.gradient_bound or 0, TINY,
        )  # fmt: skip

    def states(self) -> list[Tensor]:
        """Return room for a weight or a momentum of each layer."""
        return [
            self.like.new_empty(one.shape[0], self.batch, *one.shape[1:]) for one in self.start
        ]

    def forward(
        self, out: Tensor, loss: Tensor, after: list[Tensor], tape: Tensor | None
    ) -> kernels.Forward:
        """Return what the compiled forward pass reads and writes."""
        layers = self.call.layers
        return kernels.Forward(
            *(kernels.vectors(one) for one in self.tokens),
            *(
                kernels.pointer(one)
                for one in (self.keep, self.held, self.room, self.rates.step, self.rates.write)
            ),
            *(kernels.pointers(one) for one in (self.base, self.drift, self.momentum)),
            kernels.pointer(out), kernels.pointer(loss),
            kernels.pointers(after[:layers]), kernels.pointers(after[layers:]),
            kernels.pointer(tape), None,
        )  # fmt: skip


class _Whole(torch.autograd.Function):
    """Whole chunks; see :func:`memory_cpu`."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = _Given(call, tensors)
        out = given.like.new_empty(given.like.shape)
        loss = given.like.new_empty(given.like.shape[:3])
        after = given.states() + given.states() if call.states else []
        tape = None
        if call.learns:
            numbers = 2 * sum(one[0].numel() for one in given.start)
            rows = given.batch * given.heads
            tape = given.like.new_empty(rows, given.time // call.chunk, numbers)
        _run(given, given.forward(out, loss, after, tape), None)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *(() if tape is None else (tape,)))
        return out, loss, *after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        *tensors, tape = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *_through_general_form(call, tuple(tensors), grads)
        given = _Given(call, tuple(tensors))
        shape, like = given.like.shape, given.like
        by_tokens = [like.new_empty(shape) for _ in range(3)]
        by_rates = [like.new_empty(shape[:3]) for _ in range(3)]
        by_base = [like.new_empty(given.batch, *one.shape) for one in given.start]
        by_drift, by_momentum = given.states(), given.states()
        ends = [None if one is None else one.contiguous() for one in grads[2:]]
        ends = ends or [None] * 2 * call.layers
        whole = [None if one is None else one.contiguous() for one in grads[:2]]
        wanted = kernels.Backward(
            *(kernels.pointer(one) for one in whole),
            kernels.pointers(ends[: call.layers]), kernels.pointers(ends[call.layers :]),
            *(kernels.pointer(one) for one in (*by_tokens, *by_rates)),
            *(kernels.pointers(one) for one in (by_base, by_drift, by_momentum)),
        )  # fmt: skip
        out, loss = like.new_empty(0), like.new_empty(0)
        _run(given, given.forward(out, loss, [], tape), wanted)
        by_rates[0] *= given.keep
        by_rates[1] *= given.held
        if given.base:
            by_start = [one.sum(0) for one in by_base]
        elif given.weights:
            by_start = [torch.zeros_like(one) for one in given.start]
        else:
            by_start = [one.sum(1) for one in by_drift]
        by_carried = (*by_drift, *by_momentum) if given.weights else ()
        return None, *by_tokens, *by_rates, None, *by_start, *by_carried


def _run(given: _Given, forward: kernels.Forward, backward: kernels.Backward | None) -> None:
    """Run the compiled pass over all rows, shared among threads."""
    library, sizes = kernels.library(), given.sizes()
    assert library is not None
    rows, is_double = given.batch * given.heads, given.like.dtype == torch.float64
    room = library.titans_room(ctypes.byref(sizes), backward is not None, is_double)
    threads = kernels.number_of_threads(rows)
    spaces = torch.empty(threads, room, dtype=torch.uint8)

    def work(number: int) -> None:
        mine = kernels.Forward.from_buffer_copy(forward)
        mine.space = (spaces[number].data_ptr() + 63) // 64 * 64
        first, last = rows * number // threads, rows * (number + 1) // threads
        if backward is None:
            library.titans_forward(ctypes.byref(sizes), ctypes.byref(mine), *_longs(first, last), is_double)
        else:
            library.titans_backward(
                ctypes.byref(sizes), ctypes.byref(mine), ctypes.byref(backward),
                *_longs(first, last), is_double,
            )  # fmt: skip

    _share(work, threads)


def _longs(*numbers: int) -> list[ctypes.c_long]:
    """Return numbers as C's long."""
    return [ctypes.c_long(one) for one in numbers]


def _share(work: Callable[[int], None], threads: int) -> None:
    """Call ``work`` with each thread's number; compiled code lets other threads run."""
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def _through_general_form(
    call: Call, tensors: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    layers = call.layers
    start, carried = tensors[7 : 7 + layers], tensors[7 + layers :]
    carry = None
    if carried:
        carry = Carry(carried[:layers], carried[layers:], carried[:layers], (), ())
    with torch.enable_grad():
        out, loss, after = memory_chunked(
            *tensors[:3], Rates(*tensors[3:7]), start, carry, call.rule,
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
