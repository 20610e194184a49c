"""One chunk of a memory: its keys and values written, its queries read."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_seq.ops.general.chunk_network import (
    Written,
    bound_gradient,
    finish,
    gradients_at,
    through,
)
from titans_seq.ops.general.chunks import Chunk
from titans_seq.ops.rules.rates import ChunkScalars
from titans_seq.ops.rules.rule import OutputNorm, UpdateRule, activate
from titans_seq.ops.rules.triangular_step import TriangularStep, triangular_step
from titans_seq.ops.rules.window import Earlier, record_written, times_written, windowed
from titans_seq.ops.state import Carry


class Fixed(NamedTuple):
    """What is the same for every chunk."""

    base: tuple[Tensor, ...]
    start: tuple[Tensor, ...]
    norm: OutputNorm | None
    rule: UpdateRule
    chunk_size: int


class ChunkSpan(NamedTuple):
    """Which tokens of a chunk a call reads, and what must be kept after them."""

    slot: int
    """Place of the first token in the chunk."""

    resumes: bool
    """Whether earlier tokens of the chunk stand in the carry."""

    leaves: bool
    """Whether anything is read after it, so that the state matters."""

    remembers: bool
    """Whether it may end inside the chunk, so that the chunk's keys matter."""


class Sum(NamedTuple):
    """One layer's weights as the chunk finds them; none of it where nothing was read yet."""

    weights: Tensor | None = None
    """Difference from the base."""

    momentum: Tensor | None = None

    scale: Tensor | None = None
    """What a retention multiplies base, difference and the chunk's writes by."""


class Writes(NamedTuple):
    """What one layer's keys write: the sum of outer products of ``inputs`` and ``changes``."""

    scalars: ChunkScalars
    inputs: Tensor
    changes: Tensor
    wrote: TriangularStep | None
    earlier: Earlier | None


def read_and_write(
    chunk: Chunk, carry: Carry | None, fixed: Fixed, span: ChunkSpan
) -> tuple[Tensor, Tensor, Carry | None]:
    """Write one chunk's keys and values, and read with its queries."""
    rule = fixed.rule
    # 1. Keys forward and errors backward through the weights at the chunk's start: one gradient
    #    a token and layer, an outer product that is never formed.
    anchored, begin = _stand(carry, fixed)
    written = gradients_at(anchored, chunk.keys, chunk.values, rule, fixed.norm)
    # 2. Layer by layer: bounded steps, then queries through start weights plus the writes before
    #    them; what layer l reads is the input of layer l + 1, as in the memory itself.
    h = chunk.queries
    after: list[tuple[Tensor, Tensor]] = []
    layers: list[Writes] = []
    for layer in range(len(anchored)):
        writes = _writes(chunk, written, layer, carry if span.resumes else None, fixed, span)
        layers.append(writes)
        if span.leaves:
            after.append(_last_state(writes, begin[layer]))
        h = _read(writes, h, fixed.base[layer], begin[layer])
        if layer + 1 < len(anchored):
            h = activate(h, rule.activation)
    output = finish(h, chunk.queries, fixed.norm)
    if not span.leaves:
        return output, written.loss, None
    state = _carry(after, begin, fixed, carry)
    if rule.boundary is not None:
        kept = chunk.scalars.keep_product[..., -1]
        state = state._replace(kept=(kept if carry is None else carry.kept[0] * kept,))
    if span.remembers:
        state = _remember(state, layers, carry if span.resumes else None, fixed, span)
    return output, written.loss, state


def _stand(carry: Carry | None, fixed: Fixed) -> tuple[tuple[Tensor, ...], list[Sum]]:
    """Return the weights where gradients are taken, and those that the chunk changes."""
    # (heads, 1, inner, outer): the learned base is shared by the batch, carried states are not.
    base = tuple(weight.unsqueeze(1) for weight in fixed.base)
    if carry is None:
        return base, [Sum()] * len(base)
    rule = fixed.rule
    anchored = tuple(learned + own for learned, own in zip(base, carry.anchor, strict=True))
    if rule.retention is not None:
        starts = [one.unsqueeze(1) for one in fixed.start]
        scales = [
            rule.retention.scale(one, start) for one, start in zip(anchored, starts, strict=True)
        ]
        anchored = tuple(one * scale for one, scale in zip(anchored, scales, strict=True))
        begin = [Sum(one, None, scale) for one, scale in zip(carry.momentum, scales, strict=True)]
        return anchored, begin
    weights = carry.anchor if rule.schedule == "mean" else carry.weights
    return anchored, [Sum(*pair) for pair in zip(weights, carry.momentum, strict=True)]


def _writes(
    chunk: Chunk,
    written: Written,
    layer: int,
    carry: Carry | None,
    fixed: Fixed,
    span: ChunkSpan,
) -> Writes:
    """Return what one layer's keys write; ``carry`` if earlier tokens of the chunk stand there."""
    rule, scalars = fixed.rule, chunk.scalars
    z, d = written.inputs[layer], written.errors[layer]
    before = (carry.keys[layer], carry.spent[layer]) if carry is not None and carry.keys else None
    # each gradient is written so many times, and may be longer than its error
    times = written.steepness
    if rule.window > 1:
        often = times_written(span.slot, z.shape[2], rule.window, fixed.chunk_size, chunk.step)
        times = often if times is None else times * often
    step, wrote = _step(chunk, times, z, fixed, before)
    change = bound_gradient(z, d, rule.gradient_bound) * step.unsqueeze(-1)
    if rule.window == 1:
        return Writes(scalars, z, change, wrote, None)
    earlier, mine = None, Earlier(z, change)
    if carry is not None and carry.pending:
        earlier = Earlier(carry.pending[layer], carry.pending[layer + len(fixed.base)])
        inputs, changes = (torch.cat(pair, 2) for pair in zip(earlier, mine, strict=True))
        mine = Earlier(inputs, changes)
    slots = 0 if earlier is None else fixed.chunk_size
    assert chunk.write is not None
    scalars = windowed(scalars, chunk.write, span.slot, rule.window, slots)
    return Writes(scalars, *mine, wrote, earlier)


