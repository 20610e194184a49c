"""Memory of any depth with the gradient at the chunk's start, in dual form.

The paper's training algorithm (arXiv 2501.00663, equations 16 to 18) without ever building
a token's weights: a chunk's gradients are outer products of layer inputs and errors, so a
query's pass through the weights after token t is a masked product with them::

    U = keep_product * (H W[0]) + carry * (H S[0]) - (mix * (H Z^T)) (step * D)

(H inputs of the queries, Z of the keys, D errors of the keys, one layer at a time.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.ops.call import MemoryCall, MemoryResult, SlotRange
from titans_seq.ops.general.chunk_update import ChunkSpan, Fixed, read_and_write
from titans_seq.ops.general.chunks import cut_into_chunks, segment_sizes
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import (
    Carry,
    choose,
    first_carry,
    forget_chunk,
    open_chunk,
    split_start,
)

CHECKPOINT_FROM = 16
"""Chunks from which each is recomputed in the backward pass, so that only the states
between chunks are kept."""


def memory_chunked(
    call: MemoryCall,
) -> MemoryResult:
    """Write and read every token, read after write, one chunk after another."""
    rule, chunk_size = call.rule, call.chunk_size
    # masks, solves and states need float32 or better, whatever precision surrounds them
    dtype = torch.promote_types(call.queries.dtype, call.rates.step.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    wide = partial(_to, dtype)
    start = wide(call.start)
    fixed = Fixed(wide(split_start(call.start, rule)[0]), start, call.norm, rule, chunk_size)
    carry = call.carry
    if carry is not None:
        carry = Carry(*(wide(field) for field in carry))
    elif call.slots is not None or rule.forget_to == "zero":
        carry = first_carry(start, rule, len(call.queries), chunk_size)
    queries, keys, values, *rates = wide((call.queries, call.keys, call.values, *call.rates))
    call = call._replace(
        queries=queries, keys=keys, values=values, rates=Rates(*rates), carry=carry
    )
    with torch.autocast(queries.device.type, enabled=False):
        return _every_chunk(call, fixed)


def _to(dtype: torch.dtype, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.to(dtype) for tensor in tensors)


def _every_chunk(call: MemoryCall, fixed: Fixed) -> MemoryResult:
    """Write and read chunk after chunk."""
    rule, chunk_size, slots, carry = call.rule, call.chunk_size, call.slots, call.carry
    sizes = segment_sizes(call.queries.shape[2], call.slot, chunk_size)
    tokens = (call.queries, call.keys, call.values)
    chunks = cut_into_chunks(tokens, call.rates, rule.schedule, sizes, call.slot)
    run: Any = read_and_write
    # Of many chunks only the states between them are kept for the backward pass; what happens
    # inside a chunk is computed again, which costs a third more time and saves most memory.
    if torch.is_grad_enabled() and len(chunks) >= CHECKPOINT_FROM:
        run = partial(checkpoint, read_and_write, use_reentrant=False, preserve_rng_state=False)
    outputs, losses = [], []
    begin = call.slot  # slot, in the grid of all chunks, of the next chunk's first token
    for index, (chunk, size) in enumerate(zip(chunks, sizes, strict=True)):
        first, last = index == 0, index + 1 == len(chunks)
        span = ChunkSpan(
            slot=begin % chunk_size,
            resumes=first and (call.slot > 0 or slots is not None),
            leaves=call.keep_state or not last,
            remembers=slots is not None or (call.keep_state and last),
        )
        opened = _open(carry, rule, span.slot, slots, first)
        output, loss, after = run(chunk, opened, fixed, span)
        outputs.append(output)
        losses.append(loss)
        if slots is not None and carry is not None and after is not None:
            # sequences without a token in this chunk keep their state
            active = (slots.first < begin + size) & (slots.last > begin)
            after = choose(active.to(call.queries.device), after, carry)
        carry = after
        begin += size
    joined = rearrange(torch.cat(outputs, dim=2), "h b t d -> b h t d")
    return MemoryResult(joined, rearrange(torch.cat(losses, dim=2), "h b t -> b h t"), carry)


def _open(
    carry: Carry | None, rule: UpdateRule, slot: int, slots: SlotRange | None, first: bool
) -> Carry | None:
    """Start a new chunk where one is due: its gradients are taken at the present weights."""
    if carry is None or slot:
        return carry
    opened = open_chunk(carry, rule)
    if slots is None:
        return opened._replace(keys=(), spent=(), pending=())
    opened = forget_chunk(opened)
    if not first:
        return opened
    # in the first chunk of a call, some sequences go on inside a chunk that is already open
    begins_here = (slots.first == 0).to(carry.weights[0].device)
    return choose(begins_here, opened, carry)
