"""One call for every rule: picks the form that computes it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops import memory_cpu, memory_triton
from titans_seq.ops.chunks import Rows
from titans_seq.ops.memory_chunked import memory_chunked
from titans_seq.ops.memory_exact import memory_exact
from titans_seq.ops.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry, first_carry


def learn_and_read(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    carry: Carry | None,
    rule: UpdateRule,
    *,
    chunk_size: int,
    norm: OutputNorm | None = None,
    slot: int = 0,
    rows: Rows | None = None,
    keep_state: bool = True,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read every token by the form that fits ``rule``.

    See :func:`titans_seq.ops.memory_chunked.memory_chunked` for the arguments and what is
    returned.
    """
    plain = rows is None and norm is None
    exact = rule.gradient_point == "token"
    time, slot = queries.shape[2], 0 if exact else slot
    pieces = [(0, time, False)]
    if plain and memory_cpu.supports(rule, queries):
        pieces = _pieces(time, slot, chunk_size, exact or not keep_state)
    outputs, losses = [], []
    for first, last, compiled in pieces:
        q, k, v, *some = (one[:, :, first:last] for one in (queries, keys, values, *rates))
        part = _Part(q, k, v, Rates(*some), start, carry, rule)
        keeps = keep_state or last < time
        here = (slot + first) % chunk_size
        if compiled:
            out, loss, carry = memory_cpu.memory_cpu(*part, chunk_size=chunk_size, keep_state=keeps)
        elif plain and memory_cpu.supports(rule, q) and not _learns(part):
            out, loss, carry = memory_cpu.open_chunk(*part, chunk_size=chunk_size, slot=here)
        else:
            out, loss, carry = _general(part, chunk_size, norm, here, rows, keeps)
        outputs.append(out)
        losses.append(loss)
    ends = exact or not (slot + time) % chunk_size
    if plain and ends and carry is not None and memory_cpu.has_form(rule):
        carry = memory_cpu.closed(carry, rule, chunk_size)
    if len(pieces) == 1:
        return outputs[0], losses[0], carry
    return torch.cat(outputs, dim=2), torch.cat(losses, dim=2), carry


class _Part(NamedTuple):
    """Some of a call's tokens, and where they begin."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    rates: Rates
    start: tuple[Tensor, ...]
    carry: Carry | None
    rule: UpdateRule


def _learns(part: _Part) -> bool:
    """Return whether anything asks for a gradient."""
    if not torch.is_grad_enabled():
        return False
    carried = () if part.carry is None else (*part.carry.weights, *part.carry.momentum)
    given = (part.queries, part.keys, part.values, *part.rates, *part.start, *carried)
    return any(one.requires_grad for one in given)


def _general(
    part: _Part,
    chunk_size: int,
    norm: OutputNorm | None,
    slot: int,
    rows: Rows | None,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Read and write by kernels where there are some, else in torch."""
    q, k, v, rates, start, carry, rule = part
    on_gpu = q.is_cuda and not torch.compiler.is_compiling()
    triton = on_gpu and memory_triton.supports(
        rule, len(start), q, chunk_size=chunk_size, norm=norm, rows=rows
    )
    if rule.gradient_point == "token":
        carry = carry or first_carry(start, rule, len(q), chunk_size)
        exact = memory_triton.memory_exact_triton if triton else memory_exact
        return exact(q, k, v, rates, (start[0],), carry, rule, block_size=chunk_size)
    if triton:
        return memory_triton.memory_chunked_triton(
            q, k, v, rates, start, carry, rule,
            chunk_size=chunk_size, norm=norm, slot=slot, keep_state=keep_state,
        )  # fmt: skip
    return memory_chunked(
        q, k, v, rates, start, carry, rule,
        chunk_size=chunk_size, norm=norm, slot=slot, rows=rows, keep_state=keep_state,
    )  # fmt: skip


def _pieces(time: int, slot: int, chunk_size: int, tail: bool) -> list[tuple[int, int, bool]]:
    """Cut a call into the end of an open chunk, whole chunks, and the begin of another.

    Parameters
    ----------
    tail
        Whether the last piece has the compiled form too: what a chunk that stays open leaves
        behind has not.

    Returns
    -------
    first, last, compiled
        Tokens of each piece; whether the compiled form reads it.
    """
    head = min(time, -slot % chunk_size)
    whole = (time - head) // chunk_size * chunk_size
    cuts = [(0, head, False), (head, head + whole, True), (head + whole, time, tail)]
    return [one for one in cuts if one[0] < one[1]]
