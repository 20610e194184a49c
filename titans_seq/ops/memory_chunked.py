"""Memory of any depth with the gradient at the chunk's start, in dual form.

The paper's training algorithm (arXiv 2501.00663, equations 16 to 18) without ever building
a token's weights: a chunk's gradients are outer products of layer inputs and errors, so a
query's pass through the weights after token t is a masked product with them::

    U = keep_product * (H W[0]) + carry * (H S[0]) - (mix * (H Z^T)) (step * D)

(H inputs of the queries, Z of the keys, D errors of the keys, one layer at a time.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.ops.chunk_network import bound_gradient, finish, gradients_at, through
from titans_seq.ops.chunks import Chunk, Rows, cut_into_chunks, segment_sizes
from titans_seq.ops.rates import ChunkScalars
from titans_seq.ops.rule import OutputNorm, Rates, UpdateRule, activate
from titans_seq.ops.state import Carry, choose, split_start
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


def memory_chunked(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    carry: Carry,
    rule: UpdateRule,
    *,
    chunk_size: int,
    norm: OutputNorm | None = None,
    slot: int = 0,
    rows: Rows | None = None,
    fresh: bool = False,
) -> tuple[Tensor, Tensor, Carry]:
    """Write and read every token, read after write.

    Parameters
    ----------
    start
        Learned first weights, one a layer.
    carry
        State before the first token, as :func:`titans_seq.ops.state.first_carry` or an
        earlier call gave it.
    slot
        Place of the first token in its chunk: tokens read before, modulo ``chunk_size``.
    rows
        Where each sequence stands, if they differ; empty slots have ``rates.write`` 0.
    fresh
        That ``carry`` is a first one: what is known to be zero is not computed.

    Returns
    -------
    outputs
        (batch, heads, time, dim)
    losses
        (batch, heads, time): half the squared error at the chunk's start, before the write.
    carry
        State after the last token.
    """
    fixed = Fixed(split_start(start, rule)[0], norm, rule, chunk_size)
    fresh = fresh and rule.forget_to == "start"
    sizes = segment_sizes(queries.shape[2], slot, chunk_size)
    chunks = cut_into_chunks((queries, keys, values), rates, rule.schedule, sizes, slot)
    keep_graph_small = torch.is_grad_enabled() and len(chunks) >= CHECKPOINT_FROM
    outputs, losses = [], []
    here = slot
    for chunk, size in zip(chunks, sizes, strict=True):
        opened = _open(carry, rule, here, slot, chunk_size, rows)
        resumes = here == slot and (slot > 0 or rows is not None)
        call: Any = _read_and_write
        arguments = (chunk, opened, fixed, here % chunk_size, resumes, fresh and here == slot)
        if keep_graph_small:
            output, loss, after = checkpoint(
                call, *arguments, use_reentrant=False, preserve_rng_state=False
            )
        else:
            output, loss, after = call(*arguments)
        outputs.append(output)
        losses.append(loss)
        if rows is not None:
            active = (rows.first < here + size) & (rows.last > here)
            after = choose(active.to(queries.device), after, carry)
        carry = after
        here += size
    joined = rearrange(torch.cat(outputs, dim=2), "h b t d -> b h t d")
    return joined, rearrange(torch.cat(losses, dim=2), "h b t -> b h t"), carry


def _open(
    carry: Carry, rule: UpdateRule, here: int, slot: int, chunk_size: int, rows: Rows | None
) -> Carry:
    """Start a new chunk where one is due: its gradients are taken at the present weights."""
    if here % chunk_size:
        return carry
    opened = carry._replace(
        anchor=carry.weights,
        keys=tuple(torch.zeros_like(one) for one in carry.keys),
        spent=tuple(torch.zeros_like(one) for one in carry.spent),
    )
    if rule.schedule == "mean":
        opened = opened._replace(momentum=tuple(torch.zeros_like(one) for one in carry.momentum))
    if rows is None or here != slot:
        return opened
    begins_here = (rows.first == 0).to(carry.weights[0].device)
    return choose(begins_here, opened, carry)


def _read_and_write(
    chunk: Chunk, carry: Carry, fixed: Fixed, slot: int, resumes: bool, fresh: bool
) -> tuple[Tensor, Tensor, Carry]:
    """Write one chunk's keys and values, and read with its queries.

    ``resumes`` tells that earlier tokens of the chunk stand in ``carry``, ``fresh`` that
    nothing does.
    """
    rule, scalars = fixed.rule, chunk.scalars
    anchored = tuple(
        base.unsqueeze(1) if fresh else base.unsqueeze(1) + one
        for base, one in zip(fixed.base, carry.anchor, strict=True)
    )
    written = gradients_at(anchored, chunk.keys, chunk.values, rule, fixed.norm)
    begin = carry.anchor if rule.schedule == "mean" else carry.weights
    h = chunk.queries
    after: list[tuple[Tensor, Tensor]] = []
    keys, spent = list(carry.keys), list(carry.spent)
    for layer, (z, d) in enumerate(zip(written.inputs, written.errors, strict=True)):
        before = (carry.keys[layer], carry.spent[layer]) if resumes and carry.keys else None
        step, wrote = _step(chunk, z, fixed, before)
        if wrote is not None:
            keys[layer] = _place(keys[layer], wrote.keys, slot)
            spent[layer] = _place(spent[layer], wrote.spent, slot)
        change = bound_gradient(z, d, rule.gradient_bound) * step.unsqueeze(-1)
        carried = None if fresh else (begin[layer], carry.momentum[layer])
        after.append(_last_state(scalars, carried, z, change))
        h = _read(scalars, h, fixed.base[layer], carried, z, change)
        if layer + 1 < len(begin):
            h = activate(h, rule.activation)
    weights, momenta = zip(*after, strict=True)
    carry = Carry(weights, momenta, carry.anchor, tuple(keys), tuple(spent))
    return finish(h, chunk.queries, fixed.norm), written.loss, carry


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


def _place(slots: Tensor, new: Tensor, slot: int) -> Tensor:
    """Return ``slots`` with ``new`` added at its place; empty slots hold zeros and gain none."""
    size = new.shape[2]
    if size == slots.shape[2]:
        return slots + new
    room = slots.narrow(2, slot, size)
    return torch.cat([slots[:, :, :slot], room + new, slots[:, :, slot + size :]], dim=2)


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
