"""Copies of a network's weights: snapshots and an exponential moving average."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from titans_seq.training.fsdp import local_tensor

_DECAY = 0.995
"""Decay of the moving average, reached after some steps of a faster one."""


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


class RunningMean:
    """Exponential moving average of a network's weights; integer buffers are copied.

    From the first update on, the network's tensors must remain the same objects, as they do in
    training.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.values = snapshot(network)
        self.steps = 0
        self._live: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Add the network's current weights to the average."""
        # Only once, because state_dict() walks through all modules.
        self._live = self._live or self.network.state_dict()
        self.steps += 1
        # 1/10, 2/11, ...: the random first weights are soon forgotten.
        decay = min(_DECAY, self.steps / (self.steps + 9))
        names = [name for name, value in self.values.items() if value.is_floating_point()]
        if names:
            means = [local_tensor(self.values[name]) for name in names]
            live = [local_tensor(self._live[name]) for name in names]
            torch._foreach_lerp_(means, live, 1 - decay)
        for name, value in self.values.items():
            if not value.is_floating_point():
                value.copy_(self._live[name])

    def swap(self) -> None:
        """Exchange the network's weights with the average; a second call undoes the first."""
        current = snapshot(self.network)
        self.network.load_state_dict(self.values)
        self.values = current
