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

from titans_seq.ops.cpu import memory as memory_cpu
from titans_seq.ops.cpu.memory_pieces import Part, learns, read_in_pieces
from titans_seq.ops.cpu.operators import apart, at_hand, define, recording
from titans_seq.ops.cpu.pages import ask_for_large_pages
from titans_seq.ops.cpu.tape import Tape, numbers_of_tape
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry

RULE = "str point, str step, float? bound, str forget_to, bool decay_first, str activation"
CALL = f"{RULE}, SymInt chunk_size, SymInt slot, bool keep_state"
GIVEN = "Tensor[] tokens, Tensor[] start, Tensor[] carried"


class Call(NamedTuple):
    """What is not a tensor, as operators take it: fields of the rule, then of the call."""

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
        """Return the rule that the fields are of."""
        named = dict(zip(self._fields[:6], self[:6], strict=True))
        return UpdateRule(schedule="momentum", **named)


def supports(rule: UpdateRule, queries: Tensor) -> bool:
    """Return whether the operator computes the rule, here and now: while something compiles."""
    return (
        torch.compiler.is_compiling()
        and queries.device.type == "cpu"
        and memory_cpu.has_form(rule)
        and at_hand()
    )


def read(
    part: Part, *, chunk_size: int, slot: int, keep_state: bool
) -> tuple[Tensor, Tensor, Carry | None]:
    """Do what :func:`titans_seq.ops.cpu.memory_pieces.read_in_pieces` does, as one operator."""
    given = arguments(part, chunk_size=chunk_size, slot=slot, keep_state=keep_state)
    out, loss, *after = torch.ops.titans_seq.learn_and_read(*given)
    if not keep_state:
        return out, loss, None
    layers = len(part.start)
    return out, loss, _carry(after[: layers * _parts(part.rule)], layers)


def arguments(part: Part, *, chunk_size: int, slot: int, keep_state: bool) -> tuple[Any, ...]:
    """Return what the operator takes."""
    rule = part.rule
    dtype = torch.promote_types(part.queries.dtype, part.rates.step.dtype)
    tokens = [one.to(dtype) for one in (*part[:3], *part.rates)]
    start = [one.to(dtype) for one in part.start]
    carried = [] if part.carry is None else [one.to(dtype) for one in _flat(part.carry)]
    return (
        tokens, start, carried, rule.gradient_point, rule.step, rule.gradient_bound,
        rule.forget_to, rule.decay_first, rule.activation, chunk_size, slot, keep_state,
        learns(part),
    )  # fmt: skip


def _flat(carry: Carry) -> tuple[Tensor, ...]:
    return (*carry.weights, *carry.momentum, *carry.anchor, *carry.keys, *carry.spent)


def _carry(flat: Sequence[Tensor], layers: int) -> Carry | None:
    """Undo :func:`_flat`; nothing carried is ``None``."""
    if not flat:
        return None
    parts = [tuple(flat[first : first + layers]) for first in range(0, len(flat), layers)]
    return Carry(*parts, *((),) * (5 - len(parts)))


def _parts(rule: UpdateRule) -> int:
    """Return how many tensors a layer a rule's state has."""
    if rule.gradient_point == "token":
        return 2
    return 5 if rule.step == "triangular" else 3


def _forward(
    tokens: list[Tensor], start: list[Tensor], carried: list[Tensor], *rest: Any
) -> list[Tensor]:
    *fields, wants_tape = rest
    call, given = Call(*fields), [*tokens, *start, *carried]
    if not wants_tape:
        with torch.no_grad():
            return apart(_results(tokens, start, carried, call, None), given)
    room = tokens[0].new_empty(_tape_size(tokens[0], start, call.chunk_size))
    ask_for_large_pages(room)
    with torch.no_grad():
        results = _results(tokens, start, carried, call, Tape(room, False))
    return apart([*results, room], given)


