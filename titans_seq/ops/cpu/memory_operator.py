"""The memory's compiled code as an operator of torch's, for models under ``torch.compile``.

A compiler sees a whole call, chunks cut by its place and all, as one node of known shapes, so
a model is traced in seconds, once for every length, and runs what eager mode runs. The forward
operator keeps on a tape what compiled pieces need for their gradients; pieces of open chunks
are computed again in the backward operator, in the general form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.call import BackEnd, MemoryCall, MemoryResult
from titans_seq.ops.cpu.memory import read_in_pieces, reason_against_inputs, reason_against_rule
from titans_seq.ops.cpu.operators import apart, at_hand, define, recording
from titans_seq.ops.cpu.pages import ask_for_large_pages
from titans_seq.ops.cpu.tape import Tape, numbers_of_tape
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry

_RULE = "str point, str step, float? bound, str forget_to, bool decay_first, str activation"
_OPTIONS = f"{_RULE}, SymInt chunk_size, SymInt slot, bool keep_state"
_TENSORS = "Tensor[] tokens, Tensor[] start, Tensor[] carried"


class _Options(NamedTuple):
    """All but the tensors, as operators take it: fields of the rule, then of the call."""

    gradient_point: Any
    step: Any
    gradient_bound: float | None
    forget_to: Any
    decay_first: bool
    activation: Any
    chunk_size: int
    slot: int
    keep_state: bool

    def rule(self) -> UpdateRule:
        """Return the rule with these fields."""
        named = dict(zip(self._fields[:6], self[:6], strict=True))
        return UpdateRule(schedule="momentum", **named)


def _reason_against(call: MemoryCall) -> str | None:
    device = call.queries.device.type
    if device != "cpu":
        return f"it runs on the CPU, and the tensors are on {device}"
    if not at_hand():
        return "it was not built: install titans-seq again where there is a C compiler"
    reason = reason_against_rule(call.rule) or reason_against_inputs(call)
    if reason is None and not torch.compiler.is_compiling():
        return "it serves models under torch.compile"
    return reason


def run_operator(call: MemoryCall) -> MemoryResult:
    """Do what :func:`titans_seq.ops.cpu.memory.read_in_pieces` does, as one operator."""
    out, loss, *after = torch.ops.titans_seq.learn_and_read(*operator_arguments(call))
    if not call.keep_state:
        return MemoryResult(out, loss, None)
    layers = len(call.start)
    # behind the state follows the tape, which is the backward operator's
    return MemoryResult(out, loss, _carry(after[: layers * _tensors_a_layer(call.rule)], layers))


def operator_arguments(call: MemoryCall) -> tuple[Any, ...]:
    """Return a call as the operator takes it."""
    rule = call.rule
    dtype = torch.promote_types(call.queries.dtype, call.rates.step.dtype)
    inputs = (call.queries, call.keys, call.values, *call.rates)
    tokens = [tensor.to(dtype) for tensor in inputs]
    start = [weight.to(dtype) for weight in call.start]
    carried = [] if call.carry is None else [state.to(dtype) for state in _flat(call.carry)]
    return (
        tokens, start, carried, rule.gradient_point, rule.step, rule.gradient_bound,
        rule.forget_to, rule.decay_first, rule.activation, call.chunk_size, call.slot,
        call.keep_state, call.needs_gradient(),
    )  # fmt: skip


def _flat(carry: Carry) -> tuple[Tensor, ...]:
    return (*carry.weights, *carry.momentum, *carry.anchor, *carry.keys, *carry.spent)


def _carry(flat: Sequence[Tensor], layers: int) -> Carry | None:
    """Undo :func:`_flat`; ``None`` where nothing is carried."""
    if not flat:
        return None
    fields = [tuple(flat[first : first + layers]) for first in range(0, len(flat), layers)]
    return Carry(*fields, *((),) * (5 - len(fields)))


def _tensors_a_layer(rule: UpdateRule) -> int:
    """Return how many tensors of a rule's state belong to each layer."""
    # weights, momentum; then the anchor; then, for triangular steps, keys and spent
    if rule.gradient_point == "token":
        return 2
    return 5 if rule.step == "triangular" else 3


def _forward(
    tokens: list[Tensor], start: list[Tensor], carried: list[Tensor], *rest: Any
) -> list[Tensor]:
    *fields, wants_tape = rest
    options, inputs = _Options(*fields), [*tokens, *start, *carried]
    if not wants_tape:
        with torch.no_grad():
            return apart(_results(tokens, start, carried, options, None), inputs)
    numbers = tokens[0].new_empty(_tape_size(tokens[0], start, options.chunk_size))
    ask_for_large_pages(numbers)
    with torch.no_grad():
        results = _results(tokens, start, carried, options, Tape(numbers, False))
    return apart([*results, numbers], inputs)


