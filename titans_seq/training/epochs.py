"""The training batches as Lightning goes through them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from titans_seq.training.fit import Batches


class Epochs:
    """Batches behind a type of ours, which know where an epoch stands.

    Lightning would take a list for several loaders. It is not told the length: the first
    epoch of a training that goes on is shorter than the others.

    Parameters
    ----------
    batches
        Batches of one epoch; if they have a numpy ``generator``, it is what shuffles them.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.generator_state: dict[str, Any] | None = None
        self.skipped = 0
        self._to_skip = 0

    def go_on(self, generator_state: dict[str, Any] | None, batches: int) -> None:
        """Begin after so many batches of an epoch that was drawn from this state."""
        generator = getattr(self.batches, "generator", None)
        if generator is not None:
            generator.bit_generator.state = generator_state
        self._to_skip = batches

    def __iter__(self) -> Iterator[Any]:
        generator = getattr(self.batches, "generator", None)
        self.generator_state = None if generator is None else generator.bit_generator.state
        self.skipped, self._to_skip = self._to_skip, 0
        yield from islice(self.batches, self.skipped, None)
