"""One call for every rule: picks the form that computes it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.cpu import memory as memory_cpu
from titans_seq.ops.cpu import memory_operator
from titans_seq.ops.cpu.memory_pieces import Part, between_chunks, read_in_pieces
from titans_seq.ops.general.chunks import Rows
from titans_seq.ops.general.memory import memory_general
from titans_seq.ops.gpu import memory as memory_triton
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
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

    See :func:`titans_seq.ops.general.chunked.memory_chunked` for the arguments and what is
    returned.
    """
    part = Part(queries, keys, values, rates, start, carry, rule)
    if rows is None and norm is None and queries.shape == values.shape:
        if memory_cpu.supports(rule, queries):
            return read_in_pieces(part, chunk_size=chunk_size, slot=slot, keep_state=keep_state)
        if memory_operator.supports(rule, queries):
            return memory_operator.read(
                part, chunk_size=chunk_size, slot=slot, keep_state=keep_state
            )
    out, loss, after = _on_device(part, chunk_size, norm, slot, rows, keep_state)
    if rows is None and norm is None:
        after = between_chunks(after, rule, chunk_size, slot + queries.shape[2])
    return out, loss, after


def _on_device(
    part: Part,
    chunk_size: int,
    norm: OutputNorm | None,
    slot: int,
    rows: Rows | None,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Read and write by kernels where there are some, else in torch."""
    q, k, v, rates, start, carry, rule = part
    on_gpu = q.is_cuda and not torch.compiler.is_compiling()
    if not on_gpu or not memory_triton.supports(
        rule, len(start), q, chunk_size=chunk_size, norm=norm, rows=rows
    ):
        return memory_general(
            *part,
            chunk_size=chunk_size, norm=norm, slot=slot, rows=rows, keep_state=keep_state,
        )  # fmt: skip
    if rule.gradient_point == "token":
        carry = carry or first_carry(start, rule, len(q), chunk_size)
        return memory_triton.memory_exact_triton(
            q, k, v, rates, (start[0],), carry, rule, block_size=chunk_size
        )
    return memory_triton.memory_chunked_triton(
        q, k, v, rates, start, carry, rule,
        chunk_size=chunk_size, norm=norm, slot=slot, keep_state=keep_state,
    )  # fmt: skip