def _results(
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    options: _Options,
    tape: Tape | None,
) -> list[Tensor]:
    """Return outputs, losses and, where it is wanted, the state."""
    q, k, v, *rates = tokens
    call = MemoryCall(
        q, k, v, Rates(*rates), tuple(start), _carry(carried, len(start)), options.rule(),
        options.chunk_size, slot=options.slot, keep_state=options.keep_state,
    )  # fmt: skip
    out, loss, carry = read_in_pieces(call, tape)
    return [out, loss, *(() if carry is None or not options.keep_state else _flat(carry))]


def _tape_size(queries: Tensor, start: list[Tensor], chunk_size: int) -> int:
    batch, heads, time, _ = queries.shape
    return numbers_of_tape(batch * heads, time, chunk_size, start)


def _forward_shapes(
    tokens: list[Tensor], start: list[Tensor], carried: list[Tensor], *rest: Any
) -> list[Tensor]:
    *fields, wants_tape = rest
    options, queries = _Options(*fields), tokens[0]
    batch = queries.shape[0]
    # must match `_forward` exactly: a compiler allocates by these shapes
    shapes: list[tuple[int, ...]] = [queries.shape, queries.shape[:3]]
    if options.keep_state:
        kinds = _tensors_a_layer(options.rule())
        matrices = [(weight.shape[0], batch, *weight.shape[1:]) for weight in start]
        shapes += matrices * min(kinds, 3)  # weights, momentum, anchor
        if kinds == 5:
            shapes += [(*shape[:2], options.chunk_size, shape[2]) for shape in matrices]  # keys
            shapes += [(*shape[:2], options.chunk_size) for shape in matrices]  # spent
    if wants_tape:
        shapes.append((_tape_size(queries, start, options.chunk_size),))
    return [queries.new_empty(shape) for shape in shapes]


def _backward(
    grads: list[Tensor | None],
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    tape: Tensor,
    *fields: Any,
) -> list[Tensor]:
    # new leaves: the graph recorded here ends at the operator's own inputs
    leaves = [tensor.detach().requires_grad_() for tensor in (*tokens, *start, *carried)]
    with recording():
        results = _results(
            *_split(leaves, len(start)), _Options(*fields), Tape(tape.detach(), True)
        )
        used = [
            (result, grad)
            for result, grad in zip(results, grads, strict=True)
            if grad is not None and result.requires_grad
        ]
        gradients = torch.autograd.grad(
            [result for result, _ in used],
            leaves,
            [grad for _, grad in used],
            allow_unused=True,
            materialize_grads=True,
        )
    inputs = [*(grad for _, grad in used), tape, *leaves]
    return apart([gradient.contiguous() for gradient in gradients], inputs)


def _split(tensors: list[Tensor], layers: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Split a flat list into tokens (three vectors, four rates), first weights, and the state."""
    return tensors[:7], tensors[7 : 7 + layers], tensors[7 + layers :]


def _backward_shapes(
    grads: list[Tensor | None],
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    tape: Tensor,
    *fields: Any,
) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (*tokens, *start, *carried)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tokens, start, carried, *fields, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.fields, ctx.layers = fields, len(start)
    # the tape is the last output, the only one that the backward pass reads
    ctx.save_for_backward(*tokens, *start, *carried, output[-1])


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    *inputs, tape = ctx.saved_tensors
    # the last gradient is the tape's, which no caller uses
    gradients = torch.ops.titans_seq.learn_and_read_backward(
        grads[:-1], *_split(inputs, ctx.layers), tape, *ctx.fields
    )
    return *_split(gradients, ctx.layers), *[None] * len(ctx.fields), None


define(
    "learn_and_read", f"({_TENSORS}, {_OPTIONS}, bool learns) -> Tensor[]",
    _forward, _forward_shapes,
    keep=_keep, differentiate=_differentiate,
)  # fmt: skip
define(
    "learn_and_read_backward",
    f"(Tensor?[] grads, {_TENSORS}, Tensor tape, {_OPTIONS}) -> Tensor[]",
    _backward, _backward_shapes,
)  # fmt: skip

OPERATOR = BackEnd("operator", "cpu", _reason_against, run_operator)
