"""What is measured: shapes, subjects and the groups of cells that are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MODES = ("forward", "train", "decode")
"""``forward``: under no_grad. ``train``: forward and backward, gradients to the parameters and
the input. ``decode``: one token a call with a carried state, under no_grad."""

LAYERS = (
    "ours-titans",
    "ours-exact",
    "titans-pytorch-refresh",
    "titans-pytorch-default",
    "titans-unofficial",
)
"""Whole layers, tokens in and tokens out."""

OPERATORS = ("ours-exact-op", "fla-op")
"""The linear memory with the gradient at every token, on queries, keys, values and rates."""

SUBJECTS = (*LAYERS, *OPERATORS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes that all subjects of a group share."""

    dim: int
    heads: int
    depth: int
    chunk: int
    batch: int
    time: int
    expansion: float = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Subjects that do the same job and are timed in turn."""

    mode: str
    shape: Shape
    subjects: tuple[str, ...]

    def key(self, subject: str) -> str:
        """Return the name of one cell, unique in a file of results."""
        sizes = " ".join(f"{name}={size:g}" for name, size in self.sizes().items())
        return f"{subject} {self.mode} {sizes}"

    def sizes(self) -> dict[str, Any]:
        """Return the shape as a table."""
        return dataclasses.asdict(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The cells that the command line asks for."""

    dim: int
    heads: int
    depths: tuple[int, ...]
    chunks: tuple[int, ...]
    batches: tuple[int, ...]
    times: tuple[int, ...]
    modes: tuple[str, ...]
    subjects: tuple[str, ...]
    decode_time: int
    """Tokens that one call of a decode cell reads, one after another."""

    def groups(self) -> Iterator[Group]:
        """Yield every group, short sequences first, so that what fails is not tried longer."""
        for mode in self.modes:
            for time in [self.decode_time] if mode == "decode" else sorted(self.times):
                for depth in self.depths:
                    for chunk in self.chunks:
                        for batch in self.batches:
                            shape = Shape(
                                dim=self.dim, heads=self.heads, depth=depth, chunk=chunk,
                                batch=batch, time=time,
                            )  # fmt: skip
                            yield from self._families(mode, shape)

    def _families(self, mode: str, shape: Shape) -> Iterator[Group]:
        """Yield the group of layers and the group of operators that have this shape."""
        absent = set()
        if shape.depth != 1:
            absent.add("ours-exact")
        if shape.chunk != max(self.chunks):
            absent.add("titans-unofficial")  # it reads token by token and has no chunk
        layers = self._wanted(one for one in LAYERS if one not in absent)
        if layers:
            yield Group(mode=mode, shape=shape, subjects=layers)
        operators = self._wanted(OPERATORS)
        if operators and shape.depth == 1 and mode != "decode":
            yield Group(mode=mode, shape=shape, subjects=operators)

    def _wanted(self, subjects: Iterable[str]) -> tuple[str, ...]:
        return tuple(one for one in subjects if one in self.subjects)


def large_grid(subjects: tuple[str, ...], modes: Iterable[str]) -> Grid:
    """Return the one wide shape whose share of the floor is promised."""
    return Grid(
        dim=512, heads=8, depths=(2,), chunks=(64,), batches=(8,), times=(4096,),
        modes=tuple(one for one in modes if one != "decode"), subjects=subjects, decode_time=0,
    )  # fmt: skip
