"""States that layers carry from call to call: frozen records of tensors.

A state is saved as one safetensors file: its tensors by the names of their fields, and in
the file's head which records they make up. Loading runs no code of the file.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.nn.packing import Position
from titans_seq.ops.cpu.memory_open import OpenChunk
from titans_seq.ops.state import Carry


@dataclass(frozen=True, eq=False)
class State:
    """Base of every carried state: tensors, tuples of them, and other states.

    Counters (integers, and integer tensors) stay on the CPU, where the layers' control flow
    reads them.
    """

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same state with ``change`` applied to every tensor of numbers."""
        values = {
            field.name: _map(getattr(self, field.name), change)
            for field in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **values)

    def detach(self) -> Self:
        """Return the state cut off from the graph that computed it."""
        return self.map(Tensor.detach)

    def clone(self) -> Self:
        """Return a copy that shares no memory with this one."""
        return self.map(lambda one: one.clone())

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Return the state on another device, or in another floating type."""
        return self.map(lambda one: one.to(device=device, dtype=dtype))

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor, counters too."""
        return (value for _, value in self.leaves() if isinstance(value, Tensor))

    def leaves(self) -> Iterator[tuple[str, Tensor | int | None]]:
        """Yield whatever the state holds that is not a record itself, each with its name."""
        for field in dataclasses.fields(self):
            yield from _walk(field.name, getattr(self, field.name))

    def equals(self, other: State) -> bool:
        """Tell whether both states are of the same kind and hold exactly the same numbers."""
        mine, theirs = list(self.leaves()), list(other.leaves())
        same_kind = type(self) is type(other) and len(mine) == len(theirs)
        return same_kind and all(map(_same_leaf, mine, theirs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file, whole or not at all.

        Raises
        ------
        FileNotFoundError
            If the folder of ``path`` does not exist.
        """
        from titans_seq.nn.state_files import save_state

        save_state(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Read a state that :meth:`save` wrote.

        Parameters
        ----------
        device
            Where its tensors shall be; counters stay on the CPU.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If the file holds no state, is damaged, was written by a later version, or holds
            a state of another kind than the class that is asked for.
        """
        from titans_seq.nn.state_files import load_state

        state = load_state(path)
        if not isinstance(state, cls):
            raise DataError(f"{path} holds a {type(state).__name__}, not a {cls.__name__}")
        return state.to(device)

    @property
    def nbytes(self) -> int:
        """Bytes that the state's tensors hold; it does not grow with what was read."""
        return sum(one.numel() * one.element_size() for one in self.outline().tensors())

    def outline(self) -> Self:
        """Return a state with tensors of the same shape, type and place, whatever they hold.

        It costs nothing, where the numbers of some tensors are not computed before somebody
        asks for them.
        """
        names = [field.name for field in dataclasses.fields(self)]
        return type(self)(**{name: _outline(getattr(self, name)) for name in names})


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``change`` inside a nest of states and tuples."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, State):
        return value.map(change)
    if isinstance(value, tuple):
        inner = [_map(one, change) for one in value]
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


def _outline(value: Any) -> Any:
    """Outline the states inside a tuple, or one."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(_outline, value))
    return value.outline() if isinstance(value, State) else value


def _walk(name: str, value: Any) -> Iterator[tuple[str, Tensor | int | None]]:
    """Yield the leaves of a nest of states and tuples, by their names."""
    if isinstance(value, State):
        yield from ((f"{name}.{inner}", leaf) for inner, leaf in value.leaves())
    elif isinstance(value, tuple):
        keys = getattr(value, "_fields", range(len(value)))
        for key, one in zip(keys, value, strict=True):
            yield from _walk(f"{name}.{key}", one)
    else:
        yield name, value


def _same_leaf(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Tell whether two leaves have the same name, type and numbers."""
    if one[0] != other[0] or type(one[1]) is not type(other[1]):
        return False
    if isinstance(one[1], Tensor):
        return one[1].dtype == other[1].dtype and torch.equal(one[1], other[1])
    return bool(one[1] == other[1])


class _WrittenOut:
    """The field ``carry`` of a state, which an open chunk may still have to write out."""

    def __get__(self, state: MemoryState | None, owner: type[MemoryState]) -> Carry:
        """Return the carry; it is computed when it is first asked for."""
        if state is None:
            raise AttributeError("carry has no default")
        held = state.__dict__
        chunk: OpenChunk | None = held.get("_chunk")
        if chunk is not None:
            # two threads may both compute it: all see what the first of them has left
            held.setdefault("_carry", chunk.carry())
            held.pop("_chunk", None)
        carry: Carry = held["_carry"]
        return carry

    def __set__(self, state: MemoryState, carry: Carry) -> None:
        """Keep a carry that is written out."""
        state.__dict__["_carry"] = carry


@dataclass(frozen=True, eq=False)
class MemoryState(State):
    """What a :class:`titans_seq.NeuralMemory` knows after the tokens it has read."""

    if TYPE_CHECKING:
        carry: Carry
    else:
        carry: Carry = _WrittenOut()
    """Weights, momentum and open chunk, see :class:`titans_seq.ops.state.Carry`. Computed when
    first asked for, where the last token was read by itself."""

    convolution: Tensor
    """(batch, kernel - 1, 3 * dim): last inputs of the convolution."""

    position: Position
    """Tokens read: one number, or where rows differ one a row, (batch,), on the CPU."""

    @classmethod
    def of_chunk(cls, chunk: OpenChunk, convolution: Tensor, position: Position) -> MemoryState:
        """Return a state whose carry is computed when somebody asks for it."""
        state = object.__new__(cls)
        state.__dict__.update(_chunk=chunk, convolution=convolution, position=position)
        return state

    @property
    def chunk(self) -> OpenChunk | None:
        """The open chunk to go on from; ``None`` once ``carry`` was asked for.

        What was looked at may have been changed or saved, and is what is gone on from.
        """
        found: OpenChunk | None = self.__dict__.get("_chunk")
        return found

    def outline(self) -> MemoryState:
        """Return the state with tensors of the same shape, type and place, whatever they hold."""
        chunk = self.chunk
        if chunk is None:
            return self
        return MemoryState(chunk.outline(), self.convolution, self.position)

    def __reduce__(self) -> tuple[type[MemoryState], tuple[Carry, Tensor, Position]]:
        """Copy and pickle the state with everything written out."""
        return MemoryState, (self.carry, self.convolution, self.position)


@dataclass(frozen=True, eq=False)
class AttentionState(State):
    """Last keys and values of a sliding window; bounded by the window."""

    keys: Tensor
    """(batch, heads, window - 1, head_dim), the newest last, before rotation."""

    values: Tensor
    """Likewise."""

    position: Position
    """Tokens read: one number, or where rows differ one a row, (batch,), on the CPU."""


@dataclass(frozen=True, eq=False)
class SegmentState(State):
    """Open segment of memory as context (MAC)."""

    memory: MemoryState | None
    """The memory, written up to the last token; ``None`` before the first."""

    recalled_from: tuple[Tensor, ...]
    """Weights of the memory at the segment's start, which the segment's context is read from."""

    keys: Tensor
    """(batch, heads, 2, segment_len, head_dim): of the context, and of the tokens; rotated by
    their places in the segment."""

    values: Tensor
    """Likewise."""

    position: Position
    """Tokens read: one number, or where rows differ one a row, (batch,), on the CPU."""


@dataclass(frozen=True, eq=False)
class StackState(State):
    """States of several layers, in their order."""

    layers: tuple[State | None, ...]
