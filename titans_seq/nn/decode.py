"""One token of a stream through a memory, in a single call of compiled code.

What :meth:`titans_seq.NeuralMemory.forward` computes where a stream is read token by token
without gradients, and where the memory has a compiled form. Parameters are looked up at every
call, so they may be changed, replaced or moved between two tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans_seq.nn.convolution import CausalConvolution
from titans_seq.nn.gates import MemoryGates
from titans_seq.nn.state import MemoryState
from titans_seq.ops import memory_cpu
from titans_seq.ops.memory_open import Layout, OpenChunk, Token, begin, read_exactly

if TYPE_CHECKING:
    from titans_seq.nn.memory import NeuralMemory

TYPES = (torch.float32, torch.float64)


def read_one(
    memory: NeuralMemory, tokens: Tensor, state: MemoryState | None
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
    token = _given(memory, tokens, state)
    if token is None:
        return None
    rule = memory.rule.update
    shapes = tuple(one.shape for one in token.start)
    layout = Layout(rule, memory.chunk_size, len(tokens), shapes, tokens.dtype)
    position = 0 if state is None else state.position
    assert isinstance(position, int)
    if rule.gradient_point == "token":
        answer = read_exactly(layout, token, None if state is None else state.carry)
        if answer is None:
            return None
        read, carry = answer
        after = MemoryState(carry, read.tail, position + 1)
    else:
        chunk = _chunk(layout, token, state, position % memory.chunk_size)
        if chunk is None:
            return None
        read, chunk = chunk.read(token)
        after = MemoryState.of_chunk(chunk, read.tail, position + 1)
    return memory.out(read.out), after, read.loss


def _fits(tokens: Tensor, state: MemoryState | None) -> bool:
    """Return whether tokens and state are of a kind that the compiled code takes."""
    return (
        tokens.device.type == "cpu"
        and tokens.dtype in TYPES
        and type(tokens) is Tensor
        and not torch.is_autocast_enabled("cpu")
        and len(tokens) > 0
        and (state is None or isinstance(state.position, int))
    )


def _given(memory: NeuralMemory, tokens: Tensor, state: MemoryState | None) -> Token | None:
    """Project the token; ``None`` if some of the layer's parts are not the compiled code's."""
    update, convolve, gates = memory.rule.update, memory.convolve, memory.gates
    if not memory_cpu.has_form(update) or not memory_cpu.supports(update, tokens):
        return None
    if _changed(convolve, CausalConvolution) or _changed(gates, MemoryGates):
        return None
    enter, start = gates.project, tuple(memory.start)
    mixed = memory.project(tokens)
    past = (len(tokens), convolve.kernel - 1, mixed.shape[-1])
    tail = mixed.new_zeros(past) if state is None else state.convolution
    logits = F.linear(tokens, enter.weight, enter.bias)
    parts = (mixed, tail, convolve.weight, logits, memory.norm, memory.gate(tokens), *start)
    for one in parts:
        if one.dtype != tokens.dtype or one.device.type != "cpu":
            return None
    if tail.shape != past:
        return None
    rates = (gates.rule.forgetting, gates.rule.momentum, gates.rule.max_step)
    mixed, tail, taps, logits, gain, gate, *first = (one.contiguous() for one in parts)
    return Token(mixed, tail, taps, logits, gain, gate, tuple(first), *rates)


def _changed(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a part is another's, or somebody watches what passes it."""
    return type(module) is not kind or bool(module._forward_hooks or module._forward_pre_hooks)


def _chunk(layout: Layout, token: Token, state: MemoryState | None, slot: int) -> OpenChunk | None:
    """Return the open chunk that a state stands in."""
    chunk = None if state is None else state.chunk
    if chunk is not None and chunk.length == slot and chunk.sizes.layout == layout:
        return chunk
    return begin(layout, token.start, None if state is None else state.carry, slot)
