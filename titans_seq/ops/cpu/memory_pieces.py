"""A call of the memory on a processor, cut where its chunks are: what is whole is compiled code."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu import memory as memory_cpu
from titans_seq.ops.cpu.tape import Tape
from titans_seq.ops.general.memory import memory_general
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry


class Part(NamedTuple):
    """Some of a call's tokens, and where they begin."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    rates: Rates
    start: tuple[Tensor, ...]
    carry: Carry | None
    rule: UpdateRule


def read_in_pieces(
    part: Part, *, chunk_size: int, slot: int, keep_state: bool, tape: Tape | None = None
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read the tokens of a call by compiled code, as far as it is written for them.

    What an open chunk leaves behind can be differentiated in the general form only.

    Parameters
    ----------
    part
        All of the call's tokens.
    tape
        Where compiled pieces leave what their backward pass needs, if autograd does not
        keep it for them.

    Returns
    -------
    outputs, losses, carry
        As :func:`titans_seq.ops.general.chunked.memory_chunked` returns them.
    """
    carry, rule, time = part.carry, part.rule, part.queries.shape[2]
    exact = rule.gradient_point == "token"
    slot = 0 if exact else slot
    pieces = _pieces(time, slot, chunk_size, exact or not keep_state)
    outputs, losses = [], []
    for first, last, compiled in pieces:
        q, k, v, *some = (one[:, :, first:last] for one in (*part[:3], *part.rates))
        piece = Part(q, k, v, Rates(*some), part.start, carry, rule)
        keeps = keep_state or last < time
        here = (slot + first) % chunk_size
        if compiled:
            out, loss, carry = memory_cpu.memory_cpu(
                *piece, chunk_size=chunk_size, keep_state=keeps, tape=tape
            )
        elif not learns(piece):
            out, loss, carry = memory_cpu.open_chunk(*piece, chunk_size=chunk_size, slot=here)
        else:
            out, loss, carry = memory_general(
                *piece, chunk_size=chunk_size, slot=here, keep_state=keeps
            )
        outputs.append(out)
        losses.append(loss)
    carry = between_chunks(carry, rule, chunk_size, slot + time)
    if len(pieces) == 1:
        return outputs[0], losses[0], carry
    return torch.cat(outputs, dim=2), torch.cat(losses, dim=2), carry


def between_chunks(
    carry: Carry | None, rule: UpdateRule, chunk_size: int, end: int
) -> Carry | None:
    """Return the state as it is written where a chunk has ended.

    Parameters
    ----------
    end
        Slot after the last token.
    """
    ends = rule.gradient_point == "token" or not end % chunk_size
    if not ends or carry is None or not memory_cpu.has_form(rule):
        return carry
    return memory_cpu.closed(carry, rule, chunk_size)


def learns(part: Part) -> bool:
    """Return whether anything asks for a gradient."""
    if not torch.is_grad_enabled():
        return False
    carried = () if part.carry is None else (*part.carry.weights, *part.carry.momentum)
    given = (*part[:3], *part.rates, *part.start, *carried)
    return any(one.requires_grad for one in given)


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
