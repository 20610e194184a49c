"""The memory by GPU kernels: which calls they compute, and how a call is laid out for them.

Importing this needs no triton; the kernels are imported where they are first called. They run
on CUDA devices, and, for tests, on the CPU where ``TRITON_INTERPRET=1`` was set before triton
was imported.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from einops import rearrange
from torch import Tensor

from titans_seq.ops.call import BackEnd, MemoryCall, MemoryResult, with_chunk_closed
from titans_seq.ops.general.chunked import memory_chunked
from titans_seq.ops.gpu.scalars import (
    chunk_inputs,
    exact_inputs,
    pad_to_chunks,
    remember_last_chunk,
    to_rows,
)
from titans_seq.ops.gpu.twins import DeepInputs, LinearInputs
from titans_seq.ops.rules.rule import UpdateRule
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


def _reason_against(call: MemoryCall) -> str | None:
    # by triton's interpreter, which tests use, the kernels run on the CPU too, but slowly
    if not call.queries.is_cuda:
        return f"it runs on CUDA devices, and the tensors are on {call.queries.device.type}"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace it"
    return reason_against_kernels(call)


def reason_against_kernels(call: MemoryCall) -> str | None:
    """Return why the kernels cannot compute a call, whatever its device; ``None`` if they can."""
    return _reason_against_rule(call.rule, len(call.start)) or _reason_against_inputs(call)


def _reason_against_rule(rule: UpdateRule, depth: int) -> str | None:
    feature = rule.torch_only_feature()
    if feature is not None:
        return f"it does not compute {feature}"
    if rule.gradient_point == "chunk" and depth not in (1, 2):
        return f"it computes memories of 1 or 2 layers, and this one has {depth}"
    return None


def _reason_against_inputs(call: MemoryCall) -> str | None:
    queries = call.queries
    batch, _, time, width = queries.shape
    if call.norm is not None:
        return "it does not compute the residual LayerNorm"
    if call.slots is not None:
        return "it reads sequences that stand at the same position only"
    if width > WIDEST_HEAD:
        return f"its heads are up to {WIDEST_HEAD} wide, and these are {width}"
    if call.chunk_size > LONGEST_CHUNK:
        return f"its chunks have up to {LONGEST_CHUNK} tokens, and these {call.chunk_size}"
    if not batch or time < call.chunk_size:
        return f"it reads at least one chunk of {call.chunk_size} tokens, and the call has {time}"
    types = (torch.float32, torch.float16, torch.bfloat16)
    if queries.dtype not in types and not (_interpreted() and queries.dtype == torch.float64):
        return f"it does not compute in {str(queries.dtype).removeprefix('torch.')}"
    if not available():
        return "triton is not installed"
    return None


def run_kernels(call: MemoryCall) -> MemoryResult:
    """Write and read every token by the kernels, as the torch form would.

    What is left of an open chunk goes through the torch form; the last chunk is filled up
    with tokens that leave no trace.
    """
    if call.rule.gradient_point == "token":
        return _run_exact(call)
    time, keep_state, carry = call.queries.shape[2], call.keep_state, call.carry
    head = min(-call.slot % call.chunk_size, time)
    outputs, losses = [], []
    if head:
        opened = memory_chunked(call.span(0, head, carry, keep_state=keep_state or head < time))
        outputs.append(opened.outputs.to(call.queries.dtype))
        losses.append(opened.losses)
        carry = opened.carry
    if head < time:
        if carry is None:
            carry = first_carry(call.start, call.rule, len(call.queries), call.chunk_size)
        with torch.autocast(call.queries.device.type, enabled=False):
            rest = call.span(head, time, carry, keep_state=keep_state)
            output, loss, carry = _whole_chunks(rest, carry)
        outputs.append(output)
        losses.append(loss)
    return with_chunk_closed(call, MemoryResult(torch.cat(outputs, 2), torch.cat(losses, 2), carry))


def _whole_chunks(call: MemoryCall, carry: Carry) -> MemoryResult:
    """Write and read tokens from the start of a chunk on, from the state ``carry``."""
    rule, start, chunk_size = call.rule, call.start, call.chunk_size
    tokens = (call.queries, call.keys, call.values)
    batch, heads, time, _ = call.queries.shape
    filled, wide = pad_to_chunks(tokens, call.rates, chunk_size)
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
    if not call.keep_state:
        return MemoryResult(outputs, losses, None)
    after = [rearrange(one, "(b h) i o -> h b i o", b=batch) for one in found[2:]]
    layers = len(start)
    anchor = tuple(after[2 * layers :])
    units: tuple[Tensor, ...] = ()
    spent: tuple[Tensor, ...] = ()
    if rule.step == "triangular":
        anchored = tuple(one.unsqueeze(1) + two for one, two in zip(base, anchor, strict=True))
        units, spent = remember_last_chunk(call.keys, call.rates, anchored, rule, chunk_size)
    weights, momentum = tuple(after[0 : 2 * layers : 2]), tuple(after[1 : 2 * layers : 2])
    return MemoryResult(outputs, losses, Carry(weights, momentum, anchor, units, spent))


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


def _run_exact(call: MemoryCall) -> MemoryResult:
    """Write and read with the gradient at every token.

    The last block is filled up with tokens that leave no trace.
    """
    from titans_seq.ops.gpu.exact import linear_memory
    from titans_seq.ops.gpu.host import make_plan

    rule, block_size, start = call.rule, call.chunk_size, call.start[:1]
    batch, heads, time, _ = call.queries.shape
    carry = call.carry or first_carry(start, rule, batch, block_size)
    with torch.autocast(call.queries.device.type, enabled=False):
        given = (call.queries, call.keys, call.values)
        tokens, rates = pad_to_chunks(given, call.rates, block_size)
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
    after = carry._replace(weights=(state[0],), momentum=(state[1],))
    return with_chunk_closed(call, MemoryResult(outputs, losses, after))


def _interpreted() -> bool:
    """Return whether triton's interpreter stands in for a device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


TRITON = BackEnd("triton", "cuda", _reason_against, run_kernels)
