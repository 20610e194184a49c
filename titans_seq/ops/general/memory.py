"""The memory in torch, whatever the rule: on any device, for compilers, differentiable again."""

from __future__ import annotations

from torch import Tensor

from titans_seq.ops.general.chunked import memory_chunked
from titans_seq.ops.general.chunks import Rows
from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry, first_carry


def memory_general(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    rates: Rates,
    start: tuple[Tensor, ...],
    carry: Carry | None,
    rule: UpdateRule,
    *,
    chunk_size: int,
    norm: OutputNorm | None = None,
    slot: int = 0,
    rows: Rows | None = None,
    keep_state: bool = True,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read every token by the form for the place where gradients are taken.

    See :func:`titans_seq.ops.general.chunked.memory_chunked` for the arguments and what is
    returned.
    """
    if rule.gradient_point == "token":
        carry = carry or first_carry(start, rule, len(queries), chunk_size)
        return memory_exact(
            queries, keys, values, rates, (start[0],), carry, rule, block_size=chunk_size
        )
    return memory_chunked(
        queries, keys, values, rates, start, carry, rule,
        chunk_size=chunk_size, norm=norm, slot=slot, rows=rows, keep_state=keep_state,
    )  # fmt: skip
