"""Checks of states before layers read on from them; what does not fit is refused in one line.

Each layer that carries a state has a ``check_state``, built from what stands here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from titans_seq.exceptions import DataError
from titans_seq.nn.packing import Position
from titans_seq.nn.state import MemoryState, StackState, State, walk
from titans_seq.ops.state import Carry, Layout, with_chunk_size

Kind = TypeVar("Kind", bound=State)

_LEFT: weakref.WeakKeyDictionary[State, tuple[Any, ...]] = weakref.WeakKeyDictionary()
"""The layer that left a state, and its batch, type and device: such a state needs no check."""


def remember(layer: nn.Module, state: State, tokens: Tensor) -> None:
    """Record that a layer left this state after reading tokens of that batch."""
    if not torch.compiler.is_compiling():
        # weak both ways: neither states nor layers are kept alive by this record
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


def check_stack(
    layer: nn.Module, mixers: Iterable[nn.Module], state: State, tokens: Tensor
) -> None:
    """Refuse a state that a stack of mixers cannot read these tokens with.

    Raises
    ------
    DataError
        If a layer's state does not fit the layer; the message names the field, what it is, and
        what is expected.
    """
    mixers = list(mixers)
    if not isinstance(state, StackState):
        raise DataError(f"state is a {type(state).__name__}, a backbone needs a StackState")
    if not isinstance(state.layers, tuple) or len(state.layers) != len(mixers):
        count = len(state.layers) if isinstance(state.layers, tuple) else "no"
        raise DataError(
            f"state has {count} layers, this backbone {len(mixers)}: it belongs to another one"
        )
    positions = [
        mixer.check_state(layer_state, len(tokens), f"state.layers.{index}")  # type: ignore[operator]
        for index, (mixer, layer_state) in enumerate(zip(mixers, state.layers, strict=True))
    ]
    for index, position in enumerate(positions):
        check_same_position(f"state.layers.{index}", position, positions[0], len(tokens))
    _check_order(layer, state)


def _check_order(layer: nn.Module, state: StackState) -> None:
    """Refuse layers that this backbone left, in another order than it left them in."""
    if torch.compiler.is_compiling():
        return
    for known, left in list(_LEFT.items()):
        if left[0]() is not layer or not isinstance(known, StackState):
            continue
        for index, layer_state in enumerate(state.layers):
            others = known.layers[:index] + known.layers[index + 1 :]
            # by identity: equal shapes let a swapped state pass every other check
            if layer_state is not None and any(layer_state is other for other in others):
                raise DataError(f"state.layers.{index} is the state of another layer")


def check_kind(state: Any, kind: type[Kind], name: str) -> Kind:
    """Return a state of exactly this kind; refuse any other."""
    if type(state) is not kind:
        raise DataError(
            f"{name} is a {type(state).__name__}, this layer needs a {kind.__name__}: it belongs "
            "to another variant"
        )
    return state


def check_tensors(
    fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], like: Tensor, name: str
) -> None:
    """Refuse fields of a state unless they are exactly the expected tensors.

    Parameters
    ----------
    fields
        Values, or nested tuples of them, by the names of the fields.
    shapes
        The shape of each tensor by its name, as :func:`titans_seq.nn.state.walk` gives it.
    like
        A parameter of the layer: tensors are on its device, and float64 only if it is.
    """
    leaves = dict(leaf for field, value in fields.items() for leaf in walk(field, value))
    for leaf, value in leaves.items():
        if leaf not in shapes:
            raise DataError(
                f"{name}.{leaf}: this layer has no such tensor: the state belongs to one of "
                "another depth or rule"
            )
        _check_tensor(f"{name}.{leaf}", value, shapes[leaf], like)
    for leaf in shapes:
        if leaf not in leaves:
            raise DataError(f"{name}.{leaf} is missing: the state belongs to another layer")


def _check_tensor(name: str, value: Any, shape: tuple[int, ...], like: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise DataError(f"{name} is a {type(value).__name__}, not a tensor")
    if tuple(value.shape) != tuple(shape):
        raise DataError(
            f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}: the state belongs to "
            "another layer, or to a batch of another size"
        )
    if not value.is_floating_point():
        raise DataError(f"{name} is {value.dtype}, a floating type is expected")
    double = torch.float64
    if value.device != like.device or (value.dtype == double) != (like.dtype == double):
        raise DataError(
            f"{name} is {value.dtype} on {value.device}, the layer's weights are "
            f"{like.dtype} on {like.device}: move it by state.to(device, dtype)"
        )


def check_position(position: Any, batch: int, name: str) -> Position:
    """Return a count of tokens read; refuse what is not one, or not one a row."""
    if isinstance(position, Tensor):
        if position.shape != (batch,) or position.dtype != torch.int64 or not position.is_cpu:
            raise DataError(
                f"{name}.position is {position.dtype} of shape {tuple(position.shape)} on "
                f"{position.device}: int64 of shape ({batch},) on the CPU is expected"
            )
        # a compiler has no numbers, and looking at them would break its graph
        valued = position.numel() and not torch.compiler.is_compiling()
        if valued and not 0 <= int(position.min()) <= _most(position):
            raise DataError(f"{name}.position must count the tokens read, got {position.tolist()}")
        return position
    if isinstance(position, bool) or not isinstance(position, int):
        raise DataError(f"{name}.position must be an integer, got {position!r}")
    if not torch.compiler.is_compiling() and not 0 <= position < MOST_TOKENS:
        raise DataError(f"{name}.position must count the tokens read, got {position}")
    return position


MOST_TOKENS = 2**53
"""More tokens than any stream has; sums with a piece's length stay far from overflow."""


