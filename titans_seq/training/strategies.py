"""What Lightning is told of processes that were started before it."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from titans_seq.exceptions import DeviceError
from titans_seq.training.ranks import World
from titans_seq.training.shards import is_sharded


def on_all(mine: World, device: torch.device) -> dict[str, Any]:
    """Return what a trainer is told that works with the other processes.

    Raises
    ------
    DeviceError
        If the processes cannot have a device each.
    """
    if device.type == "mps":
        raise DeviceError("device 'mps': several processes need cpu or cuda")
    if device.type == "cuda" and device.index != mine.local_rank:
        raise DeviceError(
            f"device '{device}': each of several processes has a CUDA device of its own; use cuda"
        )
    shared: dict[str, Any] = {
        "devices": mine.local_size,
        "num_nodes": mine.size // mine.local_size,
        "plugins": [Started(mine)],
    }
    if is_sharded():
        return shared | {"strategy": ModelParallelStrategy(mine.size, 1)}
    # A network may have parameters that it never uses, but uses the same ones in each step;
    # buffers are the same in every process.
    return shared | {"strategy": DDPStrategy(broadcast_buffers=False, static_graph=True)}


class Started(ClusterEnvironment):
    """Processes that have met before Lightning comes."""

    def __init__(self, mine: World) -> None:
        self.mine = mine

    @property
    def creates_processes_externally(self) -> bool:
        """Start none."""
        return True

    @property
    def main_address(self) -> str:
        """Host of the first process; nobody asks for it any more."""
        return os.environ.get("MASTER_ADDR", "localhost")

    @property
    def main_port(self) -> int:
        """Port of the first process."""
        return int(os.environ.get("MASTER_PORT", 0))

    @staticmethod
    def detect() -> bool:
        """Be used only where it is asked for."""
        return False

    def world_size(self) -> int:
        """Return how many they are."""
        return self.mine.size

    def set_world_size(self, size: int) -> None:
        """Keep what is known."""

    def global_rank(self) -> int:
        """Return which this is."""
        return self.mine.rank

    def set_global_rank(self, rank: int) -> None:
        """Keep what is known."""

    def local_rank(self) -> int:
        """Return which this is on its machine."""
        return self.mine.local_rank

    def node_rank(self) -> int:
        """Return which machine this is."""
        return self.mine.rank // self.mine.local_size
