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
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.ops.general.chunk_update import Fixed, Part, read_and_write
from titans_seq.ops.general.chunks import Rows, cut_into_chunks, segment_sizes
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
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
    """Write and read every token, read after write.

    Parameters
    ----------
    start
        Learned first weights, one a layer.
    carry
        State before the first token, as an earlier call gave it; ``None`` if nothing was read.
    slot
        Place of the first token in its chunk: tokens read before, modulo ``chunk_size``.
    rows
        Where each sequence stands, if they differ; empty slots have ``rates.write`` 0.
    keep_state
        Whether the state after the last token is wanted; ``False`` saves computing it.

    Returns
    -------
    outputs
        (batch, heads, time, dim)
    losses
        (batch, heads, time): half the squared error at the chunk's start, before the write.
    carry
        State after the last token, or ``None``.
    """
    # masks, solves and states need float32 or better, whatever precision surrounds them
    dtype = torch.promote_types(torch.promote_types(queries.dtype, rates.step.dtype), torch.float32)
    wide = partial(_to, dtype)
    fixed = Fixed(wide(split_start(start, rule)[0]), wide(start), norm, rule, chunk_size)
    if carry is not None:
        carry = Carry(*(wide(one) for one in carry))
    elif rows is not None or rule.forget_to == "zero":
        carry = first_carry(fixed.start, rule, len(queries), chunk_size)
    tokens = wide((queries, keys, values, *rates))
    with torch.autocast(queries.device.type, enabled=False):
        return _every_chunk(tokens, carry, fixed, slot, rows, keep_state)


def _to(dtype: torch.dtype, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(one.to(dtype) for one in tensors)


def _every_chunk(
    tokens: tuple[Tensor, ...],
    carry: Carry | None,
    fixed: Fixed,
    slot: int,
    rows: Rows | None,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write and read chunk after chunk; ``tokens`` are queries, keys, values and rates."""
    queries, keys, values, *rates = tokens
    rule, chunk_size = fixed.rule, fixed.chunk_size
    sizes = segment_sizes(queries.shape[2], slot, chunk_size)
    chunks = cut_into_chunks((queries, keys, values), Rates(*rates), rule.schedule, sizes, slot)
    run: Any = read_and_write
    if torch.is_grad_enabled() and len(chunks) >= CHECKPOINT_FROM:
        run = partial(checkpoint, read_and_write, use_reentrant=False, preserve_rng_state=False)
    outputs, losses = [], []
    here = slot
    for index, (chunk, size) in enumerate(zip(chunks, sizes, strict=True)):
        first, last = index == 0, index + 1 == len(chunks)
        part = Part(
            slot=here % chunk_size,
            resumes=first and (slot > 0 or rows is not None),
            leaves=keep_state or not last,
            remembers=rows is not None or (keep_state and last),
        )
        opened = _open(carry, rule, part.slot, rows, first)
        output, loss, after = run(chunk, opened, fixed, part)
        outputs.append(output)
        losses.append(loss)
        if rows is not None and carry is not None and after is not None:
            active = (rows.first < here + size) & (rows.last > here)
            after = choose(active.to(queries.device), after, carry)
        carry = after
        here += size
    joined = rearrange(torch.cat(outputs, dim=2), "h b t d -> b h t d")
    return joined, rearrange(torch.cat(losses, dim=2), "h b t -> b h t"), carry


def _open(
    carry: Carry | None, rule: UpdateRule, slot: int, rows: Rows | None, first: bool
) -> Carry | None:
    """Start a new chunk where one is due: its gradients are taken at the present weights."""
    if carry is None or slot:
        return carry
    opened = open_chunk(carry, rule)
    if rows is None:
        return opened._replace(keys=(), spent=(), pending=())
    opened = forget_chunk(opened)
    if not first:
        return opened
    begins_here = (rows.first == 0).to(carry.weights[0].device)
    return choose(begins_here, opened, carry)
