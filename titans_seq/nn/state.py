"""States that layers carry from call to call: frozen records of tensors, and their files.

A state is saved as one safetensors file: its tensors by the names of their fields, and in the
metadata the records they make up and a checksum of everything. Loading runs no code of the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.files import write_whole
from titans_seq.nn.packing import Position
from titans_seq.ops.cpu.memory_open import OpenChunk
from titans_seq.ops.state import Carry, Layout

FORMAT = "titans-seq state"
"""Kind of file, as its metadata names it."""

VERSION = "1"
"""Layout of the file; files of a later layout are refused."""


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
        return self.map(lambda tensor: tensor.clone())

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Return the state on another device, or in another floating type."""
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype))

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor, counters too."""
        return (value for _, value in self.leaves() if isinstance(value, Tensor))

    def leaves(self) -> Iterator[tuple[str, Tensor | int | str | None]]:
        """Yield every value of the state that is not a record itself, with its name."""
        for field in dataclasses.fields(self):
            yield from walk(field.name, getattr(self, field.name))

    def equals(self, other: State) -> bool:
        """Return whether both states are of the same kind and hold exactly the same numbers."""
        mine, theirs = list(self.leaves()), list(other.leaves())
        same_kind = type(self) is type(other) and len(mine) == len(theirs)
        return same_kind and all(map(_same_leaf, mine, theirs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file, whole or not at all.

        Raises
        ------
        FileNotFoundError
            If the folder of ``path`` does not exist.
        DataError
            If the state holds numbers that are not finite.
        """
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        # also fills `tensors`, which must be complete before it is checked and hashed
        structure = json.dumps(_description(self, "state", tensors))
        for name, tensor in tensors.items():
            if not _is_finite(tensor):
                raise DataError(f"{name} holds NaN or infinite numbers: the state is not saved")
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "structure": structure,
            "sha256": _checksum(structure, tensors),
        }
        with write_whole(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

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
            If the file holds no state, is damaged, holds numbers that are not finite, was
            written by a later version, or holds another kind of state than this class.
        """
        state = _load(path)
        if not isinstance(state, cls):
            raise DataError(f"{path} holds a {type(state).__name__}, not a {cls.__name__}")
        return state.to(device)

    @property
    def nbytes(self) -> int:
        """Bytes that the state's tensors hold; it does not grow with what was read."""
        return sum(t.numel() * t.element_size() for t in self.outline().tensors())

    def outline(self) -> Self:
        """Return a state with tensors of the same shape, type and place, whatever they hold.

        Free of cost even where some tensors are computed lazily: it computes none of them.
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
        inner = [_map(item, change) for item in value]
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


def _outline(value: Any) -> Any:
    """Outline a state, or every state inside a tuple."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(_outline, value))
    return value.outline() if isinstance(value, State) else value


def walk(name: str, value: Any) -> Iterator[tuple[str, Tensor | int | str | None]]:
    """Yield the leaves of nested states and tuples, with their names."""
    if isinstance(value, State):
        yield from ((f"{name}.{inner}", leaf) for inner, leaf in value.leaves())
    elif isinstance(value, tuple):
        # named tuples, such as a carry, by field; plain tuples by index
        keys = getattr(value, "_fields", range(len(value)))
        for key, item in zip(keys, value, strict=True):
            yield from walk(f"{name}.{key}", item)
    else:
        yield name, value


def _same_leaf(leaf: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Return whether two leaves have the same name, type and numbers."""
    if leaf[0] != other[0] or type(leaf[1]) is not type(other[1]):
        return False
    if isinstance(leaf[1], Tensor):
        return leaf[1].dtype == other[1].dtype and torch.equal(leaf[1], other[1])
    return bool(leaf[1] == other[1])


class _WrittenOut:
    """Descriptor of the lazy field ``carry``: computed from an open chunk on first access."""

    def __get__(self, state: MemoryState | None, owner: type[MemoryState]) -> Carry:
        """Return the carry, computed on first access."""
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
        """Store a carry that is already computed."""
        state.__dict__["_carry"] = carry


@dataclass(frozen=True, eq=False)
class MemoryState(State):
    """State of a :class:`titans_seq.NeuralMemory` after the tokens it has read."""

    if TYPE_CHECKING:
        carry: Carry
    else:
        carry: Carry = _WrittenOut()
    """Weights, momentum and open chunk, see :class:`titans_seq.ops.state.Carry`. Computed on
    first access where the last token was read by itself."""

    convolution: Tensor
    """(batch, kernel - 1, 3 * dim): last inputs of the convolution."""

    position: Position
    """Tokens read: one number, or where rows differ one a row, (batch,), on the CPU."""

    chunk_size: int | None = None
    """Chunk size of the memory that left the state; ``None`` in files that do not record it."""

    rule: str | None = None
    """Name of that memory's learning rule, likewise."""

    @classmethod
    def of_chunk(
        cls, chunk: OpenChunk, convolution: Tensor, position: Position, rule: str
    ) -> MemoryState:
        """Return a state whose carry is computed when it is first read."""
        # past `__init__`, which would set `carry` and so compute it
        state = object.__new__(cls)
        state.__dict__.update(
            _chunk=chunk,
            convolution=convolution,
            position=position,
            chunk_size=chunk.sizes.layout.chunk_size,
            rule=rule,
        )
        return state

    @property
    def layout(self) -> Layout | None:
        """The layout that the state is known to match; ``None`` if it was not checked yet."""
        chunk = self.chunk
        if chunk is not None:
            return chunk.sizes.layout
        layout: Layout | None = self.__dict__.get("_layout")
        return layout

    def mark_layout(self, layout: Layout) -> Self:
        """Note that the state was left by, or checked against, a memory of this layout."""
        self.__dict__["_layout"] = layout
        return self

    @property
    def chunk(self) -> OpenChunk | None:
        """The open chunk to continue; ``None`` once ``carry`` was accessed.

        The caller may have changed an accessed carry in place, so the next call reads on from it.
        """
        chunk: OpenChunk | None = self.__dict__.get("_chunk")
        return chunk

    def outline(self) -> MemoryState:
        """Return the state with tensors of the same shape, type and place, whatever they hold."""
        chunk = self.chunk
        if chunk is None:
            return self
        return MemoryState(
            chunk.outline(), self.convolution, self.position, self.chunk_size, self.rule
        )

    def __reduce__(self) -> tuple[type[MemoryState], tuple[Any, ...]]:
        """Copy and pickle the state with everything written out."""
        fields = (self.carry, self.convolution, self.position, self.chunk_size, self.rule)
        return MemoryState, fields


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


RECORDS: dict[str, Any] = {
    kind.__name__: kind for kind in (AttentionState, Carry, MemoryState, SegmentState, StackState)
}
"""Records that a state file may name."""


def _description(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return plain values that :func:`_rebuilt` turns back into ``value``; collect its tensors."""
    if isinstance(value, Tensor):
        # a copy: tensors of a state may share memory, which the format refuses
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, State) or hasattr(value, "_fields"):
        # fields with a default stand apart, where readers that do not know them look past them
        optional = [] if not isinstance(value, State) else _optional_fields(value)
        names = getattr(value, "_fields", None) or [
            field.name for field in dataclasses.fields(value) if field.name not in optional
        ]
        fields = {
            field: _description(getattr(value, field), f"{name}.{field}", tensors)
            for field in names
        }
        record = {"record": type(value).__name__, "fields": fields}
        present = {field: getattr(value, field) for field in optional}
        present = {field: item for field, item in present.items() if item is not None}
        return record | {"optional": present} if present else record
    if isinstance(value, tuple):
        return [_description(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
    assert value is None or isinstance(value, int)
    return value


def _optional_fields(state: State) -> list[str]:
    """Return the names of a state's fields that may be left out."""
    return [
        field.name
        for field in dataclasses.fields(state)
        if field.default is not dataclasses.MISSING
    ]


def _rebuilt(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`_description`."""
    if isinstance(value, list):
        return tuple(_rebuilt(item, tensors) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    fields = {name: _rebuilt(item, tensors) for name, item in value["fields"].items()}
    return RECORDS[value["record"]](**fields, **value.get("optional", {}))


def _load(path: str | os.PathLike[str]) -> State:
    """Read the state of a file, on the CPU; see :meth:`State.load`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_metadata(metadata, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        structure = metadata["structure"]
        # files from before the checksum have none and are accepted
        if metadata.get("sha256", "") not in ("", _checksum(structure, tensors)):
            raise DataError(f"{path} is damaged: its contents do not match its checksum")
        state = _rebuilt(json.loads(structure), tensors)
    except SafetensorError as error:
        raise DataError(f"{path} is no state file, or is damaged: {error}") from error
    # a damaged structure fails anywhere in `_rebuilt`; DataError is a ValueError itself
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: its structure does not fit its tensors") from error
    if not isinstance(state, State):
        raise DataError(f"{path} is damaged: its structure is not that of a state")
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise DataError(f"{path} is damaged: {name} holds NaN or infinite numbers")
    return state


def _check_metadata(metadata: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Refuse a file of another kind or of a later layout."""
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path} holds no state: name a file that State.save wrote")
    if metadata.get("version") != VERSION:
        raise DataError(
            f"{path} has layout {metadata.get('version')!r}, this titans-seq reads {VERSION}: "
            "update it"
        )


def _checksum(structure: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the structure, and each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # a tensor of one number counts as contiguous with any stride; its clone has stride 1
        flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
