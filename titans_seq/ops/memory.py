"""One call for every rule: picks the form that computes it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.chunks import Rows
from titans_seq.ops.memory_chunked import memory_chunked
from titans_seq.ops.memory_exact import memory_exact
from titans_seq.ops.memory_cpu import closed, has_form, memory_cpu, supports
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
    if rule.gradient_point == "token":
        (first,) = start
        if carry is None:
            carry = first_carry(start, rule, len(queries), chunk_size)
        return memory_exact(
            queries, keys, values, rates, (first,), carry, rule, block_size=chunk_size
        )
    pieces = [(0, queries.shape[2], False)]
    plain = rows is None and norm is None
    if plain and supports(rule, queries):
        pieces = _pieces(queries.shape[2], slot, chunk_size, keep_state)
    outputs, losses = [], []
    for first_token, last_token, whole in pieces:
        span = slice(first_token, last_token)
        q, k, v, *some = (one[:, :, span] for one in (queries, keys, values, *rates))
        keeps = keep_state or last_token < queries.shape[2]
        if whole:
            out, loss, carry = memory_cpu(
                q, k, v, Rates(*some), start, carry, rule,
                chunk_size=chunk_size, keep_state=keeps,
            )  # fmt: skip
        else:
            out, loss, carry = memory_chunked(
                q, k, v, Rates(*some), start, carry, rule, chunk_size=chunk_size, norm=norm,
                slot=(slot + first_token) % chunk_size, rows=rows, keep_state=keeps,
            )  # fmt: skip
        outputs.append(out)
        losses.append(loss)
    if plain and carry is not None and not (slot + queries.shape[2]) % chunk_size and has_form(rule):
        carry = closed(carry, rule, chunk_size)
    if len(pieces) == 1:
        return outputs[0], losses[0], carry
    return torch.cat(outputs, dim=2), torch.cat(losses, dim=2), carry


def _pieces(
    time: int, slot: int, chunk_size: int, keep_state: bool
) -> list[tuple[int, int, bool]]:
    """Cut a call into the end of an open chunk, whole chunks, and the begin of another.

    Returns
    -------
    first, last, fast
        Tokens of each piece; whether it has the fast form: whole chunks do, and so does the
        last one if what it leaves behind is not wanted.
    """
    head = min(time, -slot % chunk_size)
    whole = (time - head) // chunk_size * chunk_size
    cuts = [(0, head, False), (head, head + whole, True), (head + whole, time, not keep_state)]
    return [one for one in cuts if one[0] < one[1]]
