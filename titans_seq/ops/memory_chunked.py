"""Memory of any depth with the gradient at the chunk's start, in dual form.

The paper's training algorithm (arXiv 2501.00663, equations 16 to 18) without ever building
a token's weights: a chunk's gradients are outer products of layer inputs and errors, so a
query's pass through the weights after token t is a masked product with them::

    U = keep_product * (H W[0]) + carry * (H S[0]) - (mix * (H Z^T)) (step * D)

(H inputs of the queries, Z of the keys, D errors of the keys, one layer at a time.)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.ops.chunk_network import bound_gradient, finish, gradients_at, through
from titans_seq.ops.chunks import Chunk, Rows, cut_into_chunks, segment_sizes
from titans_seq.ops.rates import ChunkScalars
from titans_seq.ops.rule import OutputNorm, Rates, UpdateRule, activate
from titans_seq.ops.state import Carry, choose, first_carry, split_start
from titans_seq.ops.triangular_step import TriangularStep, triangular_step

CHECKPOINT_FROM = 16
"""Chunks from which each is recomputed in the backward pass, so that only the states
between chunks are kept."""


class Fixed(NamedTuple):
    """What is the same for every chunk."""

    base: tuple[Tensor, ...]
    norm: OutputNorm | None
    rule: UpdateRule
    chunk_size: int


class Part(NamedTuple):
    """Which part of a chunk is read, and what must be known after it."""

    slot: int
    """Place of the first token in the chunk."""

    resumes: bool
    """Whether earlier tokens of the chunk stand in the carry."""

    leaves: bool
    """Whether anything is read after it, so that the state matters."""

    remembers: bool
    """Whether it may end inside the chunk, so that the chunk's keys matter."""


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
    fixed = Fixed(split_start(start, rule)[0], norm, rule, chunk_size)
    if carry is None and (rows is not None or rule.forget_to == "zero"):
        carry = first_carry(start, rule, len(queries), chunk_size)
    sizes = segment_sizes(queries.shape[2], slot, chunk_size)
    chunks = cut_into_chunks((queries, keys, values), rates, rule.schedule, sizes, slot)
    run: Any = _read_and_write
    if torch.is_grad_enabled() and len(chunks) >= CHECKPOINT_FROM:
        run = partial(checkpoint, _read_and_write, use_reentrant=False, preserve_rng_state=False)
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

    def empty(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(one) for one in tensors)

    opened = carry._replace(anchor=carry.weights, keys=(), spent=())
    if rows is not None:
        opened = opened._replace(keys=empty(carry.keys), spent=empty(carry.spent))
    if rule.schedule == "mean":
        opened = opened._replace(momentum=empty(carry.momentum))
    if rows is None or not first:
        return opened
    begins_here = (rows.first == 0).to(carry.weights[0].device)
    return choose(begins_here, opened, carry)


