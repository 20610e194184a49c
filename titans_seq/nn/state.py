"""States that layers carry from call to call: frozen records of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from titans_seq.ops.state import Carry


@dataclass(frozen=True)
class State:
    """Base of every carried state: tensors, tuples of them, and other states.

    Counters (integer tensors) stay on the CPU, where the layers' control flow reads them.
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
        for field in dataclasses.fields(self):
            yield from _walk(getattr(self, field.name))

    @property
    def nbytes(self) -> int:
        """Bytes that the state's tensors hold; it does not grow with what was read."""
        return sum(one.numel() * one.element_size() for one in self.tensors())


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


def _walk(value: Any) -> Iterator[Tensor]:
    """Yield the tensors inside a nest of states and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, State):
        yield from value.tensors()
    elif isinstance(value, tuple):
        for one in value:
            yield from _walk(one)


@dataclass(frozen=True)
class MemoryState(State):
    """What a :class:`titans_seq.NeuralMemory` knows after the tokens it has read."""

    carry: Carry
    """Weights, momentum and open chunk, see :class:`titans_seq.ops.state.Carry`."""

    convolution: Tensor
    """(batch, kernel - 1, 3 * dim): last inputs of the convolution."""

    position: Tensor
    """(batch,), integer, on the CPU: tokens read."""


@dataclass(frozen=True)
class AttentionState(State):
    """Last keys and values of a sliding window; bounded by the window."""

    keys: Tensor
    """(batch, heads, window - 1, head_dim), the newest last, before rotation."""

    values: Tensor
    """Likewise."""

    position: Tensor
    """(batch,), integer, on the CPU: tokens read."""


@dataclass(frozen=True)
class SegmentState(State):
    """Open segment of memory as context (MAC)."""

    memory: MemoryState | None
    """The memory, written up to the last token; ``None`` before the first."""

    recalled_from: tuple[Tensor, ...]
    """Weights of the memory at the segment's start, which the segment's context is read from."""

    keys: Tensor
    """(batch, heads, 2, segment_len, head_dim): of the context, and of the tokens."""

    values: Tensor
    """Likewise."""

    position: Tensor
    """(batch,), integer, on the CPU: tokens read."""


@dataclass(frozen=True)
class StackState(State):
    """States of several layers, in their order."""

    layers: tuple[State | None, ...]
