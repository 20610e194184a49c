"""Batches of an epoch: their protocol, their position in a resumed epoch, their rows by process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from titans_seq.training.ranks import World, world


class Batches(Protocol):
    """Batches of one epoch; every ``iter()`` begins a new one, shuffled by its owner.

    A checkpoint stores what their order depends on: an attribute ``generator``, the numpy
    generator that shuffles them, or ``epoch``, the number of the next epoch.
    """

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""


class RandomBatches:
    """Batches drawn at random; every iteration is the next epoch.

    What an epoch draws depends on the seed and the number of the epoch alone, so a training that
    was interrupted can continue as if it had not been.

    Parameters
    ----------
    draw
        Returns one batch, drawn with the generator that it is given.
    batches
        Batches of an epoch.
    seed
        Seed of everything that is drawn.
    """

    def __init__(
        self, draw: Callable[[np.random.Generator], dict[str, Tensor]], *, batches: int, seed: int
    ) -> None:
        self.draw, self.batches, self.seed = draw, batches, seed
        self.epoch = 0
        """Number of the next epoch; a checkpoint keeps it."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the next epoch."""
        generator = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        for _ in range(self.batches):
            yield self.draw(generator)


class BatchShard(NamedTuple):
    """The rows of a batch that one of several processes computes."""

    batch: Any

    rows: int
    """Number of rows; 0 if there are fewer rows than processes. ``batch`` then holds one row that
    carries no weight, because every process must run the network."""


def shard_batch(batch: Any, process: World) -> BatchShard:
    """Return the rows of a batch that belong to a process.

    Both halves of a batch are divided row by row, and each process keeps the order of its rows,
    so that a loss which treats the halves differently finds the same halves in every shard.
    """
    size = batch_size(batch)
    if process.size == 1:
        return BatchShard(batch, size)
    half = -(-size // 2)
    rows = torch.arange(size)
    own = torch.cat([part[process.rank :: process.size] for part in rows.split(half or 1)])
    return BatchShard(_select_rows(batch, own if len(own) else rows[:1]), len(own))


def _select_rows(batch: Any, rows: Tensor) -> Any:
    """Return some rows of every tensor of a nested batch."""
    if isinstance(batch, Tensor):
        return batch[rows]
    if isinstance(batch, dict):
        return {name: _select_rows(value, rows) for name, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_select_rows(value, rows) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_select_rows(value, rows) for value in batch)
    return batch


def batch_size(batch: Any) -> int:
    """Return the length of the first tensor of a nested batch."""
    if isinstance(batch, Tensor):
        return batch.shape[0]
    values = batch.values() if isinstance(batch, dict) else batch
    for value in values:
        if isinstance(value, Tensor | dict | list | tuple):
            return batch_size(value)
    raise TypeError("a batch must hold a tensor")


class Epochs:
    """Batches as Lightning iterates over them: sharded by process, resumable within an epoch.

    The wrapper hides two things from Lightning: a list, which it would take for several loaders,
    and the length, because the first epoch of a resumed training is shorter than the others.

    Parameters
    ----------
    batches
        Batches of one epoch. What an epoch draws must depend on their numpy ``generator``, on
        their ``epoch``, or on nothing.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.order: dict[str, Any] = {}
        self.skipped = 0
        self._skip_next = 0

    def resume(self, order: dict[str, Any], batches: int) -> None:
        """Restore the order of an epoch, and skip its first ``batches`` batches."""
        if "generator" in order:
            self.batches.generator.bit_generator.state = order["generator"]  # type: ignore[attr-defined]
        if "epoch" in order:
            self.batches.epoch = order["epoch"]  # type: ignore[attr-defined]
        self._skip_next = batches

    def __iter__(self) -> Iterator[Any]:
        # Before a batch is drawn: a checkpoint needs the generator as it was at the epoch's start.
        self.order = self._order()
        self.skipped, self._skip_next = self._skip_next, 0
        process = world()
        for batch in islice(self.batches, self.skipped, None):
            yield shard_batch(batch, process)

    def _order(self) -> dict[str, Any]:
        """Return what the order of the next epoch depends on."""
        order = {}
        generator = getattr(self.batches, "generator", None)
        if generator is not None:
            order["generator"] = generator.bit_generator.state
        if hasattr(self.batches, "epoch"):
            order["epoch"] = self.batches.epoch
        return order