def _read_and_write(
    chunk: Chunk, carry: Carry | None, fixed: Fixed, part: Part
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write one chunk's keys and values, and read with its queries."""
    rule, scalars = fixed.rule, chunk.scalars
    anchored = tuple(base.unsqueeze(1) for base in fixed.base)
    begin: tuple[tuple[Tensor, Tensor] | None, ...] = (None,) * len(anchored)
    if carry is not None:
        anchored = tuple(one + two for one, two in zip(anchored, carry.anchor, strict=True))
        weights = carry.anchor if rule.schedule == "mean" else carry.weights
        begin = tuple(zip(weights, carry.momentum, strict=True))
    written = gradients_at(anchored, chunk.keys, chunk.values, rule, fixed.norm)
    h = chunk.queries
    after: list[tuple[Tensor, Tensor]] = []
    remembered: list[tuple[Tensor, Tensor]] = []
    for layer, (z, d) in enumerate(zip(written.inputs, written.errors, strict=True)):
        before = None
        if part.resumes and carry is not None and carry.keys:
            before = (carry.keys[layer], carry.spent[layer])
        step, wrote = _step(chunk, z, fixed, before)
        change = bound_gradient(z, d, rule.gradient_bound) * step.unsqueeze(-1)
        if part.leaves:
            after.append(_last_state(scalars, begin[layer], z, change))
        if part.remembers and wrote is not None:
            remembered.append(_remember(wrote, part.slot, fixed.chunk_size, before))
        h = _read(scalars, h, fixed.base[layer], begin[layer], z, change)
        if layer + 1 < len(anchored):
            h = activate(h, rule.activation)
    output = finish(h, chunk.queries, fixed.norm)
    return output, written.loss, _carry(after, remembered, carry) if part.leaves else None


def _carry(
    after: list[tuple[Tensor, Tensor]],
    remembered: list[tuple[Tensor, Tensor]],
    before: Carry | None,
) -> Carry:
    """Join the layers' states."""
    weights, momentum = zip(*after, strict=True)
    keys, spent = zip(*remembered, strict=True) if remembered else ((), ())
    anchor = tuple(torch.zeros_like(one) for one in weights) if before is None else before.anchor
    return Carry(weights, momentum, anchor, keys, spent)


def _step(
    chunk: Chunk, z: Tensor, fixed: Fixed, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, TriangularStep | None]:
    """Return the bounded steps of one layer, and what the chunk must remember of them."""
    if fixed.rule.step == "raw":
        return chunk.step, None
    if fixed.rule.step == "mean":
        return chunk.step / fixed.chunk_size, None
    result = triangular_step(
        z, chunk.step, chunk.log_momentum, len(fixed.base), *(before or (None, None))
    )
    return result.step, result


def _remember(
    wrote: TriangularStep, slot: int, chunk_size: int, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Return the chunk's unit inputs and what they wrote, each in its slot; zeros elsewhere."""
    behind = chunk_size - slot - wrote.spent.shape[2]
    keys = F.pad(wrote.keys, (0, 0, slot, behind))
    spent = F.pad(wrote.spent, (slot, behind))
    if before is None:
        return keys, spent
    return before[0] + keys, before[1] + spent


def _read(
    scalars: ChunkScalars,
    h: Tensor,
    base: Tensor,
    carried: tuple[Tensor, Tensor] | None,
    z: Tensor,
    change: Tensor,
) -> Tensor:
    """Return one layer's output for the queries, each through the weights after its token."""
    flat = [one.flatten(0, 1) for one in (h, z, change, scalars.mix)]
    out = through(h, base.unsqueeze(1)).flatten(0, 1)
    queries, keys, change, mix = flat
    out = torch.baddbmm(out, mix * (queries @ keys.mT), change, alpha=-1)
    if carried is not None:
        shares = (scalars.keep_product, scalars.carry)
        for share, weight in zip(shares, carried, strict=True):
            scaled = queries * share.flatten(0, 1).unsqueeze(-1)
            out = torch.baddbmm(out, scaled, weight.flatten(0, 1))
    joined: Tensor = out.unflatten(0, h.shape[:2])
    return joined


def _last_state(
    scalars: ChunkScalars, carried: tuple[Tensor, Tensor] | None, z: Tensor, change: Tensor
) -> tuple[Tensor, Tensor]:
    """Return one layer's weights and momentum after the chunk's last token."""

    def last(one: Tensor) -> Tensor:
        return one[..., -1, None, None]

    def write(reaches: Tensor) -> Tensor:
        return z.mT @ (reaches.unsqueeze(-1) * change)

    if carried is None:
        return -write(scalars.mix_last), -write(scalars.decay_last)
    delta, momentum = carried
    weights = last(scalars.keep_product) * delta + last(scalars.carry) * momentum
    return (
        weights - write(scalars.mix_last),
        last(scalars.momentum_product) * momentum - write(scalars.decay_last),
    )
