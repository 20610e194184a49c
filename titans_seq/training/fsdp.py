"""Parameters sharded among processes by FSDP2: each holds a part of every tensor.

Weights, gradients and the optimizer's moments stay sharded between steps; a forward pass
gathers the weights. The names of parameters do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from titans_seq.training.ranks import world


class LossModule(nn.Module):
    """A network inside a module whose ``forward`` computes a loss.

    FSDP gathers parameters around ``forward``; a loss may call any method of the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, loss: Any, batch: Any) -> Any:
        """Return ``loss(network, batch)``."""
        return loss(self.network, batch)


def shard_parameters(module: LossModule, mesh: Any) -> None:
    """Leave this process its shard of each parameter.

    Parameters
    ----------
    module
        The same in every process.
    mesh
        The processes, as a one-dimensional ``DeviceMesh``.
    """
    from torch.distributed.fsdp import fully_shard

    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_sharded() -> bool:
    """Return whether parameters are sharded among processes in training."""
    return world().size > 1 and world().strategy == "fsdp"


def full_tensor(value: Tensor) -> Tensor:
    """Return a sharded tensor whole; a collective call."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def local_tensor(value: Tensor) -> Tensor:
    """Return this process's shard of a tensor, a view of it."""
    return value.to_local() if hasattr(value, "to_local") else value


def shard_like(value: Tensor, pattern: Tensor) -> Tensor:
    """Shard a whole tensor as ``pattern`` is; unchanged if that is not sharded."""
    if not hasattr(pattern, "device_mesh") or value.shape != pattern.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(local_tensor(pattern).device)
    return distribute_tensor(value, pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]


def shard_all_like(
    values: Mapping[str, Tensor], patterns: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Shard whole tensors as the patterns of the same names are."""
    return {name: shard_like(value, patterns[name]) for name, value in values.items()}
