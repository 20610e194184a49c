"""Listen to the memories inside a network: how much each token surprised them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.nn.memory import NeuralMemory


class Surprise:
    """Inner losses that the memories of a network report while it reads."""

    def __init__(self) -> None:
        self.losses: dict[NeuralMemory, list[Tensor]] = {}

    def take(self, time: int) -> Float[Tensor, "batch time"] | None:
        """Return the mean over memories for the last tokens read, and forget all.

        Parameters
        ----------
        time
            Tokens that were read; what a memory read before them, persistent tokens, is left
            out.

        Returns
        -------
            The inner loss of each token before it was written; ``None`` if there is no memory.
        """
        per_memory = [torch.cat(seen, dim=1)[:, -time:] for seen in self.losses.values() if seen]
        self.losses = {memory: [] for memory in self.losses}
        return torch.stack(per_memory).mean(0) if per_memory else None


@contextmanager
def listening(network: nn.Module) -> Iterator[Surprise]:
    """Record the inner losses of a network's memories while the context lasts.

    Rows must be without padding. Two contexts may not overlap for one network.
    """
    heard = Surprise()
    memories = [module for module in network.modules() if isinstance(module, NeuralMemory)]
    heard.losses = {memory: [] for memory in memories}
    for memory in memories:
        # on the instance, not by a hook: mixers call `read_packed`, which runs no hooks
        memory.__dict__["read_packed"] = _noting(memory, heard)
    try:
        yield heard
    finally:
        for memory in memories:
            del memory.__dict__["read_packed"]


def _noting(memory: NeuralMemory, heard: Surprise) -> Any:
    """Wrap a memory's ``read_packed`` so that it also records the losses."""
    read = memory.read_packed

    def read_packed(*args: Any, **kwargs: Any) -> Any:
        answer = read(*args, **kwargs)
        heard.losses[memory].append(answer[2].detach())
        return answer

    return read_packed
