"""The memory by GPU kernels: what they can compute, and calls that mean what the torch forms do.

Importing this needs no triton; the kernels are imported where they are first called. They run
on CUDA devices, and, for tests, on the CPU where ``TRITON_INTERPRET=1`` was set before triton
was imported.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.general.chunked import memory_chunked
from titans_seq.ops.general.chunks import Rows
from titans_seq.ops.gpu.scalars import (
    chunk_inputs,
    exact_inputs,
    pad_to_chunks,
    remember_last_chunk,
    to_rows,
)
from titans_seq.ops.gpu.twins import DeepInputs, LinearInputs
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry, first_carry, split_start

WIDEST_HEAD = 128
"""Width of a head up to which a kernel's tiles fit on the chip."""

LONGEST_CHUNK = 128
"""Tokens of a chunk up to which its masks fit on the chip."""


def available() -> bool:
    """Return whether triton is installed and has a device, or its interpreter, to run on."""
    if importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.is_available() or _interpreted()


def supports(
    rule: UpdateRule,
    depth: int,
    queries: Float[Tensor, "batch heads time dim"],
    *,
    chunk_size: int,
    norm: OutputNorm | None = None,
    rows: Rows | None = None,
) -> bool:
    """Return whether the kernels compute this call.

    They read sequences that stand at the same place of their chunks, of at least one chunk,
    with a linear memory or, with the gradient at the chunk's start, one of two layers.
    """
    types = [torch.float32, torch.float16, torch.bfloat16]
    if _interpreted():
        types.append(torch.float64)
    place = queries.is_cuda or _interpreted()
    sizes = queries.shape[-1] <= WIDEST_HEAD and chunk_size <= LONGEST_CHUNK
    enough = len(queries) > 0 and queries.shape[2] >= chunk_size
    plain = norm is None and rows is None and rule.plain and not rule.residual_norm
    layers = depth == 1 if rule.gradient_point == "token" else depth in (1, 2)
    momentum = rule.schedule == "momentum"
    fits = place and sizes and enough and plain and layers and momentum
    return fits and queries.dtype in types and available()


