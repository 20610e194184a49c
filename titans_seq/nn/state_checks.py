"""What a state must look like for a layer to go on from it; anything else is refused early."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from titans_seq.exceptions import DataError
from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.context import ContextMixer
from titans_seq.nn.memory import NeuralMemory
from titans_seq.nn.mixers import AttentionMixer, GateMixer, LayerMixer, MemoryMixer
from titans_seq.nn.state import AttentionState, MemoryState, SegmentState, StackState, State

Shapes = dict[str, tuple[int, ...]]
"""Shape of each tensor that must be there, by its name within the state."""


_LEFT: weakref.WeakKeyDictionary[State, tuple[Any, ...]] = weakref.WeakKeyDictionary()
"""What left a state, and what it was then: such a state need not be looked through again."""


def remember(layer: nn.Module, state: State, tokens: Tensor) -> None:
    """Note that a layer left this state after reading tokens of that batch."""
    if not torch.compiler.is_compiling():
        _LEFT[state] = (weakref.ref(layer), *_circumstances(layer, tokens))


def is_remembered(layer: nn.Module, state: State, tokens: Tensor) -> bool:
    """Return whether this layer, as it is now, left the state after a batch of this size."""
    if torch.compiler.is_compiling() or not isinstance(state, State):
        return False
    left = _LEFT.get(state)
    return left is not None and left[0]() is layer and left[1:] == _circumstances(layer, tokens)


def _circumstances(layer: nn.Module, tokens: Tensor) -> tuple[int, torch.dtype, torch.device]:
    parameter = next(layer.parameters())
    return len(tokens), parameter.dtype, parameter.device


def check_stack(blocks: Iterable[nn.Module], state: State, tokens: Tensor) -> None:
    """Refuse a state that a stack of blocks cannot read these tokens with.

    Raises
    ------
    DataError
        If a layer's state is of another kind, shape, floating type or device than the layer
        needs; the message names the field, and what would be right.
    """
    mixers = [block.get_submodule("mixer") for block in blocks]
    if not isinstance(state, StackState):
        raise DataError(f"state is a {type(state).__name__}, a backbone needs a StackState")
    if len(state.layers) != len(mixers):
        raise DataError(
            f"state has {len(state.layers)} layers, this backbone {len(mixers)}: "
            "it belongs to another one"
        )
    for index, (mixer, one) in enumerate(zip(mixers, state.layers, strict=True)):
        check_state(mixer, one, tokens, f"state.layers.{index}")


def check_state(layer: nn.Module, state: State | None, tokens: Tensor, name: str) -> None:
    """Refuse a state that one layer cannot read these tokens with; see :func:`check_stack`."""
    kinds, shapes = _wanted(layer, len(tokens))
    if type(state) is not kinds[0]:
        raise DataError(
            f"{name} is a {type(state).__name__}, this layer needs a {kinds[0].__name__}: it "
            "belongs to another variant"
        )
    parts = state.layers if isinstance(state, StackState) else ()
    if tuple(type(one) for one in parts) != kinds[1:]:
        named = " and a ".join(kind.__name__ for kind in kinds[1:])
        raise DataError(f"{name} must hold a {named}: it belongs to another variant")
    leaves = {key: value for key, value in state.outline().leaves() if isinstance(value, Tensor)}
    for key, value in leaves.items():
        if key in shapes:
            _check_shape(f"{name}.{key}", value, shapes[key])
        elif ".weights." in f".{key}":
            raise DataError(f"{name}.{key}: the memory here has fewer layers than the state")
        if value.is_floating_point():
            _check_placed(f"{name}.{key}", value, next(layer.parameters()))
        elif len(value) != len(tokens):
            raise DataError(f"{name}.{key} is of {len(value)} rows, the tokens of {len(tokens)}")
    missing = sorted(shapes.keys() - leaves.keys())
    if missing:
        raise DataError(f"{name}.{missing[0]} is missing: the state belongs to another backbone")


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise DataError(
            f"{name} has shape {tuple(value.shape)}, {shape} is right here: the state belongs "
            "to another backbone, or to a batch of another size"
        )


def _check_placed(name: str, value: Tensor, parameter: Tensor) -> None:
    """Refuse another device, and float64 where the layer has another type or the reverse."""
    double = torch.float64
    if value.device != parameter.device or (value.dtype == double) != (parameter.dtype == double):
        raise DataError(
            f"{name} is {value.dtype} on {value.device}, the layer's weights are "
            f"{parameter.dtype} on {parameter.device}: move it by state.to(device, dtype)"
        )


def _wanted(layer: nn.Module, batch: int) -> tuple[tuple[type[State], ...], Shapes]:
    """Return the kind of state, followed by those of its parts, and its tensors' shapes."""
    if isinstance(layer, NeuralMemory):
        return (MemoryState,), _of_memory(layer, batch)
    if isinstance(layer, MemoryMixer):
        return (MemoryState,), _of_memory(layer.memory, batch)
    if isinstance(layer, AttentionMixer):
        return (AttentionState,), _of_window(layer.attention, batch)
    if isinstance(layer, ContextMixer):
        return (SegmentState,), _of_segment(layer, batch)
    assert isinstance(layer, GateMixer | LayerMixer)
    kinds: tuple[type[State], ...] = (AttentionState, MemoryState)
    parts = (_of_window(layer.attention, batch), _of_memory(layer.memory, batch))
    if isinstance(layer, LayerMixer):
        kinds, parts = kinds[::-1], parts[::-1]
    inside = {
        f"layers.{index}.{key}": shape
        for index, part in enumerate(parts)
        for key, shape in part.items()
    }
    return (StackState, *kinds), inside


def _of_memory(memory: NeuralMemory, batch: int) -> Shapes:
    shapes: Shapes = {"convolution": (batch, memory.convolve.kernel - 1, 3 * memory.dim)}
    for layer, start in enumerate(memory.start):
        shape = (memory.heads, batch, *start.shape[1:])
        shapes |= {f"carry.weights.{layer}": shape, f"carry.momentum.{layer}": shape}
    return shapes


def _of_window(attention: SlidingAttention, batch: int) -> Shapes:
    heads = attention.heads.heads
    shape = (batch, heads, attention.window - 1, attention.heads.out.out_features // heads)
    return {"keys": shape, "values": shape}


def _of_segment(mixer: ContextMixer, batch: int) -> Shapes:
    memory = mixer.memory
    shape = (batch, memory.heads, 2, mixer.segment_len, memory.dim // memory.heads)
    shapes: Shapes = {"keys": shape, "values": shape}
    shapes |= {f"memory.{key}": inner for key, inner in _of_memory(memory, batch).items()}
    for layer, start in enumerate(memory.start):
        shapes[f"recalled_from.{layer}"] = (memory.heads, batch, *start.shape[1:])
    return shapes
