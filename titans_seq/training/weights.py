"""Copies of a network's weights: the best so far, and a running mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from titans_seq.training.shards import local

MEMORY = 0.995
"""Share of the running mean that stays at each step, once there are enough steps."""


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


class RunningMean:
    """Exponential mean of a network's weights; integer buffers are taken as they stand.

    From the first update on the network's tensors must stay the same objects, as they do while
    it is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.values = snapshot(network)
        self.steps = 0
        self._live: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights into the mean."""
        self._live = self._live or self.network.state_dict()  # it walks through all modules
        self.steps += 1
        stays = min(MEMORY, self.steps / (self.steps + 9))
        names = [name for name, value in self.values.items() if value.is_floating_point()]
        if names:
            means = [local(self.values[name]) for name in names]
            torch._foreach_lerp_(means, [local(self._live[name]) for name in names], 1 - stays)
        for name, value in self.values.items():
            if not value.is_floating_point():
                value.copy_(self._live[name])

    def swap(self) -> None:
        """Exchange the network's weights with the mean; a second call undoes the first."""
        own = snapshot(self.network)
        self.network.load_state_dict(self.values)
        self.values = own
