"""The training batches as Lightning goes through them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from titans_seq.training.dealing import deal
from titans_seq.training.fit import Batches
from titans_seq.training.ranks import world


class Epochs:
    """Batches behind a type of ours, which know where an epoch stands.

    Lightning would take a list for several loaders. It is not told the length: the first
    epoch of a training that goes on is shorter than the others.

    Parameters
    ----------
    batches
        Batches of one epoch. What an epoch draws must depend on a numpy ``generator`` of
        theirs, on their ``epoch``, or on nothing.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.order: dict[str, Any] = {}
        self.skipped = 0
        self._to_skip = 0

    def go_on(self, order: dict[str, Any], batches: int) -> None:
        """Begin after so many batches of the epoch that is drawn in this order."""
        if "generator" in order:
            self.batches.generator.bit_generator.state = order["generator"]  # type: ignore[attr-defined]
        if "epoch" in order:
            self.batches.epoch = order["epoch"]  # type: ignore[attr-defined]
        self._to_skip = batches

    def __iter__(self) -> Iterator[Any]:
        self.order = self._order()
        self.skipped, self._to_skip = self._to_skip, 0
        mine = world()
        for batch in islice(self.batches, self.skipped, None):
            yield deal(batch, mine)

    def _order(self) -> dict[str, Any]:
        """Return what the next epoch's order depends on."""
        found = {}
        generator = getattr(self.batches, "generator", None)
        if generator is not None:
            found["generator"] = generator.bit_generator.state
        if hasattr(self.batches, "epoch"):
            found["epoch"] = self.batches.epoch
        return found
