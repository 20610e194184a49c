"""Copies of a network's weights: the best so far, and a running mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEMORY = 0.995
"""Share of the running mean that stays at each step, once there are enough steps."""


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


class RunningMean:
    """Exponential mean of a network's weights; integer buffers are taken as they stand."""

    def __init__(self, network: nn.Module) -> None:
        self.values = snapshot(network)
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the network's present weights into the mean."""
        self.steps += 1
        stays = min(MEMORY, self.steps / (self.steps + 9))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - stays)
            else:
                self.values[name].copy_(value)

    def swap(self, network: nn.Module) -> None:
        """Exchange the network's weights with the mean; a second call undoes the first."""
        own = snapshot(network)
        network.load_state_dict(self.values)
        self.values = own
