"""One token of a stream through a memory, in a single call of compiled code.

What :meth:`titans_seq.NeuralMemory.forward` computes where a stream is read token by token
without gradients, and where the memory has a compiled form. Parameters are looked up at every
call, so they may be changed, replaced or moved between two tokens.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from titans_seq.nn.convolution import CausalConvolution
from titans_seq.nn.gates import MemoryGates
from titans_seq.nn.rules import LearningRule
from titans_seq.nn.state import MemoryState
from titans_seq.ops.cpu import memory as memory_cpu
from titans_seq.ops.cpu.journal import Learned
from titans_seq.ops.cpu.memory_open import OpenChunk, begin, read_exactly
from titans_seq.ops.state import Layout

TYPES = (torch.float32, torch.float64)
"""Floating types that the compiled code is built for."""


class StreamedMemory(Protocol):
    """What this module needs of :class:`titans_seq.NeuralMemory`, which imports it."""

    rule: LearningRule
    dim: int
    heads: int
    chunk_size: int
    project: nn.Linear
    convolve: CausalConvolution
    gates: MemoryGates
    norm: nn.Parameter
    gate: nn.Linear
    out: nn.Linear
    start: nn.ParameterList

    def layout(self, start: tuple[Tensor, ...], batch: int) -> Layout:
        """Return the description of a state of this layer."""

    def admit(self, state: MemoryState | None, layout: Layout) -> MemoryState | None:
        """Return a state that fits the layer."""


def read_token(
    memory: StreamedMemory, tokens: Tensor, state: MemoryState | None
) -> tuple[Tensor, MemoryState, Tensor] | None:
    """Read and write one token of every row.

    Parameters
    ----------
    tokens
        (batch, 1, dim)

    Returns
    -------
    outputs, state, losses
        As :meth:`titans_seq.NeuralMemory.read_packed` returns them; ``None`` if this is a call
        that the compiled code cannot answer.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not _fits(tokens, state):
        return None
    # parameters before the state: without a compiled form the state is not looked at
    learned = _learned(memory, tokens)
    if learned is None:
        return None
    batch, rule = tokens.shape[0], memory.rule.update
    layout = memory.layout(learned.start, batch)
    state = memory.admit(state, layout)
    past = (batch, learned.taps.shape[0] - 1, learned.enter.shape[0])
    tail = tokens.new_zeros(past) if state is None else state.convolution.contiguous()
    if tail.shape != past or not _plain((tail,), tokens.dtype):
        return None
    # rows may be strided, as slices of a longer sequence are; a vector may not
    if tokens.stride(2) != 1:
        tokens = tokens.contiguous()
    position = 0 if state is None else state.position
    assert isinstance(position, int)
    if rule.gradient_point == "token":
        carry = None if state is None else state.carry
        answer = read_exactly(layout, learned, tokens, tail, carry)
        if answer is None:
            return None
        read, carry = answer
        after = MemoryState(carry, read.tail, position + 1, memory.chunk_size, memory.rule.name)
        return read.out, after.mark_layout(layout), read.loss
    chunk = _chunk(layout, learned.start, state, position % memory.chunk_size)
    if chunk is None:
        return None
    read, chunk = chunk.read(learned, tokens, tail)
    after = MemoryState.of_chunk(chunk, read.tail, position + 1, memory.rule.name)
    return read.out, after, read.loss


def _fits(tokens: Tensor, state: MemoryState | None) -> bool:
    """Return whether tokens and state are of a kind that the compiled code takes."""
    return (
        tokens.device.type == "cpu"
        and tokens.dtype in TYPES
        and type(tokens) is Tensor
        and not torch.is_autocast_enabled("cpu")
        and tokens.shape[0] > 0
        and (state is None or (type(state) is MemoryState and isinstance(state.position, int)))
    )


def _learned(memory: StreamedMemory, tokens: Tensor) -> Learned | None:
    """Return the layer's parameters; ``None`` if some are not as the compiled code takes them."""
    if not memory_cpu.runs_here(memory.rule.update, tokens.device):
        return None
    convolve, gates = memory.convolve, memory.gates
    if _changed(convolve, CausalConvolution) or _changed(gates, MemoryGates):
        return None
    project, rates, gate, out = memory.project, gates.project, memory.gate, memory.out
    for linear in (project, gate, out):
        if _changed(linear, nn.Linear) or linear.bias is not None:
            return None
    if _changed(rates, nn.Linear) or rates.bias is None:
        return None
    weights = (
        project.weight, convolve.weight, rates.weight, rates.bias, memory.norm, gate.weight,
        out.weight,
    )  # fmt: skip
    # the dictionary itself: iterating a ParameterList looks every weight up by its name
    start = tuple([weight for weight in memory.start._parameters.values() if weight is not None])
    if not _plain((*weights, *start), tokens.dtype) or not _sized(memory, weights, start, tokens):
        return None
    rule = gates.rule
    return Learned(*weights, start, rule.forgetting, rule.momentum, rule.max_step)


def _changed(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a submodule was replaced or has hooks, which compiled code would skip."""
    return type(module) is not kind or bool(module._forward_hooks or module._forward_pre_hooks)


def _sized(
    memory: StreamedMemory, weights: tuple[Tensor, ...], start: tuple[Tensor, ...], tokens: Tensor
) -> bool:
    """Return whether parameters and tokens are as large as the compiled code takes them to be."""
    dim, heads = memory.dim, memory.heads
    enter, taps, rates, bias, gain, gate, leave = weights
    return (
        tokens.shape[2] == dim
        and enter.shape == (3 * dim, dim)
        and taps.shape[1] == 3 * dim
        and rates.shape == (3 * heads, dim)
        and bias.shape[0] == 3 * heads
        and gain.shape[0] == dim
        and gate.shape == leave.shape == (dim, dim)
        and start[0].shape[:2] == (heads, dim // heads)
        and start[-1].shape[2] == dim // heads
    )


def _plain(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> bool:
    """Return whether all are of one type, contiguous, and on the CPU."""
    for tensor in tensors:
        if tensor.dtype != dtype or not tensor.is_cpu or not tensor.is_contiguous():
            return False
    return True


def _chunk(
    layout: Layout, start: tuple[Tensor, ...], state: MemoryState | None, slot: int
) -> OpenChunk | None:
    """Return the open chunk that a state stands in."""
    chunk = None if state is None else state.chunk
    # the usual case of a stream: continue the chunk without writing its state out
    if chunk is not None and chunk.length == slot and chunk.sizes.layout == layout:
        return chunk
    return begin(layout, start, None if state is None else state.carry, slot)