def _most(position: Tensor) -> int:
    """Return the limit of a position's smallest number, below zero if its largest is too large."""
    return MOST_TOKENS if int(position.max()) < MOST_TOKENS else -1


def check_same_position(name: str, position: Position, expected: Position, batch: int) -> None:
    """Refuse states of one stream that count different numbers of tokens."""
    if torch.compiler.is_compiling() or position is expected:
        return
    rows, others = (torch.as_tensor(count).expand(batch) for count in (position, expected))
    if not torch.equal(rows, others):
        raise DataError(
            f"{name} has read {_listed(position)} tokens, the layers beside it "
            f"{_listed(expected)}: they are not of one state"
        )


def _listed(position: Position) -> str:
    return str(position.tolist() if isinstance(position, Tensor) else position)


def check_memory(
    state: MemoryState, layout: Layout, rule: str, tail: tuple[int, ...], like: Tensor, name: str
) -> int:
    """Refuse a state that a memory cannot read on from; return the chunk size that it is in.

    A state of another chunk size is accepted where a chunk of either size ends.

    Parameters
    ----------
    layout, rule
        Of the memory, for the batch that it is about to read.
    tail
        Shape of the convolution's tail.
    like
        A parameter of the memory.
    """
    if state.rule is not None and state.rule != rule:
        raise DataError(f"{name} was left by rule {state.rule!r}, this memory learns by {rule!r}")
    # shapes and types only: a check must not write an open chunk out
    outline = state.outline()
    position = check_position(state.position, layout.batch, name)
    chunk_size: Any = _chunk_size_of(outline)
    if chunk_size is None:
        chunk_size = layout.chunk_size
    whole = isinstance(chunk_size, int) and not isinstance(chunk_size, bool)
    if not whole or not 1 <= chunk_size < MOST_TOKENS:
        raise DataError(f"{name}.chunk_size must be a positive integer, got {chunk_size!r}")
    # with gradients at every token the state does not depend on the chunk size
    if chunk_size != layout.chunk_size and layout.rule.gradient_point == "chunk":
        rows = torch.as_tensor(position)
        if bool((rows % chunk_size).any()) or bool((rows % layout.chunk_size).any()):
            raise DataError(
                f"{name} has read {_listed(position)} tokens in chunks of {chunk_size}, this "
                f"memory's chunks are of {layout.chunk_size}: a state can change its chunk size "
                "only after a multiple of both"
            )
    # in the state's own chunk size; `in_chunks_of` converts it after the check
    shapes = layout._replace(chunk_size=chunk_size).carry_shapes()
    expected = {f"carry.{leaf}": shape for leaf, shape in shapes.items()} | {"convolution": tail}
    check_tensors(
        {"carry": outline.carry, "convolution": outline.convolution}, expected, like, name
    )
    return int(chunk_size)


def _chunk_size_of(state: MemoryState) -> Any:
    """Return the chunk size that a state records, or else the one its tensors were made for."""
    if state.chunk_size is not None or not isinstance(state.carry, Carry):
        return state.chunk_size
    for field in (state.carry.keys, state.carry.pending):
        if isinstance(field, tuple) and field and isinstance(field[0], Tensor):
            return field[0].shape[2] if field[0].dim() > 2 else None
    return None


def in_chunks_of(state: MemoryState, chunk_size: int, checked: int) -> MemoryState:
    """Return a checked state in chunks of another size; see :func:`check_memory`."""
    if chunk_size == checked:
        return state
    carry = with_chunk_size(state.carry, chunk_size)
    return MemoryState(carry, state.convolution, state.position, chunk_size, state.rule)