def memory_chunked_triton(
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
    keep_state: bool = True,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Do what :func:`titans_seq.ops.general.chunked.memory_chunked` does.

    What is left of an open chunk goes through the torch form; the last chunk is filled up
    with tokens that leave no trace.
    """
    head = min(-slot % chunk_size, queries.shape[2])
    rest = queries.shape[2] - head
    parts = [one.split([head, rest], dim=2) for one in (queries, keys, values, *rates)]
    before, after = zip(*parts, strict=True)
    outputs, losses = [], []
    if head:
        q, k, v, *some = before
        output, loss, carry = memory_chunked(
            q, k, v, Rates(*some), start, carry, rule, chunk_size=chunk_size,
            norm=norm, slot=slot, keep_state=keep_state or rest > 0,
        )  # fmt: skip
        outputs.append(output.to(queries.dtype))
        losses.append(loss)
    if rest:
        if carry is None:
            carry = first_carry(start, rule, len(queries), chunk_size)
        given = (after[:3], Rates(*after[3:]), start, carry, rule, chunk_size, keep_state)
        with torch.autocast(queries.device.type, enabled=False):
            output, loss, carry = _whole_chunks(*given)
        outputs.append(output)
        losses.append(loss)
    return torch.cat(outputs, 2), torch.cat(losses, 2), carry


def _whole_chunks(
    tokens: tuple[Tensor, ...],
    rates: Rates,
    start: tuple[Tensor, ...],
    carry: Carry,
    rule: UpdateRule,
    chunk_size: int,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Carry | None]:
    """Read from the start of a chunk on."""
    batch, heads, time, _ = tokens[0].shape
    filled, wide = pad_to_chunks(tokens, rates, chunk_size)
    base = tuple(one.to(wide.step.dtype) for one in split_start(start, rule)[0])
    vectors, mix = chunk_inputs(filled[1], wide, rule, chunk_size, len(start))
    rows = tuple(one.flatten(0, 1) for one in filled)
    state = [
        to_rows(one, vectors)
        for pair in zip(carry.weights, carry.momentum, strict=True)
        for one in pair
    ]
    found = _through_layers(rows, vectors, mix, base, state, rule)
    outputs, losses = (one.unflatten(0, (batch, heads))[:, :, :time] for one in found[:2])
    if not keep_state:
        return outputs, losses, None
    after = [rearrange(one, "(b h) i o -> h b i o", b=batch) for one in found[2:]]
    layers = len(start)
    anchor = tuple(after[2 * layers :])
    units: tuple[Tensor, ...] = ()
    spent: tuple[Tensor, ...] = ()
    if rule.step == "triangular":
        anchored = tuple(one.unsqueeze(1) + two for one, two in zip(base, anchor, strict=True))
        units, spent = remember_last_chunk(tokens[1], rates, anchored, rule, chunk_size)
    weights, momentum = tuple(after[0 : 2 * layers : 2]), tuple(after[1 : 2 * layers : 2])
    return outputs, losses, Carry(weights, momentum, anchor, units, spent)


def _through_layers(
    rows: tuple[Tensor, ...],
    vectors: Tensor,
    mix: Tensor,
    base: tuple[Tensor, ...],
    state: list[Tensor],
    rule: UpdateRule,
) -> tuple[Tensor, ...]:
    """Call the kernels of one layer or two.

    Returns outputs, losses, weights and momentum of each layer in turn, and the weights of
    each layer at the last chunk's start.
    """
    from titans_seq.ops.gpu.chunked import deep_memory
    from titans_seq.ops.gpu.exact import linear_memory
    from titans_seq.ops.gpu.host import make_plan

    q, k, v = rows
    hidden = base[0].shape[-1] if len(base) > 1 else 0
    plan = make_plan(
        q, vectors, hidden, triangular=rule.step == "triangular", bound=rule.gradient_bound,
        activation=rule.activation,
    )  # fmt: skip
    if len(base) == 1:
        weights, momentum = state
        one = LinearInputs(q, k, v, vectors, mix, None, base[0], weights, momentum)
        return linear_memory(one, plan)
    return deep_memory(DeepInputs(q, k, v, vectors, mix, *base, *state), plan)


def memory_exact_triton(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads dim dim"]],
    carry: Carry,
    rule: UpdateRule,
    *,
    block_size: int,
) -> tuple[Tensor, Tensor, Carry]:
    """Do what :func:`titans_seq.ops.general.exact.memory_exact` does.

    The last block is filled up with tokens that leave no trace.
    """
    from titans_seq.ops.gpu.exact import linear_memory
    from titans_seq.ops.gpu.host import make_plan

    batch, heads, time, _ = queries.shape
    with torch.autocast(queries.device.type, enabled=False):
        tokens, rates = pad_to_chunks((queries, keys, values), rates, block_size)
        vectors, mix, before = exact_inputs(rates, rule, block_size, tokens[0])
        (base,) = split_start(start, rule)[0]
        (weights,), (momentum,) = carry.weights, carry.momentum
        q, k, v = (one.flatten(0, 1) for one in tokens)
        inputs = LinearInputs(
            q, k, v, vectors, mix, before, base.to(vectors.dtype),
            to_rows(weights, vectors), to_rows(momentum, vectors),
        )  # fmt: skip
        found = linear_memory(inputs, make_plan(q, vectors, 0, exact=True))
        state = [rearrange(one, "(b h) i o -> h b i o", b=batch) for one in found[2:4]]
    outputs = found.outputs.unflatten(0, (batch, heads))[:, :, :time]
    losses = found.losses.unflatten(0, (batch, heads))[:, :, :time]
    return outputs, losses, carry._replace(weights=(state[0],), momentum=(state[1],))


def _interpreted() -> bool:
    """Return whether triton's interpreter stands in for a device."""
    return os.environ.get("TRITON_INTERPRET") == "1"