def _carry(
    after: list[tuple[Tensor, Tensor]], begin: list[Sum], fixed: Fixed, before: Carry | None
) -> Carry:
    """Join the layers' states."""
    weights, momentum = zip(*after, strict=True)
    anchor = tuple(torch.zeros_like(one) for one in weights) if before is None else before.anchor
    if fixed.rule.retention is None:
        return Carry(weights, momentum, anchor, (), ())
    # what was summed is the accumulator; the weights are what is read of it
    read = [
        one if start.scale is None else (base.unsqueeze(1) + one) * start.scale - base.unsqueeze(1)
        for one, start, base in zip(weights, begin, fixed.base, strict=True)
    ]
    return Carry(tuple(read), weights, anchor, (), ())


def _step(
    chunk: Chunk,
    times: Tensor | None,
    z: Tensor,
    fixed: Fixed,
    before: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, TriangularStep | None]:
    """Return the bounded steps of one layer, and what the chunk must remember of them."""
    if fixed.rule.step == "raw":
        return chunk.step, None
    if fixed.rule.step == "mean":
        return chunk.step / fixed.chunk_size, None
    # The bound is on what is written in all; the step itself is per time it is written.
    demand = chunk.step if times is None else chunk.step * times
    result = triangular_step(
        z, demand, chunk.log_momentum, len(fixed.base), *(before or (None, None))
    )
    return result.step if times is None else result.step / times, result


def _remember(
    state: Carry, layers: list[Writes], before: Carry | None, fixed: Fixed, span: ChunkSpan
) -> Carry:
    """Add what later tokens of the chunk must know of its tokens so far, each in its slot."""
    if layers[0].wrote is not None:
        keys, spent = [], []
        for layer, writes in enumerate(layers):
            assert writes.wrote is not None
            # Every token keeps the slot it has in its chunk, so that calls of any split add up.
            behind = fixed.chunk_size - span.slot - writes.wrote.spent.shape[2]
            keys.append(F.pad(writes.wrote.keys, (0, 0, span.slot, behind)))
            spent.append(F.pad(writes.wrote.spent, (span.slot, behind)))
            if before is not None and before.keys:
                keys[-1] = before.keys[layer] + keys[-1]
                spent[-1] = before.spent[layer] + spent[-1]
        state = state._replace(keys=tuple(keys), spent=tuple(spent))
    if fixed.rule.window > 1:
        tokens = layers[0].scalars.mix.shape[-2]
        joined = [
            record_written(
                one.inputs[..., -tokens:, :], one.changes[..., -tokens:, :],
                span.slot, fixed.chunk_size, one.earlier,
            )
            for one in layers
        ]  # fmt: skip
        inputs, changes = zip(*joined, strict=True)
        state = state._replace(pending=inputs + changes)
    return state


def _read(writes: Writes, h: Tensor, base: Tensor, begin: Sum) -> Tensor:
    """Return one layer's output for the queries, each through the weights after its token."""
    scalars = writes.scalars
    # Heads and sequences become one axis: baddbmm takes one batch axis, and adds in place of a
    # further tensor of the size of the output.
    flat = [tensor.flatten(0, 1) for tensor in (h, writes.inputs, writes.changes, scalars.mix)]
    out = through(h, base.unsqueeze(1)).flatten(0, 1)
    queries, keys, change, mix = flat
    # - (mix * Q K^T) D: attention without softmax over the chunk's writes, causal by `mix`.
    out = torch.baddbmm(out, mix * (queries @ keys.mT), change, alpha=-1)
    # + keep_product * Q W[0] + carry * Q S[0]; the scalars stand on the smaller factor.
    for share, weight in ((scalars.keep_product, begin.weights), (scalars.carry, begin.momentum)):
        if weight is not None:
            scaled = queries * share.flatten(0, 1).unsqueeze(-1)
            out = torch.baddbmm(out, scaled, weight.flatten(0, 1))
    joined: Tensor = out.unflatten(0, h.shape[:2])
    return joined if begin.scale is None else joined * begin.scale


def _last_state(writes: Writes, begin: Sum) -> tuple[Tensor, Tensor]:
    """Return one layer's weights and momentum after the chunk's last token."""
    scalars = writes.scalars

    def last(scalar: Tensor) -> Tensor:
        return scalar[..., -1, None, None]

    def write(reaches: Tensor) -> Tensor:
        return writes.inputs.mT @ (reaches.unsqueeze(-1) * writes.changes)

    weights, momentum = -write(scalars.mix_last), -write(scalars.decay_last)
    if begin.weights is not None:
        weights = weights + last(scalars.keep_product) * begin.weights
    if begin.momentum is not None:
        weights = weights + last(scalars.carry) * begin.momentum
        momentum = momentum + last(scalars.momentum_product) * begin.momentum
    return weights, momentum
