"""Frozen records of settings, and their strict conversion from and to tables."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from titans_seq.exceptions import ConfigError

_Record = TypeVar("_Record")

Variant = Literal["lmm", "mac", "mag", "mal", "attention"]
VARIANTS: tuple[str, ...] = typing.get_args(Variant)


@dataclass(frozen=True, kw_only=True, slots=True)
class TitansConfig:
    """Settings of a :class:`titans_seq.TitansBackbone`.

    Where the paper (arXiv 2501.00663) leaves a choice open, the field says what was chosen.
    """

    dim: int
    """Width of a token."""

    layers: int = 2
    """Blocks, one after another."""

    heads: int = 4
    """Heads of the attention and of the memory, each on ``dim / heads`` of the width."""

    variant: Variant = "mac"
    """How memory and attention are combined: ``mac`` (memory as context), ``mag`` (as gate),
    ``mal`` (as layer), ``lmm`` (memory alone) or ``attention`` (no memory, the control)."""

    segment_len: int = 64
    """Tokens of one segment of ``mac``; attention does not cross segments there."""

    window: int = 64
    """Tokens that sliding-window attention sees, itself included (``mag mal attention``)."""

    persistent_tokens: int = 4
    """Learned tokens that precede the sequence, or stand in each window."""

    chunk_size: int = 64
    """Tokens between two refreshes of the point where the memory's gradient is taken."""

    memory_depth: int = 2
    """Layers of the memory's network, 1 to 4."""

    memory_expansion: float = 2.0
    """Hidden width of a deep memory over its input's width (not given in the paper)."""

    rule: str = "titans"
    """Name of the learning rule, see :mod:`titans_seq.nn.rules`."""

    feed_forward_expansion: float = 2.0
    """Hidden width of the feed-forward layer over ``dim``; 0 leaves the layer out."""

    dropout: float = 0.0
    """Dropout rate of each block's output."""

    bidirectional: bool = False
    """Read twice with the same weights, the second time backwards; not for streams."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        if self.variant not in VARIANTS:
            raise ConfigError(
                f"TitansConfig.variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}"
            )
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise ConfigError(
                f"TitansConfig.dim must be a positive multiple of heads={self.heads}, "
                f"got {self.dim}"
            )
        minima = {
            "layers": 1, "segment_len": 1, "window": 1, "persistent_tokens": 0, "chunk_size": 1,
            "feed_forward_expansion": 0, "dropout": 0,
        }  # fmt: skip
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ConfigError(
                    f"TitansConfig.{name} must be at least {minimum}, got {getattr(self, name)}"
                )
        if self.dropout >= 1:
            raise ConfigError(f"TitansConfig.dropout must be below 1, got {self.dropout}")
        if not 1 <= self.memory_depth <= 4:
            raise ConfigError(f"TitansConfig.memory_depth must be 1 to 4, got {self.memory_depth}")
        if self.memory_expansion <= 0:
            raise ConfigError(
                f"TitansConfig.memory_expansion must be above 0, got {self.memory_expansion}"
            )


def unknown_key_error(key: str, known: typing.Iterable[str], where: str) -> ConfigError:
    """Return the error for an unknown key, with the nearest known one."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"{where}: unknown key {key!r}; {hint}")


def record_from_table(record: type[_Record], table: Mapping[str, Any], where: str) -> _Record:
    """Build a frozen record from a table of settings, strictly.

    Parameters
    ----------
    record
        A dataclass.
    table
        Values by field name, as read from TOML or JSON; lists become tuples.
    where
        Name of the table in errors: a file, and the place in it.

    Raises
    ------
    ConfigError
        If a key is unknown (the nearest known one is named), a field without a default is
        missing, a value has the wrong type, or the record refuses a value.
    """
    fields = {field.name: field for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(record)
    for key, value in table.items():
        if key not in fields:
            raise unknown_key_error(key, fields, where)
        if not _fits(value, hints[key]):
            raise ConfigError(f"{where}: {key} = {value!r} is not of type {_type_name(hints[key])}")
    missing = [
        name
        for name, field in fields.items()
        if name not in table
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    try:
        return record(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def table_from_record(record: Any) -> dict[str, Any]:
    """Return a record's fields as JSON and TOML types."""
    table: dict[str, Any] = dataclasses.asdict(record)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in table.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value from a table is valid for a field of type ``hint``."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (tuple, list):
        inner = typing.get_args(hint)[0] if typing.get_args(hint) else Any
        return isinstance(value, list | tuple) and all(_fits(item, inner) for item in value)
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    """Return a type as a user would write it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
