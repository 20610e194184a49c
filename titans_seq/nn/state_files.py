"""A state as one safetensors file, and what a state must look like to be gone on from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.files import write_whole
from titans_seq.nn.state import (
    AttentionState,
    MemoryState,
    SegmentState,
    StackState,
    State,
)
from titans_seq.ops.state import Carry

FORMAT = "titans-seq state"
"""What the head of the file says that it is."""

VERSION = "1"
"""Layout of the file; one that was written by a later layout is refused."""

RECORDS: dict[str, Any] = {
    kind.__name__: kind for kind in (AttentionState, Carry, MemoryState, SegmentState, StackState)
}
"""Records that a file may name."""


def save_state(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state to one file, whole or not at all."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    structure = _described(state, "state", tensors)
    head = {"format": FORMAT, "version": VERSION, "structure": json.dumps(structure)}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, metadata=head)


def load_state(path: str | os.PathLike[str]) -> State:
    """Read a state, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file holds no state, is damaged, or was written by a later version.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            head = file.metadata() or {}
            _check_head(head, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = _rebuilt(json.loads(head["structure"]), tensors)
    except SafetensorError as error:
        raise DataError(f"{path} is no state file, or is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: its structure does not fit its tensors") from error
    if not isinstance(state, State):
        raise DataError(f"{path} is damaged: its structure is not that of a state")
    return state


def _check_head(head: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Refuse a file that is not ours, or is of a later layout."""
    if head.get("format") != FORMAT:
        raise DataError(f"{path} holds no state: name a file that State.save wrote")
    if head.get("version") != VERSION:
        raise DataError(
            f"{path} has layout {head.get('version')!r}, this titans-seq reads {VERSION}: update it"
        )


def _described(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return plain values that :func:`_rebuilt` makes ``value`` of; collect its tensors."""
    if isinstance(value, Tensor):
        # a copy: parts of a state may share memory, which the format refuses
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, State) or hasattr(value, "_fields"):
        fields = getattr(value, "_fields", None) or _names(value)
        inner = {
            field: _described(getattr(value, field), f"{name}.{field}", tensors) for field in fields
        }
        return {"record": type(value).__name__, "fields": inner}
    if isinstance(value, tuple):
        return [_described(one, f"{name}.{index}", tensors) for index, one in enumerate(value)]
    assert value is None or isinstance(value, int)
    return value


def _names(state: State) -> list[str]:
    """Return the names of a state's fields; one of them may not be computed yet."""
    return [field.name for field in dataclasses.fields(state)]


def _rebuilt(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`_described`."""
    if isinstance(value, list):
        return tuple(_rebuilt(one, tensors) for one in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    fields = {name: _rebuilt(one, tensors) for name, one in value["fields"].items()}
    return RECORDS[value["record"]](**fields)
