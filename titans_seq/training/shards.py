"""A network of whose parameters each process holds a share (PyTorch's FSDP2).

Between two steps a process keeps its share of weights, of gradients and of the optimizer's
moments; for a step the weights come together. The names of parameters stay what they were.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from titans_seq.training.ranks import world

MARKS = ("lr_scale", "no_weight_decay")
"""What parameters may carry for the optimizer."""


class LossModule(nn.Module):
    """Lets a loss call a network: all its parameters are whole while it does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.marks = _marks(network)

    def forward(self, loss: Any, batch: Any) -> Any:
        """Return what the loss says of a batch."""
        return loss(self.network, batch)


def shard(loss_module: LossModule, mesh: Any) -> None:
    """Leave this process its share of the network's parameters.

    Parameters
    ----------
    loss_module
        Holds the network; the same in every process.
    mesh
        The processes, as a one-dimensional ``DeviceMesh``.
    """
    from torch.distributed.fsdp import fully_shard

    fully_shard(loss_module, mesh=mesh, reshard_after_forward=True)


def is_sharded() -> bool:
    """Tell whether each process is to hold a share of what is trained."""
    return world().size > 1 and world().strategy == "fsdp"


def twin(network: nn.Module) -> nn.Module:
    """Return a copy of a network, to be trained in its place: shares cannot be undone."""
    found = copy.deepcopy(network)
    mark(found, _marks(network))
    return found


def mark(network: nn.Module, marks: Mapping[str, Mapping[str, Any]]) -> None:
    """Let parameters carry what those of the same names carried before they were replaced."""
    for name, value in network.named_parameters():
        for which, what in marks[name].items():
            setattr(value, which, what)


def _marks(network: nn.Module) -> dict[str, dict[str, Any]]:
    return {
        name: {which: getattr(value, which) for which in MARKS if hasattr(value, which)}
        for name, value in network.named_parameters()
    }


def whole(value: Tensor) -> Tensor:
    """Return all of a tensor of which each process holds a share; all must ask for it."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def local(value: Tensor) -> Tensor:
    """Return this process's share of a tensor, in place."""
    return value.to_local() if hasattr(value, "to_local") else value


def shared_like(value: Tensor, pattern: Tensor) -> Tensor:
    """Return this process's share of a whole tensor, as it has one of ``pattern``."""
    if not hasattr(pattern, "device_mesh") or value.shape != pattern.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(local(pattern).device)
    return distribute_tensor(value, pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]


def all_shared_like(
    values: Mapping[str, Tensor], patterns: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return this process's share of whole tensors, by name."""
    return {name: shared_like(value, patterns[name]) for name, value in values.items()}


def finite(norm: Tensor) -> bool:
    """Tell whether a norm is finite, over all shares."""
    return bool(torch.isfinite(whole(norm)))