def _results(
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    call: Call,
    tape: Tape | None,
) -> list[Tensor]:
    """Return outputs, losses and, where it is wanted, all that is carried on."""
    q, k, v, *rates = tokens
    rule, layers = call.rule(), len(start)
    part = Part(q, k, v, Rates(*rates), tuple(start), _carry(carried, layers), rule)
    out, loss, carry = read_in_pieces(
        part, chunk_size=call.chunk_size, slot=call.slot, keep_state=call.keep_state, tape=tape
    )
    return [out, loss, *(() if carry is None or not call.keep_state else _flat(carry))]


def _tape_size(queries: Tensor, start: list[Tensor], chunk_size: int) -> int:
    batch, heads, time, _ = queries.shape
    return numbers_of_tape(batch * heads, time, chunk_size, start)


def _forward_shapes(
    tokens: list[Tensor], start: list[Tensor], carried: list[Tensor], *rest: Any
) -> list[Tensor]:
    *fields, wants_tape = rest
    call, queries = Call(*fields), tokens[0]
    batch = queries.shape[0]
    shapes: list[tuple[int, ...]] = [queries.shape, queries.shape[:3]]
    if call.keep_state:
        parts = _parts(call.rule())
        weights = [(one.shape[0], batch, *one.shape[1:]) for one in start]
        shapes += weights * min(parts, 3)
        if parts == 5:
            shapes += [(*one[:2], call.chunk_size, one[2]) for one in weights]
            shapes += [(*one[:2], call.chunk_size) for one in weights]
    if wants_tape:
        shapes.append((_tape_size(queries, start, call.chunk_size),))
    return [queries.new_empty(one) for one in shapes]


def _backward(
    grads: list[Tensor | None],
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    tape: Tensor,
    *fields: Any,
) -> list[Tensor]:
    leaves = [one.detach().requires_grad_() for one in (*tokens, *start, *carried)]
    ends = (7, 7 + len(start))
    call, again = Call(*fields), Tape(tape.detach(), True)
    with recording():
        results = _results(
            leaves[: ends[0]], leaves[ends[0] : ends[1]], leaves[ends[1] :], call, again
        )
        used = [
            (one, by)
            for one, by in zip(results, grads, strict=True)
            if by is not None and one.requires_grad
        ]
        found = torch.autograd.grad(
            [one for one, _ in used],
            leaves,
            [by for _, by in used],
            allow_unused=True,
            materialize_grads=True,
        )
    return apart([one.contiguous() for one in found], [*(by for _, by in used), tape, *leaves])


def _backward_shapes(
    grads: list[Tensor | None],
    tokens: list[Tensor],
    start: list[Tensor],
    carried: list[Tensor],
    tape: Tensor,
    *fields: Any,
) -> list[Tensor]:
    return [one.new_empty(one.shape) for one in (*tokens, *start, *carried)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tokens, start, carried, *fields, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.fields, ctx.layers = fields, len(start)
    ctx.save_for_backward(*tokens, *start, *carried, output[-1])


def _differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    *given, tape = ctx.saved_tensors
    ends = (7, 7 + ctx.layers)
    lists = (given[: ends[0]], given[ends[0] : ends[1]], given[ends[1] :])
    found = torch.ops.titans_seq.learn_and_read_backward(grads[:-1], *lists, tape, *ctx.fields)
    by = (found[: ends[0]], found[ends[0] : ends[1]], found[ends[1] :])
    return *by, *[None] * len(ctx.fields), None


define(
    "learn_and_read", f"({GIVEN}, {CALL}, bool learns) -> Tensor[]", _forward, _forward_shapes,
    keep=_keep, differentiate=_differentiate,
)  # fmt: skip
define(
    "learn_and_read_backward",
    f"(Tensor?[] grads, {GIVEN}, Tensor tape, {CALL}) -> Tensor[]",
    _backward, _backward_shapes,
)  # fmt: skip
